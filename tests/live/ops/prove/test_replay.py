"""The proof of replay, short: workers and a broker killed while two jobs run."""

from pathlib import Path

from ops.prove.replay import Options, Report, compare, compare_letters, run
from tests.live.conftest import Broker

PARTITIONS = 4  # as the proof has them


def test_kills_of_workers_and_of_the_broker_lose_and_double_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    options = Options(records=12_000, rate=1_500, kills=3, broker=1, seed=3)
    report = run(broker.settings, broker, options, tmp_path, print)
    assert (report.problems, report.kills, report.broker_kills) == ([], 3, 1)
    assert (report.records, report.letters) == (8_000, 3_000) and report.live > 0
    # And it would tell: as if the range had been one record shorter, and another's.
    found = Report(records=report.records)
    places = {str(p): [0, 1] for p in range(broker.settings.topics_partitions)}
    compare(broker.settings, "prove.replay.0", places, found)
    assert any("doubled, or never was" in one for one in found.problems)
    found = Report(letters=report.letters + 1)
    compare_letters(broker.settings, {"sent": report.letters - 1}, found)
    assert found.problems == [
        "1 letters are lost, 3000 among them", "the job says 2999 letters, not 3000",
    ]  # fmt: skip
