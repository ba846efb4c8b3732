"""Rows of the state topic from a table's rows, and back: one kernel interprets a table's program.

Whatever bytes a row has, nothing outside the arrays is touched: `first_outside` checks every span
and list of a row before anything is taken from it, and `take` every number that has limits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import NameArrays
from agents.engine.processor import SEP
from agents.engine.records import put_bytes
from topics.columns import Cols
from topics.compiled import entry, glue, kernel, view
from topics.kernels import utf8
from topics.layout import ARRAY, STRING, Layout
from topics.write_kernels import inside

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SEPARATOR = ord(SEP)

# An operation: what to do, the field's slot and that of its null, the column, the numbers of a
# list, and whether a number has limits.
WIDTH = 6
OP, SLOT, NULL, COLUMN, COUNT, CHECKED = range(WIDTH)
(
    WHOLE, SMALL, REAL, MAYBE,  # one number; MAYBE: NaN in the table is null in the row
    NAME, SMALL_NAME,  # the code of a text
    WHOLES, REALS,  # a list of so many numbers, neighbours in the table
    FIXED_WHOLE, FIXED_REAL, NO_TEXT, NO_ITEMS,  # not in the table
) = range(12)  # fmt: skip

BLOCK = 4096  # rows that a field is written or read of before the next field: they stay near


class Program(NamedTuple):
    """A table's operations, a row each; the least and largest number of each; items of its lists"""

    ops: Ints
    limits: Floats
    children: int


@kernel
def put_name(names: NameArrays, code: int, pos: Ints, size: Ints, k: int) -> None:
    """Make span k of two arrays that of a name; -1 is an empty one."""
    pos[k] = names.at[code] if code >= 0 else 0
    size[k] = names.size[code] if code >= 0 else 0


@view
def name_of(names: NameArrays, code: int) -> Bytes:
    """The bytes of a name; -1 is an empty one."""
    at = names.at[code] if code >= 0 else 0
    return names.pool[at : at + (names.size[code] if code >= 0 else 0)]


@kernel
def put_list(
    wholes: Ints, reals: Floats, r: int, op: int, column: int, count: int, c: Cols, child: int
) -> int:
    """Write `count` neighbours of row r as children; returns the next child."""
    for j in range(count):
        if op == WHOLES:
            c.vi[child + j] = wholes[r, column + j]
        else:
            c.vf[child + j] = reals[r, column + j]
    return child + count


@kernel
def put_span(c: Cols, slot: int, k: int, out: Bytes, used: int, raw: Bytes) -> int:
    """Write row k's bytes of a field, to out[used:]; returns their end."""
    c.pos[slot, k], c.len[slot, k] = used, raw.shape[0]
    return int(put_bytes(out, used, raw, 0, raw.shape[0]))


@kernel
def take_span(c: Cols, slot: int, k: int, buf: Bytes, out: Bytes) -> None:
    """Copy as many of row k's bytes of a field as `out` has; there are so many."""
    put_bytes(out, 0, buf, c.pos[slot, k], out.shape[0])


@kernel
def put_absent(op: int, value: float, null: int, slot: int, c: Cols, k: int) -> None:
    """Write a field that isn't in the table into row k."""
    if op == FIXED_WHOLE:
        c.i[slot, k] = int(value)
    elif op == FIXED_REAL:
        c.f[slot, k] = value
        if null >= 0:
            c.null[null, k] = np.isnan(value)
    elif op == NO_TEXT:
        c.pos[slot, k], c.len[slot, k] = 0, 0
    else:
        c.at[slot, k], c.cnt[slot, k] = 0, 0


@kernel
def put_other(
    op: int, slot: int, null: int, column: int, count: int, value: float, wholes: Ints,
    reals: Floats, smalls: NDArray[np.int32], names: NameArrays, k: int, r: int, c: Cols,
    child: int,
) -> int:  # fmt: skip
    """Write a field of row r that isn't one number of 8 bytes into row k; returns the next child"""
    if op in (NAME, SMALL_NAME):
        code = int(wholes[r, column]) if op == NAME else int(smalls[r, column])
        put_name(names, code, c.pos[slot], c.len[slot], k)
    elif op in (WHOLES, REALS):
        c.at[slot, k], c.cnt[slot, k] = child, count
        child = put_list(wholes, reals, r, op, column, count, c, child)
    elif op == MAYBE:
        c.f[slot, k] = reals[r, column]
        c.null[null, k] = np.isnan(reals[r, column])
    elif op == SMALL:
        c.i[slot, k] = smalls[r, column]
    else:
        put_absent(op, value, null, slot, c, k)
    return child


@entry
def put(
    ops: Ints, limits: Floats, wholes: Ints, reals: Floats, smalls: NDArray[np.int32],
    names: NameArrays, at: Ints, of: Ints, c: Cols, child: int,
) -> int:  # fmt: skip
    """Write the table's rows `of` into rows `at`, lists from `child` on; returns the next child."""
    for lo in range(0, at.shape[0], BLOCK):
        hi = min(at.shape[0], lo + BLOCK)
        for o in range(ops.shape[0]):
            op, slot, null = ops[o, OP], ops[o, SLOT], ops[o, NULL]
            column, count, value = ops[o, COLUMN], ops[o, COUNT], limits[o, 0]
            if op == WHOLE:
                whole, wholes_out = wholes[:, column], c.i[slot]
                for n in range(lo, hi):  # unsigned, as in put_bytes
                    wholes_out[np.uint64(at[n])] = whole[np.uint64(of[n])]
            elif op == REAL:
                real, reals_out = reals[:, column], c.f[slot]
                for n in range(lo, hi):
                    reals_out[np.uint64(at[n])] = real[np.uint64(of[n])]
            else:
                for n in range(lo, hi):
                    child = put_other(
                        op, slot, null, column, count, value, wholes, reals, smalls, names,
                        at[n], of[n], c, child,
                    )  # fmt: skip
    return child


@kernel
def take_list(
    wholes: Ints, reals: Floats, r: int, op: int, column: int, count: int, c: Cols, child: int
) -> None:
    """Take `count` children into neighbours of row r."""
    for j in range(count):
        if op == WHOLES:
            wholes[r, column + j] = c.vi[child + j]
        else:
            reals[r, column + j] = c.vf[child + j]


@kernel
def fits(op: int, checked: int, null: int, least: float, most: float, count: int, slot: int,
         c: Cols, k: int) -> bool:  # fmt: skip
    """Whether a field of row k is within its limits, or as long as it must be."""
    if op in (WHOLES, REALS):
        return bool(c.cnt[slot, k] == count)
    if checked == 0 or (null >= 0 and c.null[null, k] != 0):
        return True
    if op in (REAL, MAYBE):
        return bool(least <= c.f[slot, k] <= most)  # what isn't a number isn't
    return bool(least <= c.i[slot, k] <= most)


@kernel
def take_one(
    ops: Ints, o: int, wholes: Ints, reals: Floats, smalls: NDArray[np.int32], texts: Ints,
    k: int, r: int, c: Cols,
) -> None:  # fmt: skip
    """Take a field of row k, which fits, into row r."""
    op, slot, column = ops[o, OP], ops[o, SLOT], ops[o, COLUMN]
    if op == WHOLE:
        wholes[r, column] = c.i[slot, k]
    elif op == REAL:
        reals[r, column] = c.f[slot, k]
    elif op == SMALL:
        smalls[r, column] = c.i[slot, k]
    elif op == NAME:
        wholes[r, column] = texts[slot, k]
    elif op == SMALL_NAME:
        smalls[r, column] = texts[slot, k]
    elif op in (WHOLES, REALS):
        take_list(wholes, reals, r, op, column, ops[o, COUNT], c, c.at[slot, k])
    elif op == MAYBE:
        reals[r, column] = np.nan if c.null[ops[o, NULL], k] != 0 else c.f[slot, k]


@entry
def take(
    ops: Ints, limits: Floats, wholes: Ints, reals: Floats, smalls: NDArray[np.int32],
    texts: Ints, at: Ints, of: Ints, c: Cols,
) -> int:  # fmt: skip
    """Take rows `at`, all of them inside, into the table's rows `of`; returns a bad one, or -1.

    texts[slot, k] is the code of a text, -1 for an empty one.
    """
    for lo in range(0, at.shape[0], BLOCK):
        for o in range(ops.shape[0]):
            op, slot, null, count = ops[o, OP], ops[o, SLOT], ops[o, NULL], ops[o, COUNT]
            least, most, checked = limits[o, 0], limits[o, 1], ops[o, CHECKED]
            for n in range(lo, min(at.shape[0], lo + BLOCK)):
                if not fits(op, checked, null, least, most, count, slot, c, at[n]):
                    return int(at[n])
                take_one(ops, o, wholes, reals, smalls, texts, at[n], of[n], c)
    return -1


@glue
def tenant_sizes(buf: Bytes, pos: Ints, size: Ints, lo: int, hi: int, out: Ints) -> int:
    """out[k] = bytes before the separator in key k, its whole length without one.

    Returns the first key that lies outside buf or isn't UTF-8, hi if none does.
    """
    for k in range(lo, hi):
        p, n = pos[k], size[k]
        if not inside(p, n, buf.shape[0]) or not utf8(buf, p, p + n):
            return k
        out[k] = n
        for j in range(n):
            if buf[p + j] == SEPARATOR:
                out[k] = j
                break
    return hi


@entry
def first_outside(c: Cols, lo: int, hi: int, gone: Bytes, used: int, size: int) -> int:
    """The first of rows lo..hi-1, -1 if none, that has a list outside the `used` children or a text
    outside the `size` bytes of its buffer. Tombstones have neither.
    """
    for k in range(lo, hi):
        if gone[k]:
            continue
        for s in range(c.pos.shape[0]):
            if not inside(c.pos[s, k], c.len[s, k], size):
                return k
        for s in range(c.at.shape[0]):
            if not inside(c.at[s, k], c.cnt[s, k], used):
                return k
    return -1


@entry
def last_of_each(codes: Ints, lo: int, hi: int, seen: Bytes, out: Bytes) -> None:
    """out[k] = whether row k is the last of its key among lo..hi-1; `seen` is all 0, and stays."""
    for k in range(hi - 1, lo - 1, -1):
        out[k] = seen[codes[k]] == 0
        seen[codes[k]] = 1
    for k in range(lo, hi):
        seen[codes[k]] = 0


def name_slots(layout: Layout) -> Ints:
    """The slots of the arrays of texts, whose items are names."""
    found = []
    for field in layout.fields:
        item = field.type.item
        if field.type.kind == ARRAY and item is not None and item.kind == STRING:
            found.append(field.slot)
    return np.array(found, np.int64)


@entry
def mark_items(c: Cols, slots: Ints, at: Ints, skip: Bytes) -> None:
    """skip[child] = 0 for each item of these lists of rows `at` that isn't empty."""
    for slot in slots:
        for k in at:
            for child in range(c.at[slot, k], c.at[slot, k] + c.cnt[slot, k]):
                skip[child] = c.vlen[child] == 0


@entry
def lacking(table: Ints, codes: Ints, lo: int, hi: int, out: Ints) -> int:
    """The places among lo..hi-1 of names (no -1) that have no row, each once, in order.

    table[code] is its row, -1: none. Returns how many `out` has.
    """
    count = 0
    for i in range(lo, hi):
        code = codes[i]
        if code >= 0 and table[code] == -1:
            table[code] = -2
            out[count] = i
            count += 1
    for n in range(count):
        table[codes[out[n]]] = -1
    return count


@entry
def count_owned(rows: Ints, owners: Ints, by: int) -> None:
    """Count domains up or down: `rows` is their tenants' column."""
    for owner in owners:
        rows[owner] += by


@entry
def to_rows(table: Ints, codes: Ints, lo: int, hi: int) -> None:
    """Put in the place of each name its row."""
    for i in range(lo, hi):
        if codes[i] >= 0:
            codes[i] = table[codes[i]]


class Marks(NamedTuple):
    """Which rows have changed since they were last written, by name."""

    flag: Bytes  # code -> stands in `order`
    order: Ints  # codes, in the order of their first change
    used: Ints  # [1]: places of `order`


@kernel
def mark(marks: Marks, code: int) -> None:
    """Note that the row of this name has changed, or is gone."""
    if marks.flag[code] == 0:
        marks.flag[code] = 1
        marks.order[marks.used[0]] = code
        marks.used[0] += 1
