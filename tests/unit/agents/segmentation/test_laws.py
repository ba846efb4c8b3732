"""The laws' formulas against NumPy's least squares and SciPy's Student t."""

import math

import numpy as np
import pytest
from scipy import stats

from agents.segmentation.bocpd import ALPHA, BETA, KAPPA, log_t
from agents.segmentation.glr import residual

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("seed", range(5))
def test_a_residual_is_that_of_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    e, x = rng.normal(size=60), np.zeros(60)
    for k in range(1, 60):
        x[k] = 0.5 * x[k - 1] + e[k]
    f, y = x[:-1], x[1:]
    design = np.column_stack((np.ones_like(f), f))
    _, (expected,), _, _ = np.linalg.lstsq(design, y, rcond=None)
    sums = (float(len(f)), f.sum(), y.sum(), f @ f, f @ y, y @ y)
    assert residual(*sums, 0.0) == pytest.approx(expected, rel=1e-9)


def test_a_residual_keeps_the_coefficient_within_one() -> None:
    f = np.arange(20.0)
    y = 3.0 * f
    sums = (20.0, f.sum(), y.sum(), f @ f, f @ y, y @ y)
    expected = float(((y - f) - (y - f).mean()) @ ((y - f) - (y - f).mean()))
    assert residual(*sums, 0.0) == pytest.approx(expected, rel=1e-9)


def test_no_pairs_leave_no_residual() -> None:
    assert residual(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0) == 0.0


@pytest.mark.parametrize("n", [0, 1, 7, 150])
def test_the_next_point_is_students_t(n: int) -> None:
    x = np.random.default_rng(n).normal(1.0, 2.0, n)
    mean = float(x.sum()) / (KAPPA + n)
    beta = BETA + 0.5 * float(((x - x.mean()) ** 2).sum() if n else 0.0)
    beta += 0.5 * KAPPA * n * (float(x.mean()) if n else 0.0) ** 2 / (KAPPA + n)
    kappa, alpha = KAPPA + n, ALPHA + n / 2
    scale = math.sqrt(beta * (kappa + 1) / (alpha * kappa))
    expected = stats.t.logpdf(0.7, 2 * alpha, mean, scale)
    assert log_t(0.7, float(n), mean, beta) == pytest.approx(expected, rel=1e-10)
