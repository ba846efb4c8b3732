"""The proof of rebuilds, short: a worker and the broker killed while rows are put in place."""

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
    sent, report.observations = report.observations, report.observations + 1
    compare(broker.settings, report)
    assert report.problems == [f"{sent} updates of {sent + 1} observations"]
