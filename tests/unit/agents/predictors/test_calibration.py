"""Calibration's law: logits, the running median, the Newton step, and what a record tells."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from agents.predictors import calibration as cal

pytestmark = pytest.mark.kernel

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

logits = st.floats(-cal.LIMIT, cal.LIMIT)


def samples(slope: float, bias: float, n: int, seed: int) -> tuple[Floats, Bools]:
    """Logits, and what came true as often as σ(slope·z + bias) says."""
    rng = np.random.default_rng(seed)
    z = np.clip(rng.normal(0.0, 3.0, n), -cal.LIMIT, cal.LIMIT)
    return z, rng.random(n) < expit(slope * z + bias)


def play(z: Floats, truths: Bools) -> Floats:
    """What is learned after each sample: [n, 5]."""
    learned = np.empty(5)
    cal.unlearn(learned)
    found = []
    for one, right in zip(z.tolist(), truths.tolist(), strict=True):
        cal.learn(learned, one, right)
        found.append(learned.copy())
    return np.array(found)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("slope", "bias"), [(2.0, 0.0), (0.5, 0.0), (1 / 3, 1.0), (0.3, -2.0)])
def test_a_known_slope_and_bias_are_recovered(slope: float, bias: float, seed: int) -> None:
    found = play(*samples(slope, bias, 5000, seed))[1000:, :2].mean(axis=0)
    assert found == pytest.approx((slope, bias), abs=0.25)


def test_without_forgetting_the_steps_end_at_the_likeliest() -> None:
    """The last 1,000 samples' mean is that of the batch fit by SciPy."""
    z, truths = samples(0.7, -0.5, 5000, 4)

    def nll(w: Floats) -> float:
        x = w[0] * z + w[1]
        return float(np.logaddexp(0.0, np.where(truths, -x, x)).mean())

    best = minimize(nll, [1.0, 0.0]).x
    assert play(z, truths)[1000:, :2].mean(axis=0) == pytest.approx(best, abs=0.1)


def test_what_is_learned_follows_a_predictor_that_changes() -> None:
    parts = samples(2.0, 0.0, 3000, 3), samples(0.3, 1.0, 3000, 4)
    found = play(*(np.concatenate(pair) for pair in zip(*parts, strict=True)))
    assert found[1000:3000, :2].mean(axis=0) == pytest.approx((2.0, 0.0), abs=0.3)
    assert found[4000:, :2].mean(axis=0) == pytest.approx((0.3, 1.0), abs=0.2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(logits, st.booleans()), max_size=80))
def test_what_is_learned_stays_within_its_bounds(given: list[tuple[float, bool]]) -> None:
    learned = np.empty(5)
    cal.unlearn(learned)
    for z, right in given * 5:
        cal.learn(learned, z, right)
        slope, bias, aa, ab, bb = learned
        assert 0.0 <= slope <= cal.SLOPE_MAX
        assert abs(bias) <= cal.BIAS_MAX
        assert aa * bb - ab * ab > 0.0
        assert max(aa, bb) <= 2.0 / (1.0 - cal.KEEP)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_at_the_end_of_its_range_the_slope_leaves_the_bias_to_the_samples(share: float) -> None:
    """Confidences that say the contrary: slope 0, and the bias is the share's logit."""
    rng = np.random.default_rng(7)
    z = np.clip(rng.normal(0.0, 3.0, 6000), -cal.LIMIT, cal.LIMIT)
    found = play(z, rng.random(6000) < expit(-0.3 * z + logit(share)))[1000:]
    assert np.mean(found[:, 0]) < 0.05
    came = expit(-0.3 * z[:, None] + logit(share)).mean()
    assert expit(found[:, 0] * z[1000:] + found[:, 1]).mean() == pytest.approx(came, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(logits, st.booleans()), min_size=1, max_size=300),
    st.floats(0, cal.SLOPE_MAX), st.floats(-6, 6),
)  # fmt: skip
def test_a_record_tells_of_the_samples(
    given: list[tuple[float, bool]], slope: float, bias: float
) -> None:
    window = cal.Window(np.zeros(cal.WINDOW_BINS, np.int32), np.zeros(cal.WINDOW_SUMS))
    held = [cal.count(window, z, slope, bias, right) for z, right in given]
    assert held == list(range(1, len(given) + 1))
    out = cal.reports(1)
    cal.tell(window, slope, bias, 77, 5, out)
    assert (out.used[0], out.record[0], out.samples[0]) == (1, 5, 77)
    assert list(out.figures[[cal.SLOPE, cal.BIAS], 0]) == [slope, bias]
    y = np.array([right for _, right in given], float)
    for when, a, b in ((0, 1.0, 0.0), (1, slope, bias)):
        x = np.array([a * z + b for z, _ in given])
        p = expit(x)
        which = np.minimum((10 * p).astype(int), 9)
        ece = sum(abs(float((p - y)[which == k].sum())) for k in range(10)) / len(p)
        assert out.figures[cal.ECE_PRE + when, 0] == pytest.approx(ece, abs=1e-3)
        assert out.figures[cal.BRIER_PRE + when, 0] == pytest.approx(np.mean((p - y) ** 2))
        nll = np.logaddexp(0.0, np.where(y > 0, -x, x)).mean()
        assert out.figures[cal.NLL_PRE + when, 0] == pytest.approx(nll)
        bins = out.bins[when, ..., 0]
        assert bins[cal.COUNT].sum() == len(p)
        assert (bins[cal.COUNT] * bins[cal.ACCURACY]).sum() == pytest.approx(y.sum())
        said = (bins[cal.COUNT] * bins[cal.CONFIDENCE]).sum()
        assert said == pytest.approx(p.sum(), abs=(len(p) + 1) / cal.UNIT)
    cal.clear(window)
    assert not window.bins.any()
    assert not window.sums.any()


def test_a_window_holds_the_most_samples_that_can_be_asked_for() -> None:
    """100,000 sure ones: their confidences, in units, still are an int32."""
    assert 100_000 * cal.UNIT < 2**31


@given(st.floats(0.0, 3e38), st.floats(0.0, 1000.0))
def test_logits_are_those_of_the_confidence(error: float, alpha: float) -> None:
    z = cal.logit_of(error, alpha)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        expected = float(np.clip(logit(np.exp(-alpha * error)), -cal.LIMIT, cal.LIMIT))
    assert z == pytest.approx(expected, abs=1e-9)


@given(logits, logits, st.floats(0.0, cal.SLOPE_MAX), st.floats(-cal.BIAS_MAX, cal.BIAS_MAX))
def test_calibration_keeps_the_order_of_confidences(
    a: float, b: float, slope: float, bias: float
) -> None:
    low, high = sorted((a, b))
    assert 0.0 < cal.sure(slope * low + bias) <= cal.sure(slope * high + bias) <= 1.0
    assert cal.sure(a) == pytest.approx(expit(a), rel=1e-12)


def medians(errors: Floats) -> list[float]:
    """The running median before each error, the first of which is the second observation's."""
    median, run, found = 0.0, 0, []
    for n, error in enumerate(errors.tolist(), start=2):
        found.append(median)
        median, run = cal.median_after(median, run, error, n)
    return found


@pytest.mark.parametrize("scale", [0.1, 1.0, 90.0])
@pytest.mark.parametrize("degrees", [1, 4, 16, 10_000])
def test_the_median_halves_the_errors(scale: float, degrees: int) -> None:
    """Also errors that are nearly equal, and neither above nor below it in turn."""
    errors = scale * np.random.default_rng(degrees).chisquare(degrees, 20_000) / degrees
    below = errors <= medians(errors)
    assert np.mean(below[200:]) == pytest.approx(0.5, abs=0.03)
    for part in np.split(below[1000:].astype(float), 19):
        assert np.mean(part) == pytest.approx(0.5, abs=0.15)
    assert abs(np.corrcoef(below[200:-1], below[201:])[0, 1]) < 0.4


def test_the_median_is_bounded_and_follows_what_changes() -> None:
    errors = np.concatenate([np.zeros(2000), np.full(60, 2.0), np.full(60, 90.0)])
    found = medians(errors)
    assert found[1999] == cal.MEDIAN_MIN
    assert 1.0 < found[2040] < 4.0
    assert 45.0 < found[2100] < 180.0
    assert cal.median_after(0.0, 0, 3e38, 2) == (cal.MEDIAN_MAX, 0)
    median, run = cal.median_after(cal.MEDIAN_MAX, 9, 3e38, 3)
    assert math.isfinite(median)
    assert run == 10
    assert cal.median_after(0.5, 3, 0.5, 9) == (0.5, 3)


def test_records_that_need_more_room_are_kept() -> None:
    full = cal.reports(3)
    window = cal.Window(np.zeros(cal.WINDOW_BINS, np.int32), np.zeros(cal.WINDOW_SUMS))
    for k in range(3):
        cal.count(window, float(k), 1.0, 0.0, True)
        cal.tell(window, 1.0, 0.0, k, k, full)
    more = cal.grown(full)
    assert more.used[0] == 3
    assert more.record.shape == (6,)
    assert list(more.samples[:3]) == [0, 1, 2]
    np.testing.assert_array_equal(more.figures[:, :3], full.figures)
    np.testing.assert_array_equal(more.bins[..., :3], full.bins)
