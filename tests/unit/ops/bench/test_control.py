"""When a change counts as in force: with the first frame behind its control record."""

from ops.bench.commits import Rate
from ops.bench.control import Asked, Result, Workload, report
from ops.bench.report import Report


def test_the_first_frame_behind_the_record_counts_in_whichever_order_they_are_seen() -> None:
    asked = Asked("t", 1.0)
    asked.frames += [(5, 2.0), (9, 2.5), (11, 2.6)]
    assert asked.in_force() is None  # its record wasn't seen yet
    asked.offset = 8
    assert asked.in_force() == 2.5
    asked.offset = 11
    assert asked.in_force() is None


def test_the_table_says_what_was_wanted_and_how_much_faster_the_frozen_pass() -> None:
    result = Result(active=[Rate(10, 10, 2.0, 1.0)], frozen=[Rate(10, 10, 0.5, 0.5)])
    for what in ("config, record", "config", "wake, update", "wake"):
        result.add(what, 0.25)
    found: Report = report(Workload(), result)
    assert [row[-1] for row in found.rows] == ["p99 ≤ 500 ms"] * 2 + ["p99 ≤ 200 ms"] * 2
    assert found.rows[0][2] == "250" and "4.0 ×" in found.notes[-1]
