"""Token buckets: never more than burst + rate × time; who waits as told gets in."""

from hypothesis import given
from hypothesis import strategies as st

from agents.api.buckets import Buckets

STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 8)), max_size=60)


@given(STEPS, st.floats(0.1, 10), st.integers(8, 30))
def test_never_more_than_the_rate_allows(
    steps: list[tuple[float, int]], rate: float, burst: int
) -> None:
    buckets, now, taken = Buckets(rate, burst), 0.0, 0
    for wait, cost in steps:
        now += wait
        if buckets.take("a", cost, now) == 0.0:
            taken += cost
        assert taken <= burst + rate * now + 1e-6


@given(STEPS, st.floats(0.1, 10), st.integers(1, 30))
def test_who_waits_as_told_gets_in(steps: list[tuple[float, int]], rate: float, burst: int) -> None:
    buckets, now = Buckets(rate, burst), 0.0
    for wait, cost in steps:
        now += wait
        told = buckets.take("a", cost, now)
        if told:
            now += told + 1e-6
            assert buckets.take("a", cost, now) == 0.0


def test_tenants_are_apart_and_few_are_held() -> None:
    buckets = Buckets(1.0, 1, tenants_max=2)
    assert buckets.take("a", 1, 0.0) == 0.0 and buckets.take("a", 1, 0.0) == 1.0
    assert buckets.take("b", 1, 0.0) == 0.0
    assert buckets.take("c", 1, 0.0) == 0.0  # a leaves: it was unused for longest
    assert buckets.take("a", 1, 0.0) == 0.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(1.0, 2)
    assert buckets.take("a", 2, 10.0) == 0.0
    assert buckets.take("a", 1, 5.0) == 1.0
    assert buckets.take("a", 1, 10.5) == 0.5
