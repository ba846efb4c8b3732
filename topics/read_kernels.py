"""Compiled loops from Avro bytes to columns; `topics.columns` holds their arrays and programs.

A batch is read in blocks of rows, field by field: a kernel reads one field of all rows of a block,
with a cursor per row. So each kernel is one small loop, neighbouring rows are independent work for
the processor, and what a call costs is paid once per block. All loops are bounded by a record's
bytes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topics.compiled import entry, glue, kernel, part
from topics.kernels import read_float, read_int, read_span, varint
from topics.layout import (
    BAD_AVRO,
    BAD_WIRE,
    BYTES,
    CHILDREN_MAX,
    F64,
    FLOAT,
    I64,
    MAP,
    OK,
    U8,
    UNKNOWN_SCHEMA,
    Cols,
    Num,
)  # fmt: skip

FULL = -100  # instead of a position: no room for so many children; grow and come again
HEADER = 5  # a zero byte, then the schema id, big-endian
BLOCK = 256  # rows whose cursors and bytes stay in the nearest cache

# Columns of a reading program: a row per field in the order of the wire, list items behind.
WIRE = 0  # the writer's kind
FLOATS = 1  # 1 = a whole number that the reader takes as a float
SLOT = 2  # in the arrays of its kind; -1 = stepped over
NULL_AT = 3  # which branch of the writer's union is null; -1 = no union
NULL = 4  # the layout's null slot; -1 = a null is refused, unless stepped over
ARG = 5  # an enum's place in the symbol table; of bytes and strings: 1 = must be UTF-8
ARG2 = 6  # how many symbols the writer's enum has
ITEM = 7  # the row of a list's item
DEAD, LIVE, IS_NULL = range(3)  # of a row in a block: out, to read, null in the field at hand


@entry
def open_rows(b: U8, vpos: I64, vlen: I64, status: U8, ids: I64, which: U8, p: I64, e: I64) -> None:
    """The headers of the rows with status 0: which[j] = program + 1 (else 0), and the cursors."""
    k = np.int64(0)
    for j in range(status.shape[0]):
        which[j] = 0
        if status[j] != OK:
            continue
        at, size = vpos[j], vlen[j]
        if at < 0 or size < HEADER or at > b.shape[0] - size or b[at] != 0:
            status[j] = BAD_WIRE
            continue
        schema = np.int64(b[at + 1]) << 24 | np.int64(b[at + 2]) << 16
        schema |= np.int64(b[at + 3]) << 8 | np.int64(b[at + 4])
        if ids[k] != schema:
            k = np.int64(0)
            while k < ids.shape[0] - 1 and ids[k] != schema:
                k += 1
        if ids[k] != schema:
            status[j] = UNKNOWN_SCHEMA
            continue
        which[j] = k + 1
        p[j], e[j] = at + HEADER, at + size


@entry
def read_branches(b: U8, p: I64, e: I64, live: U8, status: U8, null_at: Num, null: U8) -> None:
    """The branch of a union of null and another: live[j] becomes IS_NULL where it is null."""
    for j in range(live.shape[0]):
        if live[j] != LIVE:
            continue
        v, q = varint(b, p[j], e[j])
        if q < 0 or v < 0 or v > 1:
            status[j], live[j] = BAD_AVRO, DEAD
            continue
        p[j] = q
        null[j] = v == null_at
        if v == null_at:
            live[j] = IS_NULL


@entry
def end_nulls(live: U8, status: U8, refuse: bool) -> None:
    """Rows that were null in a field go on with the next one; or, where the reader's field can't
    be null, are bad."""
    for j in range(live.shape[0]):
        if live[j] == IS_NULL:
            live[j] = LIVE
            if refuse:
                status[j], live[j] = BAD_AVRO, DEAD


@entry
def read_spans(
    b: U8, p: I64, e: I64, live: U8, status: U8, check: Num, pos: I64, length: I64
) -> None:
    """A bytes or string field of the live rows (empty where null)."""
    for j in range(live.shape[0]):
        if live[j] != LIVE:
            if live[j] == IS_NULL:
                pos[j] = length[j] = 0
            continue
        q, s, n = read_span(b, p[j], e[j], check)
        if q < 0:
            status[j], live[j] = -q, DEAD
            continue
        p[j], pos[j], length[j] = q, s, n


@entry
def read_ints(
    b: U8, p: I64, e: I64, live: U8, status: U8, wire: Num, symbols: I64, out: I64
) -> None:
    """A boolean, int, long or enum field of the live rows (0 where null)."""
    for j in range(live.shape[0]):
        if live[j] != LIVE:
            if live[j] == IS_NULL:
                out[j] = 0
            continue
        q, v = read_int(b, p[j], e[j], wire, symbols)
        if q < 0:
            status[j], live[j] = -q, DEAD
            continue
        p[j], out[j] = q, v


@entry
def read_floats(
    b: U8, p: I64, e: I64, live: U8, status: U8, wire: Num, symbols: I64, out: F64
) -> None:
    """A float or double field, or a whole number read as one, of the live rows (NaN where null)."""
    for j in range(live.shape[0]):
        if live[j] != LIVE:
            if live[j] == IS_NULL:
                out[j] = np.nan
            continue
        if wire >= FLOAT:
            q, x = read_float(b, p[j], e[j], wire)
        else:
            q, v = read_int(b, p[j], e[j], wire, symbols)
            x = np.float64(v)
        if q < 0:
            status[j], live[j] = -q, DEAD
            continue
        p[j], out[j] = q, x


@kernel
def _block(b: U8, p: Num, e: Num, least: Num) -> tuple[Num, Num, Num]:
    """A block's head: (position behind, children, where the block ends or -1 if it doesn't say).
    A child takes at least `least` bytes, so that a count can't exceed what is left."""
    n, p = varint(b, p, e)
    stop = np.int64(-1)
    if p >= 0 and n < 0:
        size, p = varint(b, p, e)
        if p < 0 or size < 0 or size > e - p or n < -CHILDREN_MAX:
            return np.int64(-BAD_AVRO), np.int64(0), stop
        n, stop = -n, p + size
    if p < 0 or n > CHILDREN_MAX or n * least > e - p:
        return np.int64(-BAD_AVRO), np.int64(0), stop
    return p, n, stop


@kernel
def _child(
    b: U8, p: Num, e: Num, wire: Num, floats: Num, check: Num, symbols: I64,
    vi: I64, vf: F64, vpos: I64, vlen: I64, c: Num,
) -> Num:  # fmt: skip
    """A map's value or an array's item into child c (c < 0: nowhere); returns where it ends."""
    if wire >= BYTES:
        q, s, n = read_span(b, p, e, check)
        if q >= 0 and c >= 0:
            vpos[c], vlen[c] = s, n
    elif wire >= FLOAT:
        q, x = read_float(b, p, e, wire)
        if q >= 0 and c >= 0:
            vf[c] = x
    else:
        q, v = read_int(b, p, e, wire, symbols)
        if q >= 0 and c >= 0:
            if floats != 0:
                vf[c] = np.float64(v)
            else:
                vi[c] = v
    return q


@entry
def read_list(
    b: U8, p: Num, e: Num, is_map: bool, keep: bool, left: Num,
    wire: Num, floats: Num, check: Num, symbols: I64,
    kpos: I64, klen: I64, vi: I64, vf: F64, vpos: I64, vlen: I64, used: Num,
) -> tuple[Num, Num]:  # fmt: skip
    """A map or array of at most `left` children into children used, used + 1, …: (position behind,
    how many). A block that says how many bytes it takes must take so many."""
    total = np.int64(0)
    while True:
        p, n, stop = _block(b, p, e, 2 if is_map else 1)
        if p < 0 or n == 0:
            return p, total
        if n > left - total:
            return np.int64(-BAD_AVRO), total
        if keep and n > kpos.shape[0] - used - total:
            return np.int64(FULL), total
        for c in range(used + total, used + total + n):
            if is_map:
                p, s, length = read_span(b, p, e, 1)
                if p < 0:
                    return p, total
                if keep:
                    kpos[c], klen[c] = s, length
            at = c if keep else np.int64(-1)
            p = _child(b, p, e, wire, floats, check, symbols, vi, vf, vpos, vlen, at)
            if p < 0:
                return p, total
        total += n
        if stop >= 0 and p != stop:
            return np.int64(-BAD_AVRO), total


@entry
def read_lists(
    b: U8, p: I64, e: I64, live: U8, status: U8, left: I64, is_map: bool, keep: bool,
    wire: Num, floats: Num, check: Num, symbols: I64, at: I64, cnt: I64,
    kpos: I64, klen: I64, vi: I64, vf: F64, vpos: I64, vlen: I64, used: Num,
) -> Num:  # fmt: skip
    """A map or array of the live rows (empty where null); returns the children used, or FULL."""
    for j in range(live.shape[0]):
        if live[j] == DEAD:
            continue
        at[j], cnt[j] = used, 0
        if live[j] == IS_NULL:
            continue
        q, n = read_list(
            b, p[j], e[j], is_map, keep, left[j], wire, floats, check, symbols,
            kpos, klen, vi, vf, vpos, vlen, used,
        )  # fmt: skip
        if q == FULL:
            return np.int64(FULL)
        if q < 0:
            status[j], live[j] = -q, DEAD
            continue
        p[j], cnt[j] = q, n
        left[j] -= n
        if keep:
            used += n
    return used


@entry
def begin(which: U8, program: Num, live: U8, left: I64) -> Num:
    """Choose the rows that a program reads; returns how many they are."""
    rows = 0
    for j in range(live.shape[0]):
        live[j] = LIVE if which[j] == program + 1 else DEAD
        rows += live[j]
        left[j] = CHILDREN_MAX
    return rows


@entry
def finish(p: I64, e: I64, live: U8, status: U8) -> None:
    """A record must end where its bytes end."""
    for j in range(live.shape[0]):
        if live[j] != DEAD and p[j] != e[j]:
            status[j] = BAD_AVRO


@part
def window(rows: NDArray[Any], slot: Num, r0: Num, r1: Num, spare: NDArray[Any]) -> NDArray[Any]:
    """Rows r0..r1-1 of a slot's array; a spare of that size for a field that is stepped over."""
    return rows[slot][r0:r1] if slot >= 0 else spare[: r1 - r0]


@part
def read_field(
    b: U8, p: I64, e: I64, live: U8, status: U8, left: I64, r0: Num, ops: I64, o: Num, symbols: I64,
    cols: Cols, spare_i: I64, spare_f: F64, used: Num,
) -> Num:  # fmt: skip
    """One field of the live rows of a block; returns the children used then, or FULL."""
    r1 = r0 + live.shape[0]
    wire, slot, arg = ops[o, WIRE], ops[o, SLOT], ops[o, ARG]
    if wire >= MAP:
        item = ops[o, ITEM]
        table = symbols[ops[item, ARG] : ops[item, ARG] + ops[item, ARG2]]
        return read_lists(
            b, p, e, live, status, left, wire == MAP, slot >= 0,
            ops[item, WIRE], ops[item, FLOATS], ops[item, ARG], table,
            window(cols.at, slot, r0, r1, spare_i[0]), window(cols.cnt, slot, r0, r1, spare_i[1]),
            cols.kpos, cols.klen, cols.vi, cols.vf, cols.vpos, cols.vlen, used,
        )  # fmt: skip
    if wire >= BYTES:
        pos = window(cols.pos, slot, r0, r1, spare_i[0])
        read_spans(b, p, e, live, status, arg, pos, window(cols.len, slot, r0, r1, spare_i[1]))
        return used
    table = symbols[arg : arg + ops[o, ARG2]]
    if wire >= FLOAT or ops[o, FLOATS] != 0:
        read_floats(b, p, e, live, status, wire, table, window(cols.f, slot, r0, r1, spare_f))
    else:
        read_ints(b, p, e, live, status, wire, table, window(cols.i, slot, r0, r1, spare_i[0]))
    return used


@part
def read_block(
    b: U8, p: I64, e: I64, live: U8, status: U8, left: I64, r0: Num, ops: I64, lo: Num, hi: Num,
    symbols: I64, cols: Cols, spare_i: I64, spare_f: F64, spare_u: U8, used: Num,
) -> Num:  # fmt: skip
    """Fields lo..hi-1 of a program, for the live rows of a block; returns as `read_field`."""
    for o in range(lo, hi):
        slot, null_slot, union = ops[o, SLOT], ops[o, NULL], ops[o, NULL_AT] >= 0
        null = window(cols.null, null_slot, r0, r0 + live.shape[0], spare_u)
        if union:
            read_branches(b, p, e, live, status, ops[o, NULL_AT], null)
        elif null_slot >= 0:
            for j in range(live.shape[0]):
                if live[j] == LIVE:
                    null[j] = 0
        used = read_field(
            b, p, e, live, status, left, r0, ops, o, symbols, cols, spare_i, spare_f, used
        )
        if used < 0:
            return used
        if union:
            end_nulls(live, status, slot >= 0 and null_slot < 0)
    finish(p, e, live, status)
    return used


@glue
def decode(
    buf: U8, vpos: I64, vlen: I64, status: U8, lo: Num,
    ids: I64, starts: I64, ends: I64, ops: I64, symbols: I64, ran: U8, cols: Cols, used: Num,
) -> tuple[Num, Num]:  # fmt: skip
    """Rows lo, lo + 1, … whose status is 0: the bytes at vpos, vlen into columns, or a status.

    `starts[k]..ends[k] - 1` is the program of schema ids[k] in `ops`; where `ran` isn't empty,
    ran[r] becomes k + 1. Returns (rows, children used), or the row from which to go on when there
    are more children.
    """
    spare_i, spare_f = np.empty((2, BLOCK), np.int64), np.empty(BLOCK, np.float64)
    spare_u, which_all = np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.uint8)
    live_all, left = np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.int64)
    p, e = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    for r0 in range(lo, status.shape[0], BLOCK):
        r1 = min(r0 + BLOCK, status.shape[0])
        part, live, which = status[r0:r1], live_all[: r1 - r0], which_all[: r1 - r0]
        open_rows(buf, vpos[r0:r1], vlen[r0:r1], part, ids, which, p, e)
        now = used
        for k in range(ids.shape[0]):
            if begin(which, k, live, left) == 0:
                continue
            now = read_block(
                buf, p, e, live, part, left, r0, ops, starts[k], ends[k],
                symbols, cols, spare_i, spare_f, spare_u, now,
            )  # fmt: skip
            if now < 0:
                return r0, used
        used = now
        if ran.shape[0] > 0:
            ran[r0:r1] = which
    return status.shape[0], used
