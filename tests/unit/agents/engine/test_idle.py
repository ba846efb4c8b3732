"""What may wait for the next transaction, and what is counted when it is committed."""

from collections import Counter

import pytest

from agents.engine.builder import RawBuilder
from agents.engine.idle import IDLE_S, Idle, empty
from agents.engine.records import frame_one
from agents.engine.workspace import Outcome


def folded(end: int, records: int = 3, sends: int = 1, **more: object) -> Outcome:
    """One that ends at `end`; of its sends the first is the position."""
    one = [("state", 0, RawBuilder(frame_one(0, b"@position", b"p", []), 1))]
    outcome = Outcome(end, one * sends, Counter(folded=records, dead=0), newest_ts=7)
    for name, value in more.items():
        setattr(outcome, name, value)
    return outcome


@pytest.mark.parametrize(
    "more",
    [
        {"sends": 2}, {"rows": 1}, {"questions": ["one"]}, {"deadline": 1},
        {"results": Counter(folded=3, control=1)},
    ],
)  # fmt: skip
def test_what_has_more_to_write_than_a_position_never_waits(more: dict[str, object]) -> None:
    idle = Idle()
    assert empty(folded(5)) and not empty(folded(5, **more))  # type: ignore[arg-type]
    assert not idle.keeps(folded(5, **more)) and not idle  # type: ignore[arg-type]


def test_all_that_waited_is_counted_once_with_the_last_position() -> None:
    idle = Idle()
    for k in range(1, 4):
        assert idle.keeps(folded(10 * k, counted={"a": 1}))
    last = idle.joined(folded(50, sends=2, counted={"a": 1, "b": 5}))
    assert not idle and (last.next_offset, len(last.sends), last.newest_ts) == (50, 2, 7)
    assert last.results == {"folded": 12, "dead": 0} and last.counted == {"a": 4, "b": 5}
    assert idle.joined(folded(60)).results["folded"] == 3


def test_what_waits_alone_has_the_last_position_and_was_late_for_nobody() -> None:
    idle = Idle()
    assert idle.left_s(9.0) == 9.0 and not idle.due
    assert idle.keeps(folded(10)) and idle.keeps(folded(20))
    assert 0.0 <= idle.left_s(9.0) <= IDLE_S and idle.left_s(0.0) == 0.0
    waited = idle.take()
    assert (waited.next_offset, waited.results["folded"], waited.newest_ts) == (20, 6, 0)
    assert not idle
    idle.keeps(folded(30))
    idle.clear()
    assert not idle and not idle.due
