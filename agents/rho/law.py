"""The law of ρ: which matrices are density matrices, and what a commit answers.

A density matrix is symmetric, positive semidefinite (PSD) and of trace 1. Numbers aren't exact, so:

- symmetric within SYMMETRY of each entry (an entry is at most 1 in size), judged on (ρ + ρᵀ)/2;
- PSD if Cholesky takes ρ + εI; where it doesn't, the eigenvalues decide: those in [−ε, 0) count
  as 0, one below refuses. What is kept is ρ bit for bit as it came: nothing is repaired;
- |tr ρ − 1| ≤ TRACE.

(Source of Cholesky as the test: Higham, Accuracy and Stability of Numerical Algorithms, ch. 10.)
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpptrf

Which = Literal["dtype", "square", "size", "finite", "symmetric", "trace", "psd"]

EPSILON = 1e-8
TRACE = 1e-6
SYMMETRY = 1e-12
# No entry of a PSD matrix is larger than its largest diagonal one, and these sum to 1: an entry
# beyond it refuses without a decomposition, which huge numbers would overflow.
ENTRY_MAX = 1.001


@dataclass(frozen=True, slots=True)
class Checked:
    """A density matrix. `lowest`: its least eigenvalue, where Cholesky didn't do; in [−ε, 0)."""

    trace_error: float
    lowest: float | None = None


@dataclass(frozen=True, slots=True)
class Ok:
    """Committed: each key's version, and the CRC of its envelope. `repeated`: it was before, by
    the same idempotency key.
    """

    name: ClassVar[str] = "OK"
    versions: dict[str, int]
    repeated: bool = False
    crcs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VersionConflict:
    """A key is at another version than the commit expects; nothing was committed.

    `lost`: what it expects isn't there, or of another content: PostgreSQL went back in time since
    it was read, or it never was.
    """

    name: ClassVar[str] = "VERSION_CONFLICT"
    key: str
    current: int  # 0: there is none
    lost: bool = False

    @property
    def told(self) -> str:
        """For people."""
        at = f"The matrix {self.key} is at version {self.current}"
        if not self.lost:
            return f"{at}; nothing was committed."
        return (
            f"{at}, and what the commit expects isn't there: PostgreSQL went back in time since it "
            "was read, or it never was. Nothing was committed: read the matrix anew."
        )


@dataclass(frozen=True, slots=True)
class IdempotencyMismatch:
    """The idempotency key was used for another commit; nothing was committed."""

    name: ClassVar[str] = "IDEMPOTENCY_MISMATCH"


@dataclass(frozen=True, slots=True)
class InvariantViolation:
    """The matrix is no density matrix, or too large: which clause it breaks, and how."""

    name: ClassVar[str] = "INVARIANT_VIOLATION"
    which: Which
    detail: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """PostgreSQL doesn't answer, or not so: `detail` says why. With an idempotency key a
    repetition is safe: it may be there.
    """

    name: ClassVar[str] = "UNAVAILABLE"
    detail: str


Outcome = Ok | VersionConflict | IdempotencyMismatch | InvariantViolation | Unavailable


def check(matrix: NDArray[Any], dimension_max: int) -> Checked | InvariantViolation:
    """Whether `matrix` (D × D, float64, D ≤ `dimension_max`) is a density matrix."""
    if wrong := _form(matrix, dimension_max):
        return wrong
    largest = float(np.abs(matrix).max())
    if not math.isfinite(largest):
        return InvariantViolation("finite", "it holds NaN or infinity")
    if largest > ENTRY_MAX:
        told = f"an entry is {largest:.6g} in size; no density matrix has one above 1"
        return InvariantViolation("psd", told)
    skew = matrix - matrix.T
    np.abs(skew, out=skew)
    if (most := float(skew.max())) > SYMMETRY:
        told = f"two entries that must be the same differ by {most:.3g}; at most {SYMMETRY:g}"
        return InvariantViolation("symmetric", told)
    error = trace_error(matrix)
    if error > TRACE:
        told = f"the trace is {float(np.trace(matrix)):.9g}, not 1 within {TRACE:g}"
        return InvariantViolation("trace", told)
    return _psd(0.5 * (matrix + matrix.T) if most else matrix, error)


def trace_error(matrix: NDArray[Any]) -> float:
    """|tr ρ − 1|."""
    return abs(float(np.trace(matrix)) - 1.0)


def _form(matrix: NDArray[Any], dimension_max: int) -> InvariantViolation | None:
    if matrix.dtype != np.float64:
        return InvariantViolation("dtype", f"numbers are float64, not {matrix.dtype}")
    shape = " × ".join(map(str, matrix.shape)) or "a number"
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        return InvariantViolation("square", f"it is {shape}, not square")
    if not 1 <= matrix.shape[0] <= dimension_max:
        told = f"it is {shape}; 1 × 1 to {dimension_max} × {dimension_max} are taken"
        return InvariantViolation("size", told)
    return None


def _psd(matrix: NDArray[np.float64], error: float) -> Checked | InvariantViolation:
    """By Cholesky of the packed half, which LAPACK does in one thread: the other kind takes all
    cores, and beside other work waits for them ten times as long as it computes."""
    shifted = matrix.copy()
    np.fill_diagonal(shifted, matrix.diagonal() + EPSILON)
    _, failed = dpptrf(matrix.shape[0], shifted[np.tri(matrix.shape[0], dtype=bool)])
    if failed:
        lowest = float(np.linalg.eigvalsh(matrix)[0])
        if not lowest >= -EPSILON:
            told = f"an eigenvalue is {lowest:.6g}; at least {-EPSILON:g} is taken for 0"
            return InvariantViolation("psd", told)
        return Checked(error, lowest)
    return Checked(error)
