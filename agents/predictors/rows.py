"""Entities to rows of the state topic, and back, number for number."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.engine.processor import StateRows
from agents.predictors.state import LIVE, SEPARATOR, Entities, drop, place
from topics.columns import Cols
from topics.layout import Layout

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

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
def _put(cols: Cols, slot: int, row: int, numbers: Floats, out: Bytes, used: int) -> int:
    size = 8 * numbers.shape[0]
    out[used : used + size] = numbers.view(np.uint8)
    cols.pos[slot, row] = used
    cols.len[slot, row] = size
    return used + size


@njit(cache=True, nogil=True, error_model="numpy")
def _write(e: Entities, ids: Ints, pool: Floats, cols: Cols, s: Slots, out: Bytes, used: int, single: NDArray[np.float32]) -> int:
    """Row r of cols = the entity ids[r]; vectors go to out[used:]. Returns the end of them."""
    for r in range(ids.shape[0]):
        k = ids[r]
        dim, at, room = e.dim[k], e.at[k], e.room[k]
        cols.i[s.dim, r] = dim
        cols.i[s.n, r] = e.n[k]
        cols.f[s.weight, r] = e.weight[k]
        cols.i[s.restarts, r] = e.restarts[k]
        cols.i[s.ts, r] = e.ts[k]
        cols.i[s.touched, r] = e.touched[k]
        cols.at[s.settings, r] = 0
        cols.cnt[s.settings, r] = 0
        for i in range(dim):
            single[i] = np.float32(pool[at + i])
        out[used : used + 4 * dim] = single[:dim].view(np.uint8)
        cols.pos[s.x, r] = used
        cols.len[s.x, r] = 4 * dim
        used += 4 * dim
        used = _put(cols, s.mean, r, pool[at + room : at + room + dim], out, used)
        used = _put(cols, s.m2, r, pool[at + 2 * room : at + 2 * room + dim], out, used)
    return used


def write(rows: StateRows, e: Entities, names: Names, pool: Floats, ids: Ints, s: Slots) -> None:
    """Fill `rows` (empty) with the rows of these entities; those that aren't live as tombstones.

    Rows of tenants come out as tombstones, too, for the caller to fill.
    """
    n = ids.shape[0]
    rows.columns.reserve(n, rows.columns.used)
    rows.scratch.reserve(bytes_of(e, ids))
    single = np.empty(int(e.dim[ids].max(initial=0)), np.float32)
    rows.scratch.used = _write(
        e, ids, pool, rows.columns.cols, s, rows.scratch.data, rows.scratch.used, single
    )
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
def _get(buf: Bytes, pos: int, out: Floats) -> None:
    """out = the float64s at buf[pos:], which has been checked to hold them."""
    size = 8 * out.shape[0]
    out.view(np.uint8)[:] = buf[pos : pos + size]


@njit(cache=True, nogil=True, error_model="numpy")
def _holds(buf: Bytes, cols: Cols, slot: int, row: int, size: int) -> bool:
    p = cols.pos[slot, row]
    return bool(cols.len[slot, row] == size and p >= 0 and p + size <= buf.shape[0])


@njit(cache=True, nogil=True, error_model="numpy")
def _sound(buf: Bytes, cols: Cols, s: Slots, r: int, dim_max: int) -> bool:
    """Whether a row can be one of ours."""
    dim = cols.i[s.dim, r]
    if dim < 1 or dim > dim_max or cols.i[s.n, r] < 1 or not cols.f[s.weight, r] >= 1.0:
        return False
    lengths = _holds(buf, cols, s.x, r, 4 * dim) and _holds(buf, cols, s.mean, r, 8 * dim)
    return lengths and _holds(buf, cols, s.m2, r, 8 * dim)


@njit(cache=True, nogil=True, error_model="numpy")
def take(e: Entities, pool: Floats, ids: Ints, key_size: Ints, tenant_size: Ints, gone: Bytes, buf: Bytes, cols: Cols, s: Slots, lo: int, hi: int, dim_max: int, single: NDArray[np.float32]) -> tuple[int, int]:
    """Take in entities' rows lo..hi-1, until one needs something else.

    Returns (row, why): (hi, TAKEN), a row of SETTINGS, one that is BAD, or FULL: the pool has no
    room for 3·dim numbers more. `single` has room for dim_max numbers.
    """
    for r in range(lo, hi):
        k = ids[r]
        if k < 0:
            return r, BAD
        if tenant_size[r] == key_size[r]:
            return r, SETTINGS
        if gone[r]:
            drop(e, k)
            continue
        if not _sound(buf, cols, s, r, dim_max):
            return r, BAD
        dim = cols.i[s.dim, r]
        if not place(e, pool.shape[0], k, dim):
            return r, FULL
        e.counts[LIVE] += 1 - e.live[k]
        e.live[k] = 1
        e.n[k] = cols.i[s.n, r]
        e.weight[k] = cols.f[s.weight, r]
        e.restarts[k] = cols.i[s.restarts, r]
        e.ts[k] = cols.i[s.ts, r]
        e.touched[k] = cols.i[s.touched, r]
        at, room, p = e.at[k], e.room[k], cols.pos[s.x, r]
        single[:dim].view(np.uint8)[:] = buf[p : p + 4 * dim]
        for i in range(dim):
            pool[at + i] = np.float64(single[i])
        _get(buf, cols.pos[s.mean, r], pool[at + room : at + room + dim])
        _get(buf, cols.pos[s.m2, r], pool[at + 2 * room : at + 2 * room + dim])
    return hi, TAKEN

