"""Change points in one series of errors, written again for the verifier.

A series keeps all its points here and every sum is taken anew from the segment's beginning: the
order of each sum is that of the points, as the law has it, so that decisions agree to the last bit
but for rare ties.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SIDE = 5  # points on each side of a split, at least
SPLITS = 100  # how far back a change may lie
STEPS = 103  # differences whose median is the scale
SPREAD = 1000  # points that the running mean and spread remember
UPPER = 0.674489750196082  # median distance from the middle of unit white noise
NORMAL = UPPER * math.sqrt(2.0)  # median |step| of unit white noise
WIDE = 1e3  # steps that the spread counts at most
WILD = 30.0  # median steps (of a series that stands still: spreads) from most points around
YET = 10.0  # times that: wild also where a change may lie yet
AROUND = 2  # points on each side that one is compared with
RECENT = 104  # points that tell what a series is now
AWAY = 30.0  # deviations from where a law takes the points to be
TIMES = 4.0  # as wide as they are: what a law takes them for
NEAR = 1e-9  # decisions nearer to their threshold than this are ties


class Change(NamedTuple):
    """What a law found: the first point after the change, and how surely."""

    point: int
    score: float


@dataclass
class Points:
    """The points of a series, and the running mean and spread of the medians of five in a row."""

    values: list[float] = field(default_factory=list)
    mean: float = 0.0
    spread: float = 0.0
    wild: int = 0  # points in a row that were too far off to be heard in full

    def push(self, value: float) -> None:
        """Take a point in: 8 spreads of its distance at most, 32 if the one before was too far…"""
        self.values.append(value)
        middle = float(np.median(self.values[-5:]))
        if len(self.values) == 1:
            self.mean = middle
            return
        distance = middle - self.mean
        if self.spread > 0.0 and abs(distance) > 8.0 * self.spread:
            most = 8.0 * self.spread * 4.0 ** min(self.wild, 500)
            distance = math.copysign(min(abs(distance), most), distance)
            self.wild += 1
        elif self.spread > 0.0:
            self.wild = 0
        weight = 1.0 / min(len(self.values), SPREAD)
        self.mean += weight * distance
        grown = math.hypot(self.spread, math.sqrt(weight) * distance)
        self.spread = math.sqrt(1.0 - weight) * grown

    def around(self, at: int, start: int) -> Floats:
        """A point of the segment from `start` on, and those beside it that the state still has.

        They are five but at the end.
        """
        first = max(at - AROUND, start, len(self.values) - STEPS - 1)
        return np.array(self.values[first : max(at, start + AROUND) + AROUND + 1])

    def is_wild(self, at: int, start: int, far: float) -> bool:
        """Whether more than half of those lie further off than `far`, on one side."""
        near = self.around(at, start) - self.values[at]
        return bool(2 * max((near < -far).sum(), (near > far).sum()) > len(near))

    def far(self) -> float:
        """How far off is wild."""
        return WILD * (self.step() or self.spread)

    def calm(self, far: float) -> bool:
        """Whether nothing can be that far off."""
        last = self.values[-STEPS - 1 :]
        return len(last) < 2 or AROUND * float(np.abs(np.diff(last)).max()) <= far

    def step(self) -> float:
        """The median difference of neighbours among the last points."""
        last = np.array(self.values[-STEPS - 1 :])
        steps = np.sort(np.abs(np.diff(last)))
        count = len(steps)
        if not count:
            return 0.0
        return float(0.5 * steps[count // 2] + 0.5 * steps[(count - 1) // 2])

    def scales(self) -> tuple[float, float]:
        """The noise's standard deviation by the median step, and the series' as far as it counts.

        That is WIDE times the noise's at most; where most steps are 0 it takes the noise's place.
        """
        noise, spread = self.step() / NORMAL, self.spread
        return (noise, min(spread, WIDE * noise)) if noise > 0.0 else (spread / WIDE, spread)

    def astray(self, level: float, deviation: float) -> tuple[float, float] | None:
        """What the last points are, median and deviation, where that is nothing like what they are
        taken for: all but a quarter lie 30 deviations away, or they are 4 times as calm.
        """
        noise = self.step() / NORMAL
        away = abs(self.values[-1] - level) > AWAY * deviation
        calm = 0.0 < TIMES * noise < deviation
        if not (away or calm):
            return None
        last = np.sort(self.values[-RECENT:])
        middle = float(np.median(last))
        own = float(np.median(np.abs(last - middle))) / UPPER
        off, quarter = AWAY * max(own, deviation), len(last) // 4
        far = last[quarter] > level + off or last[-1 - quarter] < level - off
        return (middle, own) if own > 0.0 and (far or (calm and TIMES * own < deviation)) else None

    def tamed(self, values: list[float]) -> Floats:
        """Those of some points within 8 deviations of the noise from their median, or else all.

        Of a series that stands still: within 8 spreads.
        """
        reach = 8.0 * (self.step() / NORMAL or self.spread)
        some = np.array(values)
        near = np.abs(some - np.median(some)) <= reach
        return some[near] if near.any() else some


def residual(sums: Floats, least: float) -> Floats:
    """Sums of squares left by y = a + φ·f, |φ| <= 1, for rows of sums (1, f, y, ff, fy, yy)."""
    w, f, y, ff, fy, yy = sums.T
    share = np.where(w >= 1.0, 1.0 / np.maximum(w, 1.0), 0.0)
    vff = ff - f * f * share
    vfy = fy - f * y * share
    vyy = yy - y * y * share
    slope = np.where(vff > least, vfy / np.where(vff > least, vff, 1.0), 0.0)
    slope = np.clip(slope, -1.0, 1.0)
    return np.asarray(np.maximum(0.0, vyy - 2.0 * slope * vfy + slope * slope * vff))


@dataclass
class Glr:
    """The generalised likelihood ratio of an AR(1) that changes once since the last change."""

    start: int = 0
    since: int = -1  # point from which on the threshold is exceeded
    changed: int = 0  # point at which the last change was declared
    count: float = 0.0  # changes, as they had faded by then
    sums: Floats = field(default_factory=lambda: np.zeros((64, 6)))  # row j: before point start + j
    centre: float = 0.0  # the sums are of differences from it
    rough: bool = False  # whether rows of the window may not be what they would be now
    ties: int = 0

    def restart(self, points: Points, start: int) -> None:
        """Let the segment begin at a point."""
        self.start, self.since, self.rough = start, -1, False
        self.centre = float(np.median(points.values[start : start + 5]))
        values = points.values
        for at in range(start, len(values)):
            self._sum(at, values[at - 1] if at else 0.0, values[at], at == 0)

    def leave(self, points: Points) -> None:
        """Before a point: the step that no change can lie at any more counts for good, or never:
        from or to a wild point, or from before the segment, far.
        """
        first = len(points.values) - STEPS + 1
        if first < max(1, self.start):
            return
        far = points.far()
        skip = False
        if not points.calm(far):
            wild = points.is_wild(first, self.start, far)
            if first > self.start:
                skip = wild or points.is_wild(first - 1, self.start, far)
            else:
                skip = wild or abs(points.values[first] - points.values[first - 1]) > far
        self.rough |= skip
        if self.rough:
            self._sum(first, points.values[first - 1], points.values[first], skip)

    def add(self, points: Points, at: int) -> None:
        """Sum the pair of the last point and the one before it, less the centre."""
        if at <= self.start + 4:
            since, start = self.since, self.start
            self.restart(points, start)
            self.since = since
        else:
            self._sum(at, points.values[at - 1], points.values[at], False)

    def _sum(self, at: int, before: float, now: float, skip: bool) -> None:
        row = at - self.start
        if row + 2 > len(self.sums):
            self.sums = np.vstack([self.sums, np.zeros_like(self.sums)])
        w, f, y, ff, fy, yy = self.sums[row].tolist()
        if not skip:
            before, now = before - self.centre, now - self.centre
            w, f, y = w + 1.0, f + before, y + now
            ff, fy, yy = ff + before * before, fy + before * now, yy + now * now
        self.sums[row + 1] = w, f, y, ff, fy, yy

    def _outgrow(self, seen: int, least: float, scale: float) -> None:
        """Let go what came before the window, if its noise was a thousand times as wide."""
        row = max(0, seen - STEPS + 1 - self.start)
        left = float(residual(self.sums[row : row + 1], least)[0])
        if left > float(self.sums[row, 0]) * (WIDE * scale) * (WIDE * scale):
            self.sums[row], self.rough = 0.0, True

    def _smooth(self, points: Points) -> None:
        """Sum the window anew, where a point in it is wild, or was."""
        far = YET * points.far()
        calm = points.calm(far)
        if calm and not self.rough:
            return
        values, seen = points.values, len(points.values)
        first = max(self.start, seen - STEPS + 1)
        before = values[first - 1] if first else 0.0
        for at in range(first, seen):
            now = values[at]
            if not calm and points.is_wild(at, self.start, far):
                now = float(np.median(points.around(at, self.start)))
            leap = at == self.start and at > 0 and abs(values[at] - values[at - 1]) > far
            self._sum(at, before, now, at == 0 or leap)
            before = now
        self.rough = not calm

    def faded(self, seen: int, half_life: float) -> float:
        """Changes so far, each halved for every half-life since."""
        return self.count * math.pow(2.0, -(seen - self.changed) / half_life)

    def step(
        self, points: Points, bar: float, g: float, habituation: float, half_life: float,
        persistence: int, declared: int | None,
    ) -> Change | None:  # fmt: skip
        """After a point: the change declared there. `declared`: where, by the log."""
        seen = len(points.values)
        n = seen - self.start
        if n < 2 * SIDE:
            return None
        scale, spread = points.scales()
        floor = 2.0 * ((g * scale) * (g * scale))
        if not floor > 0.0:
            return None
        self._outgrow(seen, 1e-10 * spread * spread, scale)
        self._smooth(points)
        at, gain = self._best(points, floor, 1e-10 * spread * spread, declared)
        limit = bar + math.log(n)
        limit = max(limit, limit * (1.0 + habituation * self.faded(seen, half_life)))
        ripe = seen - (self.since if self.since >= 0 else seen) >= persistence - 1
        if not self._passed(gain, limit, ripe, declared):
            self.since = -1
            return None
        if self.since < 0:
            self.since = seen
        if seen - self.since < persistence - 1:
            return None
        self.count = self.faded(seen, half_life) + 1.0
        self.changed = seen
        self.restart(points, at)
        return Change(at, gain)

    def _best(
        self, points: Points, floor: float, least: float, declared: int | None
    ) -> tuple[int, float]:
        """The likeliest split, and the logarithm of its likelihood ratio less its cost."""
        seen = len(points.values)
        n = seen - self.start
        low = max(self.start + SIDE, seen - SPLITS)
        left = self.sums[low - self.start : n - SIDE + 1]
        whole = self.sums[n : n + 1]
        cost = residual(left, least) + residual(whole - left, least)
        best = int(np.argmin(cost))
        other = -1 if declared is None else declared - low
        if 0 <= other < len(cost) and 0.0 <= cost[other] - cost[best] <= NEAR * floor:
            self.ties += other != best
            best = other
        before = math.log(float(residual(whole, least)[0]) + floor)
        gain = 0.5 * n * (before - math.log(float(cost[best]) + floor)) - 0.5 * math.log(n)
        return low + best, gain

    def _passed(self, gain: float, limit: float, ripe: bool, declared: int | None) -> bool:
        """Whether the limit is exceeded; by the log where that is a tie that declares now."""
        passed = gain > limit
        if ripe and abs(gain - limit) <= NEAR * limit and passed != (declared is not None):
            self.ties += 1
            return not passed
        return passed
