"""Compiled loops from columns to Avro bytes; `topics.columns` holds their arrays and programs.

As in reading, a block of rows goes field by field, twice: `measure_*` checks every value, span and
child and adds up how many bytes each record takes; then there is room, and `write_*` writes with a
cursor per record. Nothing is written that wasn't measured. `rows[j]` is the row that record j comes
from. The bytes are fastavro's: one block per map or array, no block when it is empty.
"""

import numpy as np

from topics.compiled import entry, glue, kernel, part
from topics.layout import (
    BOOLEAN,
    BYTES,
    CHILDREN_MAX,
    F64,
    FLOAT,
    I64,
    INT,
    LONG,
    MAP,
    U8,
    Cols,
    Num,
)  # fmt: skip

# Columns of a writing program: a row per field.
KIND, SLOT, NULL, NULL_AT, SRC, KEY_SRC, SYMBOLS, ITEM_KIND, ITEM_SYMBOLS = range(9)
WIDTH = 9
BLOCK = 256

# How `encode` ends.
DONE, GROW, BAD_ROW, BAD_VALUE = range(4)


@kernel
def varint_size(v: Num) -> Num:
    """Bytes that a zigzag varint takes."""
    z = (np.uint64(v) << np.uint64(1)) ^ np.uint64(v >> 63)
    size = np.int64(1)
    while z > np.uint64(127):
        z >>= np.uint64(7)
        size += 1
    return size


@kernel
def put_varint(o: U8, p: Num, v: Num) -> Num:
    """Write a zigzag varint at p; returns the position behind."""
    z = (np.uint64(v) << np.uint64(1)) ^ np.uint64(v >> 63)
    q = np.uint64(p)
    while z > np.uint64(127):
        o[q] = np.uint8(z & np.uint64(127)) | np.uint8(128)
        z >>= np.uint64(7)
        q += np.uint64(1)
    o[q] = np.uint8(z)
    return np.int64(q) + 1


@kernel
def put_word(o: U8, p: Num, word: Num, size: Num) -> Num:
    """Write the low bytes of a word, little-endian; returns the position behind."""
    q = np.uint64(p)
    for j in range(size):
        o[q + np.uint64(j)] = np.uint8((word >> np.uint64(8 * j)) & np.uint64(255))
    return p + size


@kernel
def put_float(o: U8, p: Num, x: Num, kind: Num) -> Num:
    """Write a float (narrowed to 32 bits, beyond their range to infinity) or a double."""
    if kind == FLOAT:
        return put_word(o, p, np.uint64(np.float32(x).view(np.uint32)), 4)
    return put_word(o, p, np.float64(x).view(np.uint64), 8)


@kernel
def put_bytes(o: U8, p: Num, b: U8, s: Num, n: Num) -> Num:
    """Write a length and n bytes of b at s; returns the position behind."""
    p = put_varint(o, p, n)
    q, from_ = np.uint64(p), np.uint64(s)
    for j in range(n):
        o[q + np.uint64(j)] = b[from_ + np.uint64(j)]
    return p + n


@kernel
def fits(v: Num, kind: Num, symbols: Num) -> Num:
    """Whether a number is one of its kind."""
    if kind == LONG:
        return True
    if kind == INT:
        return -0x80000000 <= v <= 0x7FFFFFFF
    return 0 <= v < (2 if kind == BOOLEAN else symbols)


@kernel
def inside(s: Num, n: Num, size: Num) -> Num:
    """Whether a span lies in a buffer of `size` bytes."""
    return s >= 0 and 0 <= n <= size and s <= size - n


@entry
def measure_ints(rows: I64, null: U8, col: I64, kind: Num, symbols: Num, size: I64) -> Num:
    """Add what a boolean, int, long or enum takes; returns the first bad record, or -1."""
    for j in range(rows.shape[0]):
        r = rows[j]
        if null.shape[0] > 0 and null[r] != 0:
            continue
        v = col[r]
        if not fits(v, kind, symbols):
            return j
        size[j] += 1 if kind == BOOLEAN else varint_size(v)
    return -1


@entry
def measure_floats(rows: I64, null: U8, kind: Num, size: I64) -> None:
    """Add what a float or double takes."""
    for j in range(rows.shape[0]):
        if null.shape[0] == 0 or null[rows[j]] == 0:
            size[j] += 4 if kind == FLOAT else 8


@entry
def measure_spans(rows: I64, null: U8, pos: I64, length: I64, b: U8, size: I64) -> Num:
    """Add what bytes or a string take; returns the first record whose span leaves b, or -1."""
    for j in range(rows.shape[0]):
        r = rows[j]
        if null.shape[0] > 0 and null[r] != 0:
            continue
        n = length[r]
        if not inside(pos[r], n, b.shape[0]):
            return j
        size[j] += varint_size(n) + n
    return -1


@kernel
def measure_child(c: Num, kind: Num, symbols: Num, cols: Cols, b: U8) -> Num:
    """Bytes that a value of a map or item of an array takes; -1 if it is bad."""
    if kind >= BYTES:
        n = cols.vlen[c]
        return varint_size(n) + n if inside(cols.vpos[c], n, b.shape[0]) else np.int64(-1)
    if kind >= FLOAT:
        return np.int64(4 if kind == FLOAT else 8)
    v = cols.vi[c]
    if not fits(v, kind, symbols):
        return np.int64(-1)
    return np.int64(1) if kind == BOOLEAN else varint_size(v)


@entry
def measure_lists(
    rows: I64, null: U8, at: I64, cnt: I64, is_map: bool, kind: Num, symbols: Num,
    cols: Cols, keys: U8, b: U8, size: I64,
) -> Num:  # fmt: skip
    """Add what a map or an array takes; returns the first record with a bad child, or -1."""
    for j in range(rows.shape[0]):
        r = rows[j]
        if null.shape[0] > 0 and null[r] != 0:
            continue
        first, n = at[r], cnt[r]
        if n == 0:
            size[j] += 1
            continue
        if n > CHILDREN_MAX or not inside(first, n, cols.kpos.shape[0]):
            return j
        total = varint_size(n) + 1
        for c in range(first, first + n):
            if is_map:
                k = cols.klen[c]
                if not inside(cols.kpos[c], k, keys.shape[0]):
                    return j
                total += varint_size(k) + k
            more = measure_child(c, kind, symbols, cols, b)
            if more < 0:
                return j
            total += more
        size[j] += total
    return -1


@entry
def write_branches(rows: I64, null: U8, null_at: Num, o: U8, p: I64) -> None:
    """The branch of a union of null and another type."""
    for j in range(rows.shape[0]):
        o[p[j]] = np.uint8(2 * null_at if null[rows[j]] != 0 else 2 * (1 - null_at))
        p[j] += 1


@entry
def write_ints(rows: I64, null: U8, col: I64, kind: Num, o: U8, p: I64) -> None:
    """A boolean, int, long or enum of each record."""
    for j in range(rows.shape[0]):
        r = rows[j]
        if null.shape[0] > 0 and null[r] != 0:
            continue
        if kind == BOOLEAN:
            o[p[j]] = np.uint8(col[r])
            p[j] += 1
        else:
            p[j] = put_varint(o, p[j], col[r])


@entry
def write_floats(rows: I64, null: U8, col: F64, kind: Num, o: U8, p: I64) -> None:
    """A float or double of each record."""
    for j in range(rows.shape[0]):
        r = rows[j]
        if null.shape[0] == 0 or null[r] == 0:
            p[j] = put_float(o, p[j], col[r], kind)


@entry
def write_spans(rows: I64, null: U8, pos: I64, length: I64, b: U8, o: U8, p: I64) -> None:
    """A bytes or string field of each record."""
    for j in range(rows.shape[0]):
        r = rows[j]
        if null.shape[0] == 0 or null[r] == 0:
            p[j] = put_bytes(o, p[j], b, pos[r], length[r])


@entry
def write_lists(
    rows: I64, null: U8, at: I64, cnt: I64, is_map: bool, kind: Num,
    cols: Cols, keys: U8, b: U8, o: U8, p: I64,
) -> None:  # fmt: skip
    """A map or array of each record."""
    for j in range(rows.shape[0]):
        r = rows[j]
        if null.shape[0] > 0 and null[r] != 0:
            continue
        q, n = p[j], cnt[r]
        if n > 0:
            q = put_varint(o, q, n)
        for c in range(at[r], at[r] + n):
            if is_map:
                q = put_bytes(o, q, keys, cols.kpos[c], cols.klen[c])
            if kind >= BYTES:
                q = put_bytes(o, q, b, cols.vpos[c], cols.vlen[c])
            elif kind >= FLOAT:
                q = put_float(o, q, cols.vf[c], kind)
            elif kind == BOOLEAN:
                o[q] = np.uint8(cols.vi[c])
                q += 1
            else:
                q = put_varint(o, q, cols.vi[c])
        o[q] = 0
        p[j] = q + 1


@part
def source(src: Num, b0: U8, b1: U8, b2: U8) -> U8:
    """The buffer that spans point into."""
    if src == 0:
        return b0
    return b1 if src == 1 else b2


@part
def measure_block(
    rows: I64, ops: I64, cols: Cols, b0: U8, b1: U8, b2: U8, no_null: U8, size: I64
) -> tuple[Num, Num]:
    """Add up each record's bytes; returns (record, field) of the first bad value, or (-1, -1)."""
    for o in range(ops.shape[0]):
        kind, slot, symbols = ops[o, KIND], ops[o, SLOT], ops[o, SYMBOLS]
        null = no_null
        if ops[o, NULL] >= 0:
            null = cols.null[ops[o, NULL]]
            size += 1
        b = source(ops[o, SRC], b0, b1, b2)
        bad = np.int64(-1)
        if kind >= MAP:
            bad = measure_lists(
                rows, null, cols.at[slot], cols.cnt[slot], kind == MAP,
                ops[o, ITEM_KIND], ops[o, ITEM_SYMBOLS], cols,
                source(ops[o, KEY_SRC], b0, b1, b2), b, size,
            )  # fmt: skip
        elif kind >= BYTES:
            bad = measure_spans(rows, null, cols.pos[slot], cols.len[slot], b, size)
        elif kind >= FLOAT:
            measure_floats(rows, null, kind, size)
        else:
            bad = measure_ints(rows, null, cols.i[slot], kind, symbols, size)
        if bad >= 0:
            return bad, o
    return np.int64(-1), np.int64(-1)


@part
def write_block(
    rows: I64, ops: I64, cols: Cols, b0: U8, b1: U8, b2: U8, no_null: U8, o_: U8, p: I64
) -> None:
    """Write records that were measured, each at its cursor."""
    for o in range(ops.shape[0]):
        kind, slot = ops[o, KIND], ops[o, SLOT]
        null = no_null
        if ops[o, NULL] >= 0:
            null = cols.null[ops[o, NULL]]
            write_branches(rows, null, ops[o, NULL_AT], o_, p)
        b = source(ops[o, SRC], b0, b1, b2)
        if kind >= MAP:
            write_lists(
                rows, null, cols.at[slot], cols.cnt[slot], kind == MAP, ops[o, ITEM_KIND],
                cols, source(ops[o, KEY_SRC], b0, b1, b2), b, o_, p,
            )  # fmt: skip
        elif kind >= BYTES:
            write_spans(rows, null, cols.pos[slot], cols.len[slot], b, o_, p)
        elif kind >= FLOAT:
            write_floats(rows, null, cols.f[slot], kind, o_, p)
        else:
            write_ints(rows, null, cols.i[slot], kind, o_, p)


@entry
def place(size: I64, header: U8, out: U8, p: Num, off: I64, at: I64) -> None:
    """Where each record begins; writes its header and sets its cursor behind that."""
    for j in range(size.shape[0]):
        off[j] = p
        for h in range(header.shape[0]):
            out[p + h] = header[h]
        at[j] = p + header.shape[0]
        p += size[j]


@glue
def encode(
    rows: I64, lo: Num, cap: Num, ops: I64, header: U8, cols: Cols,
    b0: U8, b1: U8, b2: U8, out: U8, p: Num, off: I64,
) -> tuple[Num, Num, Num, Num]:  # fmt: skip
    """Records lo, lo + 1, … from p on. Returns (record, position, how it ended, what of it).

    DONE; GROW: from `record` on, so many bytes more are needed; BAD_ROW: its row isn't below `cap`;
    BAD_VALUE: the field whose value isn't of its kind or leaves its buffer.
    """
    no_null = np.empty(0, np.uint8)
    size_all, at = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    for r0 in range(lo, rows.shape[0], BLOCK):
        r1 = min(r0 + BLOCK, rows.shape[0])
        part, size = rows[r0:r1], size_all[: r1 - r0]
        size[:] = header.shape[0]
        for j in range(part.shape[0]):
            if part[j] < 0 or part[j] >= cap:
                return r0 + j, p, BAD_ROW, 0
        bad, field = measure_block(part, ops, cols, b0, b1, b2, no_null, size)
        if bad >= 0:
            return r0 + bad, p, BAD_VALUE, field
        total = size.sum()
        if total > out.shape[0] - p:
            return r0, p, GROW, total
        place(size, header, out, p, off[r0:r1], at)
        write_block(part, ops, cols, b0, b1, b2, no_null, out, at)
        p += total
    return rows.shape[0], p, DONE, 0
