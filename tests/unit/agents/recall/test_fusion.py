"""Reciprocal ranks: by the formula, whatever the rankings' own scores are."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from agents.recall.fusion import DEPTH, depth_of, fused

rankings = st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), max_size=3)


def test_two_rankings_by_hand() -> None:
    """b is second and first, so it comes before a and c, which are first and last in one."""
    found = fused([["a", "b"], ["b", "c"]])
    assert [one for one, _ in found] == ["b", "a", "c"]
    assert [score for _, score in found] == [1 / 62 + 1 / 61, 1 / 61, 1 / 62]


@given(rankings)
def test_each_id_once_by_the_sum_of_its_reciprocal_ranks(some: list[list[str]]) -> None:
    found = fused(some)
    exact = {
        one: sum((Fraction(1, 61 + r.index(one)) for r in some if one in r), Fraction())
        for one in {one for r in some for one in r}
    }
    assert {one for one, _ in found} == set(exact) and len(found) == len(exact)
    assert all(abs(score - float(exact[one])) < 1e-12 for one, score in found)
    assert found == sorted(found, key=lambda one: (-one[1], one[0]))
    alone = fused(some[:1])
    assert [one for one, _ in alone] == (some[0] if some else [])


def test_more_is_looked_at_than_is_asked_for_up_to_the_most() -> None:
    assert [depth_of(k, 1000) for k in (1, 10, 50, 1000)] == [DEPTH, DEPTH, 200, 1000]
