"""Change points by a sequential generalised likelihood ratio, since the last declared change.

A segment is an AR(1) with constant, x[t] = a + φ·x[t-1] + e, |φ| <= 1; both halves of a split share
one innovation variance. With n points, and b = 2·(g·scale)² a floor under the sums of squares,

    G(k) = n/2·[log(SSE + b) - log(SSE_left(k) + SSE_right(k) + b)] - ½·log n

over the last 100 splits k with at least 5 points on each side. A change is declared at the k of
the greatest G when that exceeds (h0 + log n)·(1 + habituation·changes) on 4 successive points; it
stands, and the segment begins anew at k. `scale` is the median step of the last points as a
standard deviation; where most points stand still, a thousandth of the series' spread. (That as a
lower bound everywhere made a series deaf for ten thousands of points after one wild value.)
`changes` counts those declared, each fading with a half-life in points: a series that keeps
changing becomes harder to impress, but never deaf. Glitches, and a leap to the
segment's first point, stay out of the sums (see `points`): one would outweigh all that comes until
the next change. So would a noise a thousand times what it is now: its sums are forgotten.

Source: D. Siegmund and E. S. Venkatraman, "Using the Generalized Likelihood Ratio Statistic for
Sequential Detection of a Change-Point", Annals of Statistics 23 (1995), with an AR(1) in place of a
mean, and the floor, the habituation and the persistence measured on annotated series: covering
and F1 are .70 and .76 on the twelve of the Turing Change Point Dataset that they were chosen on,
.67 and .74 on its thirteen others of one dimension.
"""

import math

from agents.segmentation import points
from agents.segmentation.rule import RING, Bank, Floats, Work
from agents.segmentation.scale import WIDE, scale_of
from agents.segmentation.state import S
from topics.compiled import entry, kernel

SPLITS = 100  # how far back a change may lie
SIDE = 5  # points on each side of a split, at least
LEAST = 1e-10  # of the variance: what squares are told apart by


@kernel
def residual(w: float, f: float, y: float, ff: float, fy: float, yy: float, least: float) -> float:
    """Sum of squares left by y = a + φ·f, |φ| <= 1, from sums over w pairs; 0 for none.

    φ is 0 where f varies by no more than `least`.
    """
    share = 1.0 / w if w >= 1.0 else 0.0
    vff = ff - f * f * share
    vfy = fy - f * y * share
    vyy = yy - y * y * share
    phi = vfy / vff if vff > least else 0.0
    phi = min(1.0, max(-1.0, phi))
    return max(0.0, vyy - 2.0 * phi * vfy + phi * phi * vff)


@kernel
def accumulate(b: Bank, r: int, k: Work) -> int:
    """Running sums of the window into `k`: at place j those before its point j; returns points."""
    first = points.window(b, r)
    count = b.ints[r, S.seen] - first
    scale = math.ldexp(1.0, -int(b.ints[r, S.unit]))
    centre = b.floats[r, S.centre]
    far = points.YET * points.reach(b, r)
    quiet = points.calm(b, r, far)
    w, f, y = b.floats[r, S.s_w], b.floats[r, S.s_f], b.floats[r, S.s_y]
    ff, fy, yy = b.floats[r, S.s_ff], b.floats[r, S.s_fy], b.floats[r, S.s_yy]
    at = first % RING
    before = points.placed(b, b.value[r, (first - 1) % RING], r, scale) if first > 0 else 0.0
    for j in range(count):
        k.w[j], k.f[j], k.y[j], k.ff[j], k.fy[j], k.yy[j] = w, f, y, ff, fy, yy
        x = b.value[r, at] if quiet else points.tame(b, r, first + j, far)
        now = points.within((x - centre) * scale, points.FAR)
        if first + j > 0 and (quiet or not points.leap(b, r, first + j, far)):
            w += 1.0
            f += before
            y += now
            ff += before * before
            fy += before * now
            yy += now * now
        before = now
        at += 1
        if at == RING:
            at = 0
    j = count
    k.w[j], k.f[j], k.y[j], k.ff[j], k.fy[j], k.yy[j] = w, f, y, ff, fy, yy
    return int(count)


@entry  # called, not inlined: it becomes vector instructions only by itself
def costs(
    kw: Floats, kf: Floats, ky: Floats, kff: Floats, kfy: Floats, kyy: Floats, cost: Floats,
    lo: int, hi: int, count: int, least: float,
) -> None:  # fmt: skip
    """cost[j] = SSE left of place j + SSE from it on, for lo <= j < hi."""
    w, f, y = kw[count], kf[count], ky[count]
    ff, fy, yy = kff[count], kfy[count], kyy[count]
    for j in range(lo, hi):
        left = residual(kw[j], kf[j], ky[j], kff[j], kfy[j], kyy[j], least)
        right = residual(
            w - kw[j], f - kf[j], y - ky[j], ff - kff[j], fy - kfy[j], yy - kyy[j], least
        )
        cost[j] = left + right


@kernel
def outgrow(b: Bank, r: int, least: float) -> None:
    """Forget sums that would outweigh all to come: of a noise a thousand times what it is now."""
    w = b.floats[r, S.s_w]
    scale, _ = scale_of(b, r)
    left = residual(
        w, b.floats[r, S.s_f], b.floats[r, S.s_y], b.floats[r, S.s_ff], b.floats[r, S.s_fy],
        b.floats[r, S.s_yy], least,
    )  # fmt: skip
    if left > w * (WIDE * scale) ** 2:
        points.clear_sums(b, r)


@kernel
def floor_of(b: Bank, r: int, g: float) -> tuple[float, float]:
    """(b = 2·(g·scale)², the squared spread), in the series' unit; 0 where it never moved."""
    scale, spread = scale_of(b, r)
    return float(2.0 * (g * scale) ** 2), float(spread * spread)


@kernel
def faded(b: Bank, r: int, half_life: float) -> float:
    """Changes declared so far, each faded by half for every half-life since."""
    return float(
        b.floats[r, S.g_count] * 2.0 ** (-(b.ints[r, S.seen] - b.ints[r, S.g_changed]) / half_life)
    )


@kernel
def evidence(b: Bank, r: int, k: Work, g: float) -> tuple[int, float]:
    """After a push: (the first point after the likeliest change, its G); -1: too early to tell."""
    n = b.ints[r, S.seen] - b.ints[r, S.g_start]
    if n < 2 * SIDE:
        return -1, 0.0
    floor, variance = floor_of(b, r, g)
    if not floor > 0.0:
        return -1, 0.0
    least = LEAST * variance
    outgrow(b, r, least)
    count = accumulate(b, r, k)
    lo = max(b.ints[r, S.g_start] + SIDE, b.ints[r, S.seen] - SPLITS) - (b.ints[r, S.seen] - count)
    hi = count - SIDE + 1
    costs(k.w, k.f, k.y, k.ff, k.fy, k.yy, k.cost, lo, hi, count, least)
    best = lo
    for j in range(lo + 1, hi):
        if k.cost[j] < k.cost[best]:
            best = j
    whole = residual(
        k.w[count], k.f[count], k.y[count], k.ff[count], k.fy[count], k.yy[count], least
    )
    gain = 0.5 * n * (math.log(whole + floor) - math.log(k.cost[best] + floor)) - 0.5 * math.log(n)
    return int(b.ints[r, S.seen] - count + best), float(gain)


@kernel
def bars(b: Bank, r: int, h0: float, hab: float, half_life: float) -> tuple[float, float]:
    """What G must exceed: of a segment so long, and of a series that has changed so often."""
    bar = h0 + math.log(b.ints[r, S.seen] - b.ints[r, S.g_start])
    return bar, bar * (1.0 + hab * faded(b, r, half_life))


@kernel
def glr(
    b: Bank, r: int, k: Work, h0: float, g: float, hab: float, half_life: float, in_a_row: float
) -> tuple[int, float]:
    """After a push: (the first point after a change, its G), or (-1, 0)."""
    point, gain = evidence(b, r, k, g)
    if point < 0:
        return -1, 0.0
    bar, raised = bars(b, r, h0, hab, half_life)
    # A sum that no honest state has (NaN) declares nothing.
    if not (gain > bar and gain > raised):
        b.ints[r, S.g_since] = -1
        return -1, 0.0
    if b.ints[r, S.g_since] < 0:
        b.ints[r, S.g_since] = b.ints[r, S.seen]
    if b.ints[r, S.seen] - b.ints[r, S.g_since] + 1 < in_a_row:
        return -1, 0.0
    b.floats[r, S.g_count] = faded(b, r, half_life) + 1.0
    b.ints[r, S.g_changed] = b.ints[r, S.seen]
    points.restart(b, r, point)
    return int(point), float(gain)
