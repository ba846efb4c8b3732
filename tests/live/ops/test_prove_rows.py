"""A worker of row processors is killed while records flow: each output and row is compared."""

from agents.settings import Settings
from ops.prove.rows import Options, Report, prove


def test_a_killed_row_processor_loses_doubles_and_misplaces_nothing(settings: Settings) -> None:
    report = prove(settings, Options(events=30_000, rate=10_000, kills=2, seed=7), print)
    assert report.problems == []
    assert report.kills == 2 and report.busy_kills >= 1
    assert set(report.dead) == {"refused"}
    assert report.records > report.wanted + sum(report.dead.values()), "the keeper has some too"


def test_the_comparison_finds_what_is_wrong() -> None:
    good = Report(kills=1, records=3, wanted=2, outputs=2, dead={"x": 1}, dead_wanted={"x": 1})
    assert good.problems == []
    bad = Report(lost=1, doubled=2, wrong=3, rows_that_differ=4, dead={"x": 1})
    said = ["lost: 1", "doubled: 2", "wrong: 3", "rows_that_differ: 4"]
    assert bad.problems == [*said, "dead letters {'x': 1}, not {}", "nothing was folded"]
