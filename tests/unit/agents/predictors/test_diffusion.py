"""Heat by two methods against SciPy's expm_multiply."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.linalg import expm_multiply

from agents.predictors import diffusion as d

Floats = NDArray[np.float64]
KINDS = (d.NONE, d.PATH, d.RING, d.STAR)


def matrix_of(kind: int, n: int) -> sp.csr_matrix:
    """The Laplacian from an edge list: nothing in common with the kernels."""
    edges: set[tuple[int, int]] = set()
    if kind in (d.PATH, d.RING):
        edges |= {(i, i + 1) for i in range(n - 1)}
    if kind == d.RING and n > 2:
        edges.add((0, n - 1))
    if kind == d.STAR:
        edges |= {(0, i) for i in range(1, n)}
    adjacency = np.zeros((n, n))
    for i, j in edges:
        adjacency[i, j] = adjacency[j, i] = 1.0
    return sp.csr_matrix(np.diag(adjacency.sum(axis=1)) - adjacency)


def heat(graph: d.Operator, t: float, x: Floats) -> Floats:
    n = x.shape[0]
    largest = d.largest_of(graph.kind, n)
    y, work = np.empty(n), np.empty((3, n))
    scale = 2.0 / largest if largest else 0.0
    d.chebyshev(graph, d.coefficients_of(t, largest), scale, x, n, y, *work)
    return y


def heat_lanczos(graph: d.Operator, t: float, x: Floats) -> Floats:
    n = x.shape[0]
    largest = d.largest_of(graph.kind, n)
    y, basis = np.empty(n), np.empty((d.LANCZOS_STEPS + 1, n))
    scale = 2.0 / largest if largest else 0.0
    work = np.empty((d.LANCZOS_WORK, d.LANCZOS_STEPS))
    d.lanczos(graph, d.coefficients_of(t, largest), scale, x, n, y, basis, work)
    return y


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 16, 512])
def test_laplacian_is_that_of_the_edges(kind: int, n: int) -> None:
    x, out = np.random.default_rng(n).normal(size=n), np.empty(n)
    d.multiply(d.named(kind), x, n, out)
    np.testing.assert_allclose(out, matrix_of(kind, n) @ x, rtol=0, atol=1e-12 * n)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 16, 512])
@pytest.mark.parametrize(("t", "lanczos_error"), [(0.0, 1e-10), (0.5, 1e-10), (5.0, 1e-6)])
def test_both_methods_agree_with_expm_multiply(
    kind: int, n: int, t: float, lanczos_error: float
) -> None:
    x = np.random.default_rng(n).normal(size=n)
    truth = expm_multiply(-t * matrix_of(kind, n), x)
    np.testing.assert_allclose(heat(d.named(kind), t, x), truth, rtol=0, atol=1e-10)
    krylov = heat_lanczos(d.named(kind), t, x)
    np.testing.assert_allclose(krylov, truth, rtol=0, atol=lanczos_error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_one_hot_vector_of_512(kind: int) -> None:
    x = np.zeros(512)
    x[0] = 1.0
    truth = expm_multiply(-0.5 * matrix_of(kind, 512), x)
    np.testing.assert_allclose(heat(d.named(kind), 0.5, x), truth, rtol=0, atol=1e-10)
    np.testing.assert_allclose(heat_lanczos(d.named(kind), 0.5, x), truth, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 16, 100, 512])
def test_the_bound_holds_the_spectrum_and_is_tight(kind: int, n: int) -> None:
    truth = float(np.linalg.eigvalsh(matrix_of(kind, n).toarray())[-1])
    bound = d.largest_of(kind, n)
    assert truth <= bound + 1e-9
    assert bound <= 1.05 * truth + 1 / 32


def test_the_degree_follows_the_time_and_the_spectrum() -> None:
    assert len(d.coefficients_of(0.5, 0.0)) == 1
    assert len(d.coefficients_of(0.5, 4.0)) < 20
    assert 60 < len(d.coefficients_of(0.5, 512.0)) < 160
    for largest in (0.1, 4.0, 512.0, 1e5):
        c = d.coefficients_of(0.5, largest)
        # at X = -1 (eigenvalue 0) the expansion gives exp(0)
        assert abs(np.sum(c * (-1.0) ** np.arange(len(c))) - 1.0) < 1e-11


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 64), st.floats(0, 10), st.integers(0, 2**32 - 1))
def test_heat_is_kept_and_never_leaves_the_range(kind: int, n: int, t: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=n)
    y = heat(d.named(kind), t, x)
    assert abs(y.sum() - x.sum()) < 1e-9
    assert y.max() <= x.max() + 1e-9
    assert y.min() >= x.min() - 1e-9


def test_without_edges_nothing_moves() -> None:
    x = np.random.default_rng(0).normal(size=9)
    assert np.array_equal(heat(d.named(d.NONE), 3.0, x), x)
    zero = np.zeros(9)
    assert np.array_equal(heat_lanczos(d.named(d.PATH), 3.0, zero), zero)
