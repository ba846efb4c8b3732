"""Kernels that tables and stores are made of: names, spans, marks, and rows of the state topic.

Whatever bytes such a row has, nothing outside the arrays is touched: `first_outside` checks every
span and list of it before anything is taken from it.
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
from topics.write_kernels import inside

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SEPARATOR = ord(SEP)


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
def put_span(c: Cols, slot: int, k: int, out: Bytes, used: int, raw: Bytes) -> int:
    """Write row k's bytes of a field, to out[used:]; returns their end."""
    c.pos[slot, k], c.len[slot, k] = used, raw.shape[0]
    return int(put_bytes(out, used, raw, 0, raw.shape[0]))


@kernel
def take_span(c: Cols, slot: int, k: int, buf: Bytes, out: Bytes) -> None:
    """Copy as many of row k's bytes of a field as `out` has; there are so many."""
    put_bytes(out, 0, buf, c.pos[slot, k], out.shape[0])


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
