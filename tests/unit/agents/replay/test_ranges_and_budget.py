"""Ends of ranges as people write them; the budget that jobs share."""

import asyncio

import pytest

from agents.replay.bounds import EVERY, Bound, bound
from agents.replay.budget import SLICE_S, Budget


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", None),
        (" 12 ", Bound(offsets={EVERY: 12})),
        ("0:5,3:7", Bound(offsets={0: 5, 3: 7})),
        ("1a2b3c4d-2-99", Bound(offsets={2: 99}, topic_id="1a2b3c4d")),
        ("2026-01-31T12:00:00.5Z", Bound(time=1_769_860_800_500_000)),
        ("2026-01-31T13:00:00+01:00", Bound(time=1_769_860_800_000_000)),
        ("2026-01-31", Bound(time=1_769_817_600_000_000)),
    ],
)
def test_an_end_is_a_time_offsets_or_an_id(text: str, meant: Bound | None) -> None:
    assert bound(text) == meant


@pytest.mark.parametrize("text", ["-1", "0:5,", "0:5;1:6", "noon", "1A2B3C4D-0-1", "9" * 19])
def test_what_is_none_of_these_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time .*, offset .*, or record's id"):
        bound(text)


def test_who_waits_gets_turns_in_order_and_together_no_more_than_the_rate() -> None:
    """By the loop's own clock, which only moves when all wait: no time passes."""
    turns: list[str] = []

    async def job(name: str, budget: Budget, records: int) -> None:
        left = records
        while left:
            left -= await budget.take(left)
            turns.append(name)

    async def both() -> float:
        loop = asyncio.get_running_loop()
        budget = Budget(1_000, loop.time)
        began = loop.time()
        await asyncio.gather(job("a", budget, 2_000), job("b", budget, 2_000))
        return loop.time() - began

    loop = Jumping()
    try:
        took = loop.run_until_complete(both())
    finally:
        loop.close()
    assert took == pytest.approx(4.0, abs=2 * SLICE_S)
    assert turns == ["a", "b"] * 10


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to what is due next."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


def test_without_a_rate_all_is_granted_at_once() -> None:
    assert asyncio.run(Budget(0).take(10**6)) == 10**6
    assert asyncio.run(Budget(1).take(10**6)) == 1
