"""The law of one entity: moments with forgetting, error, confidence."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from agents.predictors import diffusion, rule

Floats = NDArray[np.float64]
PREDICTORS = (rule.HEAT, rule.PERSISTENCE, rule.MAHAL)

forgettings = st.floats(0.0, 0.9)


def series_of(low: float, high: float) -> st.SearchStrategy[Floats]:
    shapes = st.tuples(st.integers(1, 12), st.integers(1, 6))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(low, high)))


def heat(x: Floats) -> Floats:
    n = x.shape[0]
    largest = diffusion.largest_of(diffusion.PATH, n)
    y, work = np.empty(n), np.empty((3, n))
    scale = 2.0 / largest if largest else 0.0
    coefficients = diffusion.coefficients_of(0.5, largest)
    diffusion.chebyshev(diffusion.named(diffusion.PATH), coefficients, scale, x, n, y, *work)
    return y


def errors(series: Floats, predictor: int, forgetting: float) -> list[float]:
    return [error for error, _ in rounds(series, predictor, forgetting)]


def rounds(series: Floats, predictor: int, forgetting: float) -> list[tuple[float, float]]:
    """(error, least variance) of all observations but the first."""
    n = series.shape[1]
    mean, m2 = np.empty(n), np.empty(n)
    weight = rule.begin(series[0], mean, m2, n)
    found = []
    for last, seen in pairwise(series):
        given_by = {rule.HEAT: heat, rule.PERSISTENCE: np.copy, rule.MAHAL: lambda _: mean.copy()}
        predicted = given_by[predictor](last)
        weight = rule.remember(seen, mean, m2, weight, n, forgetting)
        error = rule.error_of(seen, predicted, m2, weight, n)
        found.append((error, float(m2.min() / weight)))
    return found


@given(series_of(-1e6, 1e6), forgettings)
def test_moments_are_those_of_weighted_observations(series: Floats, forgetting: float) -> None:
    count, n = series.shape
    mean, m2 = np.empty(n), np.empty(n)
    weight = rule.begin(series[0], mean, m2, n)
    for seen in series[1:]:
        weight = rule.remember(seen, mean, m2, weight, n, forgetting)
    counts = (1.0 - forgetting) ** np.arange(count - 1, -1, -1)
    expected = np.average(series, axis=0, weights=counts)
    spread = np.average((series - expected) ** 2, axis=0, weights=counts)
    size = 1.0 + np.abs(series).max()
    np.testing.assert_allclose(weight, counts.sum(), rtol=1e-12)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12 * size)
    np.testing.assert_allclose(m2 / weight, spread, rtol=1e-9, atol=1e-11 * size**2)


@pytest.mark.parametrize("predictor", PREDICTORS)
@settings(deadline=None)
@given(series=series_of(-3.4e38, 3.4e38), forgetting=forgettings)
def test_errors_are_finite_and_never_negative(
    predictor: int, series: Floats, forgetting: float
) -> None:
    for error in errors(series, predictor, forgetting):
        assert 0.0 <= error <= rule.ERROR_MAX
        assert np.isfinite(np.float32(error))


@pytest.mark.parametrize("predictor", PREDICTORS)
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1e4), st.floats(-100, 100), forgettings)
def test_errors_know_neither_unit_nor_level(
    predictor: int, seed: int, a: float, b: float, forgetting: float
) -> None:
    series = np.random.default_rng(seed).normal(size=(10, 4))
    plain = rounds(series, predictor, forgetting)
    for sign in (1, -1):
        moved = rounds(sign * a * series + a * b, predictor, forgetting)
        for (error, least), (other, _) in zip(plain, moved, strict=True):
            # what is left is ε beside the variance, and the rounding of the level
            slack = rule.EPSILON / (least * min(1.0, a * a)) + 1e-13 / least
            assert other == pytest.approx(error, rel=1e-6 + 2 * slack)


@given(st.floats(-1e6, 1e6), st.integers(1, 6), forgettings)
def test_a_constant_series_is_predicted(level: float, n: int, forgetting: float) -> None:
    series = np.full((6, n), level)
    for predictor in PREDICTORS:
        assert max(errors(series, predictor, forgetting)) < 1e-6 + 1e-6 * abs(level) ** 2


@pytest.mark.parametrize("predictor", [rule.PERSISTENCE, rule.MAHAL])
def test_one_jump_after_a_constant_is_a_large_error_not_an_unbounded_one(predictor: int) -> None:
    series = np.zeros((300, 3))
    series[-1] = 1e-3
    (*quiet, jump) = errors(series, predictor, 0.01)
    assert max(quiet) == 0.0
    assert 10.0 < jump < 200.0


@given(st.floats(0.0, rule.ERROR_MAX), st.floats(0.0, 1000.0))
def test_confidence_is_in_0_to_1_also_on_the_wire(error: float, alpha: float) -> None:
    confidence = np.float32(rule.confidence_of(error, alpha))
    assert 0.0 < confidence <= 1.0


def test_a_neutral_error_is_what_the_mean_gets() -> None:
    series = np.random.default_rng(5).normal(3.0, 7.0, size=(20_000, 4))
    found = errors(series, rule.MAHAL, 0.001)[1000:]
    assert np.mean(found) == pytest.approx(rule.NEUTRAL_ERROR, rel=0.02)
