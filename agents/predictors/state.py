"""What a partition's predictors remember: a row for each (tenant, domain), and its vectors.

Vectors live in a pool: row k has a block with five parts of room[k] numbers, the last vector,
level, step, ratio and what is expected next, of which dim[k] are in use; behind them the runs, two
bytes a number, and its calibration's window. A row costs about 200 bytes, its key, 272 bytes of the
window and 42 bytes a number. A tenant's row holds nothing but its settings.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.kit.columns import TENANT_HEAD, TableSchema
from agents.kit.pool import claim
from agents.predictors import calibration as cal
from agents.predictors.calibration import WINDOW_BINS, WINDOW_SUMS, Window, unlearn
from topics.compiled import entry, kernel, view

DIM_MAX = 32_768  # numbers in a vector: a state row of 30 bytes a number must fit into 1 MiB

PARTS = 5  # of a row's vectors
LAST, LEVEL, STEP, RATIO, NEXT = range(PARTS)
BINS = WINDOW_BINS // 2  # numbers of 8 bytes that hold a window's of 4
SPARE = 4  # times as much room as it needs is too much for a row

_FINITE = (-math.nextafter(math.inf, 0), math.nextafter(math.inf, 0))
_POSITIVE = (math.nextafter(0, 1), _FINITE[1])

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DOMAINS = TableSchema(
    "predictors_state",
    columns={
        "run": "median_run",
        "learned": ("slope", "bias", "info_slope", "info_both", "info_bias"),
    },
    packed=("x", "level", "step", "ratio", "runs", "bins", "sums"),
    absent={"weight": 0.0, "m2": 0},  # rows of law 1 have them
    extra={"room": 0, "at": 0, "size": 0, "made": 0},
    limits={
        "dim": (1, DIM_MAX),
        "n": (1, math.inf),
        "median": (0.0, cal.MEDIAN_MAX),
        "median_run": (-cal.MEDIAN_RUN_MAX, cal.MEDIAN_RUN_MAX),
        "samples": (0, math.inf),
        "slope": (0.0, cal.SLOPE_MAX),
        "bias": (-cal.BIAS_MAX, cal.BIAS_MAX),
        "info_slope": _POSITIVE,
        "info_both": _FINITE,
        "info_bias": _POSITIVE,
        "logit": (-cal.LIMIT, cal.LIMIT),
    },
)
TENANTS = TableSchema("predictors_state", head=TENANT_HEAD, only=())


class Entities(NamedTuple):
    """The columns of DOMAINS, and the pool."""

    code: Ints
    owner: Ints  # the row of its tenant
    dim: Ints
    room: Ints
    at: Ints  # its block of the pool
    size: Ints
    n: Ints
    restarts: Ints
    ts: Ints  # microseconds, event time
    touched: Ints  # milliseconds, log time
    median: Floats  # of calibration.py, as the next four
    run: Ints
    learned: Floats  # [rows, 5]: slope, bias, and the information
    logit: Floats  # that waits; NaN: none
    samples: Ints
    made: Ints  # TenantSettings.version for which the pool holds what is expected next; 0: none
    pool: Floats
    counts: Ints  # of the pool


@kernel
def sides(room: int) -> int:
    """Numbers of the pool that the runs of so many take."""
    return (2 * room + 7) // 8


@kernel
def block(room: int) -> int:
    """Numbers of the pool that a row with so much room takes."""
    return PARTS * room + sides(room) + BINS + WINDOW_SUMS if room > 0 else 0


@view
def part(e: Entities, k: int, which: int) -> Floats:
    """The numbers in use of one of row k's vectors."""
    start = e.at[k] + which * e.room[k]
    return e.pool[start : start + e.dim[k]]


@view
def runs_of(e: Entities, k: int) -> NDArray[np.int8]:
    """Room for the runs of row k, two for each number."""
    start = e.at[k] + PARTS * e.room[k]
    return e.pool[start : start + sides(e.room[k])].view(np.int8)


@view
def window_of(e: Entities, k: int) -> Window:
    """The calibration's window of row k, which has room."""
    start = e.at[k] + PARTS * e.room[k] + sides(e.room[k])
    end = start + BINS
    return Window(e.pool[start:end].view(np.int32), e.pool[end : end + WINDOW_SUMS])


@kernel
def place(e: Entities, k: int, dim: int) -> bool:
    """Give row k room for vectors of so many numbers; False where the pool is too small.

    What its vectors held may be lost.
    """
    if e.room[k] < dim or e.room[k] > SPARE * dim:
        if not claim(e.counts, e.pool.shape[0], e.at, e.size, k, block(dim)):
            return False
        e.room[k] = dim
    if e.dim[k] != dim:
        e.dim[k] = dim
        e.made[k] = 0
    return True


@entry
def reset(e: Entities, k: int) -> None:
    """Row k's calibration begins anew, but for its window, and nothing is expected."""
    e.median[k] = 0.0
    e.run[k] = 0
    unlearn(e.learned[k])
    e.logit[k] = np.nan
    e.samples[k] = 0
    e.made[k] = 0
