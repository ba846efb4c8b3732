"""Heat on a graph: y = exp(-t·L)·x, for the Laplacian L of a graph over a vector's components.

Two methods, neither of which builds a matrix. Chebyshev expansion (Druskin and Knizhnerman 1989):
with z = t·λmax/2 and X = 2·L/λmax - 1, whose spectrum lies in [-1, 1],
exp(-t·L) = Σ_k c_k·T_k(X), c_0 = e^-z·I_0(z), c_k = 2·(-1)^k·e^-z·I_k(z). And Lanczos (Saad 1992):
exp(-t·L)·x = |x|·V·exp(-t·T)·e_1 in the Krylov space of x, where T is tridiagonal;
20 steps give 1e-10 up to z of about 1, or where L has few different eigenvalues (a star has three).

All sums run in a fixed order, one vector at a time: the same bytes whatever stands around it.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.special import ive

from topics.compiled import entry, kernel

NONE, PATH, RING, STAR, TRIDIAGONAL = range(5)  # a star's centre is its first component

TOLERANCE = 1e-12  # of the expansion, relative to the norm of x
LANCZOS_STEPS = 20
LANCZOS_WORK = 6  # arrays of that many numbers
_TERMS, _TERMS_BY_ROOT = 24, 9.0  # of the expansion, at most: so many, and more by the root of z
_EIGEN_STEPS = 30
_MARGIN, _GRAIN = 1.01, 64.0  # of the bound: how much wider, and in which parts of 1 it is rounded
_BREAKDOWN = 1e-12  # a Krylov space is exhausted when its next vector is shorter, relative to |L|
_SEED = 0x5EED
_GAMMA = 0x9E3779B97F4A7C15  # of splitmix64, as what follows
_MIXES = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT, _BITS, _BITS_OVER = 31, 53, 11  # a double has 53 of the 64

Floats = NDArray[np.float64]


class Operator(NamedTuple):
    """The Laplacian of a graph of this kind; or a TRIDIAGONAL matrix, whose numbers these are."""

    kind: int
    diagonal: Floats
    beside: Floats  # the diagonal


def named(kind: int) -> Operator:
    """L of the path, ring or star over any number of components, or of no edges."""
    return Operator(kind, np.zeros(0), np.zeros(0))


@entry
def multiply(op: Operator, u: Floats, n: int, out: Floats) -> None:
    """out[:n] = L·u[:n]."""
    for i in range(n):
        out[i] = 0.0
    if op.kind == TRIDIAGONAL:
        for i in range(n):
            out[i] = op.diagonal[i] * u[i]
            if i > 0:
                out[i] += op.beside[i - 1] * u[i - 1]
            if i + 1 < n:
                out[i] += op.beside[i] * u[i + 1]
    elif op.kind == STAR:
        total = 0.0
        for i in range(1, n):
            out[i] = u[i] - u[0]
            total += u[0] - u[i]
        out[0] = total
    elif op.kind != NONE and n > 1:
        out[0] = u[0] - u[1]
        for i in range(1, n - 1):
            out[i] = (u[i] - u[i - 1]) + (u[i] - u[i + 1])
        out[n - 1] = u[n - 1] - u[n - 2]
        if op.kind == RING and n > 2:
            out[0] += u[0] - u[n - 1]
            out[n - 1] += u[n - 1] - u[0]


@kernel
def _moved(near: float, ck: float, scale: float, i: int, b: Floats, a: Floats, y: Floats) -> None:
    """Component i of `_step`; `near` is that of L·b."""
    a[i] = 2.0 * (scale * near - b[i]) - a[i]
    y[i] += ck * a[i]


@kernel
def _step(
    op: Operator, ck: float, scale: float, n: int, b: Floats, a: Floats, y: Floats, c: Floats
) -> None:
    """a[:n] = 2·(scale·L - 1)·b[:n] - a[:n], of which ck parts go to y[:n]; c: room for L·b.

    The path and the ring, in one pass, to the same bits: that is twice as fast as three.
    """
    if n < 2 or (op.kind != PATH and op.kind != RING):
        multiply(op, b, n, c)
        for i in range(n):
            _moved(c[i], ck, scale, i, b, a, y)
        return
    first, last = b[0] - b[1], b[n - 1] - b[n - 2]
    if op.kind == RING and n > 2:
        first += b[0] - b[n - 1]
        last += b[n - 1] - b[0]
    _moved(first, ck, scale, 0, b, a, y)
    for i in range(1, n - 1):
        _moved((b[i] - b[i - 1]) + (b[i] - b[i + 1]), ck, scale, i, b, a, y)
    _moved(last, ck, scale, n - 1, b, a, y)


@entry
def chebyshev(
    op: Operator, coefficients: Floats, scale: float, x: Floats, n: int, y: Floats, a: Floats,
    b: Floats, c: Floats,
) -> None:  # fmt: skip
    """y[:n] = Σ_k coefficients[k]·T_k(scale·L - 1)·x[:n]; a, b, c: room for n numbers each.

    `a` may be x.
    """
    for i in range(n):
        a[i] = x[i]
        y[i] = coefficients[0] * x[i]
    if coefficients.shape[0] < 2:
        return
    multiply(op, a, n, c)
    for i in range(n):
        b[i] = scale * c[i] - a[i]
        y[i] += coefficients[1] * b[i]
    for k in range(2, coefficients.shape[0]):
        _step(op, coefficients[k], scale, n, b, a, y, c)
        a, b = b, a


@entry
def _dot(u: Floats, v: Floats, n: int) -> float:
    total = 0.0
    for i in range(n):
        total += u[i] * v[i]
    return total


@entry
def krylov(
    op: Operator, x: Floats, n: int, steps: int, basis: Floats, alpha: Floats, beta: Floats
) -> tuple[int, float]:
    """Lanczos with full reorthogonalisation, from x[:n].

    Fills basis[:m, :n] with orthonormal rows, and T's diagonal alpha[:m] and what stands beside it,
    beta[:m] (beta[m-1]: the length of the vector that would come next). Returns (m, |x|); m = 0 for
    a zero vector, m < steps when the space is exhausted.
    """
    norm = np.sqrt(_dot(x, x, n))
    if norm == 0.0:
        return 0, norm
    for i in range(n):
        basis[0, i] = x[i] / norm
    size = 0.0
    for m in range(min(steps, n)):
        row = basis[m + 1]
        multiply(op, basis[m], n, row)
        alpha[m] = _dot(basis[m], row, n)
        for _ in range(2):
            for j in range(m + 1):
                dot = _dot(basis[j], row, n)
                for i in range(n):
                    row[i] -= dot * basis[j, i]
        beta[m] = np.sqrt(_dot(row, row, n))
        size = max(size, abs(alpha[m]) + beta[m])
        if beta[m] <= _BREAKDOWN * size:
            return m + 1, norm
        for i in range(n):
            row[i] /= beta[m]
    return min(steps, n), norm


@entry
def lanczos(
    op: Operator, coefficients: Floats, scale: float, x: Floats, n: int, y: Floats, basis: Floats,
    work: Floats,
) -> None:  # fmt: skip
    """y[:n] = exp(-t·L)·x[:n] from the Krylov space of x; the small exponential by Chebyshev.

    basis: room for [LANCZOS_STEPS + 1, n] numbers, work: for LANCZOS_WORK of LANCZOS_STEPS each.
    """
    alpha, beta, small, first = work[0], work[1], work[2], work[3]
    m, norm = krylov(op, x, n, LANCZOS_STEPS, basis, alpha, beta)
    for i in range(n):
        y[i] = 0.0
    if m == 0:
        return
    for i in range(m):
        first[i] = 1.0 if i == 0 else 0.0
    t = Operator(TRIDIAGONAL, alpha, beta)
    chebyshev(t, coefficients, scale, first, m, small, first, work[4], work[5])
    for k in range(m):
        for i in range(n):
            y[i] += norm * small[k] * basis[k, i]


def coefficients_of(t: float, largest: float) -> Floats:
    """The expansion's coefficients for time t >= 0 and spectrum [0, largest].

    As many as it takes for the absolute sum of the rest to be at most TOLERANCE: the degree grows
    with the root of z = t·largest/2. [1] when nothing diffuses.
    """
    z = 0.5 * t * largest
    if z == 0.0:
        return np.ones(1)
    k = np.arange(_TERMS + int(np.ceil(_TERMS_BY_ROOT * np.sqrt(z))))
    c = ive(k, z)
    c[1:] *= 2.0
    rest = np.cumsum(c[::-1])[::-1]
    c[1::2] *= -1.0
    return np.ascontiguousarray(c[: max(1, int(np.count_nonzero(rest > TOLERANCE)))])


@lru_cache(maxsize=4096)
def largest_of(kind: int, n: int) -> float:
    """An upper bound of a named graph's spectrum over n components, a few percent wide at most.

    The largest Ritz value of a Lanczos run from a seeded start and its residual, with a margin,
    rounded up so that the last bits of LAPACK don't matter; never beyond Gershgorin's bound.
    """
    if n < 2 or kind == NONE:
        return 0.0
    edges = n - 1 if kind == STAR else min(n - 1, 2)  # of the component that has the most
    steps = min(_EIGEN_STEPS, n)
    basis = np.empty((steps + 1, n))
    alpha, beta = np.empty(steps), np.empty(steps)
    m, _ = krylov(named(kind), _start(n), n, steps, basis, alpha, beta)
    ritz, vectors = eigh_tridiagonal(alpha[:m], beta[: m - 1])
    bound = float(ritz[-1]) + float(beta[m - 1] * abs(vectors[-1, -1]))
    return float(min(np.ceil(bound * _MARGIN * _GRAIN) / _GRAIN, 2.0 * edges))


def _start(n: int) -> Floats:
    """n numbers of [-1/2, 1/2), always the same (splitmix64; Steele, Lea and Flood 2014)."""
    x = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(_SEED)) * np.uint64(_GAMMA)
    for shift, factor in _MIXES:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    bits = (x ^ (x >> np.uint64(_LAST_SHIFT))) >> np.uint64(_BITS_OVER)
    return bits.astype(np.float64) * 2.0**-_BITS - 0.5
