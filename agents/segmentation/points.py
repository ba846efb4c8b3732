"""Taking a point into a series: what is kept of it, what the series is measured by, what is wild.

No value is heard for more than a few times what was known before, whatever it is. The usual step
is the median of the last ones. The running spread is that of the medians of five points in a row,
each counted as at most REACH spreads from the mean, and as four times as many for each in a row
that lies further: a real change of scale gets through in a few points. A point is wild when more
than half of those around it lie more than WILD usual steps below it, or above it: glitches of one
or two points are wild, a new level isn't. The steps to and from wild points stay out of glr's sums
once no change can lie there any more; until then only those YET times as wild are passed over.
"""

import math

from agents.segmentation.rule import RING, Bank, insert, median, remove
from agents.segmentation.state import S
from topics.compiled import kernel

WILD = 30.0  # usual steps; in a series where most stand still: spreads
YET = 10.0  # times WILD: so far a point is passed over also while a change may lie at it yet
AROUND = 2  # points before and after one, that it is compared with
REACH = 8.0  # spreads
WIDER = 4.0  # times REACH, for each point beyond it in a row
IN_A_ROW = 500  # of them at most: WIDER to that power is a double
UNIT_STEP = 64  # exponents between two units
MEMORY = 1000  # points, about, that the spread is of
FIVE = 5
UNIT_MOST = 960  # exponent: such a unit, and its inverse, are doubles
FAR = 2.0**256  # units: what is further counts as this, so that no square overflows


@kernel
def window(b: Bank, r: int) -> int:
    """The first point that isn't in glr's sums; the two before it are still in the ring."""
    return int(max(b.ints[r, S.g_start], b.ints[r, S.seen] - RING + 2))


@kernel
def within(d: float, bound: float) -> float:
    """d, but no further than `bound` from 0."""
    return min(bound, max(-bound, d))


@kernel
def usual(b: Bank, r: int) -> float:
    """The median |difference| of neighbours in the ring; 0: most points stand still."""
    count = min(b.ints[r, S.seen] - 1, RING - 1)
    return median(b.steps[r], count) if count > 0 else 0.0


@kernel
def ranked(b: Bank, r: int, first: int, count: int, rank: int) -> float:
    """Of `count` points from `first` on the one with so many below it."""
    found = 0.0
    for p in range(first, first + count):
        x = b.value[r, p % RING]
        below, same = 0, 0
        for q in range(first, first + count):
            below += b.value[r, q % RING] < x
            same += b.value[r, q % RING] == x
        if below <= rank < below + same:
            found = x
    return found


@kernel
def middle(b: Bank, r: int, first: int, count: int) -> float:
    """The median of a few points that are in the ring."""
    low = ranked(b, r, first, count, (count - 1) // 2)
    return 0.5 * low + 0.5 * ranked(b, r, first, count, count // 2)


@kernel
def spread(b: Bank, r: int) -> None:
    """Take the last point into the running mean and spread."""
    seen = b.ints[r, S.seen]
    five = min(seen, FIVE)
    d = middle(b, r, seen - five, five) - b.floats[r, S.mean]
    known = b.floats[r, S.spread]
    if seen == 1:
        b.floats[r, S.mean] = d
        return
    if known > 0.0:
        if abs(d) > REACH * known:
            d = within(d, REACH * known * WIDER ** min(b.ints[r, S.wild], IN_A_ROW))
            b.ints[r, S.wild] += 1
        else:
            b.ints[r, S.wild] = 0
    weight = 1.0 / min(seen, MEMORY)
    b.floats[r, S.mean] += weight * d
    b.floats[r, S.spread] = math.sqrt(1.0 - weight) * math.hypot(known, math.sqrt(weight) * d)


@kernel
def measure(b: Bank, r: int) -> None:
    """Let squares be counted in a unit that fits what the series is measured by."""
    x = usual(b, r)
    if x == 0.0:
        x = b.floats[r, S.spread]
    if x == 0.0:
        return
    _, e = math.frexp(x)
    unit = min(UNIT_MOST, max(-UNIT_MOST, int(e // UNIT_STEP) * UNIT_STEP))
    if unit != b.ints[r, S.unit]:
        rescale(b, r, unit)


@kernel
def rescale(b: Bank, r: int, unit: int) -> None:
    """Count in another unit: exact, but what is too large or too small for it is forgotten."""
    k = int(b.ints[r, S.unit] - unit)
    b.ints[r, S.unit] = unit
    for j in (S.b_mean, S.b_scale, S.h_level, S.h_high, S.s_f, S.s_y):
        b.floats[r, j] = math.ldexp(b.floats[r, j], k)
    for j in (S.h_variance, S.h_wide, S.s_ff, S.s_fy, S.s_yy):
        b.floats[r, j] = math.ldexp(b.floats[r, j], 2 * k)
    if not (b.floats[r, S.s_ff] < math.inf and b.floats[r, S.s_yy] < math.inf):
        clear_sums(b, r)
    if not (
        b.floats[r, S.h_wide] < math.inf
        and abs(b.floats[r, S.h_level]) < FAR
        and abs(b.floats[r, S.h_high]) < FAR
    ):
        b.ints[r, S.h_since] = -1
        for j in (S.h_level, S.h_variance, S.h_high, S.h_wide):
            b.floats[r, j] = 0.0
    if not (abs(b.floats[r, S.b_mean]) < FAR and 0.0 < b.floats[r, S.b_scale] < FAR):
        b.ints[r, S.b_used] = 0
        b.floats[r, S.b_mean] = 0.0
        b.floats[r, S.b_scale] = 0.0


@kernel
def clear_sums(b: Bank, r: int) -> None:
    """Let glr's sums be of no step."""
    for j in (S.s_w, S.s_f, S.s_y, S.s_ff, S.s_fy, S.s_yy):
        b.floats[r, j] = 0.0


@kernel
def restart(b: Bank, r: int, point: int) -> None:
    """Let glr's segment begin at a point that is in the ring."""
    b.ints[r, S.g_start] = point
    b.ints[r, S.g_since] = -1
    b.floats[r, S.centre] = middle(b, r, point, min(FIVE, b.ints[r, S.seen] - point))
    clear_sums(b, r)


@kernel
def reach(b: Bank, r: int) -> float:
    """How far from its neighbours a point may lie."""
    step = usual(b, r)
    return WILD * (step if step > 0.0 else b.floats[r, S.spread])


@kernel
def calm(b: Bank, r: int, far: float) -> bool:
    """Whether no step in the ring is so long that one of its ends might be wild."""
    count = min(b.ints[r, S.seen] - 1, RING - 1)
    return bool(count < 1 or b.steps[r, count - 1] * AROUND <= far)


@kernel
def around(b: Bank, r: int, point: int) -> tuple[int, int]:
    """The first and the last of those that a point of glr's segment is compared with: AROUND before
    and after it; at the segment's beginning more after it.
    """
    first = max(point - AROUND, b.ints[r, S.g_start], b.ints[r, S.seen] - RING)
    last = min(max(point, b.ints[r, S.g_start] + AROUND) + AROUND, b.ints[r, S.seen] - 1)
    return int(first), int(last)


@kernel
def wild(b: Bank, r: int, point: int, far: float) -> bool:
    """Whether a point of glr's segment is far from most of those around it, on one side."""
    first, last = around(b, r, point)
    low, high = b.value[r, point % RING] - far, b.value[r, point % RING] + far
    below, above = 0, 0
    at = first % RING
    for _ in range(first, last + 1):
        below += b.value[r, at] < low
        above += b.value[r, at] > high
        at += 1
        if at == RING:
            at = 0
    return bool(2 * max(below, above) > last - first + 1)


@kernel
def leap(b: Bank, r: int, point: int, far: float) -> bool:
    """Whether the step to a point is from what was before glr's segment, and far."""
    step = b.value[r, point % RING] - b.value[r, (point - 1) % RING]
    return bool(point == b.ints[r, S.g_start] and abs(step) > far)


@kernel
def strange(b: Bank, r: int, point: int, far: float) -> bool:
    """Whether the step to a point counts no more: a leap, or from or to a wild point."""
    if leap(b, r, point, far) or wild(b, r, point, far):
        return True
    return bool(point > b.ints[r, S.g_start] and wild(b, r, point - 1, far))


@kernel
def tame(b: Bank, r: int, point: int, far: float) -> float:
    """The value of a point of glr's segment; of a wild one the median of those around it."""
    if not wild(b, r, point, far):
        return float(b.value[r, point % RING])
    first, last = around(b, r, point)
    return middle(b, r, first, last - first + 1)


@kernel
def placed(b: Bank, x: float, r: int, scale: float) -> float:
    """Where a value lies from the centre, in the unit; `scale`: 1/unit."""
    return within((x - b.floats[r, S.centre]) * scale, FAR)


@kernel
def leave(b: Bank, r: int) -> None:
    """Sum up what the next point drives out of the ring, and out of the window of glr."""
    seen = b.ints[r, S.seen]
    first = window(b, r)
    if first >= 1 and first == seen - RING + 2:
        far = reach(b, r)
        if calm(b, r, far) or not strange(b, r, first, far):
            scale = math.ldexp(1.0, -int(b.ints[r, S.unit]))
            f = placed(b, b.value[r, (first - 1) % RING], r, scale)
            y = placed(b, b.value[r, first % RING], r, scale)
            b.floats[r, S.s_w] += 1.0
            b.floats[r, S.s_f] += f
            b.floats[r, S.s_y] += y
            b.floats[r, S.s_ff] += f * f
            b.floats[r, S.s_fy] += f * y
            b.floats[r, S.s_yy] += y * y
    if seen >= RING:
        oldest = seen - RING
        k = oldest % RING
        remove(b.steps[r], RING - 1, abs(b.value[r, (oldest + 1) % RING] - b.value[r, k]))
        if oldest >= b.ints[r, S.start]:
            b.floats[r, S.error_sum] += b.value[r, k]
            b.floats[r, S.confidence_sum] += b.confidence[r, k]
            b.floats[r, S.peak] = max(b.floats[r, S.peak], b.value[r, k])


@kernel
def push(b: Bank, r: int, v: float, ts: int, confidence: float, leader: int) -> None:
    """Take a point (finite, at most LIMIT in size) into the ring."""
    leave(b, r)
    seen = b.ints[r, S.seen]
    if seen > 0:
        step = abs(v - b.value[r, (seen - 1) % RING])
        insert(b.steps[r], min(seen - 1, RING - 2), step)
    k = seen % RING
    b.value[r, k] = v
    b.ts[r, k] = ts
    b.confidence[r, k] = confidence
    b.leader[r, k] = leader
    b.ints[r, S.seen] = seen + 1
    if seen == 0:
        b.ints[r, S.start_ts] = ts
        restart(b, r, 0)
    start = b.ints[r, S.g_start]
    if seen + 1 == start + FIVE:
        b.floats[r, S.centre] = middle(b, r, start, FIVE)
    spread(b, r)
    measure(b, r)
