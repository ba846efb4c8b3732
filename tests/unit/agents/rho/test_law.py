"""What the law of ρ takes, beside SciPy's eigenvalues; made matrices, and bad ones by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import eigh, qr

from agents.rho.law import EPSILON, SYMMETRY, Checked, InvariantViolation, check

MOST = 64
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 24)


def spectral(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """A symmetric matrix with these eigenvalues, in a random basis."""
    n = len(values)
    basis, _ = qr(np.random.default_rng(seed).standard_normal((n, n)))
    made = basis @ np.diag(values) @ basis.T
    found: NDArray[np.float64] = (made + made.T) / 2
    return found


def density(n: int, seed: int) -> NDArray[np.float64]:
    values = np.random.default_rng(seed).random(n) + 1e-3
    return spectral(values / values.sum(), seed)


def which(matrix: NDArray[np.float64], most: int = MOST) -> str:
    found = check(matrix, most)
    return found.which if isinstance(found, InvariantViolation) else "OK"


@given(sizes, seeds)
def test_density_matrices_are_taken(n: int, seed: int) -> None:
    found = check(density(n, seed), MOST)
    assert isinstance(found, Checked) and found.trace_error < 1e-12 and found.lowest is None


@given(st.integers(2, 24), seeds, st.floats(-4 * EPSILON, 2 * EPSILON))
def test_psd_is_what_scipys_eigenvalues_say(n: int, seed: int, lowest: float) -> None:
    """At the border, where the two may round otherwise, either answer will do."""
    rest = np.random.default_rng(seed).random(n - 1) + 0.1
    values = np.concatenate([[lowest], rest * (1 - lowest) / rest.sum()])
    matrix = spectral(values, seed)
    least = float(eigh(matrix, eigvals_only=True)[0])
    if abs(least + EPSILON) > 1e-14:
        assert which(matrix) == ("OK" if least >= -EPSILON else "psd"), least


def test_a_pure_state_has_rank_one_and_is_taken() -> None:
    v = np.full(16, 0.25)
    assert which(np.outer(v, v)) == "OK"


@given(sizes, seeds, st.floats(-0.9, 9.0))
def test_the_trace_is_one(n: int, seed: int, off: float) -> None:
    matrix = density(n, seed) * (1 + off)
    error = abs(float(np.trace(matrix)) - 1)
    if abs(error - 1e-6) > 1e-9:
        assert (which(matrix) == "OK") is (error < 1e-6)


@given(st.integers(2, 24), seeds, st.floats(-1e-3, 1e-3))
def test_symmetric_within_what_is_said(n: int, seed: int, off: float) -> None:
    matrix = density(n, seed)
    matrix[1, 0] += off
    skew = abs(float(matrix[1, 0] - matrix[0, 1]))
    assert (which(matrix) == "symmetric") is (skew > SYMMETRY)


def test_bad_ones_are_named() -> None:
    good = density(8, 1)
    bad = {
        "square": np.ones((2, 3)), "size": np.eye(65) / 65, "trace": good * 1.1,
        "psd": np.diag([1.5, -0.5]), "symmetric": np.array([[0.5, 0.1], [0.2, 0.5]]),
    }  # fmt: skip
    assert {name: which(matrix) for name, matrix in bad.items()} == {name: name for name in bad}
    assert which(np.ones(4)) == "square" and which(np.zeros((0, 0))) == "size"
    assert which(good.astype(np.float32)) == "dtype"
    assert which(np.broadcast_to(0.5, (5000, 5000)), 1024) == "size"
    for odd in (np.nan, np.inf, -np.inf):
        matrix = good.copy()
        matrix[2, 3] = matrix[3, 2] = odd
        assert which(matrix) == "finite"


@pytest.mark.parametrize("huge", [1e308, -1e308, 2.0, 1e16])
def test_what_would_overflow_is_refused_without_a_warning(huge: float) -> None:
    matrix = np.array([[0.5, huge], [huge, 0.5]])
    assert which(matrix) == "psd"
    assert which(np.diag([huge, 1 - huge])) == "psd"


def test_negative_zero_is_zero() -> None:
    matrix = np.array([[1.0, -0.0], [0.0, -0.0]])
    assert which(matrix) == "OK"
