"""The law of the turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.turns import share

BACKLOGS = st.lists(st.integers(0, 5_000), min_size=1, max_size=50)
CASES = st.tuples(BACKLOGS, st.integers(50, 6_000), st.integers(1, 6_000))


@given(CASES)
def test_nobody_gets_more_than_it_has_or_may_and_all_together_fit(
    case: tuple[list[int], int, int],
) -> None:
    backlogs, batch, most = case
    got = share(backlogs, batch, most)
    assert all(0 <= g <= min(have, most) for g, have in zip(got, backlogs, strict=True))
    assert sum(got) <= batch


@given(CASES)
def test_everybody_gets_its_quantum_whatever_the_others_have(
    case: tuple[list[int], int, int],
) -> None:
    backlogs, batch, most = case
    quantum = min(batch // len(backlogs), most)
    got = share(backlogs, batch, most)
    assert all(g >= min(have, quantum) for g, have in zip(got, backlogs, strict=True))


@given(CASES)
def test_who_gets_less_than_another_has_no_more(case: tuple[list[int], int, int]) -> None:
    backlogs, batch, most = case
    got = share(backlogs, batch, most)
    highest = max(got)
    assert all(g == have for g, have in zip(got, backlogs, strict=True) if g < highest)


def test_one_that_has_a_million_gets_what_the_others_leave() -> None:
    got = share([1] * 99 + [1_000_000], 5_000, 5_000)
    assert got == [1] * 99 + [4_901]
    assert share([1_000_000], 5_000, 5_000) == [5_000]
    assert share([1_000_000, 3], 5_000, 100) == [100, 3]


@pytest.mark.parametrize(("backlogs", "batch"), [([], 5), ([1, 1, 1], 2)])
def test_more_tenants_than_places_are_an_error(backlogs: list[int], batch: int) -> None:
    with pytest.raises(ValueError, match="places"):
        share(backlogs, batch, 10)
