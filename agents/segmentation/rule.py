"""What the laws of segmentation share: how kernels are compiled, and a series' last points.

A series is the errors of one domain of one tenant, one point a frame of that domain. Of a series
the last RING points stay, each with its event time, confidence and leader; what is older is summed
up. Points are numbered from 0 on; point p lies at place p % RING of its series' row. Every law
walks forward only, and one point costs the same however long the series is.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topics.compiled import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Structs = NDArray[np.void]

RING = 104  # points kept: the window of `glr`, the two before it, and two to spare
RUNS = 200  # run lengths that `bocpd` keeps
LIMIT = 1e300  # larger values count as this: their differences stay finite

# Of a series: what a state row holds by name, and (the rest) in the lists `counts` and `numbers`.
WHOLE = (
    "seen",  # points so far
    "touched",  # log time of the last frame, ms
    "start",  # the first point of the open segment
    "start_ts",  # its event time, µs
    "boundaries",  # reported so far
    "wild",  # points in a row that the spread has heard a part of
)
COUNTS = (
    "unit",  # squares are counted in (2**unit)²
    "g_start",  # glr: the first point of its segment; the sums go from there to the window's first
    "g_since",  # point at which the bar was passed; -1: it isn't
    "g_changed",  # point at which the last change was declared
    "h_on",  # hmm: whether VOLATILE is on
    "h_since",  # the point from which the other state has gained
    "b_start",  # bocpd: its first point
    "b_used",  # run lengths in use
)
PARTS = (
    "error_sum",  # of the open segment's points that left the ring
    "confidence_sum",
    "peak",
)
NUMBERS = (
    "mean",  # running mean and standard deviation of the medians of five, not in the unit
    "spread",
    "g_count",  # changes declared, as they had faded at the last
    "centre",  # the median of glr's first points, not in the unit: its sums are of differences
    "s_w",
    "s_f",
    "s_y",
    "s_ff",
    "s_fy",
    "s_yy",
    "h_p",  # hmm: probability of VOLATILE
    "h_level",  # level and variance of STABLE
    "h_variance",
    "h_high",  # level and variance of VOLATILE
    "h_wide",
    "h_sum",  # log-likelihood ratios for the other state since h_since
    "b_mean",  # bocpd: what it standardises by
    "b_scale",
)
HEAD = (
    "name",  # code of its name
    "owner",  # row of its tenant
    "settings",  # row of the settings table
    "alive",
    "runs",  # row of the run lengths; -1: none
    "spare",
)
# Kernels know a series as a row of numbers: a structured type would take minutes to compile.
SERIES = np.dtype(
    [(name, "i8") for name in HEAD + WHOLE + COUNTS] + [(name, "f8") for name in PARTS + NUMBERS]
)
FIRST_WHOLE = len(HEAD)
FIRST_COUNT = FIRST_WHOLE + len(WHOLE)
FIRST_PART = FIRST_COUNT + len(COUNTS)
FIRST_NUMBER = FIRST_PART + len(PARTS)
SERIES_BYTES = SERIES.itemsize + RING * (8 + 8 + 4 + 4 + 8)


class Columns(NamedTuple):
    """Where the fields of SERIES stand."""

    name: int
    owner: int
    settings: int
    alive: int
    runs: int
    spare: int
    seen: int
    touched: int
    start: int
    start_ts: int
    boundaries: int
    wild: int
    unit: int
    g_start: int
    g_since: int
    g_changed: int
    h_on: int
    h_since: int
    b_start: int
    b_used: int
    error_sum: int
    confidence_sum: int
    peak: int
    mean: int
    spread: int
    g_count: int
    centre: int
    s_w: int
    s_f: int
    s_y: int
    s_ff: int
    s_fy: int
    s_yy: int
    h_p: int
    h_level: int
    h_variance: int
    h_high: int
    h_wide: int
    h_sum: int
    b_mean: int
    b_scale: int


S = Columns(*range(len(SERIES.fields or ())))


class Bank(NamedTuple):
    """The series of a partition: one row each."""

    ints: Ints  # SERIES, as columns of whole numbers
    floats: Floats  # the same memory as floats
    value: Floats  # (rows, RING), as they came
    ts: Ints  # (rows, RING), µs
    confidence: NDArray[np.float32]  # (rows, RING)
    leader: NDArray[np.int32]  # (rows, RING), codes of names; -1: none
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


def bank(series: Structs, runs: int = 1) -> Bank:
    """Arrays for these series."""
    rows = series.shape[0]
    return Bank(
        series.view(np.int64).reshape(rows, -1),
        series.view(np.float64).reshape(rows, -1),
        np.zeros((rows, RING)),
        np.zeros((rows, RING), np.int64),
        np.zeros((rows, RING), np.float32),
        np.full((rows, RING), -1, np.int32),
        np.zeros((rows, RING)),
        np.zeros((runs, 3, RUNS + 1)),
    )


def work() -> Work:
    """Room to work in, for one thread."""
    w, f, y, ff, fy, yy, cost = (np.zeros(RING + 1) for _ in range(7))
    return Work(w, f, y, ff, fy, yy, cost, np.zeros((4, RUNS + 2)))


@kernel
def clear(b: Bank, r: int) -> None:
    """Make a series as it is before its first point; name, owner, settings, run row stay."""
    for j in range(FIRST_WHOLE, FIRST_PART):
        b.ints[r, j] = 0
    for j in range(FIRST_PART, b.floats.shape[1]):
        b.floats[r, j] = 0.0
    b.floats[r, S.peak] = -math.inf
    b.ints[r, S.h_since] = -1
    b.ints[r, S.g_since] = -1


@kernel
def window(b: Bank, r: int) -> int:
    """The first point that isn't in glr's sums; the two before it are still in the ring."""
    return int(max(b.ints[r, S.g_start], b.ints[r, S.seen] - RING + 2))


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
    """Put x among `count` ordered numbers; there must be room."""
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
