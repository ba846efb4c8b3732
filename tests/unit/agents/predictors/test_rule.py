"""The law of one entity: level and scale, error, confidence."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from agents.predictors import diffusion, rule
from ops.bench import scales

Floats = NDArray[np.float64]
PREDICTORS = (rule.HEAT, rule.PERSISTENCE, rule.MAHAL)

forgettings = st.floats(0.0, 0.9)
LARGEST = float(np.float32(3.4e38))
singles = st.floats(-LARGEST, LARGEST, width=32)


def series_of(low: float, high: float) -> st.SearchStrategy[Floats]:
    shapes = st.tuples(st.integers(1, 12), st.integers(1, 6))
    elements = st.floats(low, high, width=32)
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=elements))


def heat(x: Floats) -> Floats:
    n = x.shape[0]
    largest = diffusion.largest_of(diffusion.PATH, n)
    y, work = np.empty(n), np.empty((3, n))
    scale = 2.0 / largest if largest else 0.0
    coefficients = diffusion.coefficients_of(0.5, largest)
    diffusion.chebyshev(diffusion.named(diffusion.PATH), coefficients, scale, x, n, y, *work)
    return y


class One:
    """An entity's state, one observation after the other."""

    def __init__(self, first: Floats) -> None:
        n = first.shape[0]
        self.last, self.count = first.copy(), 1
        self.level, self.step, self.ratio = (np.empty(n) for _ in range(3))
        self.runs = np.empty(2 * n, np.int8)
        rule.begin(first, self.level, self.step, self.ratio, self.runs, n)

    def take(self, seen: Floats, predictor: int, forgetting: float) -> float:
        """The error of one more observation."""
        by: dict[int, Callable[[], Floats]] = {
            rule.HEAT: lambda: heat(self.last),
            rule.PERSISTENCE: self.last.copy,
            rule.MAHAL: self.level.copy,
        }
        predicted, n = by[predictor](), seen.shape[0]
        self.count += 1
        rule.follow(
            seen, self.last, self.level, self.step, self.ratio, self.runs, n, self.count,
            forgetting, 1.0,
        )  # fmt: skip
        least = rule.resolution_of(self.last, n) if predictor == rule.HEAT else 0.0
        self.last = seen.copy()
        return rule.error_of(seen, predicted, self.step, self.ratio, n, least)

    @property
    def scale(self) -> Floats:
        return rule.CONSISTENT * self.ratio * self.step


def errors(series: Floats, predictor: int, forgetting: float) -> list[float]:
    """Of all observations but the first."""
    one = One(series[0])
    return [one.take(seen, predictor, forgetting) for seen in series[1:]]


@settings(deadline=None)
@given(st.lists(singles, min_size=2, max_size=30), st.lists(singles, min_size=1), forgettings)
def test_an_observation_moves_level_and_scale_by_a_bounded_factor(
    before: list[float], odd: list[float], forgetting: float
) -> None:
    """Whatever it is: by 8 and 2 at most, and the level by 4e7 scales, or to it."""
    one = One(np.array(before[:1]))
    for value in before[1:]:
        one.take(np.array([value]), rule.PERSISTENCE, forgetting)
    for value in odd:
        scale, level = float(one.scale[0]), float(one.level[0])
        one.take(np.array([value]), rule.PERSISTENCE, forgetting)
        if scale > 0.0:
            most = 8.0 * (1.0 + max(forgetting, 0.5)) * (1.0 + 1e-12)
            assert scale / most <= one.scale[0] <= scale * most
            assert abs(one.level[0] - level) <= 4.0**16 * one.scale[0]
        lo, hi = sorted((level, value))
        assert lo <= one.level[0] <= hi


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.lists(singles, min_size=1, max_size=6))
def test_glitches_move_the_scale_of_what_is_known_by_little(seed: int, odd: list[float]) -> None:
    """As many as six in a row: by 3 % each for the step and 1 % for the ratio."""
    one = One(np.zeros(1))
    for value in np.random.default_rng(seed).normal(size=300):
        one.take(np.array([value]), rule.PERSISTENCE, 0.01)
    if abs(one.runs[0]) > 1:  # a run of the noise that they would go on with
        return
    scale, level = float(one.scale[0]), float(one.level[0])
    for value in odd:
        one.take(np.array([value]), rule.PERSISTENCE, 0.01)
    most = (1.03 * 1.01) ** len(odd) * (1.0 + 1e-12)
    assert scale / most <= one.scale[0] <= scale * most
    assert abs(one.level[0] - level) <= len(odd) * 0.01 * most * scale


@pytest.mark.parametrize("predictor", PREDICTORS)
@settings(deadline=None)
@given(series=series_of(-LARGEST, LARGEST), forgetting=forgettings)
def test_errors_are_finite_and_never_negative(
    predictor: int, series: Floats, forgetting: float
) -> None:
    assert all(0.0 <= e <= rule.ERROR_MAX for e in errors(series, predictor, forgetting))


@pytest.mark.parametrize("predictor", PREDICTORS)
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-30, 1e30), st.floats(-100, 100), forgettings)
def test_errors_know_neither_unit_nor_level(
    predictor: int, seed: int, a: float, b: float, forgetting: float
) -> None:
    """Of any size: what is left is the rounding of the level, and heat's least scale."""
    series = np.random.default_rng(seed).normal(size=(40, 4))
    plain = errors(series, predictor, forgetting)
    for sign in (1, -1):
        moved = errors(sign * a * series + a * b, predictor, forgetting)
        np.testing.assert_allclose(moved, plain, rtol=1e-6, atol=1e-9)


@given(singles, st.integers(1, 40), forgettings)
def test_a_constant_series_is_predicted(level: float, n: int, forgetting: float) -> None:
    series = np.full((6, n), level)
    for predictor in PREDICTORS:
        assert max(errors(series, predictor, forgetting)) < 1e-3


@pytest.mark.parametrize("jump", [1e-30, 1e-3, 1e30])
@pytest.mark.parametrize("predictor", [rule.PERSISTENCE, rule.MAHAL])
def test_one_jump_after_a_constant_is_a_large_error_not_an_unbounded_one(
    predictor: int, jump: float
) -> None:
    series = np.zeros((300, 3))
    series[-1] = jump
    *quiet, found = errors(series, predictor, 0.01)
    assert max(quiet) == 0.0
    assert 10.0 < found < rule.ERROR_MAX


def test_a_component_that_never_moved_and_is_predicted_wrong_is_bounded() -> None:
    """Heat between a large constant and a small one: 7e10 by the variance of law 1."""
    series = np.tile([1e6, 0.0, 3.0], (50, 1))
    assert max(errors(series, rule.HEAT, 0.01)) <= rule.ERROR_MAX


@given(st.floats(0.0, rule.ERROR_MAX), st.floats(0.0, 1000.0))
def test_confidence_is_in_0_to_1_also_on_the_wire(error: float, alpha: float) -> None:
    confidence = np.float32(rule.confidence_of(error, alpha))
    assert 0.0 < confidence <= 1.0


def test_a_neutral_error_is_what_the_level_gets() -> None:
    series = np.random.default_rng(5).normal(3.0, 7.0, size=(5_000, 4))
    found = errors(series, rule.MAHAL, 0.001)[1000:]
    assert np.mean(found) == pytest.approx(rule.NEUTRAL_ERROR, rel=0.1)


def test_the_level_is_the_median_and_the_scale_normals_standard_deviation() -> None:
    rng = np.random.default_rng(2)
    one = One(np.zeros(3))
    seen = []
    for _ in range(6000):
        x = rng.normal([5.0, -3.0, 0.0], [2.0, 1e-3, 1e4])
        x[2] = abs(x[2])  # a half of a normal: median .6745
        one.take(x, rule.PERSISTENCE, 0.003)
        seen.append((*one.level, *one.scale))
    level, scale = np.split(np.mean(seen[2000:], axis=0), 2)
    assert level == pytest.approx([5.0, -3.0, 6745.0], rel=0.05)
    assert scale[:2] == pytest.approx([2.0, 1e-3], rel=0.1)


def test_each_case_recovers_as_the_table_of_the_bench_says() -> None:
    """Glitch, moved level, fallen and grown scale, spikes, random walk: rounds of 3,500."""
    found = {one.name: one.by["law 2"] for one in scales.run(seeds=3)}
    noise = found["noise"].blind
    for name in ("a glitch of 1e6", "level moved by 1e6", "scale falls by 1,000"):
        assert found[name].blind <= noise + 60, name
    assert found["scale grows by 1,000"].wild <= 20
    assert 0.8 < found["5 % spikes of 100"].median < 1.6
    assert found["random walk"].wild == 0
    assert found["random walk"].median < 0.02
    assert found["noise"].median == pytest.approx(0.95, abs=0.1)


def test_runs_are_signed_and_bounded() -> None:
    run, found = 0, []
    for up in (True, True, False, False, False, True, True):
        run = rule.longer(run, up, 2)
        found.append(run)
    assert found == [1, 2, -1, -2, -2, 1, 2]
    assert all(b == a or a * b <= 0 or abs(b) == 2 for a, b in pairwise(found))
