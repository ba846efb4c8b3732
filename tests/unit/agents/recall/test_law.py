"""Each clause of the score: norm, zero clamp, half-life, features, all of it in [0, 1]."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agents.recall import law

finite = st.floats(allow_nan=False, allow_infinity=False)
part = st.floats(0.0, 1.0)
vector = arrays(np.float64, st.integers(1, 40), elements=finite)


@given(vector)
def test_a_unit_vector_has_length_1_whatever_its_numbers_are(given: np.ndarray) -> None:
    made = law.unit(given)
    wanted = 1.0 if given.any() else 0.0
    assert math.isclose(float(made @ made), wanted, abs_tol=1e-12)
    assert np.all(np.sign(made) * np.sign(given) >= 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_direction(bad: float) -> None:
    with pytest.raises(ValueError, match="isn't finite"):
        law.unit(np.array([1.0, bad]))


@given(st.integers(1, 16), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_similarity_is_the_cosine_and_0_where_that_is_below(d: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = np.array([law.unit(one) for one in random.standard_normal((n, d))])
    query = law.unit(random.standard_normal(d))
    found = law.similarity(rows, query)
    assert np.allclose(found, np.clip(rows @ query, 0.0, 1.0), atol=1e-12)
    assert np.all((found >= 0.0) & (found <= 1.0))
    alone = [float(law.similarity(rows[k : k + 1], query)[0]) for k in range(n)]
    assert alone == found.tolist()  # bit for bit: it doesn't depend on other rows
    assert np.all(law.similarity(-query[None], query) == 0.0)


@given(st.floats(1e-3, 1e9), st.floats(0.0, 100.0))
def test_one_half_life_halves(half_life: float, lives: float) -> None:
    then, later = law.decay(np.array([lives, lives + 1.0]) * half_life, half_life)
    assert math.isclose(later, then / 2, rel_tol=1e-9)


@given(arrays(np.float64, 5, elements=st.floats(-1e12, 1e12)), st.floats(1e-3, 1e9))
def test_the_older_the_less_and_nothing_from_the_time_to_come(
    ages: np.ndarray, half_life: float
) -> None:
    found = law.decay(np.sort(ages), half_life)
    assert np.all(np.diff(found) <= 0.0) and np.all((found >= 0.0) & (found <= 1.0))
    assert np.all(law.decay(-np.abs(ages), half_life) == 1.0)
    assert np.all(law.decay(ages, math.inf) == 1.0)


@given(arrays(np.float64, (4, 3), elements=part), arrays(np.float64, 3, elements=part))
def test_features_are_factors_of_at_most_1(values: np.ndarray, weights: np.ndarray) -> None:
    if weights.sum() > 1.0:
        with pytest.raises(ValueError, match="at most 1 in all"):
            law.features(values, weights)
        return
    found = law.features(values, weights)
    assert np.all((found >= 0.0) & (found <= 1.0))
    assert np.all(law.features(np.maximum(values, 0.5), weights) >= found)


@given(part, st.floats(0.05, 1.0), st.floats(0, 1e9), st.floats(0, 4), st.floats(1, 1e9), part)
def test_a_score_is_in_0_to_1_and_grows_with_each_factor(
    sim: float, important: float, age: float, alpha: float, half_life: float, more: float
) -> None:
    def score(s: float, i: float, a: float, f: float) -> float:
        return float(law.score([s], [i], [a], alpha, half_life, f)[0])

    found = score(sim, important, age, more)
    assert 0.0 <= found <= sim
    assert score(1.0, important, age, more) >= found <= score(sim, 1.0, age, more)
    assert score(sim, important, 0.0, more) >= found <= score(sim, important, age, 1.0)


def test_without_exponent_and_features_it_is_the_published_product() -> None:
    day = 86_400.0
    found = law.score([0.8, 0.8], [0.5, 1.0], [day, 2 * day], 1.0, day)
    assert found.tolist() == [0.8 * 0.5 * 0.5, 0.8 * 1.0 * 0.25]
