"""Columns to Python values and back, a field at a time: no Python step per record and field.

`values` reads a field of many rows, `put` writes one. What isn't of its field's type is a `Misfit`
that names the first such value: NumPy alone would take 1.5 for 1, and "3" for 3.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.kit.errors import Misfit
from topics.columns import Buffer, Columns
from topics.layout import (
    BOOLEAN,
    BYTES,
    ENUM,
    FLOATS,
    INT,
    INTS,
    LISTS,
    MAP,
    SPANS,
    STRING,
    Cols,
    Field,
    Layout,
    Type,
)

Rows = slice | NDArray[np.int64]

RECORD_BYTES_MAX = 1_000_000  # of a record or a row, as it is sent: Kafka's limit, and its frame
CHILD_BYTES = 10  # at most, of a child's own number or length on the wire
FIXED_BYTES = 10  # at most, of a number on the wire
BITS_INT, BITS_LONG = 31, 63  # of whole numbers, but for the sign
BITS_DOUBLE = 1023  # whole numbers below 2**1023 are near a double
SHOWN_MAX = 60  # characters of a value in an error


def values(columns: Columns, field: Field, rows: Rows, buf: NDArray[np.uint8]) -> list[Any]:
    """A field of these rows, as topics.codec would give it. Spans point into `buf`."""
    cols, type_, slot = columns.cols, field.type, field.slot
    if type_.kind in LISTS:
        found = _lists(cols, field, rows, buf)
    elif type_.kind in SPANS:
        found = _texts(type_.kind, buf, cols.pos[slot, rows], cols.len[slot, rows])
    else:
        found = _scalars(type_, (cols.f if type_.kind in FLOATS else cols.i)[slot, rows])
    if field.null_slot >= 0 and (nulls := cols.null[field.null_slot, rows]).any():
        found = [None if null else one for one, null in zip(found, nulls.tolist(), strict=True)]
    return found


def _scalars(type_: Type, column: NDArray[Any]) -> list[Any]:
    found = column.tolist()
    if type_.kind == BOOLEAN:
        return list(map(bool, found))
    return [type_.symbols[k] for k in found] if type_.kind == ENUM else found


def _lists(cols: Cols, field: Field, rows: Rows, buf: NDArray[np.uint8]) -> list[Any]:
    """Arrays or maps, the children of all rows at once."""
    item, count = field.type.item, cols.cnt[field.slot, rows]
    assert item is not None
    end = np.cumsum(count)
    child = np.arange(count.sum()) + np.repeat(cols.at[field.slot, rows] - end + count, count)
    if item.kind in SPANS:
        items = _texts(item.kind, buf, cols.vpos[child], cols.vlen[child])
    else:
        items = _scalars(item, (cols.vf if item.kind in FLOATS else cols.vi)[child])
    spans = zip((end - count).tolist(), end.tolist(), strict=True)
    if field.type.kind != MAP:
        return [items[p:q] for p, q in spans]
    keys = _texts(STRING, buf, cols.kpos[child], cols.klen[child])
    pairs = list(zip(keys, items, strict=True))
    return [dict(pairs[p:q]) for p, q in spans]


def _texts(
    kind: int, buf: NDArray[np.uint8], pos: NDArray[np.int64], size: NDArray[np.int64]
) -> list[Any]:
    """The content of each span; copies only what lies between the first and the last."""
    if not pos.shape[0]:
        return []
    first, end = int(pos.min()), int((pos + size).max())
    part = buf[first:end].tobytes()
    spans = zip((pos - first).tolist(), (pos - first + size).tolist(), strict=True)
    if kind == BYTES:
        return [part[p:q] for p, q in spans]
    # A slice of Latin-1 is the text itself where that is ASCII; else its bytes once more.
    text = part.decode("latin-1")
    found = [text[p:q] for p, q in spans]
    if text.isascii() or all(map(str.isascii, found)):
        return found
    return [t if t.isascii() else t.encode("latin-1").decode() for t in found]


def put(
    columns: Columns, field: Field, at: int, given: Sequence[Any], scratch: Buffer,
    exact: bool = False,
) -> None:  # fmt: skip
    """Write a field of the rows from `at` on, which there is room for; its texts into scratch.

    `exact`: a whole number isn't taken for a double, as it would come back as another type.
    Raises `Misfit`.
    """
    if field.type.kind in LISTS:
        _put_lists(columns, field, at, given, scratch, exact)
        return
    cols, end = columns.cols, at + len(given)
    types = set(map(type, given))
    if field.null_slot >= 0:
        if type(None) in types:
            cols.null[field.null_slot, at:end] = [value is None for value in given]
            types.discard(type(None))
            plain = _plain(field.type)
            given = [plain if value is None else value for value in given]
        else:
            cols.null[field.null_slot, at:end] = 0
    if not types <= (wanted := _wanted(field.type.kind, exact)):
        _first(field, given, lambda value: type(value) in wanted)
    _put_plain(cols, field, slice(at, end), given, scratch)


def _put_plain(
    cols: Cols, field: Field, rows: slice, given: Sequence[Any], scratch: Buffer
) -> None:
    """Values that have their field's Python type."""
    kind, slot = field.type.kind, field.slot
    if kind in FLOATS:
        try:
            cols.f[slot, rows] = given
        except OverflowError:
            _first(field, given, _is_double)
    elif kind in SPANS:
        content, size = _spans(field, given)
        begin = scratch.append(content)
        cols.len[slot, rows] = size
        cols.pos[slot, rows] = begin + np.cumsum(size) - size
    elif kind == ENUM:
        index = {symbol: k for k, symbol in enumerate(field.type.symbols)}
        try:
            cols.i[slot, rows] = [index[value] for value in given]
        except KeyError:
            _first(field, given, index.__contains__)
    elif kind in INTS:
        limit = 1 << (BITS_INT if kind == INT else BITS_LONG)
        if kind != BOOLEAN and given and not -limit <= min(given) <= max(given) < limit:
            _first(field, given, lambda value: -limit <= value < limit)
        cols.i[slot, rows] = given


def _spans(field: Field, given: Sequence[Any]) -> tuple[bytes, NDArray[np.int64]]:
    """All texts or bytes behind one another, and the size of each."""
    if field.type.kind == BYTES:
        content = b"".join(given)
    else:
        text = "".join(given)
        try:
            content = text.encode()
        except UnicodeEncodeError:
            _first(field, given, _is_text)
        if len(content) != len(text):
            given = [value.encode() for value in given]
    return content, np.fromiter(map(len, given), np.int64, len(given))


def _put_lists(
    columns: Columns, field: Field, at: int, given: Sequence[Any], scratch: Buffer, exact: bool
) -> None:
    """Maps or arrays, one by one."""
    item = field.type.item
    assert item is not None
    wanted = _wanted(item.kind, exact)
    fits = (dict,) if field.type.kind == MAP else (list, tuple)
    if not any(given) and set(map(type, given)) <= set(fits):  # as rows without own settings are
        rows = slice(at, at + len(given))
        columns.cols.at[field.slot, rows] = columns.used
        columns.cols.cnt[field.slot, rows] = 0
        if field.null_slot >= 0:
            columns.cols.null[field.null_slot, rows] = 0
        return
    for k, value in enumerate(given):
        if not (isinstance(value, fits) or (value is None and field.type.nullable)):
            name = field.type.kind_name
            raise Misfit(k, f"{field.name}: {_shown(value)} ({type(value).__name__}) isn't {name}")
        inside = value.values() if isinstance(value, dict) else value
        if inside and not set(map(type, inside)) <= wanted:
            raise Misfit(k, f"{field.name}: an item of {_shown(value)} isn't {item.kind_name}")
        try:
            columns.put_field(at + k, field, value, scratch)
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise Misfit(k, f"{field.name}: {error}") from error


def check_sizes(columns: Columns, layout: Layout, at: int, end: int) -> None:
    """Raise a `Misfit` where one of these rows is too large to be sent."""
    size = sizes(columns, layout, at, end)
    if size[large := int(size.argmax())] > RECORD_BYTES_MAX:
        raise Misfit(large, f"{size[large]:,} bytes, at most {RECORD_BYTES_MAX:,}")


def sizes(columns: Columns, layout: Layout, at: int, end: int) -> NDArray[np.int64]:
    """How many bytes the records of these rows take on the wire, at most."""
    cols = columns.cols
    fixed = FIXED_BYTES * len(layout.fields)
    total: NDArray[np.int64] = cols.len[:, at:end].sum(axis=0) + fixed
    for field in layout.fields:
        if field.type.kind not in LISTS or field.type.item is None:
            continue
        first, count = cols.at[field.slot, at:end], cols.cnt[field.slot, at:end]
        total += count * 2 * CHILD_BYTES
        spans = [cols.klen] if field.type.kind == MAP else []
        spans += [cols.vlen] if field.type.item.kind in SPANS else []
        for lengths in spans:
            ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths[: columns.used])))
            total += ends[first + count] - ends[first]
    return total


_PLAIN: dict[int, frozenset[type]] = {
    BOOLEAN: frozenset({bool}),
    STRING: frozenset({str}),
    BYTES: frozenset({bytes}),
    ENUM: frozenset({str}),
}
_INTEGER, _NUMBER, _DOUBLE = frozenset({int}), frozenset({float, int}), frozenset({float})


def _wanted(kind: int, exact: bool) -> frozenset[type]:
    """Python's types for a kind."""
    if kind in FLOATS:
        return _DOUBLE if exact else _NUMBER
    return _PLAIN.get(kind, _INTEGER)


def blank(type_: Type) -> Any:
    """A value of a type, where it doesn't matter which."""
    if type_.nullable:
        return None
    if type_.kind in LISTS:
        return {} if type_.kind == MAP else []
    return _plain(type_)


def _plain(type_: Type) -> Any:
    """What stands in a null's place."""
    if type_.kind in FLOATS:
        return 0.0
    if type_.kind == ENUM:
        return type_.symbols[0]
    return {STRING: "", BYTES: b"", BOOLEAN: False}.get(type_.kind, 0)


def _first(field: Field, given: Sequence[Any], fits: Callable[[Any], bool]) -> None:
    """Raise a Misfit for the first value that doesn't fit."""
    index = next(k for k, value in enumerate(given) if not fits(value))
    kind = field.type.kind_name
    if field.type.kind == ENUM:
        kind = f"one of {', '.join(field.type.symbols)}"
    one = given[index]
    raise Misfit(index, f"{field.name}: {_shown(one)} ({type(one).__name__}) isn't {kind}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _is_double(value: float) -> bool:
    return abs(value) < 1 << BITS_DOUBLE


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
