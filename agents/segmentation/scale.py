"""What a series is measured by, whatever wild value is among its points.

A predictor's first error on a component that never moved was 2e10 in the demo. Where means and
variances hear such a value, a detector measures all that comes by it, and is deaf.
"""

import math

from agents.segmentation.points import FAR as MOST
from agents.segmentation.points import usual, within
from agents.segmentation.rule import RING, Bank, Floats, insert, median
from agents.segmentation.state import S
from topics.compiled import kernel

UPPER = 0.674489750196082  # quartile of the standard normal distribution
NORMAL = UPPER * math.sqrt(2.0)  # median |step| of unit white noise
WIDE = 1e3  # steps: no wider counts a spread
FAR = 8.0  # steps from the middle of the first points: who is further isn't one of them
ELSEWHERE = 30.0  # standard deviations from where a law takes the level to be
CALM = 4.0  # times as wide as it is: where a law takes the noise to be so


@kernel
def scale_of(b: Bank, r: int) -> tuple[float, float]:
    """(the noise's standard deviation, the spread as far as it counts), in the series' unit.

    Where most points stand still, a thousandth of the spread takes the noise's place. 0: the
    series never moved.
    """
    unit = -int(b.ints[r, S.unit])
    step = math.ldexp(usual(b, r) / NORMAL, unit)
    spread = math.ldexp(b.floats[r, S.spread], unit)
    if step > 0.0:
        return step, float(min(spread, WIDE * step))
    return float(spread / WIDE), float(spread)


@kernel
def first_of(b: Bank, r: int, first: int, count: int, spare: Floats) -> tuple[float, float]:
    """(mean, variance) of `count` points from `first` on, in the series' unit; `spare`: as many.

    A point further from their median than FAR of the noise's standard deviations (or spreads, where
    most points stand still) isn't one of them, unless none is nearer.
    """
    for j in range(count):
        x = within(math.ldexp(b.value[r, (first + j) % RING], -int(b.ints[r, S.unit])), MOST)
        insert(spare, j, x)
    lo, hi = 0, count
    noise, spread = scale_of(b, r)
    reach = FAR * (noise if usual(b, r) > 0.0 else spread)
    middle = median(spare, count)
    while lo < count and middle - spare[lo] > reach:
        lo += 1
    while hi > lo and spare[hi - 1] - middle > reach:
        hi -= 1
    if lo == hi:
        lo, hi = 0, count
    mean, variance = 0.0, 0.0
    for j in range(lo, hi):
        mean += spare[j] / (hi - lo)
    for j in range(lo, hi):
        variance += (spare[j] - mean) ** 2 / (hi - lo)
    return mean, variance


@kernel
def ring_of(b: Bank, r: int, spare: Floats) -> tuple[float, float, float, float]:
    """(lower quartile, median, upper quartile, standard deviation by the median distance from the
    median) of the ring, in the series' unit. `spare`: as many places.
    """
    count = int(min(b.ints[r, S.seen], RING))
    for j in range(count):
        x = math.ldexp(b.value[r, j], -int(b.ints[r, S.unit]))
        insert(spare, j, within(x, MOST))
    middle = median(spare, count)
    lo, hi, further, distance = 0, count - 1, 0.0, 0.0
    for _ in range(count // 2 + 1):  # from the furthest inwards, to the middle one
        further = distance
        if middle - spare[lo] > spare[hi] - middle:
            distance = middle - spare[lo]
            lo += 1
        else:
            distance = spare[hi] - middle
            hi -= 1
    if count % 2 == 0:
        distance = 0.5 * (distance + further)
    quarter = count // 4
    return spare[quarter], middle, spare[count - 1 - quarter], distance / UPPER


@kernel
def astray(
    b: Bank, r: int, level: float, deviation: float, spare: Floats
) -> tuple[bool, float, float]:
    """Whether the ring isn't what a law takes the series for, and what it is (level, deviation):
    three points of four lie ELSEWHERE deviations off on one side, or it is CALM times as calm.

    A law would hear no ordinary change then, for as long as its means remember what was. Fewer
    points don't count, whatever they are: one moves the quartiles by a place in order.
    """
    last = math.ldexp(b.value[r, (b.ints[r, S.seen] - 1) % RING], -int(b.ints[r, S.unit]))
    away = abs(last - level) > ELSEWHERE * deviation
    noise = math.ldexp(usual(b, r) / NORMAL, -int(b.ints[r, S.unit]))
    wide = 0.0 < CALM * noise < deviation
    if not (away or wide):
        return False, level, deviation
    low, middle, high, own = ring_of(b, r, spare)
    off = ELSEWHERE * max(own, deviation)
    elsewhere = low > level + off or high < level - off
    return own > 0.0 and (elsewhere or (wide and CALM * own < deviation)), middle, own
