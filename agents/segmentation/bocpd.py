"""Bayesian online change point detection with Gaussian segments of unknown mean and variance.

The posterior over run lengths (points since the last change) is followed exactly up to RUNS, and
those beyond are one; each has a Normal-inverse-gamma posterior, whose predictive density is
Student's t. Points count from the mean of the first 10, in units of their median step, so that the
prior (mean 0, κ = 1, α = 3, β = 1) has the series' scale, and hears nothing of what comes until
most of the ring lies elsewhere, or is much calmer: each run would begin by learning how far off it
is, and be deaf to changes that are small beside that. Then points count from the ring's median, in
units of their median distance from it (`scale.astray`). A change is declared when run lengths that
began after the last change, at least 5 points ago, hold more than 0.9 of the probability; it lies
where the likeliest began.

Source: R. P. Adams and D. J. C. MacKay, "Bayesian Online Changepoint Detection", arXiv:0710.3742
(2007); K. P. Murphy, "Conjugate Bayesian analysis of the Gaussian distribution" (2007), section 3.
"""

import math

from agents.segmentation.rule import RING, RUNS, Bank, Work
from agents.segmentation.scale import astray, first_of, scale_of
from agents.segmentation.state import S
from topics.compiled import kernel

FIRST = 10  # points before the filter begins
SIDE = 5  # points that a change is old at least
KAPPA, ALPHA, BETA = 1.0, 3.0, 1.0
SURE = 0.9  # probability that the change has happened
LEAST = 1e-300  # of the scale, which vanishes when the unit grows by so much
FAR = 1e15  # points further off count as this: their density under the prior doesn't vanish


@kernel
def log_t(x: float, n: float, mean: float, beta: float) -> float:
    """Log density at x of the next point, after n points with these posterior parameters."""
    kappa, alpha = KAPPA + n, ALPHA + 0.5 * n
    scale = beta * (kappa + 1.0) / (alpha * kappa)
    dof = 2.0 * alpha
    return (
        math.lgamma(0.5 * (dof + 1.0))
        - math.lgamma(0.5 * dof)
        - 0.5 * math.log(math.pi * dof * scale)
        - 0.5 * (dof + 1.0) * math.log1p((x - mean) ** 2 / (dof * scale))
    )


@kernel
def begin(b: Bank, r: int, w: Work) -> bool:
    """At the first point: what the series is measured by; False: it never moved."""
    count = b.ints[r, S.seen]
    scale, _ = scale_of(b, r)
    if not scale > 0.0:
        return False
    b.floats[r, S.b_mean], _ = first_of(b, r, count - FIRST, FIRST, w.spare[0])
    b.floats[r, S.b_scale] = scale
    clear(b, r, count - FIRST)
    return True


@kernel
def clear(b: Bank, r: int, first: int) -> None:
    """Let the first run length begin at a point."""
    b.ints[r, S.b_start] = first
    b.ints[r, S.b_used] = 1
    row = b.ints[r, S.at]
    b.runs[row, 0, 0] = 1.0
    b.runs[row, 1, 0] = 0.0
    b.runs[row, 2, 0] = BETA


@kernel
def begin_again(b: Bank, r: int, w: Work) -> int:
    """Where the series isn't what it was measured by: measure it anew, and take the points of the
    open segment that are in the ring anew. Returns the first point to take.
    """
    strange, level, deviation = astray(
        b, r, b.floats[r, S.b_mean], b.floats[r, S.b_scale], w.spare[0]
    )
    if not strange:
        return int(b.ints[r, S.seen] - 1)
    b.floats[r, S.b_mean] = level
    b.floats[r, S.b_scale] = deviation
    first = max(b.ints[r, S.b_start], b.ints[r, S.seen] - RING)
    clear(b, r, first)
    return int(first)


@kernel
def grow(b: Bank, row: int, used: int, x: float, hazard: float, w: Work) -> None:
    """The run lengths after point x: place j holds that of j points, the last place all longer.

    Probabilities in w.spare[0], which needs used + 1 places; means and betas move up by one.
    """
    top = -math.inf
    for j in range(used):
        w.spare[1, j] = log_t(x, j, b.runs[row, 1, j], b.runs[row, 2, j])
        top = max(top, w.spare[1, j])
    total = 0.0
    fresh = 0.0
    for j in range(used):
        mass = b.runs[row, 0, j] * math.exp(w.spare[1, j] - top)
        w.spare[0, j + 1] = mass * (1.0 - hazard)
        fresh += mass * hazard
        total += mass
    w.spare[0, 0] = fresh
    for j in range(used, 0, -1):
        n = j - 1
        mean, beta = b.runs[row, 1, n], b.runs[row, 2, n]
        kappa = KAPPA + n
        b.runs[row, 2, j] = beta + 0.5 * kappa * (x - mean) ** 2 / (kappa + 1.0)
        b.runs[row, 1, j] = mean + (x - mean) / (kappa + 1.0)
    for j in range(used + 1):
        b.runs[row, 0, j] = w.spare[0, j] / total
    b.runs[row, 1, 0] = 0.0
    b.runs[row, 2, 0] = BETA


@kernel
def likeliest(b: Bank, r: int) -> tuple[int, float]:
    """The likeliest run length that began since the last change (-1: none can have), and the
    probability of all of them.
    """
    length = b.ints[r, S.seen] - b.ints[r, S.b_start]  # of the segment that is open
    likely, mass, row = -1, 0.0, b.ints[r, S.at]
    for j in range(SIDE, min(b.ints[r, S.b_used], length - SIDE + 1, RING)):
        mass += b.runs[row, 0, j]
        if likely < 0 or b.runs[row, 0, j] > b.runs[row, 0, likely]:
            likely = j
    return likely, mass


@kernel
def bocpd(b: Bank, r: int, w: Work, hazard: float) -> tuple[int, float]:
    """After a push: (the first point after a change, its probability), or (-1, 0).

    `hazard`: points that a segment lasts on average.
    """
    count, row = b.ints[r, S.seen], b.ints[r, S.at]
    if b.ints[r, S.b_used] == 0:
        if count < FIRST or not begin(b, r, w):
            return -1, 0.0
        first = count - FIRST
    else:
        first = begin_again(b, r, w)
    used = b.ints[r, S.b_used]
    for p in range(first, count):
        x = math.ldexp(b.value[r, p % RING], -int(b.ints[r, S.unit])) - b.floats[r, S.b_mean]
        x = min(FAR, max(-FAR, x / max(b.floats[r, S.b_scale], LEAST)))
        grow(b, row, used, x, 1.0 / hazard, w)
        used += 1
        if used > RUNS:
            # The longest two become one: both have seen the same points but one.
            b.runs[row, 0, RUNS - 1] += b.runs[row, 0, RUNS]
            used = RUNS
    b.ints[r, S.b_used] = used
    likely, mass = likeliest(b, r)
    if likely < 0 or not mass > SURE:
        return -1, 0.0
    b.ints[r, S.b_start] = count - likely
    return int(count - likely), mass
