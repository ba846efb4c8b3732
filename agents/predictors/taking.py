"""Rows of the state topic to entities, number for number; `rows` writes them.

Rows before law 2 have a variance (m2 over weight) in place of step and ratio, and counts instead of
what calibration learns; they are taken in as if white noise had made the variance, and as if
nothing had been learned.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agents.predictors import rule
from agents.predictors.calibration import (
    BIAS_MAX,
    BINS,
    LIMIT,
    MEDIAN_MAX,
    MEDIAN_MIN,
    MEDIAN_RUN_MAX,
    SLOPE_MAX,
    UNIT,
    WINDOW_BINS,
    WINDOW_SUMS,
    clear,
)
from agents.predictors.rows import Slots
from agents.predictors.state import (
    LAST,
    LEVEL,
    LIVE,
    RATIO,
    SEPARATOR,
    STEP,
    Entities,
    drop,
    part,
    place,
    reset,
    runs_of,
    window_of,
)
from topics.columns import Cols
from topics.compiled import glue

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HELD_MAX = 100_000  # samples of a window: the largest `calibrate_every`

# What `take` makes of a row.
TAKEN, SETTINGS, BAD, FULL = range(4)


@glue
def tenant_sizes(buf: Bytes, pos: Ints, size: Ints, lo: int, hi: int, out: Ints) -> int:
    """out[r] = bytes before the separator in key r, its whole length without one.

    Returns the first key that lies outside buf, hi if none does.
    """
    for r in range(lo, hi):
        p = pos[r]
        if p < 0 or size[r] < 0 or p + size[r] > buf.shape[0]:
            return r
        out[r] = size[r]
        for j in range(size[r]):
            if buf[p + j] == SEPARATOR:
                out[r] = j
                break
    return hi


@glue
def _holds(buf: Bytes, pos: int, length: int, size: int) -> bool:
    return length == size and pos >= 0 and pos + size <= buf.shape[0]


@glue
def _calibrated(cols: Cols, s: Slots, r: int) -> bool:
    """Whether row r's calibration can be."""
    median = cols.f[s.median, r]
    if not (median == 0.0 or MEDIAN_MIN <= median <= MEDIAN_MAX):
        return False
    if abs(cols.i[s.median_run, r]) > MEDIAN_RUN_MAX or cols.i[s.samples, r] < 0:
        return False
    if not (0.0 <= cols.f[s.slope, r] <= SLOPE_MAX and abs(cols.f[s.bias, r]) <= BIAS_MAX):
        return False
    aa, ab, bb = cols.f[s.info_slope, r], cols.f[s.info_both, r], cols.f[s.info_bias, r]
    if not (0.0 < aa < math.inf and 0.0 < bb < math.inf and aa * bb - ab * ab > 0.0):
        return False
    if cols.null[s.none_waits, r] == 0 and not abs(cols.f[s.logit, r]) <= LIMIT:
        return False
    return _window(cols, s, r)


@glue
def _window(cols: Cols, s: Slots, r: int) -> bool:
    """Whether row r's window can be."""
    at, size = cols.at[s.bins, r], cols.cnt[s.bins, r]
    sums, sums_size = cols.at[s.sums, r], cols.cnt[s.sums, r]
    if size == 0 and sums_size == 0:
        return True
    if size != WINDOW_BINS or at < 0 or at + size > cols.vi.shape[0]:
        return False
    if sums_size != WINDOW_SUMS or sums < 0 or sums + sums_size > cols.vf.shape[0]:
        return False
    for when in range(2):
        total = 0
        for b in range(at + 3 * BINS * when, at + 3 * BINS * when + BINS):
            held, said, true = cols.vi[b], cols.vi[b + BINS], cols.vi[b + 2 * BINS]
            if not (0 <= held <= HELD_MAX and 0 <= said <= UNIT * held and 0 <= true <= held):
                return False
            total += held
        if not 0 < total <= HELD_MAX:
            return False
    least, total_sum = 0.0, 0.0
    for j in range(sums, sums + sums_size):
        least, total_sum = min(least, cols.vf[j]), total_sum + cols.vf[j]
    return bool(least >= 0.0 and total_sum < math.inf)  # of what isn't a number it isn't


@glue
def _former(cols: Cols, s: Slots, r: int, n: int) -> bool:
    """Whether row r is one of law 1."""
    return bool(cols.len[s.step, r] == 0 and cols.len[s.m2, r] == 8 * n)


@glue
def _fits(buf: Bytes, cols: Cols, s: Slots, r: int, n: int) -> bool:
    """Whether row r's vectors are in the buffer, as long as they must be."""
    for slot, size in ((s.x, 4), (s.level, 8)):
        if not _holds(buf, cols.pos[slot, r], cols.len[slot, r], size * n):
            return False
    if _former(cols, s, r, n):
        return bool(cols.f[s.weight, r] >= 1.0 and _holds(buf, cols.pos[s.m2, r], 8 * n, 8 * n))
    for slot, size in ((s.step, 8), (s.ratio, 8), (s.runs, 2)):
        if not _holds(buf, cols.pos[slot, r], cols.len[slot, r], size * n):
            return False
    return True


@glue
def _fill(buf: Bytes, cols: Cols, slot: int, r: int, out: Bytes) -> None:
    start = cols.pos[slot, r]
    out[:] = buf[start : start + out.shape[0]]


@glue
def _fill_scale(
    e: Entities, pool: Floats, k: int, buf: Bytes, cols: Cols, s: Slots, r: int
) -> bool:  # fmt: skip
    """Entity k's level, step, ratio and runs are row r's. Returns whether they can be."""
    n, level, step, ratio = (
        e.dim[k],
        part(e, pool, k, LEVEL),
        part(e, pool, k, STEP),
        part(e, pool, k, RATIO),
    )
    runs = runs_of(e, pool, k)[: 2 * n]
    _fill(buf, cols, s.level, r, level.view(np.uint8))
    if _former(cols, s, r, n):
        _fill(buf, cols, s.m2, r, step.view(np.uint8))
        for i in range(n):
            deviation = math.sqrt(max(step[i], 0.0) / cols.f[s.weight, r])
            step[i] = deviation / (rule.CONSISTENT * rule.RATIO_FIRST)
            ratio[i] = rule.RATIO_FIRST
            runs[2 * i] = runs[2 * i + 1] = 0
    else:
        _fill(buf, cols, s.step, r, step.view(np.uint8))
        _fill(buf, cols, s.ratio, r, ratio.view(np.uint8))
        _fill(buf, cols, s.runs, r, runs.view(np.uint8))
    for i in range(n):
        if not (abs(level[i]) < math.inf and 0.0 <= step[i] < math.inf):
            return False
        if not rule.RATIO_MIN <= ratio[i] <= rule.RATIO_MAX:
            return False
        if abs(runs[2 * i]) > rule.STEP_RUN_MAX or abs(runs[2 * i + 1]) > rule.LEVEL_RUN_MAX:
            return False
    return True


@glue
def take(
    e: Entities,
    pool: Floats,
    ids: Ints,
    key_size: Ints,
    tenant_size: Ints,
    gone: Bytes,
    buf: Bytes,
    cols: Cols,
    s: Slots,
    lo: int,
    hi: int,
    dim_max: int,
    single: NDArray[np.float32],
) -> tuple[int, int]:
    """Take in entities' rows lo..hi-1, until one needs something else.

    Returns (row, why): (hi, TAKEN), a row of SETTINGS, one that is BAD, or FULL: the pool has no
    room for block(dim) numbers more. `single` has room for dim_max numbers.
    """
    dims, counts = cols.i[s.dim], cols.i[s.n]
    for r in range(lo, hi):
        k, n = ids[r], dims[r]
        if k < 0:
            return r, BAD
        if tenant_size[r] == key_size[r]:
            return r, SETTINGS
        if gone[r]:
            drop(e, k)
            continue
        if n < 1 or n > dim_max or counts[r] < 1:
            return r, BAD
        if not (_fits(buf, cols, s, r, n) and _calibrated(cols, s, r)):
            return r, BAD
        if not place(e, pool.shape[0], k, n):
            return r, FULL
        _fill(buf, cols, s.x, r, single[:n].view(np.uint8))
        last = part(e, pool, k, LAST)
        for i in range(n):
            last[i] = np.float64(single[i])
        if not _fill_scale(e, pool, k, buf, cols, s, r):
            return r, BAD
        _assume(e, pool, k, cols, s, r)
    return hi, TAKEN


@glue
def _assume(e: Entities, pool: Floats, k: int, cols: Cols, s: Slots, r: int) -> None:
    """Entity k's numbers, but for its vectors, are those of row r."""
    e.counts[LIVE] += 1 - e.live[k]
    e.live[k] = 1
    reset(e, k)
    clear(window_of(e, pool, k))
    e.n[k] = cols.i[s.n, r]
    e.restarts[k] = cols.i[s.restarts, r]
    e.ts[k] = cols.i[s.ts, r]
    e.touched[k] = cols.i[s.touched, r]
    e.median[k] = cols.f[s.median, r]
    e.run[k] = cols.i[s.median_run, r]
    e.samples[k] = cols.i[s.samples, r]
    learned = e.learned[k]
    learned[0], learned[1] = cols.f[s.slope, r], cols.f[s.bias, r]
    learned[2], learned[3] = cols.f[s.info_slope, r], cols.f[s.info_both, r]
    learned[4] = cols.f[s.info_bias, r]
    if cols.null[s.none_waits, r] == 0:
        e.logit[k] = cols.f[s.logit, r]
    if cols.cnt[s.bins, r] > 0:
        window, bins, sums = window_of(e, pool, k), cols.at[s.bins, r], cols.at[s.sums, r]
        for j in range(WINDOW_BINS):
            window.bins[j] = cols.vi[bins + j]
        for j in range(WINDOW_SUMS):
            window.sums[j] = cols.vf[sums + j]
