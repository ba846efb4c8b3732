"""Which memories are worth least."""

from dataclasses import replace
from math import isfinite

from hypothesis import given
from hypothesis import strategies as st

from agents.memory.retention import HALF_LIFE_US, IMPORTANCE_MIN, importances, lowest, score
from agents.memory.state import Memory

NOW = 1_800_000_000_000_000
raws = st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=9)
rows = st.builds(
    Memory,
    size=st.integers(0, 10**6), count=st.integers(0, 10**6),
    importance=st.one_of(st.none(), st.floats(-1e9, 1e9)),
    accessed=st.integers(NOW - 10 * HALF_LIFE_US, NOW),
)  # fmt: skip


@given(raws)
def test_importance_lies_in_its_range_and_rises_with_the_raw_one(raw: list[float | None]) -> None:
    found = importances(raw)
    assert all(IMPORTANCE_MIN <= one <= 1 for one in found)
    pairs = [(r, i) for r, i in zip(raw, found, strict=True) if r is not None]
    assert all(a[1] <= b[1] for a in pairs for b in pairs if a[0] <= b[0])


def test_alike_is_a_half_and_not_none() -> None:
    assert importances([3.0, 3.0, None]) == [0.5, 0.5, 0.5]
    assert importances([-1e308, 1e308, None]) == [IMPORTANCE_MIN, 1.0, 0.5]


@given(rows, st.integers(0, HALF_LIFE_US), st.integers(0, 1000), st.floats(0.05, 0.95))
def test_more_important_newer_more_used_and_smaller_is_worth_more(
    row: Memory, later: int, more: int, importance: float
) -> None:
    most = (10**7, 10**7)
    now = score(row, importance, NOW, *most)
    assert isfinite(now) and now <= score(row, importance + 0.05, NOW, *most)
    assert now >= score(row, importance, NOW + later, *most)
    assert now <= score(replace(row, count=row.count + more), importance, NOW, *most)
    assert now >= score(replace(row, size=row.size + more), importance, NOW, *most)


@given(st.lists(rows, max_size=8), st.integers(0, 9), st.randoms())
def test_the_lowest_are_so_in_any_order(known: list[Memory], n: int, order: "object") -> None:
    named = [(f"{k}", row) for k, row in enumerate(known)]
    found = lowest(named, n, NOW)
    order.shuffle(named)  # type: ignore[attr-defined]
    assert lowest(named, n, NOW) == found and len(found) == min(n, len(known))
