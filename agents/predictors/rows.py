"""Entities to rows of the state topic, number for number; `taking` takes them back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.engine.processor import StateRows
from agents.engine.records import put_bytes
from agents.predictors.calibration import BINS, WINDOW_BINS, WINDOW_SUMS
from agents.predictors.state import LAST, LEVEL, RATIO, STEP, Entities, part, runs_of, window_of
from topics.columns import Cols
from topics.compiled import entry, kernel
from topics.layout import Layout

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NUMBER_BYTES = 30  # that a row needs for each number of its vector


class Slots(NamedTuple):
    """Where the fields of predictors_state stand in Cols."""

    dim: int
    n: int
    weight: int
    x: int
    level: int
    step: int
    ratio: int
    runs: int
    m2: int
    restarts: int
    ts: int
    touched: int
    median: int
    median_run: int
    slope: int
    bias: int
    info_slope: int
    info_both: int
    info_bias: int
    logit: int
    samples: int
    bins: int
    sums: int
    settings: int
    none_waits: int  # of Cols.null


def slots_of(layout: Layout) -> Slots:
    """The places of the fields in a layout of predictors_state."""
    found = layout.slots | {"none_waits": layout.null_slots["logit"]}
    return Slots(*(found[name] for name in Slots._fields))


@entry
def bytes_of(e: Entities, ids: Ints) -> int:
    """Bytes that the vectors of these rows take."""
    total = 0
    for k in ids:
        total += NUMBER_BYTES * e.dim[k]
    return total


@kernel
def _span(cols: Cols, slot: int, r: int, out: Bytes, used: int, raw: Bytes) -> int:
    """Row r's bytes of a field, to out[used:]. Returns their end."""
    cols.pos[slot, r], cols.len[slot, r] = used, raw.shape[0]
    return int(put_bytes(out, used, raw, 0, raw.shape[0]))


@entry
def _write(
    e: Entities,
    ids: Ints,
    pool: Floats,
    cols: Cols,
    s: Slots,
    out: Bytes,
    used: int,
    single: NDArray[np.float32],
) -> int:
    """The vectors of the entities ids, to out[used:] and their spans. Returns the end of them."""
    for r in range(ids.shape[0]):
        k = ids[r]
        n, last = e.dim[k], part(e, pool, k, LAST)
        for i in range(n):
            single[i] = np.float32(last[i])
        used = _span(cols, s.x, r, out, used, single[:n].view(np.uint8))
        for slot, which in ((s.level, LEVEL), (s.step, STEP), (s.ratio, RATIO)):
            used = _span(cols, slot, r, out, used, part(e, pool, k, which).view(np.uint8))
        used = _span(cols, s.runs, r, out, used, runs_of(e, pool, k)[: 2 * n].view(np.uint8))
        cols.pos[s.m2, r], cols.len[s.m2, r] = used, 0
    return used


@kernel
def _holding(e: Entities, pool: Floats, k: int) -> bool:
    """Whether entity k's window holds a sample."""
    if e.dim[k] == 0:
        return False
    held, bins = 0, window_of(e, pool, k).bins
    for b in range(BINS):
        held += bins[b]
    return held > 0


@entry
def _count(e: Entities, ids: Ints, pool: Floats, cols: Cols, s: Slots) -> int:
    """How many numbers the windows of these rows have. Returns the number of all."""
    bins, sums, total = cols.cnt[s.bins], cols.cnt[s.sums], 0
    for r in range(ids.shape[0]):
        some = _holding(e, pool, ids[r])
        bins[r], sums[r] = (WINDOW_BINS, WINDOW_SUMS) if some else (0, 0)
        total += bins[r] + sums[r]
    return total


@entry
def _write_windows(
    e: Entities, ids: Ints, pool: Floats, cols: Cols, s: Slots, used: int
) -> None:  # fmt: skip
    """The windows that `_count` counted, from child `used` on."""
    bins_at, bins_cnt = cols.at[s.bins], cols.cnt[s.bins]
    sums_at, sums_cnt = cols.at[s.sums], cols.cnt[s.sums]
    for r in range(ids.shape[0]):
        bins_at[r], sums_at[r] = used, used + bins_cnt[r]
        if bins_cnt[r] > 0:
            window = window_of(e, pool, ids[r])
            for j in range(WINDOW_BINS):
                cols.vi[used + j] = window.bins[j]
            for j in range(WINDOW_SUMS):
                cols.vf[used + WINDOW_BINS + j] = window.sums[j]
        used += bins_cnt[r] + sums_cnt[r]


def write(rows: StateRows, e: Entities, names: Names, pool: Floats, ids: Ints, s: Slots) -> None:
    """Fill `rows` (empty) with the rows of these entities; those that aren't live as tombstones.

    Rows of tenants come out as tombstones, too, for the caller to fill.
    """
    n = ids.shape[0]
    rows.columns.reserve(n, rows.columns.used)
    more = _count(e, ids, pool, rows.columns.cols, s)
    rows.columns.reserve(n, rows.columns.used + more)
    rows.scratch.reserve(bytes_of(e, ids))
    single = np.empty(int(e.dim[ids].max(initial=0)), np.float32)
    cols = rows.columns.cols
    rows.scratch.used = _write(e, ids, pool, cols, s, rows.scratch.data, rows.scratch.used, single)
    _write_windows(e, ids, pool, cols, s, rows.columns.used)
    rows.columns.used += more
    _write_numbers(cols, s, e, ids)
    if rows.key_pos.shape[0] < n:
        size = max(n, 2 * rows.key_pos.shape[0])
        rows.key_pos, rows.key_len = np.empty(size, np.int64), np.empty(size, np.int64)
        rows.gone = np.empty(size, np.uint8)
    rows.key_pos[:n] = names.at[ids]
    rows.key_len[:n] = names.size[ids]
    rows.gone[:n] = e.live[ids] == 0
    rows.n = n


def _write_numbers(cols: Cols, s: Slots, e: Entities, ids: Ints) -> None:
    """The fields of these rows that are one number."""
    n = ids.shape[0]
    for slot, numbers in (
        (s.dim, e.dim),
        (s.n, e.n),
        (s.restarts, e.restarts),
        (s.ts, e.ts),
        (s.touched, e.touched),
        (s.median_run, e.run),
        (s.samples, e.samples),
    ):
        cols.i[slot, :n] = numbers[ids]
    learned = (s.slope, s.bias, s.info_slope, s.info_both, s.info_bias)
    for slot, values in zip(learned, e.learned[ids].T, strict=True):
        cols.f[slot, :n] = values
    cols.f[s.weight, :n] = 0.0
    cols.f[s.median, :n] = e.median[ids]
    cols.f[s.logit, :n] = e.logit[ids]
    cols.null[s.none_waits, :n] = np.isnan(e.logit[ids])
    cols.at[s.settings, :n] = 0
    cols.cnt[s.settings, :n] = 0
