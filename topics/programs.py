"""From schemas to the kernels' programs: Avro's schema resolution, done once per known schema.

Resolution follows the specification as fastavro does it: fields by name or the reader's alias;
fields the reader lacks are stepped over; fields the writer lacks take their default; int → long →
float → double, string ↔ bytes, enums by symbol (an unknown one becomes the enum's default, else is
refused); a nullable field may lose its null, and a null is refused then. A whole number read as a
float keeps its 64 bits, as in fastavro. What never resolves is refused here, before any record
comes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from topics import read_kernels as read
from topics import write_kernels as write
from topics.layout import (
    BYTES,
    DOUBLE,
    ENUM,
    FLOAT,
    I64,
    INT,
    LONG,
    SPANS,
    STRING,
    Field,
    Layout,
    Type,
    parse_fields,
)  # fmt: skip

PROMOTIONS = {
    (INT, LONG), (INT, FLOAT), (INT, DOUBLE), (LONG, FLOAT), (LONG, DOUBLE), (FLOAT, DOUBLE),
    (STRING, BYTES), (BYTES, STRING),
}  # fmt: skip


class Unresolvable(ValueError):
    """A writer's schema can't be read as the layout's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Programs of all known writers; `lacking[k]` are the fields that writer k doesn't write."""

    ids: I64
    starts: I64
    ends: I64
    ops: I64
    symbols: I64
    lacking: tuple[tuple[Field, ...], ...]


def reading(layout: Layout, writers: Mapping[int, Any]) -> Reading:
    """Compile the programs that read what `writers` (schema id -> schema) wrote."""
    ops: list[list[int]] = []
    symbols: list[int] = []
    starts, ends, lacking = [], [], []
    for schema_id, schema in writers.items():
        items: list[tuple[int, list[int]]] = []
        left = dict(layout.by_name)
        starts.append(len(ops))
        for raw, wire in parse_fields(schema):
            field = left.pop(_reader_name(layout, raw["name"]), None)
            where = f"schema {schema_id}, field {raw['name']}"
            op, item = _field_op(wire, field, symbols, where)
            if item:
                items.append((len(ops), item))
            ops.append(op)
        ends.append(len(ops))
        for at, item in items:
            ops[at][read.ITEM] = len(ops)
            ops.append(item)
        for field in left.values():
            if not field.has_default:
                raise Unresolvable(f"schema {schema_id} lacks {field.name}, which has no default")
        lacking.append(tuple(left.values()))
    return Reading(
        np.array(list(writers) or [-1], np.int64),
        np.array(starts or [0], np.int64),
        np.array(ends or [0], np.int64),
        np.array(ops, np.int64).reshape(len(ops), 8),
        np.array(symbols, np.int64),
        tuple(lacking),
    )


def _reader_name(layout: Layout, name: str) -> str:
    """What the layout calls a writer's field: its own name first, then an alias."""
    if name in layout.by_name:
        return name
    return next((field.name for field in layout.fields if name in field.aliases), name)


def _field_op(
    wire: Type, field: Field | None, symbols: list[int], where: str
) -> tuple[list[int], list[int]]:
    """The rows of a field and of its items (empty if it has none)."""
    op = _op(wire, field.type if field else None, symbols, where)
    op[read.SLOT] = field.slot if field else -1
    op[read.NULL] = field.null_slot if field else -1
    op[read.NULL_AT] = wire.null_branch if wire.nullable else -1
    if wire.item is None:
        return op, []
    target = field.type.item if field else None
    return op, _op(wire.item, target, symbols, f"{where}, items")


def _op(wire: Type, target: Type | None, symbols: list[int], where: str) -> list[int]:
    """A row for one type; `target` None steps over it."""
    op = [0] * 8
    op[read.WIRE] = wire.kind
    if target is not None and wire.kind != target.kind:
        if (wire.kind, target.kind) not in PROMOTIONS:
            raise Unresolvable(f"{where}: {wire.kind_name} can't be read as {target.kind_name}")
        op[read.FLOATS] = int(wire.kind in (INT, LONG) and target.kind in (FLOAT, DOUBLE))
    if wire.kind in SPANS:
        op[read.ARG] = int(STRING in (wire.kind, wire.kind if target is None else target.kind))
    if wire.kind == ENUM:
        op[read.ARG], op[read.ARG2] = len(symbols), len(wire.symbols)
        symbols.extend(_symbol_table(wire, target, where))
    return op


def _symbol_table(wire: Type, target: Type | None, where: str) -> list[int]:
    """The reader's index of each of the writer's symbols; -1: it has none."""
    if target is None:
        return list(range(len(wire.symbols)))
    short = wire.name.rsplit(".", 1)[-1]
    names = {target.name.rsplit(".", 1)[-1], *target.aliases}
    if short not in names and wire.name not in names:
        raise Unresolvable(f"{where}: enum {wire.name} can't be read as {target.name}")
    index = {symbol: k for k, symbol in enumerate(target.symbols)}
    fallback = index.get(target.default, -1)
    return [index.get(symbol, fallback) for symbol in wire.symbols]


def writing(layout: Layout) -> I64:
    """Compile the program that writes a layout: a row per field."""
    ops = np.zeros((len(layout.fields), write.WIDTH), np.int64)
    for op, field in zip(ops, layout.fields, strict=True):
        item = field.type.item or Type(LONG)
        op[write.KIND] = field.type.kind
        op[write.SLOT] = field.slot
        op[write.NULL] = field.null_slot
        op[write.NULL_AT] = field.type.null_branch
        op[write.SRC] = field.src
        op[write.KEY_SRC] = field.key_src
        op[write.SYMBOLS] = len(field.type.symbols)
        op[write.ITEM_KIND] = item.kind
        op[write.ITEM_SYMBOLS] = len(item.symbols)
    return ops
