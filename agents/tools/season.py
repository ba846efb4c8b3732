"""What comes back every period (a day's load, say) taken out of a series, online and causal.

A point's season is the median of what the last cycles had at its place in the period, each beside
the level of the whole period before it: so a new level isn't mistaken for a season, and one cycle
among several has no say. The first points only teach (LEARNED cycles, or what `auto` looks at);
then they are given out all at once, each less the season of the other cycles, and the law sees
them in their order. `auto` tries the peaks of the autocorrelation, and takes what serves.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Judge = Callable[[Floats], int]  # how many changes the law declares in these values

LEARNED = 4  # cycles before the season is known
KEPT = 7  # cycles that it is the median of
LEAST, MOST = 4, 100_000  # points of a period
AUTO_POINTS = 2048  # that `auto` learns from, where times say nothing of days
AUTO_DAYS = 7  # where they do: so many days,
AUTO_LEAST, AUTO_MOST = 256, 20_000  # but no fewer points than that, and no more
CANDIDATES = 6  # periods tried
EXPLAINED = 0.75  # of a series' mean distance from its level, that a season leaves at most
ALIKE = 1.1  # times what the best leaves: as good
TAIL = 0.99  # of the distances: larger ones count as this quantile
CLIP = 3.0  # spreads: a candidate isn't found by a few wild values
DAY = 86_400_000_000  # microseconds


class Value(NamedTuple):
    """A point's value on its way to the law."""

    place: int  # the point's index
    time: Any
    ts: int
    value: float


class Level:
    """The median of the last `size` points; missing ones have a place, and no say."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: deque[float] = deque()
        self._sorted: list[float] = []

    def push(self, value: float) -> float:
        """Take a point in; the median, NaN while there is none."""
        self._last.append(value)
        if not math.isnan(value):
            insort(self._sorted, value)
        if len(self._last) > self._size:
            old = self._last.popleft()
            if not math.isnan(old):
                del self._sorted[bisect_left(self._sorted, old)]
        return _middle(self._sorted)


class Cycles:
    """What the last KEPT cycles had at each place of the period, beside their level.

    The level is the median of the last period's points less the season that the first ones showed,
    which stays: the points themselves lie so far apart within a large cycle that their median is
    that of the few about it, and its wandering would be a change of what is left.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        self._level = Level(period)
        self._first: Floats = np.zeros(period)  # the season that levels are less
        self._shape: list[list[float]] = [[math.nan] * KEPT for _ in range(period)]
        self._count = 0

    def learn(self, values: Floats) -> Floats:
        """Take the first points in; these less their season, which other cycles than theirs say."""
        period = self._period
        self._count = len(values)
        cycles = -(-len(values) // period)
        padded = np.full(cycles * period, np.nan)
        padded[: len(values)] = values
        rough, _ = _levels(padded, period)
        self._first = _medians((padded - rough).reshape(cycles, period))
        levels, self._level = _levels(values - np.resize(self._first, len(values)), period)
        padded[: len(values)] -= levels
        shape = padded.reshape(cycles, period)
        season = np.empty_like(shape)
        for k in range(cycles):
            season[k] = _medians(np.delete(shape, k, axis=0))
        for k in range(max(0, cycles - KEPT), cycles):
            for place, value in enumerate(shape[k].tolist()):
                self._shape[place][k % KEPT] = value
        return np.asarray(values - season.ravel()[: len(values)])

    def push(self, value: float) -> float:
        """The next point less its season."""
        cycle, place = divmod(self._count, self._period)
        there = sorted(one for one in self._shape[place] if math.isfinite(one))
        season = _middle(there) if there else 0.0
        level = self._level.push(value - float(self._first[place]))
        self._shape[place][cycle % KEPT] = value - level
        self._count += 1
        return value - season


def _levels(values: Floats, period: int) -> tuple[Floats, Level]:
    """The median of the period that ends with each point, for the first ones that of the first."""
    level = Level(period)
    levels = np.array([level.push(float(value)) for value in values])
    levels[: period - 1] = levels[min(period, len(levels)) - 1]
    return levels, level


def _middle(values: Sequence[float]) -> float:
    """The median of sorted numbers; NaN where there are none."""
    n = len(values)
    return 0.5 * values[n // 2] + 0.5 * values[(n - 1) // 2] if n else math.nan


def _medians(shape: Floats) -> Floats:
    """The median of each column's finite numbers; 0 where there are none."""
    found = np.zeros(shape.shape[1])
    there = np.isfinite(shape)
    for k in np.flatnonzero(there.any(axis=0)):
        found[k] = np.median(shape[there[:, k], k])
    return found


def candidates(values: Floats, day: int = 0) -> list[int]:
    """Periods that the series may have, likeliest first: peaks of its autocorrelation.

    `day`: points of a day, 0 if unknown; it is one of them where LEARNED days are there.
    """
    n = len(values)
    finite = values[np.isfinite(values)]
    if n < LEARNED * LEAST or not len(finite):
        return []
    middle = float(np.median(finite))
    spread = float(np.median(np.abs(finite - middle))) or float(np.ptp(finite) / 4)
    if not 0.0 < spread < math.inf:
        return []
    z = np.clip(np.nan_to_num((values - middle) / spread), -CLIP, CLIP)
    z -= z.mean()
    power = np.abs(np.fft.rfft(z, 2 * n)) ** 2
    together = np.fft.irfft(power)[: n // LEARNED + 2] / np.arange(n, n - n // LEARNED - 2, -1)
    inner = np.arange(LEAST, len(together) - 1)
    peak = (together[inner] >= together[inner - 1]) & (together[inner] > together[inner + 1])
    peaks = inner[peak & (together[inner] > 0.05 * together[0])]
    best = peaks[np.argsort(-together[peaks], kind="stable")][:CANDIDATES].tolist()
    return [*([day] if LEAST <= day <= n // LEARNED else []), *(k for k in best if k != day)]


def chosen(values: Floats, judge: Judge, day: int = 0) -> int:
    """The period that the series has; 0: none.

    One that leaves three quarters of the series at most, or half the law's changes and no more of
    the series. Of those that leave about as little as the best: the day, else the one with fewest
    changes. What is left is taken out of sample: a season that the other cycles don't share leaves
    more than there was.
    """
    raw = judge(values)
    found: list[tuple[float, bool, int, int]] = []  # what is left; no day; changes; the period
    for period in candidates(values, day):
        beside = _beside(values, period)
        less = Cycles(period).learn(values)
        size = np.abs(beside[np.isfinite(beside)])
        most = float(np.quantile(size, TAIL))
        left = _mean(np.minimum(np.abs(_beside(less, period)), most)) / _mean(
            np.minimum(size, most)
        )
        count = judge(less)
        if left <= EXPLAINED or (left <= 1.0 and count <= raw / 2 < raw):
            found.append((left, period != day, count, period))
    if not found:
        return 0
    least = min(found)[0]
    return min(
        (none, count, period) for left, none, count, period in found if left <= ALIKE * least
    )[2]


def _beside(values: Floats, period: int) -> Floats:
    """Values beside the median of the period before each; beside that of the first at first."""
    return np.asarray(values - _levels(values, period)[0])


def _mean(values: Floats) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) and there.any() else math.inf


class Season:
    """One series: points in, and out again less their season, in order, once it is known."""

    def __init__(self, period: int | None, judge: Judge, auto_days: bool = False) -> None:
        """`period`: in points; None: `auto`. `auto_days`: times say how long a day is."""
        self.period = period
        self.known = False  # whether learning is over; then `period` 0 means none
        self._judge = judge
        self._days = auto_days
        self._cycles: Cycles | None = None
        self._waiting: list[Value] = []

    def push(self, point: Value) -> Sequence[Value]:
        """Take the next point; those that the law may see now."""
        if self.known:
            if self._cycles is None:
                return (point,)
            return (point._replace(value=self._cycles.push(point.value)),)
        self._waiting.append(point)
        return self.finish() if len(self._waiting) >= self._wanted() else ()

    def finish(self) -> Sequence[Value]:
        """Let the law see what waits, with what is known so far."""
        if self.known:
            return ()
        self.known = True
        waiting, self._waiting = self._waiting, []
        values = np.array([point.value for point in waiting])
        if self.period is None:
            self.period = chosen(values, self._judge, self._day(waiting)) if waiting else 0
        elif len(values) < 2 * self.period:
            self.period = 0  # one cycle has nothing to be compared with
        if self.period:
            self._cycles = Cycles(self.period)
            values = self._cycles.learn(values)
        return [p._replace(value=float(v)) for p, v in zip(waiting, values, strict=True)]

    def _wanted(self) -> int:
        if self.period is not None:
            return LEARNED * self.period
        if not self._days or len(self._waiting) < 16:
            return AUTO_POINTS
        day = self._day(self._waiting[:16])
        return min(AUTO_MOST, max(AUTO_LEAST, AUTO_DAYS * day)) if day else AUTO_POINTS

    def _day(self, points: Sequence[Value]) -> int:
        """Points of a day, by the median step of the times; 0: they say nothing of days."""
        if not self._days or len(points) < 2:
            return 0
        step = float(np.median(np.diff([point.ts for point in points])))
        return round(DAY / step) if 0 < step <= DAY / LEAST else 0
