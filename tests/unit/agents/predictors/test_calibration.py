"""Calibration's law: logits, the running median, the fit, what is kept, and known temperatures."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from agents.predictors import calibration as cal

pytestmark = pytest.mark.kernel

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

every_counts = st.lists(st.integers(0, 4096), min_size=cal.COUNTS, max_size=cal.COUNTS)


def synthetic(temperature: float, n: int, seed: int) -> tuple[Floats, Bools]:
    """Logits of a predictor that is `temperature` times too sure, and what came true."""
    rng = np.random.default_rng(seed)
    logits = np.clip(rng.normal(0.0, 2.0 * max(temperature, 1.0), n), -cal.LIMIT, cal.LIMIT)
    return logits, rng.random(n) < expit(logits / temperature)


def play(logits: Floats, truths: Bools, every: int = 200) -> tuple[cal.Fits, list[float]]:
    """The refits of a stream of samples, and the temperature in force after each sample."""
    counts, fits = np.zeros(cal.COUNTS, np.uint16), cal.fits(len(logits))
    now, found = 1.0, []
    for k, (z, right) in enumerate(zip(logits, truths, strict=True)):
        now = cal.learn(counts, cal.level_of(z), right, k, every, now, k, fits)
        found.append(now)
    return fits, found


def ece(p: Floats, truths: Bools) -> float:
    """Expected calibration error of raw samples, 10 bins."""
    bins = np.minimum((10 * p).astype(int), 9)
    return sum(abs(float((p - truths)[bins == b].sum())) for b in range(10)) / len(p)


def nll(beta: float, logits: Floats, truths: Bools) -> float:
    return float(np.logaddexp(0.0, np.where(truths, -1.0, 1.0) * beta * logits).mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float, seed: int) -> None:
    fits, found = play(*synthetic(temperature, 5000, seed))
    assert found[-1] == pytest.approx(temperature, rel=0.15)
    assert fits.used[0] == 25
    fresh, truths = synthetic(temperature, 100_000, seed + 100)
    after = ece(expit(fresh / found[-1]), truths)
    assert after <= 0.3 * ece(expit(fresh), truths)
    # on the 2,500 held-out samples themselves the noise of counting comes on top
    assert fits.figures[cal.ECE_POST, 24] <= 0.5 * fits.figures[cal.ECE_PRE, 24]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 3.0])
def test_the_fit_is_that_of_scipy_on_the_raw_samples(temperature: float) -> None:
    logits, truths = synthetic(temperature, 5000, 7)
    fits, _ = play(logits, truths, 5000)
    best = minimize_scalar(
        lambda t: nll(1.0 / t, logits[::2], truths[::2]), bounds=(0.1, 5.0), method="bounded"
    )
    assert fits.figures[cal.FITTED, 0] == pytest.approx(best.x, rel=0.03)
    for t, column in ((1.0, cal.NLL_PRE), (fits.figures[cal.FITTED, 0], cal.NLL_POST)):
        assert fits.figures[column, 0] == pytest.approx(
            nll(1.0 / t, logits[1::2], truths[1::2]), rel=0.03
        )


def unfold(counts: NDArray[np.uint16], held: int) -> tuple[Floats, Bools]:
    """The samples that counts stand for."""
    table = counts.reshape(cal.LEVELS, 2, 2)[:, held, :].astype(int)
    middles = cal.WIDTH * (np.arange(cal.LEVELS) + 0.5) - cal.LIMIT
    logits = np.repeat(middles, table.sum(axis=1))
    truths = [right for row in table for right in (False,) * row[0] + (True,) * row[1]]
    return logits, np.array(truths, bool)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=cal.COUNTS, max_size=cal.COUNTS), st.floats(0.1, 5))
def test_figures_are_those_of_the_samples(values: list[int], temperature: float) -> None:
    counts = np.array(values, np.uint16)
    logits, truths = unfold(counts, 1)
    if not len(logits):
        return
    bins = np.empty((3, cal.BINS))
    found = cal.measure(counts, temperature, bins)
    p = expit(logits / temperature)
    expected = ece(p, truths), np.mean((p - truths) ** 2), nll(1 / temperature, logits, truths)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert bins[cal.COUNT].sum() == len(logits)
    assert (bins[cal.COUNT] * bins[cal.ACCURACY]).sum() == pytest.approx(truths.sum())
    assert (bins[cal.COUNT] * bins[cal.CONFIDENCE]).sum() == pytest.approx(p.sum())


@settings(max_examples=60, deadline=None)
@given(every_counts)
def test_the_fit_is_the_best_of_its_range(values: list[int]) -> None:
    counts = np.array(values, np.uint16)
    counts[0] += 1
    logits, truths = unfold(counts, 0)
    t = cal.fit(counts)
    assert cal.T_MIN <= t <= cal.T_MAX
    best = nll(1 / t, logits, truths)
    for other in np.geomspace(0.1, 5.0, 40):
        assert best <= nll(1 / other, logits, truths) + 1e-9


@settings(max_examples=100, deadline=None)
@given(every_counts, st.floats(cal.T_MIN, cal.T_MAX))
def test_only_what_helps_is_kept(values: list[int], last: float) -> None:
    counts, fits = np.array(values, np.uint16), cal.fits(1)
    counts[2] += 1
    now = cal.refit(counts, last, 5, 400, fits)
    figures = fits.figures[:, 0]
    kept = figures[cal.ECE_POST] <= 0.7 * figures[cal.ECE_PRE]
    kept = kept and figures[cal.NLL_POST] <= figures[cal.NLL_PRE]
    assert bool(fits.kept[0]) == kept
    assert now == figures[cal.TEMPERATURE]
    assert figures[cal.PREVIOUS] == last
    assert np.isfinite(figures).all()
    if kept:
        assert now == figures[cal.FITTED]
    else:
        assert now in (last, 1.0)
        one, old = (cal.measure(counts, t, np.empty((3, cal.BINS))) for t in (1.0, last))
        worse = old[0] > one[0] or old[2] > one[2]
        assert now == (1.0 if worse else last)


def test_a_temperature_follows_a_predictor_that_changes() -> None:
    first, second = synthetic(0.5, 10_000, 3), synthetic(3.0, 20_000, 4)
    _, found = play(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
    assert found[9_999] == pytest.approx(0.5, rel=0.15)
    assert found[-1] == pytest.approx(3.0, rel=0.15)


def test_counts_are_bounded_and_fade() -> None:
    counts, fits = np.zeros(cal.COUNTS, np.uint16), cal.fits(1)
    totals = []
    for k in range(40_000):
        cal.learn(counts, 3, True, k, 100_000, 1.0, k, fits)
        totals.append(int(counts.sum()))
    assert totals[8190] == 8191
    assert totals[8191] == 4096
    assert max(totals[8191:]) == 8191
    assert fits.used[0] == 0


@given(st.floats(0.0, 3e38), st.floats(0.0, 1000.0))
def test_logits_are_those_of_the_confidence(error: float, alpha: float) -> None:
    z = cal.logit_of(error, alpha)
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        expected = float(np.clip(logit(np.exp(-alpha * error)), -cal.LIMIT, cal.LIMIT))
    assert z == pytest.approx(expected, abs=1e-9)
    level = cal.level_of(z)
    assert 0 <= level < cal.LEVELS
    assert abs(cal.WIDTH * (level + 0.5) - cal.LIMIT - z) <= cal.WIDTH / 2 + 1e-9


@given(st.floats(-cal.LIMIT, cal.LIMIT), st.floats(-cal.LIMIT, cal.LIMIT), st.floats(0.1, 5.0))
def test_scaling_keeps_the_order_of_confidences(a: float, b: float, t: float) -> None:
    low, high = sorted((a, b))
    assert 0.0 < cal.scaled(low, t) <= cal.scaled(high, t) < 1.0 or t < 0.2
    assert cal.scaled(a, t) == pytest.approx(expit(a / t), rel=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1000.0])
@pytest.mark.parametrize("degrees", [1, 4, 16])
def test_the_median_halves_the_errors(scale: float, degrees: int) -> None:
    errors = scale * np.random.default_rng(degrees).chisquare(degrees, 20_000) / degrees
    median, below = 0.0, []
    for k, error in enumerate(errors):
        below.append(error <= median)
        median = cal.median_after(median, error, k + 2)
    assert np.mean(below[200:]) == pytest.approx(0.5, abs=0.02)
    for part in np.split(np.array(below[1000:], float), 19):
        assert np.mean(part) == pytest.approx(0.5, abs=0.1)


def test_the_median_is_bounded_and_comes_back() -> None:
    median = 0.0
    for n in range(2, 2000):
        median = cal.median_after(median, 0.0, n)
    assert median == cal.MEDIAN_MIN
    rounds = 0
    while median < 1.0:
        median, rounds = cal.median_after(median, 2.0, 2000), rounds + 1
    assert rounds <= 150
    assert cal.median_after(0.0, 3e38, 2) == cal.MEDIAN_MAX
    assert math.isfinite(cal.median_after(cal.MEDIAN_MAX, 3e38, 3))


def test_refits_that_need_more_room_are_kept() -> None:
    fits, _ = play(*synthetic(2.0, 1000, 1))
    small = cal.Fits(fits.used, *(a[..., :5].copy() for a in fits[1:-1]), fits.work)
    more = cal.grown(small)
    assert more.used[0] == 5
    assert more.record.shape == (10,)
    np.testing.assert_array_equal(more.figures[:, :5], small.figures)
    np.testing.assert_array_equal(more.bins[..., :5], small.bins)
