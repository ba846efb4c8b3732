"""Who differs most is exact where there is room, and within bounds where there isn't."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agents.history.most import Most

counts = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 9)), max_size=40)


@given(counts, st.integers(0, 9))
def test_with_room_it_is_the_sum_of_each(some: list[tuple[str, int]], n: int) -> None:
    most, wanted = Most(room=8), Counter[str]()
    for name, count in some:
        most.add(name, count)
        wanted[name] += count
    assert most.exact and dict(most.first(8)) == dict(wanted)
    assert most.first(n) == sorted(wanted.items(), key=lambda one: (-one[1], one[0]))[:n]


@given(counts)
def test_without_room_nothing_is_counted_that_wasnt(some: list[tuple[str, int]]) -> None:
    most, wanted = Most(room=4), Counter[str]()
    for name, count in some:
        most.add(name, count)
        wanted[name] += count
        assert len(most.first(9)) <= 4
    assert all(count <= wanted[name] for name, count in most.first(4))
    assert most.exact == (len(wanted) <= 4)


def test_who_is_far_ahead_stays_first_whoever_comes_between() -> None:
    most = Most(room=10)
    for k in range(500):
        most.add("far", 3)
        most.add(f"t{k}", 1)
    assert most.first(1) == [("far", 1_500)] and not most.exact
