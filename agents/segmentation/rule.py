"""What the laws of segmentation share: a series' numbers, and its last points.

A series is the errors of one domain of one tenant, one point a frame of that domain. Of a series
the last RING points stay, each with its event time, confidence and leader; what is older is summed
up. Points are numbered from 0 on; point p lies at place p % RING of its series' row. Every law
walks forward only, and one point costs the same however long the series is. A series takes 3.6 KB:
32 bytes a point, and its numbers; with bocpd 4.8 KB more.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topics.compiled import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RING = 104  # points kept: the window of `glr`, the two before it, and two to spare
RUNS = 200  # run lengths that `bocpd` keeps
LIMIT = 1e300  # larger values count as this: their differences stay finite


class Places(NamedTuple):
    """Where a series' numbers stand in its row."""

    settings: int  # row of the settings table
    at: int  # of its run lengths in Bank.runs
    size: int  # whether it has any
    seen: int  # points so far
    touched: int  # log time of the last frame, ms
    start: int  # the first point of the open segment
    start_ts: int  # its event time, µs
    boundaries: int  # reported so far
    wild: int  # points in a row that the spread has heard a part of
    error_sum: int  # of the open segment's points that left the ring
    confidence_sum: int
    peak: int
    # COUNTS
    unit: int  # squares are counted in (2**unit)²
    g_start: int  # glr: the first point of its segment; the sums go from there to the window's
    g_since: int  # point at which the bar was passed; -1: it isn't
    g_changed: int  # point at which the last change was declared
    h_on: int  # hmm: whether VOLATILE is on
    h_since: int  # the point from which the other state has gained
    b_start: int  # bocpd: its first point
    b_used: int  # run lengths in use
    # NUMBERS
    mean: int  # running mean and standard deviation of the medians of five, not in the unit
    spread: int
    g_count: int  # changes declared, as they had faded at the last
    centre: int  # the median of glr's first points, not in the unit: its sums are of differences
    s_w: int
    s_f: int
    s_y: int
    s_ff: int
    s_fy: int
    s_yy: int
    h_p: int  # hmm: probability of VOLATILE
    h_level: int  # level and variance of STABLE
    h_variance: int
    h_high: int  # level and variance of VOLATILE
    h_wide: int
    h_sum: int  # log-likelihood ratios for the other state since h_since
    b_mean: int  # bocpd: what it standardises by
    b_scale: int


NUMBERS = Places._fields[Places._fields.index("mean") :]
COUNTS = Places._fields[Places._fields.index("unit") : Places._fields.index("mean")]


class Bank(NamedTuple):
    """The series of a partition: one row each."""

    ints: Ints  # SERIES, as columns of whole numbers
    floats: Floats  # the same memory as floats
    value: Floats  # (rows, RING), as they came
    ts: Ints  # (rows, RING), µs
    confidence: NDArray[np.float32]  # (rows, RING)
    leader: NDArray[np.int32]  # (rows, RING), codes of names; -1: nobody
    steps: Floats  # (rows, RING): |differences| of neighbours in the ring, in order of size
    runs: Floats  # (some rows, 3, RUNS + 1): bocpd's probability, mean and sum of squares


class Work(NamedTuple):
    """Where one point is worked on; RING + 1 places each."""

    w: Floats
    f: Floats
    y: Floats
    ff: Floats
    fy: Floats
    yy: Floats
    cost: Floats
    spare: Floats  # (4, RUNS + 2)


def work() -> Work:
    """Places to work in, for one thread."""
    w, f, y, ff, fy, yy, cost = (np.zeros(RING + 1) for _ in range(7))
    return Work(w, f, y, ff, fy, yy, cost, np.zeros((4, RUNS + 2)))


@kernel
def place(steps: Floats, count: int, x: float) -> int:
    """The first of `count` ordered numbers that isn't below x."""
    low = 0
    high = count
    while low < high:
        mid = (low + high) // 2
        if steps[mid] < x:
            low = mid + 1
        else:
            high = mid
    return low


@kernel
def insert(steps: Floats, count: int, x: float) -> None:
    """Put x among `count` ordered numbers; there is a place for it."""
    k = place(steps, count, x)
    for j in range(count, k, -1):
        steps[j] = steps[j - 1]
    steps[k] = x


@kernel
def remove(steps: Floats, count: int, x: float) -> None:
    """Take x, which is among them, from `count` ordered numbers."""
    for j in range(place(steps, count, x), count - 1):
        steps[j] = steps[j + 1]


@kernel
def median(steps: Floats, count: int) -> float:
    """The middle one of `count` >= 1 ordered numbers, or the mean of the two."""
    return float(0.5 * steps[count // 2] + 0.5 * steps[(count - 1) // 2])
