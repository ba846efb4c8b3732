"""Change points in one series of errors (laws.md section 3), written again for the verifier.

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
SPREAD = 1000  # points that the running mean and variance remember
NORMAL = 0.674489750196082 * math.sqrt(2.0)  # median |step| of unit white noise
WIDE = 1e3  # steps that the spread counts at most
WILD = 30.0  # median steps: one beyond and one back are a spike's
NEAR = 1e-9  # decisions nearer to their threshold than this are ties


class Change(NamedTuple):
    """What a law found: the first point after the change, and how surely."""

    point: int
    score: float


@dataclass
class Points:
    """The points of a series, and its running mean and variance."""

    values: list[float] = field(default_factory=list)
    mean: float = 0.0
    variance: float = 0.0

    def push(self, value: float) -> None:
        """Take a point in."""
        weight = 1.0 / min(len(self.values) + 1, SPREAD)
        distance = value - self.mean
        self.mean += distance * weight
        self.variance += (distance * (value - self.mean) - self.variance) * weight
        self.values.append(value)

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
        noise, spread = self.step() / NORMAL, math.sqrt(max(0.0, self.variance))
        return (noise, min(spread, WIDE * noise)) if noise > 0.0 else (spread / WIDE, spread)

    def tamed(self, values: list[float]) -> Floats:
        """Those of some points within 8 deviations of the noise from their median, or else all."""
        reach = 8.0 * self.step() / NORMAL
        some = np.array(values)
        near = np.abs(some - np.median(some)) <= reach
        return some[near] if reach > 0.0 and near.any() else some


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
    gone: set[int] = field(default_factory=set)  # points, the steps to which aren't kept
    ties: int = 0

    def restart(self, points: Points, start: int) -> None:
        """Let the segment begin at a point."""
        self.start, self.since = start, -1
        self.gone = set()
        for at in range(start, len(points.values)):
            self.add(points, at)

    def leave(self, points: Points) -> None:
        """Before a point: the step that no change can lie at any more counts, but for a spike's."""
        first = len(points.values) - STEPS + 1
        if first < max(1, self.start) or not (usual := points.step()) > 0.0:
            return
        steps = np.diff(points.values[max(0, first - 2) : first + 2])
        wild = np.abs(steps) > WILD * usual
        spikes = wild[1:] & wild[:-1] & (np.sign(steps[1:]) != np.sign(steps[:-1]))
        if spikes.any():
            self.gone.add(first)
            for at in range(first, len(points.values)):
                self.add(points, at)

    def add(self, points: Points, at: int) -> None:
        """Sum the pair of a point and the one before it, less the segment's first value."""
        row = at - self.start
        if row + 2 > len(self.sums):
            self.sums = np.vstack([self.sums, np.zeros_like(self.sums)])
        w, f, y, ff, fy, yy = self.sums[row].tolist()
        if at > 0 and at not in self.gone:
            centre = points.values[self.start]
            before, now = points.values[at - 1] - centre, points.values[at] - centre
            w, f, y = w + 1.0, f + before, y + now
            ff, fy, yy = ff + before * before, fy + before * now, yy + now * now
        self.sums[row + 1] = w, f, y, ff, fy, yy

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
        at, gain = self._best(points, floor, 1e-10 * spread**2, declared)
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
