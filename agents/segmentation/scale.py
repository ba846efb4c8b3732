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

NORMAL = 0.674489750196082 * math.sqrt(2.0)  # median |step| of unit white noise
WIDE = 1e3  # steps: no wider counts a spread
FAR = 8.0  # steps from the middle of the first points: who is further isn't one of them


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
