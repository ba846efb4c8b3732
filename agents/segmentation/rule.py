"""What the laws of segmentation share: how kernels are compiled, and a series' last points.

A series is the errors of one domain of one tenant, one point a frame of that domain. Of a series
the last RING points stay, each with its event time, confidence and leader; what is older is summed
up. Points are numbered from 0 on; point p lies at place p % RING of its series' row. Every law
walks forward only, and one point costs the same however long the series is.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Structs = NDArray[np.void]

# Kernels borrow their arrays from the caller: counting references to every view of them (numba's
# default) costs more than the law. Without it (`_nrt`) the compiler refuses what would allocate.
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
Law = TypeVar("Law", bound=Callable[..., Any])


def entry(law: Law) -> Law:
    """Compile a function that Python calls."""
    return cast(Law, njit(**OPTIONS)(law))


def kernel(law: Law) -> Law:
    """Compile a function that kernels call, to be inlined."""
    return cast(Law, njit(**OPTIONS, forceinline=True)(law))


RING = 104  # points kept: the window of `glr`, the point before it, and three to spare
RUNS = 200  # run lengths that `bocpd` keeps
LIMIT = 1e300  # larger values count as this: their differences stay finite

SERIES = np.dtype(
    [
        ("name", "i4"),  # code of its name
        ("owner", "i4"),  # row of its tenant
        ("settings", "i4"),  # row of the settings table
        ("alive", "i4"),
        ("runs", "i4"),  # row of the run lengths; -1: none
        ("law", "i4"),  # of cpd: which law the run lengths belong to
        ("seen", "i8"),  # points so far
        ("touched", "i8"),  # log time of the last frame, ms
        # The segment that is open: what it holds of points that left the ring.
        ("start", "i8"),  # its first point
        ("start_ts", "i8"),  # its event time, µs
        ("boundaries", "i8"),  # reported so far
        ("error_sum", "f8"),
        ("confidence_sum", "f8"),
        ("peak", "f8"),
        # The spread of the whole series, in units of 2**unit.
        ("unit", "i8"),
        ("mean", "f8"),
        ("variance", "f8"),
        # glr: sums over the points from `g_start` to the first of the window.
        ("g_start", "i8"),
        ("g_since", "i8"),  # point at which the threshold was passed; -1: it isn't
        ("g_changed", "i8"),  # point at which the last change was declared
        ("g_count", "f8"),  # changes declared, as they faded until then
        ("centre", "f8"),  # value of point g_start: sums are of differences from it
        ("s_w", "f8"),
        ("s_f", "f8"),
        ("s_y", "f8"),
        ("s_ff", "f8"),
        ("s_fy", "f8"),
        ("s_yy", "f8"),
        # hmm: the probability of VOLATILE, both states' level and spread, and which is on.
        ("h_p", "f8"),
        ("h_mean", "f8"),
        ("h_variance", "f8"),
        ("h_ratio", "f8"),
        ("h_on", "i8"),
        ("h_since", "i8"),
        # bocpd: what it standardises by, and how many run lengths are in use.
        ("b_mean", "f8"),
        ("b_scale", "f8"),
        ("b_used", "i8"),
        ("b_start", "i8"),
    ]
)


class Bank(NamedTuple):
    """The series of a partition: one row each."""

    series: Structs  # SERIES
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


def bank(rows: int, runs: int = 1) -> Bank:
    """Arrays for so many series."""
    return Bank(
        np.zeros(rows, SERIES),
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
    s = b.series[r]
    s["law"] = -1
    s["seen"] = 0
    s["touched"] = 0
    s["start"] = 0
    s["start_ts"] = 0
    s["boundaries"] = 0
    s["error_sum"] = 0.0
    s["confidence_sum"] = 0.0
    s["peak"] = -math.inf
    s["unit"] = 0
    s["mean"] = 0.0
    s["variance"] = 0.0
    s["g_count"] = 0.0
    s["g_changed"] = 0
    s["h_p"] = 0.0
    s["h_mean"] = 0.0
    s["h_variance"] = 0.0
    s["h_ratio"] = 0.0
    s["h_on"] = 0
    s["h_since"] = -1
    s["b_mean"] = 0.0
    s["b_scale"] = 0.0
    s["b_used"] = 0
    s["b_start"] = 0
    restart(b, r, 0)


@kernel
def restart(b: Bank, r: int, point: int) -> None:
    """Let glr's segment begin at a point that is in the ring, or comes next."""
    s = b.series[r]
    s["g_start"] = point
    s["g_since"] = -1
    s["centre"] = b.value[r, point % RING]
    s["s_w"] = 0.0
    s["s_f"] = 0.0
    s["s_y"] = 0.0
    s["s_ff"] = 0.0
    s["s_fy"] = 0.0
    s["s_yy"] = 0.0


@kernel
def window(s: Any) -> int:
    """The first point that isn't in glr's sums: its predecessor, if any, is still in the ring."""
    return int(max(s["g_start"], s["seen"] - RING + 1))


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


@kernel
def exponent(x: float) -> int:
    """The multiple of 64 below the binary exponent of x; 0 for 0."""
    if x == 0.0:
        return 0
    _, e = math.frexp(x)
    return int(e // 64) * 64


@kernel
def spread(s: Any, v: float) -> None:
    """Take v into the running mean and variance (of the last 1,000 points or so)."""
    e = exponent(v)
    first = v != 0.0 and s["mean"] == 0.0 and s["variance"] == 0.0
    if first or e > s["unit"] + 256:
        rescale(s, e)
    x = math.ldexp(v, -s["unit"])
    weight = 1.0 / min(s["seen"] + 1, 1000)
    d = x - s["mean"]
    s["mean"] += d * weight
    s["variance"] += (d * (x - s["mean"]) - s["variance"]) * weight


@kernel
def rescale(s: Any, unit: int) -> None:
    """Count squares in another unit, so that none overflows; exact but for what vanishes."""
    k = int(s["unit"] - unit)
    s["unit"] = unit
    s["mean"] = math.ldexp(s["mean"], k)
    s["variance"] = math.ldexp(s["variance"], 2 * k)
    s["s_f"] = math.ldexp(s["s_f"], k)
    s["s_y"] = math.ldexp(s["s_y"], k)
    s["s_ff"] = math.ldexp(s["s_ff"], 2 * k)
    s["s_fy"] = math.ldexp(s["s_fy"], 2 * k)
    s["s_yy"] = math.ldexp(s["s_yy"], 2 * k)


@kernel
def leave(b: Bank, r: int) -> None:
    """Sum up what the next point drives out of the ring, and out of the window of glr."""
    s = b.series[r]
    seen = s["seen"]
    first = window(s)
    if seen >= RING and first == seen - RING + 1:
        scale = math.ldexp(1.0, -s["unit"])
        centre = s["centre"] * scale
        f = b.value[r, (first - 1) % RING] * scale - centre
        y = b.value[r, first % RING] * scale - centre
        s["s_w"] += 1.0
        s["s_f"] += f
        s["s_y"] += y
        s["s_ff"] += f * f
        s["s_fy"] += f * y
        s["s_yy"] += y * y
    if seen >= RING:
        oldest = seen - RING
        k = oldest % RING
        remove(b.steps[r], RING - 1, abs(b.value[r, (oldest + 1) % RING] - b.value[r, k]))
        if oldest >= s["start"]:
            s["error_sum"] += b.value[r, k]
            s["confidence_sum"] += b.confidence[r, k]
            s["peak"] = max(s["peak"], b.value[r, k])


@kernel
def push(b: Bank, r: int, v: float, ts: int, confidence: float, leader: int) -> None:
    """Take a point (finite, at most LIMIT in size) into the ring."""
    s = b.series[r]
    spread(s, v)
    leave(b, r)
    seen = s["seen"]
    if seen > 0:
        step = abs(v - b.value[r, (seen - 1) % RING])
        insert(b.steps[r], min(seen - 1, RING - 2), step)
    k = seen % RING
    b.value[r, k] = v
    b.ts[r, k] = ts
    b.confidence[r, k] = confidence
    b.leader[r, k] = leader
    if seen == 0:
        s["start_ts"] = ts
        restart(b, r, 0)
    s["seen"] = seen + 1
