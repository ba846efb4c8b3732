"""The proof of rebuilds, short: workers and a broker killed while rows are put in place."""

from pathlib import Path

from ops.prove.rebuild import Options, compare, run
from tests.live.conftest import Broker


def test_kills_while_rows_are_put_in_place_lose_and_double_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    options = Options(records=4_000, kills=1, broker=1, lost=0, alive=3, seed=3)
    report = run(broker.settings, broker, options, tmp_path, print)
    assert (report.problems, report.kills, report.broker_kills) == ([], 1, 1)
    assert report.jobs > 0 and report.written > 0
    # And it would tell: as if there had been one observation more.
    report.observations += 1
    compare(broker.settings, report)
    assert report.problems == [
        f"{report.observations - 1} updates of {report.observations} observations"
    ]
