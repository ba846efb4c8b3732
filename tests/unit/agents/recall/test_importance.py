"""Importance: monotone at any moment, between the floor and 1, one half for constants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.recall.importance import (
    EVERY,
    LEAST,
    LOGISTIC,
    MINMAX,
    NEUTRAL,
    SAMPLE,
    WINSORISED,
    Quantiles,
    scale_of,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
some = st.lists(finite, min_size=1, max_size=300)


def fed(values: list[float]) -> Quantiles:
    one = Quantiles()
    for value in values:
        one.add(value)
    return one


@given(some, st.lists(finite, min_size=2, max_size=20))
def test_it_is_monotone_in_raw_values_at_any_moment(seen: list[float], asked: list[float]) -> None:
    scale = fed(seen).scale
    found = scale(np.sort(np.array([*asked, *seen])))
    assert np.all(np.diff(found) >= 0.0)
    assert np.all((found >= LEAST) & (found <= 1.0))


@given(st.sampled_from(["normal", "lognormal", "pareto", "few"]), st.integers(0, 2**32 - 1))
def test_it_is_monotone_in_each_kind_of_scale(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    raw = {
        "normal": random.standard_normal(400), "lognormal": random.lognormal(0, 1, 400),
        "pareto": random.pareto(1.0, 400), "few": random.integers(0, 3, 400) * 1e300,
    }[kind]  # fmt: skip
    found = scale_of(raw)(np.sort(np.concatenate([raw, random.standard_normal(50) * 10])))
    assert np.all(np.diff(found) >= 0.0) and found.min() >= LEAST and found.max() <= 1.0


@given(finite, st.integers(1, 200))
def test_constants_count_one_half(value: float, times: int) -> None:
    assert fed([value] * times).scale(np.array([value])).tolist() == [NEUTRAL]


def test_what_nobody_said_counts_one_half() -> None:
    assert fed([1.0, 2.0, 3.0]).scale(np.array([np.nan])).tolist() == [NEUTRAL]


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        (np.linspace(0, 1, 200), MINMAX),
        # q90 - q50 is about .4: the most at ten times that, q99 below it
        (np.concatenate([np.linspace(0, 1, 198), [4.5, 4.5]]), WINSORISED),
        (np.concatenate([np.linspace(0, 1, 198), [50.0, 90.0]]), LOGISTIC),
    ],
)
def test_the_scale_goes_by_the_tail(tail: np.ndarray, kind: str) -> None:
    assert scale_of(tail).kind == kind


def test_few_values_lie_between_the_least_and_the_most() -> None:
    scale = fed([0.0, 10.0, 1000.0]).scale
    assert scale(np.array([-5.0, 0.0, 10.0, 500.0, 1000.0, 1e9])).tolist() == [
        LEAST, LEAST, LEAST, 0.5, 1.0, 1.0,
    ]  # fmt: skip


def test_on_the_logistic_scale_the_tenths_are_a_tenth_from_the_ends() -> None:
    raw = np.concatenate([np.linspace(-1, 1, 201), [1e6]])
    scale = scale_of(raw)
    assert scale.kind == LOGISTIC
    at = scale(
        np.array([scale.middle - scale.spread / 2, scale.middle, scale.middle + scale.spread / 2])
    )
    assert np.allclose(at, [0.1, 0.5, 0.9])


def test_the_scale_is_made_anew_by_count_alone_and_the_same_in_any_batch() -> None:
    values = np.random.default_rng(5).lognormal(0, 2, 2000).tolist()
    one, made = Quantiles(), []
    for number, value in enumerate(values, 1):
        if one.add(value):
            made.append(number)
    assert made == [*range(1, EVERY), *range(EVERY, 2001, EVERY)]
    two = fed(values)
    assert (two.scale, two.count) == (one.scale, 2000)
    assert np.array_equal(two.sample, one.sample)


def test_the_reservoir_is_a_fair_sample_of_all_that_came() -> None:
    one = fed([float(k) for k in range(20 * SAMPLE)])
    assert len(set(one.sample.tolist())) == SAMPLE
    # Of uniform ones the mean lies within four standard errors.
    span = 20 * SAMPLE
    assert abs(one.sample.mean() - span / 2) < 4 * span / np.sqrt(12 * SAMPLE)
