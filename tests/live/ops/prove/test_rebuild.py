"""The proof of rebuilds, short: a worker killed while rows are put in place."""

from pathlib import Path

import pytest

from agents.settings import Settings
from ops.prove.rebuild import Options, compare, run


@pytest.mark.proof
def test_kills_while_rows_are_put_in_place_lose_and_double_nothing(
    topics: Settings, tmp_path: Path
) -> None:
    options = Options(records=4_000, kills=1, lost=0, alive=3, seed=3)
    report = run(topics, None, options, tmp_path, print)
    assert (report.problems, report.kills) == ([], 1)
    assert report.jobs > 0 and report.written > 0
    # And it would tell: as if there had been one observation more.
    sent, report.observations = report.observations, report.observations + 1
    compare(topics, report)
    assert report.problems == [f"{sent} updates of {sent + 1} observations"]
