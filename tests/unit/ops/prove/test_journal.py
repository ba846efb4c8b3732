"""The judge finds what was put into its evidence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.prove.journal import Report, judge

WRITERS = 3


def stored(k: int, n: int) -> tuple[str, str, dict[str, Any]]:
    return (f"tenant-{k % 10}", f"key-{k}", {"vector": [k, n]})


def judged(acknowledged: list[int], rows: list[tuple[str, str, dict[str, Any]]]) -> Report:
    report = Report(acknowledged=sum(acknowledged), journaled=1)
    judge(acknowledged, rows, report)
    return report


@given(st.permutations([k for k in range(WRITERS) for _ in range(4)]))
def test_any_interleaving_of_keys_that_are_in_order_is_right(turns: list[int]) -> None:
    at = [0] * WRITERS
    rows = []
    for k in turns:
        rows.append(stored(k, at[k]))
        at[k] += 1
    assert judged([4, 4, 3], rows).proved, "one more than acknowledged is no fault"


def test_each_fault_is_counted() -> None:
    rows = [stored(0, n) for n in (0, 1, 3, 2, 2)]
    report = judged([6], rows)
    assert (report.missing, report.doubled, report.inversions) == (2, 1, 1)
    assert not report.proved


def test_an_event_under_a_foreign_name_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="the event 0-1 is under tenant-1"):
        judged([2], [stored(0, 0), ("tenant-1", "key-0", {"vector": [0, 1]})])


def test_a_run_that_never_needed_the_journal_proves_nothing() -> None:
    report = Report(acknowledged=1)
    judge([1], [stored(0, 0)], report)
    assert not report.proved
