"""Segmentation's state as rows of its topic, and back, exactly.

A row is a series or a tenant. That of a series with a full ring takes 950 to 1,400 bytes: per point
4 or 8 for the error, 4 for the confidence and 1 to 9 for the time. Sums over what left the ring are
written; those over what is in it are formed anew, in the same order, at every point anyway.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import StateRows
from agents.segmentation.rule import (
    COUNTS,
    FIRST_COUNT,
    FIRST_NUMBER,
    FIRST_PART,
    NUMBERS,
    RING,
    RUNS,
    Bank,
    Floats,
    Ints,
    S,
)
from agents.segmentation.state import SEPARATOR, Arrays, State, T
from topics.columns import Cols, Layout
from topics.compiled import entry, kernel

Bytes = NDArray[np.uint8]

RUN_BYTES = 24


class Slots(NamedTuple):
    """Where the fields lie in the arrays of their kinds."""

    seen: int
    touched: int
    leader: int
    start: int
    start_ts: int
    boundaries: int
    measured: int
    error_sum: int
    confidence_sum: int
    peak: int
    values: int
    confidences: int
    times: int
    leaders: int
    lasted: int
    counts: int
    numbers: int
    runs: int
    settings: int
    wild: int


class Room(NamedTuple):
    """Numbers on their way to bytes and back: the same memory as numbers and as bytes."""

    double: Floats
    double_bytes: Bytes
    single: NDArray[np.float32]
    single_bytes: Bytes


def room() -> Room:
    """Room for the longest list of a row."""
    double, single = np.zeros(3 * (RUNS + 1)), np.zeros(RING, np.float32)
    return Room(double, double.view(np.uint8), single, single.view(np.uint8))


def slots(layout: Layout) -> Slots:
    """The slots of the state row's layout."""
    return Slots(*(layout.slots[name] for name in Slots._fields))


@kernel
def of_series(a: Arrays, code: int) -> bool:
    """Whether a name is that of a series."""
    found = False
    for j in range(a.at[code], a.at[code] + a.size[code]):
        found |= a.pool[j] == SEPARATOR
    return bool(found)


@kernel
def points(b: Bank, r: int) -> int:
    """How many points are in the ring."""
    return int(min(b.ints[r, S.seen], RING))


@entry
def sizes(a: Arrays, codes: Ints) -> tuple[int, int]:
    """(children, bytes) that the rows of these names need at most."""
    children, size = 0, 0
    for code in codes:
        r = a.series_of[code]
        if r < 0:
            continue
        b = a.bank
        n = points(b, r)
        changes = 1
        for p in range(b.ints[r, S.seen] - n + 1, b.ints[r, S.seen]):
            changes += a.bank.leader[r, p % RING] != a.bank.leader[r, (p - 1) % RING]
        children += n + 2 * changes + len(COUNTS) + len(NUMBERS)
        size += 12 * n + RUN_BYTES * b.ints[r, S.b_used]
    return children, size


@kernel
def put_bytes(source: Bytes, size: int, c: Cols, slot: int, k: int, out: Bytes, used: int) -> int:
    """Append bytes to `out` as span `slot` of row k; returns the end."""
    for j in range(size):
        out[used + j] = source[j]
    c.pos[slot, k] = used
    c.len[slot, k] = size
    return used + size


@kernel
def put_points(a: Arrays, r: int, c: Cols, s: Slots, k: int, m: Room, out: Bytes, used: int) -> int:
    """Write errors and confidences of the ring; returns the end of `out`."""
    b = a.bank
    n = points(b, r)
    first = b.ints[r, S.seen] - n
    short = True
    for j in range(n):
        v = b.value[r, (first + j) % RING]
        m.double[j] = v
        m.single[j] = np.float32(v)
        short &= np.float64(m.single[j]) == v
    if short:
        used = put_bytes(m.single_bytes, 4 * n, c, s.values, k, out, used)
    else:
        used = put_bytes(m.double_bytes, 8 * n, c, s.values, k, out, used)
    for j in range(n):
        m.single[j] = b.confidence[r, (first + j) % RING]
    return int(put_bytes(m.single_bytes, 4 * n, c, s.confidences, k, out, used))


@kernel
def put_runs(a: Arrays, r: int, c: Cols, s: Slots, k: int, m: Room, out: Bytes, used: int) -> int:
    """Write bocpd's run lengths; returns the end of `out`."""
    n = a.bank.ints[r, S.b_used]
    row = a.bank.ints[r, S.runs]
    for part in range(3):
        for j in range(n):
            m.double[part * n + j] = a.bank.runs[row, part, j]
    return int(put_bytes(m.double_bytes, RUN_BYTES * n, c, s.runs, k, out, used))


@kernel
def put_lists(a: Arrays, r: int, c: Cols, s: Slots, k: int, child: int) -> int:
    """Write times, leaders and the laws' numbers; returns the next free child."""
    b = a.bank
    seen, n = b.ints[r, S.seen], points(b, r)
    c.at[s.times, k], c.cnt[s.times, k] = child, n
    before = 0
    for p in range(seen - n, seen):
        c.vi[child] = b.ts[r, p % RING] - before
        before = b.ts[r, p % RING]
        child += 1
    changes = 0
    for p in range(seen - n, seen):
        if p == seen - n or b.leader[r, p % RING] != b.leader[r, (p - 1) % RING]:
            changes += 1
    c.at[s.leaders, k], c.cnt[s.leaders, k] = child, changes
    c.at[s.lasted, k], c.cnt[s.lasted, k] = child + changes, changes
    at = child - 1
    for p in range(seen - n, seen):
        code = b.leader[r, p % RING]
        if p == seen - n or code != b.leader[r, (p - 1) % RING]:
            at += 1
            c.vpos[at] = a.at[code]
            c.vlen[at] = a.size[code]
            c.vi[at + changes] = 0
        c.vi[at + changes] += 1
    child += 2 * changes
    c.at[s.counts, k], c.cnt[s.counts, k] = child, len(COUNTS)
    for j in range(len(COUNTS)):
        c.vi[child + j] = b.ints[r, FIRST_COUNT + j]
    child += len(COUNTS)
    c.at[s.numbers, k], c.cnt[s.numbers, k] = child, len(NUMBERS)
    for j in range(len(NUMBERS)):
        c.vf[child + j] = b.floats[r, FIRST_NUMBER + j]
    return child + len(NUMBERS)


@kernel
def put_common(ints: Ints, floats: Floats, r: int, part: int, c: Cols, s: Slots, k: int) -> None:
    """Write what series and tenants have in common; the rest is empty for now."""
    c.i[s.seen, k] = ints[r, S.seen]
    c.i[s.touched, k] = ints[r, S.touched]
    c.i[s.start, k] = ints[r, S.start]
    c.i[s.start_ts, k] = ints[r, S.start_ts]
    c.i[s.boundaries, k] = ints[r, S.boundaries]
    c.f[s.error_sum, k] = floats[r, part]
    c.f[s.confidence_sum, k] = floats[r, part + 1]
    c.f[s.peak, k] = floats[r, part + 2]


@kernel
def blank(c: Cols, s: Slots, k: int) -> None:
    """Make row k the row of nothing."""
    for slot in (s.seen, s.touched, s.start, s.start_ts, s.boundaries, s.measured, s.wild):
        c.i[slot, k] = 0
    for slot in (s.error_sum, s.confidence_sum, s.peak):
        c.f[slot, k] = 0.0
    for slot in (s.leader, s.values, s.confidences, s.runs):
        c.pos[slot, k] = 0
        c.len[slot, k] = 0
    for slot in (s.times, s.leaders, s.lasted, s.counts, s.numbers, s.settings):
        c.at[slot, k] = 0
        c.cnt[slot, k] = 0


@entry
def put_rows(
    a: Arrays, codes: Ints, c: Cols, s: Slots, m: Room, out: Bytes, used: int, key_pos: Ints,
    key_len: Ints, gone: Bytes,
) -> tuple[int, int]:  # fmt: skip
    """Write the row of each name, a tombstone for what left; returns (children, bytes) in use."""
    child = 0
    for k in range(codes.shape[0]):
        code = codes[k]
        key_pos[k] = a.at[code]
        key_len[k] = a.size[code]
        blank(c, s, k)
        gone[k] = 0
        r = a.series_of[code]
        if r >= 0:
            put_common(a.bank.ints, a.bank.floats, r, FIRST_PART, c, s, k)
            c.i[s.wild, k] = a.bank.ints[r, S.wild]
            used = put_points(a, r, c, s, k, m, out, used)
            used = put_runs(a, r, c, s, k, m, out, used)
            child = put_lists(a, r, c, s, k, child)
            continue
        t = -1 if of_series(a, code) else a.tenant_of[code]
        if t < 0:
            gone[k] = 1
            continue
        put_common(a.ints, a.floats, t, T.error_sum, c, s, k)
        c.i[s.measured, k] = a.ints[t, T.measured]
        if a.ints[t, T.leader] >= 0:
            c.pos[s.leader, k] = a.at[a.ints[t, T.leader]]
            c.len[s.leader, k] = a.size[a.ints[t, T.leader]]
    return child, used


def write(state: State, codes: Ints, rows: StateRows) -> None:
    """Write the rows of these names, which must differ, into `rows` from its first on."""
    a, count = state.arrays(), codes.shape[0]
    children, size = sizes(a, codes)
    rows.columns.reserve(count, children)
    rows.scratch.reserve(size)
    if rows.key_pos.shape[0] < count:
        rows.key_pos, rows.key_len = np.zeros((2, 2 * count), np.int64)
        rows.gone = np.zeros(2 * count, np.uint8)
    rows.columns.used, rows.scratch.used = put_rows(
        a, codes, rows.columns.cols, slots(rows.columns.layout), room(), rows.scratch.data,
        rows.scratch.used, rows.key_pos, rows.key_len, rows.gone,
    )  # fmt: skip
    rows.n = count
    if not state.settings.tenants():
        return
    field = rows.columns.layout.by_name["settings"]
    for k in np.flatnonzero(state.series_of[codes] < 0):
        own = state.settings.own(state.text(int(codes[k])))
        if own:
            rows.gone[k] = 0
            rows.columns.put_field(int(k), field, own, rows.scratch)
