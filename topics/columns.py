"""Columnar Avro: a batch of records as arrays, strings as spans into a buffer.

`Reader` turns wire bytes into `Columns`, `Writer` columns into wire bytes; kernels do the work,
driven by a small program compiled from the schema. `Columns.put` and `Columns.get` are the row
path's way in and out. fastavro is the oracle of all of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from topics.arrays import Buffer, Columns
from topics.layout import (
    BAD_AVRO,
    BAD_UTF8,
    BAD_WIRE,
    BYTES,
    CHILDREN_MAX,
    DOUBLE,
    FLOAT,
    I64,
    OK,
    U8,
    UNKNOWN_SCHEMA,
    Cols,
    Field,
    Layout,
    UnsupportedSchema,
)
from topics.programs import Unresolvable, reading, writing
from topics.read_kernels import decode
from topics.write_kernels import BAD_ROW, DONE, GROW, encode

CHILDREN_MIN = 256  # room for children to begin with


class Reader:
    """Decodes records of any known schema into the columns of one layout. Safe to share by threads.

    A field that a writer lacks takes its default; defaults of strings are in `constants`, which the
    caller puts into the buffer once if they aren't empty (`decode`'s `constants_at`).
    """

    def __init__(self, layout: Layout, writers: Mapping[int, Any]) -> None:
        self.layout = layout
        self._program = reading(layout, writers)
        scratch = Buffer()
        self._defaults = Columns(layout)
        self._defaults.reserve(1)
        lacking = {field.name for fields in self._program.lacking for field in fields}
        for field in layout.fields:
            if field.name in lacking:
                self._defaults.put_field(0, _wide(field), _default(field), scratch)
        self.constants = scratch.data[: scratch.used].tobytes()

    def decode(
        self, buf: U8, vpos: I64, vlen: I64, status: U8, columns: Columns, constants_at: int = 0
    ) -> None:
        """Decode record r, buf[vpos[r]:][:vlen[r]], into row r of columns, for status[r] == 0.

        Sets status[r] to BAD_WIRE (no zero byte, too short, outside buf), UNKNOWN_SCHEMA, BAD_AVRO
        or BAD_UTF8 when it can't; the row's content is void then. Rows of another status aren't
        touched. Children are added to those in use: `columns.clear()` first when none are needed.
        """
        n = status.shape[0]
        if vpos.shape[0] != n or vlen.shape[0] != n:
            raise ValueError(f"{n} status, {vpos.shape[0]} positions, {vlen.shape[0]} lengths")
        buf = _writable(buf)
        defaults = any(self._program.lacking)
        if self.constants:
            self._check_constants(buf, constants_at)
        columns.reserve(n, columns.used)
        ran = np.zeros(n if defaults else 0, np.uint8)
        program, row = self._program, 0
        while row < n:
            row, columns.used = decode(
                buf, vpos, vlen, status, row, program.ids, program.starts, program.ends,
                program.ops, program.symbols, ran, columns.cols, columns.used,
            )  # fmt: skip
            if row < n:
                columns.reserve(n, max(2 * columns.ccap, columns.used + CHILDREN_MIN))
        if defaults:
            self._fill(columns, ran, status, constants_at)

    def _check_constants(self, buf: U8, at: int) -> None:
        size = len(self.constants)
        if at < 0 or buf[at : at + size].tobytes() != self.constants:
            raise ValueError("the buffer doesn't hold Reader.constants at constants_at")

    def _fill(self, columns: Columns, ran: U8, status: U8, base: int) -> None:
        """Give fields that a record's writer lacks their defaults."""
        for k, lacking in enumerate(self._program.lacking):
            rows = np.flatnonzero((ran == k + 1) & (status == OK))
            for field in lacking if rows.size else ():
                columns.copy_field(rows, field, self._defaults, base)


def _wide(field: Field) -> Field:
    """The field with doubles for floats: a default isn't narrowed to 32 bits, as in fastavro."""
    type_ = field.type
    if type_.kind == FLOAT:
        return replace(field, type=replace(type_, kind=DOUBLE))
    if type_.item is not None and type_.item.kind == FLOAT:
        return replace(field, type=replace(type_, item=replace(type_.item, kind=DOUBLE)))
    return field


def _default(field: Field) -> Any:
    """A field's default as a value: Avro writes that of bytes as text, a byte a code point."""
    value = field.default
    if field.type.kind == BYTES and isinstance(value, str):
        return value.encode("latin-1")
    return value


def _writable(buf: U8) -> U8:
    """Kernels are compiled for writable arrays; one that isn't is copied."""
    return buf if buf.flags.writeable else buf.copy()


class Writer:
    """Encodes columns as Avro, behind the five bytes of a schema id unless that is None.

    Safe to share by threads. Text isn't checked to be UTF-8: it comes out as it came in.
    """

    def __init__(self, layout: Layout, schema_id: int | None) -> None:
        self.layout = layout
        self._ops = writing(layout)
        header = b"" if schema_id is None else b"\0" + schema_id.to_bytes(4, "big")
        self._header = np.array(list(header), np.uint8)

    def encode(
        self, columns: Columns, rows: I64, bufs: tuple[U8, U8, U8], out: Buffer, off: I64
    ) -> None:
        """Append record k, from row rows[k], to out: it is out.data[off[k] : off[k + 1]].

        `off` has one place more than `rows`; `bufs` are what spans point into, by `src`. Raises
        ValueError, and appends nothing, when a row is out of range, a number isn't of its field's
        kind, or a span or a child lies outside its buffer.
        """
        m = rows.shape[0]
        if off.shape[0] != m + 1:
            raise ValueError(f"{off.shape[0]} offsets for {m} records")
        b0, b1, b2 = (_writable(buf) for buf in bufs)
        begun, record, end = out.used, 0, GROW
        while end == GROW:
            record, out.used, end, detail = encode(
                rows, record, columns.cap, self._ops, self._header, columns.cols,
                b0, b1, b2, out.data, out.used, off,
            )  # fmt: skip
            if end == GROW:
                out.reserve(detail)
        if end != DONE:
            out.used = begun
            if end == BAD_ROW:
                raise ValueError(f"record {record}: row {rows[record]} of {columns.cap}")
            name = self.layout.fields[detail].name
            raise ValueError(f"record {record}, {name}: not of its kind or outside its buffer")
        off[m] = out.used


__all__ = [
    "BAD_AVRO",
    "BAD_UTF8",
    "BAD_WIRE",
    "CHILDREN_MAX",
    "OK",
    "UNKNOWN_SCHEMA",
    "Buffer",
    "Cols",
    "Columns",
    "Layout",
    "Reader",
    "Unresolvable",
    "UnsupportedSchema",
    "Writer",
]
