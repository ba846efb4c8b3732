"""Vectors and windows as rows of the state topic have them, number for number, and back.

Rows before law 2 have a variance (m2 over weight) in place of step and ratio, and counts instead of
what calibration learns; they are taken in as if white noise had made the variance, and as if
nothing had been learned.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.engine.processor import StateRows
from agents.kit.column_table import ColumnTable
from agents.kit.columns import slots
from agents.kit.packing import put_span, take_span
from agents.kit.pool import Pool
from agents.predictors import rule
from agents.predictors import state as st
from agents.predictors.calibration import BINS, MEDIAN_MIN, UNIT, WINDOW_BINS, WINDOW_SUMS, clear
from agents.predictors.state import Entities
from topics.columns import Cols, Columns
from topics.compiled import entry, kernel

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Singles = NDArray[np.float32]

SINGLE, DOUBLE = 4, 8  # bytes of a number
NUMBER_BYTES = 30  # that a row needs for each number of its vector
HELD_MAX = 100_000  # samples of a window: the largest `calibrate_every`
ROW = slots("predictors_state")


@kernel
def _holding(e: Entities, k: int) -> bool:
    """Whether row k's window holds a sample."""
    held, bins = 0, st.window_of(e, k).bins
    for b in range(BINS):
        held += bins[b]
    return held > 0


@entry
def _sizes(e: Entities, of: Ints) -> tuple[int, int]:
    """What these rows need: children, and bytes."""
    children, size = 0, 0
    for k in of:
        size += NUMBER_BYTES * e.dim[k]
        children += WINDOW_BINS + WINDOW_SUMS if _holding(e, k) else 0
    return children, size


@entry
def _blocks(e: Entities, of: Ints) -> int:
    """How many numbers of the pool these rows need, if all move."""
    total = 0
    for k in of:
        total += st.block(e.dim[k])
    return total


@kernel
def _pack_window(e: Entities, k: int, c: Cols, r: int, child: int) -> int:
    """Row k's window as lists from `child` on; returns their end."""
    some = _holding(e, k)
    sums = child + (WINDOW_BINS if some else 0)
    end = sums + (WINDOW_SUMS if some else 0)
    c.at[ROW.bins, r], c.cnt[ROW.bins, r] = child, sums - child
    c.at[ROW.sums, r], c.cnt[ROW.sums, r] = sums, end - sums
    window = st.window_of(e, k)
    for j in range(sums - child):
        c.vi[child + j] = window.bins[j]
    for j in range(end - sums):
        c.vf[sums + j] = window.sums[j]
    return end


@entry
def _pack(
    e: Entities, at: Ints, of: Ints, c: Cols, child: int, out: Bytes, used: int, single: Singles
) -> tuple[int, int]:
    """The vectors and windows of rows `of`. Returns the ends of children and bytes."""
    for j in range(at.shape[0]):
        r, k = at[j], of[j]
        n, last = e.dim[k], st.part(e, k, st.LAST)
        for i in range(n):
            single[i] = np.float32(last[i])
        used = put_span(c, ROW.x, r, out, used, single[:n].view(np.uint8))
        for slot, which in ((ROW.level, st.LEVEL), (ROW.step, st.STEP), (ROW.ratio, st.RATIO)):
            used = put_span(c, slot, r, out, used, st.part(e, k, which).view(np.uint8))
        used = put_span(c, ROW.runs, r, out, used, st.runs_of(e, k)[: 2 * n].view(np.uint8))
        child = _pack_window(e, k, c, r, child)
    return child, used


@kernel
def _window(c: Cols, r: int) -> bool:
    """Whether row r's window can be."""
    at, sums = c.at[ROW.bins, r], c.at[ROW.sums, r]
    if c.cnt[ROW.bins, r] == 0 and c.cnt[ROW.sums, r] == 0:
        return True
    if c.cnt[ROW.bins, r] != WINDOW_BINS or c.cnt[ROW.sums, r] != WINDOW_SUMS:
        return False
    for when in range(2):
        total = 0
        for b in range(at + 3 * BINS * when, at + 3 * BINS * when + BINS):
            held, said, true = c.vi[b], c.vi[b + BINS], c.vi[b + 2 * BINS]
            if not (0 <= held <= HELD_MAX and 0 <= said <= UNIT * held and 0 <= true <= held):
                return False
            total += held
        if not 0 < total <= HELD_MAX:
            return False
    least, total_sum = 0.0, 0.0
    for j in range(sums, sums + WINDOW_SUMS):
        least, total_sum = min(least, c.vf[j]), total_sum + c.vf[j]
    return bool(least >= 0.0 and total_sum < math.inf)  # of what isn't a number it isn't


@kernel
def _former(c: Cols, r: int, n: int) -> bool:
    """Whether row r is one of law 1."""
    return bool(c.len[ROW.step, r] == 0 and c.len[ROW.m2, r] == DOUBLE * n)


@kernel
def _fits(e: Entities, k: int, c: Cols, r: int) -> bool:
    """Whether row r's parts are as long as they must be, and its calibration can be."""
    n, learned = e.dim[k], e.learned[k]
    if 0.0 < e.median[k] < MEDIAN_MIN or learned[2] * learned[4] - learned[3] * learned[3] <= 0.0:
        return False
    if c.len[ROW.x, r] != SINGLE * n or c.len[ROW.level, r] != DOUBLE * n:
        return False
    if _former(c, r, n):
        return bool(c.f[ROW.weight, r] >= 1.0 and _window(c, r))
    if c.len[ROW.step, r] != DOUBLE * n or c.len[ROW.ratio, r] != DOUBLE * n:
        return False
    return bool(c.len[ROW.runs, r] == 2 * n and _window(c, r))


@kernel
def _fill_scale(e: Entities, k: int, buf: Bytes, c: Cols, r: int) -> bool:
    """Row k's level, step, ratio and runs are the topic's row r's. Returns whether they can be."""
    n, runs = e.dim[k], st.runs_of(e, k)[: 2 * e.dim[k]]
    level, step, ratio = st.part(e, k, st.LEVEL), st.part(e, k, st.STEP), st.part(e, k, st.RATIO)
    take_span(c, ROW.level, r, buf, level.view(np.uint8))
    if _former(c, r, n):
        take_span(c, ROW.m2, r, buf, step.view(np.uint8))
        for i in range(n):
            deviation = math.sqrt(max(step[i], 0.0) / c.f[ROW.weight, r])
            step[i] = deviation / (rule.CONSISTENT * rule.RATIO_FIRST)
            ratio[i] = rule.RATIO_FIRST
            runs[2 * i] = runs[2 * i + 1] = 0
    else:
        take_span(c, ROW.step, r, buf, step.view(np.uint8))
        take_span(c, ROW.ratio, r, buf, ratio.view(np.uint8))
        take_span(c, ROW.runs, r, buf, runs.view(np.uint8))
    for i in range(n):
        if not (abs(level[i]) < math.inf and 0.0 <= step[i] < math.inf):
            return False
        if not rule.RATIO_MIN <= ratio[i] <= rule.RATIO_MAX:
            return False
        if abs(runs[2 * i]) > rule.STEP_RUN_MAX or abs(runs[2 * i + 1]) > rule.LEVEL_RUN_MAX:
            return False
    return True


@entry
def _unpack(e: Entities, at: Ints, of: Ints, c: Cols, buf: Bytes, single: Singles) -> int:
    """Rows `of` get the vectors and windows of the topic's rows `at`; a bad one, or -1."""
    for j in range(at.shape[0]):
        r, k = at[j], of[j]
        n = e.dim[k]
        if not (_fits(e, k, c, r) and st.place(e, k, n)):
            return int(r)
        e.made[k] = 0
        take_span(c, ROW.x, r, buf, single[:n].view(np.uint8))
        last, window = st.part(e, k, st.LAST), st.window_of(e, k)
        for i in range(n):
            last[i] = np.float64(single[i])
        if not _fill_scale(e, k, buf, c, r):
            return int(r)
        clear(window)
        for b in range(c.cnt[ROW.bins, r]):
            window.bins[b] = c.vi[c.at[ROW.bins, r] + b]
        for b in range(c.cnt[ROW.sums, r]):
            window.sums[b] = c.vf[c.at[ROW.sums, r] + b]
    return -1


class DomainTable(ColumnTable):
    """The rows of (tenant, domain), with a pool of their vectors."""

    def __init__(self) -> None:
        super().__init__(st.DOMAINS, pool=Pool())

    def room(self, of: Ints) -> tuple[int, int]:
        return _sizes(self.views(Entities), of)

    def pack(self, rows: StateRows, at: Ints, of: Ints, names: Names) -> None:
        e, columns, scratch = self.views(Entities), rows.columns, rows.scratch
        single = np.empty(int(e.dim[of].max(initial=0)), np.float32)
        columns.used, scratch.used = _pack(
            e, at, of, columns.cols, columns.used, scratch.data, scratch.used, single
        )  # fmt: skip

    def unpack(self, rows: Columns, at: Ints, of: Ints, buf: Bytes, items: Ints) -> int:
        self.reserve(_blocks(self.views(Entities), of))
        single = np.empty(st.DIM_MAX, np.float32)
        return _unpack(self.views(Entities), at, of, rows.cols, buf, single)
