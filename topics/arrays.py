"""The arrays that a batch of records is held in, and the row path's way in and out of them.

Strings are spans into a buffer, children of maps and arrays lie in one pool; `topics.layout` says
which array holds which field.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topics.layout import (
    BOOLEAN,
    BYTES,
    CHILDREN_MAX,
    ENUM,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    LISTS,
    MAP,
    NAMES,
    SPANS,
    STRING,
    U8,
    Cols,
    Field,
    Layout,
    Type,
)


class Buffer:
    """Growable bytes, `data[:used]`. Growing replaces `data` and keeps the content."""

    __slots__ = ("data", "used")

    def __init__(self, capacity: int = 0) -> None:
        self.data: U8 = np.empty(capacity, np.uint8)
        self.used = 0

    def reserve(self, more: int) -> None:
        """Make room for so many more bytes."""
        need = self.used + more
        if need > self.data.shape[0]:
            grown = np.empty(max(need, 2 * self.data.shape[0], 256), np.uint8)
            grown[: self.used] = self.data[: self.used]
            self.data = grown

    def append(self, content: bytes) -> int:
        """Add bytes; returns where they begin."""
        at, size = self.used, len(content)
        self.reserve(size)
        if size:
            self.data[at : at + size] = np.frombuffer(content, np.uint8)
        self.used = at + size
        return at

    def clear(self) -> None:
        """Forget the content, keep the room."""
        self.used = 0


def _grown(old: NDArray[Any], capacity: int, keep: int) -> NDArray[Any]:
    new = np.empty((*old.shape[:-1], capacity), old.dtype)
    new[..., :keep] = old[..., :keep]
    return new


def _held(layout: Layout) -> tuple[bool, ...]:
    """Which of the children's arrays (kpos … vlen) the layout's maps and arrays fill."""
    lists = [field.type for field in layout.fields if field.type.item is not None]
    keys = any(type_.kind == MAP for type_ in lists)
    items = {type_.item.kind for type_ in lists if type_.item is not None}
    spans = bool(items & set(SPANS))
    return keys, keys, bool(items & set(INTS)), bool(items & set(FLOATS)), spans, spans


class Columns:
    """Records of one layout as columns. `used` counts the children in use, by all rows together.

    Whoever fills columns anew calls `clear` first: children are only ever added.
    """

    def __init__(self, layout: Layout, cap: int = 0, ccap: int = 0) -> None:
        self.layout = layout
        self.cap = cap
        self.ccap = ccap
        self.used = 0
        self._held = _held(layout)
        self.cols = Cols(
            np.empty((layout.ints, cap), np.int64),
            np.empty((layout.floats, cap), np.float64),
            np.empty((layout.spans, cap), np.int64),
            np.empty((layout.spans, cap), np.int64),
            np.empty((layout.nulls, cap), np.uint8),
            np.empty((layout.lists, cap), np.int64),
            np.empty((layout.lists, cap), np.int64),
            np.empty(ccap, np.int64),
            np.empty(ccap, np.int64),
            np.empty(ccap, np.int64),
            np.empty(ccap, np.float64),
            np.empty(ccap, np.int64),
            np.empty(ccap, np.int64),
        )

    def clear(self) -> None:
        """Give all children back. Rows keep what they hold until they are written again."""
        self.used = 0

    def reserve(self, rows: int, children: int = 0) -> None:
        """Make room for so many rows and children in all; growing replaces `cols`."""
        if rows <= self.cap and children <= self.ccap:
            return
        arrays: list[Any] = list(self.cols)
        if rows > self.cap:
            cap = max(rows, 2 * self.cap, 16)
            arrays[:7] = [_grown(a, cap, self.cap) for a in arrays[:7]]
            self.cap = cap
        if children > self.ccap:
            ccap = max(children, 2 * self.ccap, 16)
            arrays[7:] = [
                _grown(a, ccap, self.used if held else 0)
                for a, held in zip(arrays[7:], self._held, strict=True)
            ]
            self.ccap = ccap
        self.cols = Cols(*arrays)

    def put(self, row: int, record: dict[str, Any], scratch: Buffer) -> None:
        """Write a record (values as topics.codec gives them) into a row.

        Its strings go into `scratch`, which therefore must be the buffer that the layout's spans
        point into. Raises ValueError, naming the field, when a value is lacking or not of its type.
        """
        self.reserve(row + 1, self.used)
        before = self.used
        for field in self.layout.fields:
            try:
                self.put_field(row, field, record[field.name], scratch)
            except KeyError:
                self.used = before
                raise ValueError(f"{field.name}: lacking") from None
            except (TypeError, ValueError, OverflowError, AttributeError) as error:
                self.used = before
                raise ValueError(f"{field.name}: {error}") from error
        if self.used - before > CHILDREN_MAX:
            count, self.used = self.used - before, before
            raise ValueError(f"{count} children of maps and arrays, at most {CHILDREN_MAX}")

    def put_field(self, row: int, field: Field, value: Any, scratch: Buffer) -> None:
        """Write one field's value into a row that is there."""
        cols, kind, slot = self.cols, field.type.kind, field.slot
        if field.null_slot >= 0:
            cols.null[field.null_slot, row] = value is None
        null = value is None and field.type.nullable
        if kind in LISTS:
            cols.at[slot, row], cols.cnt[slot, row] = self.used, 0
            if not null:
                self._put_children(row, field, value, scratch)
        elif kind in FLOATS:
            cols.f[slot, row] = np.nan if null else _number(kind, value)
        elif kind in SPANS:
            content = b"" if null else _content(kind, value)
            cols.pos[slot, row], cols.len[slot, row] = scratch.append(content), len(content)
        else:
            cols.i[slot, row] = 0 if null else _integer(field.type, value)

    def _put_children(self, row: int, field: Field, value: Any, scratch: Buffer) -> None:
        item = field.type.item
        assert item is not None
        at, count = self.used, len(value)
        self.reserve(0, at + count)
        cols = self.cols
        if field.type.kind == MAP:
            for k, key in enumerate(value):
                content = _content(STRING, key)
                cols.kpos[at + k], cols.klen[at + k] = scratch.append(content), len(content)
            value = value.values()
        elif not isinstance(value, list | tuple):
            raise TypeError(f"a list, not {type(value).__name__}")
        for k, each in enumerate(value):
            if item.kind in SPANS:
                content = _content(item.kind, each)
                cols.vpos[at + k], cols.vlen[at + k] = scratch.append(content), len(content)
            elif item.kind in FLOATS:
                cols.vf[at + k] = _number(item.kind, each)
            else:
                cols.vi[at + k] = _integer(item, each)
        cols.cnt[field.slot, row] = count
        self.used = at + count

    def copy_field(self, rows: NDArray[np.intp], field: Field, other: "Columns", base: int) -> None:
        """Set a field of many rows to row 0 of `other`, whose spans lie `base` further on."""
        cols, one, slot = self.cols, other.cols, field.slot
        if field.null_slot >= 0:
            cols.null[field.null_slot, rows] = one.null[field.null_slot, 0]
        if field.type.kind in FLOATS:
            cols.f[slot, rows] = one.f[slot, 0]
        elif field.type.kind in SPANS:
            cols.pos[slot, rows] = one.pos[slot, 0] + base
            cols.len[slot, rows] = one.len[slot, 0]
        elif field.type.kind in LISTS:
            at, count = int(one.at[slot, 0]), int(one.cnt[slot, 0])
            self.reserve(0, self.used + count)
            for new, old in zip(self.cols[7:], one[7:], strict=True):
                new[self.used : self.used + count] = old[at : at + count]
            for spans in (self.cols.kpos, self.cols.vpos):
                spans[self.used : self.used + count] += base
            self.cols.at[slot, rows], self.cols.cnt[slot, rows] = self.used, count
            self.used += count
        else:
            cols.i[slot, rows] = one.i[slot, 0]

    def get(self, row: int, bufs: Sequence[U8]) -> dict[str, Any]:
        """A row as a record, as topics.codec gives it. `bufs`: what spans point into, by src."""
        return {field.name: self.get_field(row, field, bufs) for field in self.layout.fields}

    def get_field(self, row: int, field: Field, bufs: Sequence[U8]) -> Any:
        """One field of a row, as `get` gives it."""
        cols, kind, slot = self.cols, field.type.kind, field.slot
        if field.null_slot >= 0 and cols.null[field.null_slot, row]:
            return None
        if kind in LISTS:
            return self._get_children(
                field, int(cols.at[slot, row]), int(cols.cnt[slot, row]), bufs
            )
        if kind in FLOATS:
            return float(cols.f[slot, row])
        if kind in SPANS:
            return _text(kind, bufs[field.src], int(cols.pos[slot, row]), int(cols.len[slot, row]))
        return _scalar(field.type, int(cols.i[slot, row]))

    def _get_children(self, field: Field, at: int, count: int, bufs: Sequence[U8]) -> Any:
        item, cols, children = field.type.item, self.cols, range(at, at + count)
        assert item is not None
        values: list[Any]
        if item.kind in SPANS:
            buf = bufs[field.src]
            values = [_text(item.kind, buf, int(cols.vpos[c]), int(cols.vlen[c])) for c in children]
        elif item.kind in FLOATS:
            values = [float(cols.vf[c]) for c in children]
        else:
            values = [_scalar(item, int(cols.vi[c])) for c in children]
        if field.type.kind != MAP:
            return values
        buf = bufs[field.key_src]
        keys = [_text(STRING, buf, int(cols.kpos[c]), int(cols.klen[c])) for c in children]
        return dict(zip(keys, values, strict=True))


def _integer(type_: Type, value: Any) -> int:
    if type_.kind == ENUM:
        return type_.symbols.index(value)
    if type_.kind == BOOLEAN:
        if not isinstance(value, bool):
            raise TypeError(f"a boolean, not {type(value).__name__}")
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a whole number, not {type(value).__name__}")
    bits = 31 if type_.kind == INT else 63
    if not -(1 << bits) <= value < 1 << bits:
        raise ValueError(f"{value} is not a {NAMES[type_.kind]}")
    return value


def _number(kind: int, value: Any) -> float:
    """A float's value after the wire: narrowed to 32 bits (beyond its range: infinite)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a number, not {type(value).__name__}")
    if kind != FLOAT:
        return float(value)
    with np.errstate(over="ignore"):
        return float(np.float32(float(value)))


def _content(kind: int, value: Any) -> bytes:
    if kind == BYTES:
        if not isinstance(value, bytes | bytearray):
            raise TypeError(f"bytes, not {type(value).__name__}")
        return bytes(value)
    if not isinstance(value, str):
        raise TypeError(f"a string, not {type(value).__name__}")
    return value.encode()


def _text(kind: int, buf: U8, pos: int, size: int) -> str | bytes:
    if pos < 0 or size < 0 or pos + size > buf.shape[0]:
        raise ValueError("a span lies outside its buffer")
    content = buf[pos : pos + size].tobytes()
    return content.decode() if kind == STRING else content


def _scalar(type_: Type, value: int) -> Any:
    if type_.kind == ENUM:
        return type_.symbols[value]
    return bool(value) if type_.kind == BOOLEAN else value
