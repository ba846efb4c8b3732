"""Rows of the state topic back into segmentation's state; `rows` wrote them.

Whatever bytes a row has, nothing outside the arrays is touched: every length and place is checked.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agents.kit.setting import EVERYONE
from agents.segmentation.rows import RUN_BYTES, Room, Slots, room, slots
from agents.segmentation.rule import (
    COUNTS,
    FIRST_COUNT,
    FIRST_NUMBER,
    FIRST_PART,
    LIMIT,
    NUMBERS,
    RING,
    RUNS,
    Bank,
    Floats,
    Ints,
    S,
    clear,
    insert,
)
from agents.segmentation.state import SEPARATOR, Arrays, State, T
from topics.columns import Cols, Columns
from topics.compiled import entry, kernel

Bytes = NDArray[np.uint8]

UNIT_MOST = 1088  # exponents of doubles, as multiples of 64, lie within


@kernel
def fetch(buf: Bytes, p: int, size: int, out: Bytes) -> None:
    """Copy buf[p:][:size] to the beginning of `out`."""
    for j in range(size):
        out[j] = buf[p + j]


@kernel
def holds(buf: Bytes, c: Cols, slot: int, k: int, size: int) -> bool:
    """Whether span `slot` of row k has so many bytes, all in the buffer."""
    p = c.pos[slot, k]
    return bool(c.len[slot, k] == size and p >= 0 and p + size <= buf.shape[0])


@kernel
def lists(c: Cols, slot: int, k: int, count: int, used: int) -> bool:
    """Whether list `slot` of row k has so many children, all there."""
    first = c.at[slot, k]
    return bool(c.cnt[slot, k] == count and first >= 0 and first + count <= used)


@kernel
def whole(c: Cols, s: Slots, k: int, used: int, buf: Bytes, single: bool) -> bool:
    """Whether the parts of a series' row fit together."""
    seen = c.i[s.seen, k]
    if seen < 0 or not 0 <= c.i[s.start, k] <= seen:
        return False
    n = min(seen, RING)
    changes = c.cnt[s.leaders, k]
    if not (lists(c, s.times, k, n, used) and lists(c, s.leaders, k, changes, used)):
        return False
    if changes < 0 or changes > n or not lists(c, s.lasted, k, changes, used):
        return False
    if not (lists(c, s.counts, k, len(COUNTS), used) and
            lists(c, s.numbers, k, len(NUMBERS), used)):  # fmt: skip
        return False
    total = 0
    for child in range(c.at[s.lasted, k], c.at[s.lasted, k] + changes):
        if c.vi[child] < 1 or c.vi[child] > n:
            return False
        total += c.vi[child]
    if total != n or not holds(buf, c, s.confidences, k, 4 * n):
        return False
    return bool(holds(buf, c, s.values, k, 4 * n if single else 8 * n))


@kernel
def take_points(a: Arrays, r: int, c: Cols, s: Slots, k: int, m: Room, buf: Bytes, single: bool,
                names: Ints) -> bool:  # fmt: skip
    """Fill the ring of a series from row k; False: a value or a name is bad."""
    b = a.bank
    seen = c.i[s.seen, k]
    n = min(seen, RING)
    p = c.pos[s.values, k]
    if single:
        fetch(buf, p, 4 * n, m.single_bytes)
    else:
        fetch(buf, p, 8 * n, m.double_bytes)
    ts = 0
    for j in range(n):
        v = np.float64(m.single[j]) if single else m.double[j]
        if not abs(v) <= LIMIT:
            return False
        ts += c.vi[c.at[s.times, k] + j]
        b.value[r, (seen - n + j) % RING] = v
        b.ts[r, (seen - n + j) % RING] = ts
        if j > 0:
            insert(b.steps[r], j - 1, abs(v - b.value[r, (seen - n + j - 1) % RING]))
    p = c.pos[s.confidences, k]
    fetch(buf, p, 4 * n, m.single_bytes)
    for j in range(n):
        if not math.isfinite(m.single[j]):
            return False
        b.confidence[r, (seen - n + j) % RING] = m.single[j]
    j = 0
    for which in range(c.cnt[s.leaders, k]):
        code = names[c.at[s.leaders, k] + which]
        if code < 0:
            return False
        for _ in range(c.vi[c.at[s.lasted, k] + which]):
            b.leader[r, (seen - n + j) % RING] = code
            j += 1
    return True


@kernel
def take_old(b: Bank, r: int) -> bool:
    """Mean and variance in the unit, as rows of v1 have them, become mean and spread."""
    unit = int(b.ints[r, S.unit])
    if not (-UNIT_MOST <= unit <= UNIT_MOST and b.floats[r, S.spread] >= 0.0):
        return False
    b.floats[r, S.mean] = math.ldexp(b.floats[r, S.mean], unit)
    b.floats[r, S.spread] = math.ldexp(math.sqrt(b.floats[r, S.spread]), unit)
    b.ints[r, S.wild] = 0
    return bool(abs(b.floats[r, S.mean]) <= LIMIT and b.floats[r, S.spread] <= LIMIT)


@kernel
def take_laws(a: Arrays, r: int, c: Cols, s: Slots, k: int, m: Room, buf: Bytes) -> bool:
    """Fill the laws' numbers of a series from row k; False: one is out of its range."""
    b = a.bank
    for j in range(len(COUNTS)):
        b.ints[r, FIRST_COUNT + j] = c.vi[c.at[s.counts, k] + j]
    for j in range(len(NUMBERS)):
        b.floats[r, FIRST_NUMBER + j] = c.vf[c.at[s.numbers, k] + j]
        if not math.isfinite(b.floats[r, FIRST_NUMBER + j]):
            return False
    b.ints[r, S.wild] = c.i[s.wild, k]
    if c.i[s.wild, k] < 0 and not take_old(b, r):
        return False
    seen, used = c.i[s.seen, k], b.ints[r, S.b_used]
    places = (
        0 <= b.ints[r, S.g_start] <= seen
        and 0 <= b.ints[r, S.g_changed] <= seen
        and 0 <= b.ints[r, S.b_start] <= seen
        and -1 <= b.ints[r, S.g_since] <= seen
        and -1 <= b.ints[r, S.h_since] <= seen
    )
    if not places or not -UNIT_MOST <= b.ints[r, S.unit] <= UNIT_MOST or not 0 <= used <= RUNS:
        return False
    if (used > 0 and b.ints[r, S.runs] < 0) or not holds(buf, c, s.runs, k, RUN_BYTES * used):
        return False
    p = c.pos[s.runs, k]
    fetch(buf, p, RUN_BYTES * used, m.double_bytes)
    for part in range(3):
        for j in range(used):
            b.runs[b.ints[r, S.runs], part, j] = m.double[part * used + j]
    return True


@kernel
def take_common(ints: Ints, floats: Floats, r: int, part: int, c: Cols, s: Slots, k: int) -> None:
    """Take what series and tenants have in common from row k."""
    ints[r, S.seen] = c.i[s.seen, k]
    ints[r, S.touched] = c.i[s.touched, k]
    ints[r, S.start] = c.i[s.start, k]
    ints[r, S.start_ts] = c.i[s.start_ts, k]
    ints[r, S.boundaries] = c.i[s.boundaries, k]
    floats[r, part] = c.f[s.error_sum, k]
    floats[r, part + 1] = c.f[s.confidence_sum, k]
    floats[r, part + 2] = c.f[s.peak, k]


@entry
def take_rows(
    a: Arrays, which: Ints, codes: Ints, c: Cols, s: Slots, used: int, m: Room, buf: Bytes,
    names: Ints, leaders: Ints,
) -> int:  # fmt: skip
    """Take in the rows `which`, of series and tenants that are there; returns a bad one, or -1."""
    for k in which:
        r = a.series_of[codes[k]]
        if r < 0:
            t = a.tenant_of[codes[k]]
            if t < 0 or not 0 <= c.i[s.start, k] <= c.i[s.seen, k]:
                return int(k)
            take_common(a.ints, a.floats, t, T.error_sum, c, s, k)
            a.ints[t, T.measured] = c.i[s.measured, k]
            a.ints[t, T.leader] = leaders[k] if c.i[s.seen, k] > 0 else -1
            if c.i[s.seen, k] > 0 and leaders[k] < 0:
                return int(k)
            continue
        clear(a.bank, r)
        single = c.len[s.values, k] <= 4 * min(c.i[s.seen, k], RING)
        if not whole(c, s, k, used, buf, single):
            return int(k)
        take_common(a.bank.ints, a.bank.floats, r, FIRST_PART, c, s, k)
        if not take_points(a, r, c, s, k, m, buf, single, names):
            return int(k)
        if not take_laws(a, r, c, s, k, m, buf):
            return int(k)
    return -1


@entry
def mark_names(c: Cols, s: Slots, which: Ints, used: int, skip: Bytes) -> int:
    """skip[child] = 0 for each name of a leader; returns a row with a bad list, or -1."""
    for k in which:
        first, n = c.at[s.leaders, k], c.cnt[s.leaders, k]
        if first < 0 or n < 0 or first + n > used:
            return int(k)
        skip[first : first + n] = 0
    return -1


def load(
    state: State, rows: Columns, lo: int, hi: int, buf: Bytes, key_pos: Ints, key_len: Ints,
    gone: Bytes,
) -> None:  # fmt: skip
    """Take in rows lo..hi-1; spans and keys point into `buf`. Raises ValueError for a bad row."""
    c, s = rows.cols, slots(rows.layout)
    codes, leaders = np.full((2, hi), -1, np.int64)
    state.names.intern(buf, key_pos, key_len, np.zeros(hi, np.uint8), codes, lo, hi)
    state.names.intern(buf, c.pos[s.leader], c.len[s.leader], gone, leaders, lo, hi)
    state.cover()
    if (codes[lo:hi] < 0).any():
        raise ValueError("the key of a state row lies outside its buffer")
    # In the order of the last row of each: a tenant leaves after its series, as it did.
    last = sorted({int(codes[k]): k for k in range(lo, hi)}.values())
    kept = [k for k in last if not admit(state, rows, int(codes[k]), k, buf, gone)]
    which = np.array(kept, np.int64)
    skip, names = np.ones(rows.used, np.uint8), np.full(rows.used, -1, np.int64)
    bad = mark_names(c, s, which, rows.used, skip)
    if bad < 0:
        state.names.intern(buf, c.vpos, c.vlen, skip, names, 0, rows.used)
        state.cover()
        bad = take_rows(state.arrays(), which, codes, c, s, rows.used, room(), buf, names, leaders)
    if bad >= 0:
        key = buf[key_pos[bad] : key_pos[bad] + key_len[bad]].tobytes()
        raise ValueError(f"the state row of {key!r} contradicts itself")


def admit(state: State, rows: Columns, code: int, k: int, buf: Bytes, gone: Bytes) -> bool:
    """Make room for what row k is of, or let it go; True: nothing more is to be taken from it."""
    try:
        name = state.text(code)
    except UnicodeDecodeError:
        name = repr(state.names.name(code))
        raise ValueError(f"the key {name} of a state row isn't UTF-8") from None
    if chr(SEPARATOR) in name:
        if gone[k]:
            state.drop_series(code)
            return True
        state.admit(code)
        if rows.cols.len[rows.layout.slots["runs"], k] > 0:
            state.lend_runs(int(state.series_of[code]))
        return False
    found = {} if gone[k] else rows.get(k, (buf, buf, buf))["settings"]
    if found or state.settings.own(name):
        state.settings.replace(name, found)
        state.resettle(name, loading=True)
    if gone[k]:
        state.drop_tenant(code)
    elif name != EVERYONE:
        r = state.seat(code)  # which may make the array anew
        state.tenants[r]["alive"] = 1
        return False
    return True
