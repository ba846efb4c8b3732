"""Entities to rows of the state topic, and back, number for number."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.engine.processor import StateRows
from agents.predictors.calibration import LEVELS, MEDIAN_MAX, MEDIAN_MIN, T_MAX, T_MIN
from agents.predictors.state import HIST, LIVE, SEPARATOR, Entities, counts_at, drop, place
from topics.columns import Cols
from topics.layout import Layout

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

COUNT_MAX = 0xFFFF  # a calibration count is a uint16

# What `take` makes of a row.
TAKEN, SETTINGS, BAD, FULL = range(4)


class Slots(NamedTuple):
    """Where the fields of predictors_state stand in Cols."""

    dim: int
    n: int
    weight: int
    x: int
    mean: int
    m2: int
    restarts: int
    ts: int
    touched: int
    median: int
    temperature: int
    waiting: int
    samples: int
    lowest: int
    counts: int
    settings: int


def slots_of(layout: Layout) -> Slots:
    """The places of the fields in a layout of predictors_state."""
    return Slots(*(layout.slots[name] for name in Slots._fields))


@njit(cache=True, nogil=True, error_model="numpy")
def bytes_of(e: Entities, ids: Ints) -> int:
    """Bytes that the vectors of these rows take."""
    total = 0
    for k in ids:
        total += 20 * e.dim[k]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
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
    # Arrays leave their tuples before a loop: inside it each would cost a count of references.
    dims, ats, rooms = e.dim, e.at, e.room
    x_pos, x_len, mean_pos, mean_len = (
        cols.pos[s.x],
        cols.len[s.x],
        cols.pos[s.mean],
        cols.len[s.mean],
    )
    m2_pos, m2_len = cols.pos[s.m2], cols.len[s.m2]
    for r in range(ids.shape[0]):
        k = ids[r]
        n, at, room = dims[k], ats[k], rooms[k]
        for i in range(n):
            single[i] = np.float32(pool[at + i])
        x_pos[r], x_len[r] = used, 4 * n
        out[used : used + 4 * n] = single[:n].view(np.uint8)
        used += 4 * n
        mean_pos[r], mean_len[r] = used, 8 * n
        out[used : used + 8 * n] = pool[at + room : at + room + n].view(np.uint8)
        used += 8 * n
        m2_pos[r], m2_len[r] = used, 8 * n
        out[used : used + 8 * n] = pool[at + 2 * room : at + 2 * room + n].view(np.uint8)
        used += 8 * n
    return used


@njit(cache=True, nogil=True, error_model="numpy")
def _spread(e: Entities, pool: Floats, k: int) -> tuple[int, int]:
    """The lowest level of entity k that has a count, and how many there are from it to the highest.

    (0, 0) where it has none.
    """
    if e.dim[k] == 0:
        return 0, 0
    at, low, high = counts_at(e, k), LEVELS, -1
    counts = pool[at : at + HIST].view(np.uint16)
    for j in range(counts.shape[0]):
        if counts[j] > 0:
            low = min(low, j // 4)
            high = j // 4
    return (low, high - low + 1) if high >= 0 else (0, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _count(e: Entities, ids: Ints, pool: Floats, cols: Cols, s: Slots) -> int:
    """Where the counts of these rows begin, and how many they are. Returns the number of all."""
    lowest, cnt, total = cols.i[s.lowest], cols.cnt[s.counts], 0
    for r in range(ids.shape[0]):
        low, levels = _spread(e, pool, ids[r])
        lowest[r], cnt[r] = low, 4 * levels
        total += 4 * levels
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _write_counts(
    e: Entities, ids: Ints, pool: Floats, cols: Cols, s: Slots, used: int
) -> None:  # fmt: skip
    """The counts that `_count` counted, from child `used` on."""
    lowest, at, cnt, values = cols.i[s.lowest], cols.at[s.counts], cols.cnt[s.counts], cols.vi
    for r in range(ids.shape[0]):
        at[r] = used
        if cnt[r] > 0:
            start, first = counts_at(e, ids[r]), 4 * lowest[r]
            counts = pool[start : start + HIST].view(np.uint16)
            for j in range(cnt[r]):
                values[used + j] = counts[first + j]
            used += cnt[r]


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
    _write_counts(e, ids, pool, cols, s, rows.columns.used)
    rows.columns.used += more
    for slot, numbers in (
        (s.dim, e.dim),
        (s.n, e.n),
        (s.restarts, e.restarts),
        (s.ts, e.ts),
        (s.touched, e.touched),
        (s.waiting, e.waiting),
        (s.samples, e.samples),
    ):
        cols.i[slot, :n] = numbers[ids]
    for slot, values in (
        (s.weight, e.weight),
        (s.median, e.median),
        (s.temperature, e.temperature),
    ):
        cols.f[slot, :n] = values[ids]
    cols.at[s.settings, :n] = 0
    cols.cnt[s.settings, :n] = 0
    if rows.key_pos.shape[0] < n:
        size = max(n, 2 * rows.key_pos.shape[0])
        rows.key_pos, rows.key_len = np.empty(size, np.int64), np.empty(size, np.int64)
        rows.gone = np.empty(size, np.uint8)
    rows.key_pos[:n] = names.at[ids]
    rows.key_len[:n] = names.size[ids]
    rows.gone[:n] = e.live[ids] == 0
    rows.n = n


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def _holds(buf: Bytes, pos: int, length: int, size: int) -> bool:
    return length == size and pos >= 0 and pos + size <= buf.shape[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _calibrated(cols: Cols, s: Slots, r: int) -> bool:
    """Whether row r's calibration can be."""
    median, temperature = cols.f[s.median, r], cols.f[s.temperature, r]
    if not (median == 0.0 or MEDIAN_MIN <= median <= MEDIAN_MAX):
        return False
    if not T_MIN <= temperature <= T_MAX or cols.i[s.samples, r] < 0:
        return False
    if not 0 <= cols.i[s.waiting, r] <= LEVELS:
        return False
    at, size, low = cols.at[s.counts, r], cols.cnt[s.counts, r], cols.i[s.lowest, r]
    if size % 4 != 0 or low < 0 or size < 0 or low + size // 4 > LEVELS:
        return False
    if at < 0 or at + size > cols.vi.shape[0]:
        return False
    least, most = 0, 0
    for j in range(at, at + size):
        least, most = min(least, cols.vi[j]), max(most, cols.vi[j])
    return least >= 0 and most <= COUNT_MAX


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(counts: NDArray[np.uint16], cols: Cols, s: Slots, r: int) -> None:
    """An entity's calibration counts are those of row r, which `_calibrated` passed."""
    first, at = 4 * cols.i[s.lowest, r], cols.at[s.counts, r]
    for j in range(counts.shape[0]):
        counts[j] = 0
    for j in range(cols.cnt[s.counts, r]):
        counts[first + j] = cols.vi[at + j]


@njit(cache=True, nogil=True, error_model="numpy")
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
    dims, counts, weights = cols.i[s.dim], cols.i[s.n], cols.f[s.weight]
    x, x_size, mean, mean_size = cols.pos[s.x], cols.len[s.x], cols.pos[s.mean], cols.len[s.mean]
    m2, m2_size = cols.pos[s.m2], cols.len[s.m2]
    ats, rooms = e.at, e.room
    for r in range(lo, hi):
        k, n = ids[r], dims[r]
        if k < 0:
            return r, BAD
        if tenant_size[r] == key_size[r]:
            return r, SETTINGS
        if gone[r]:
            drop(e, k)
            continue
        if n < 1 or n > dim_max or counts[r] < 1 or not weights[r] >= 1.0:
            return r, BAD
        vectors = _holds(buf, x[r], x_size[r], 4 * n) and _holds(buf, mean[r], mean_size[r], 8 * n)
        if not (vectors and _holds(buf, m2[r], m2_size[r], 8 * n) and _calibrated(cols, s, r)):
            return r, BAD
        if not place(e, pool.shape[0], k, n):
            return r, FULL
        at, room = ats[k], rooms[k]
        single[:n].view(np.uint8)[:] = buf[x[r] : x[r] + 4 * n]
        for i in range(n):
            pool[at + i] = np.float64(single[i])
        pool[at + room : at + room + n].view(np.uint8)[:] = buf[mean[r] : mean[r] + 8 * n]
        pool[at + 2 * room : at + 2 * room + n].view(np.uint8)[:] = buf[m2[r] : m2[r] + 8 * n]
        _assume(e, k, cols, s, r)
        start = counts_at(e, k)
        _fill(pool[start : start + HIST].view(np.uint16), cols, s, r)
    return hi, TAKEN


@njit(cache=True, nogil=True, error_model="numpy")
def _assume(e: Entities, k: int, cols: Cols, s: Slots, r: int) -> None:
    """Entity k's numbers, but for its vectors, are those of row r."""
    e.counts[LIVE] += 1 - e.live[k]
    e.live[k] = 1
    e.n[k] = cols.i[s.n, r]
    e.weight[k] = cols.f[s.weight, r]
    e.restarts[k] = cols.i[s.restarts, r]
    e.ts[k] = cols.i[s.ts, r]
    e.touched[k] = cols.i[s.touched, r]
    e.median[k] = cols.f[s.median, r]
    e.temperature[k] = cols.f[s.temperature, r]
    e.waiting[k] = cols.i[s.waiting, r]
    e.samples[k] = cols.i[s.samples, r]
    e.made[k] = 0
