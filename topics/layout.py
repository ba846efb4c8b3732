"""Where the fields of a schema lie in columns: one slot per field within the arrays of its kind.

Kinds are small ints because kernels branch on them. What the catalogue uses is supported: boolean,
int, long, float, double, bytes, string, enum, map and array of these, and a union of null with any
one of them. Anything else (nested records, fixed, other unions) is refused when the layout is made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from fastavro import parse_schema
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Named = TypeVar("Named", bound=tuple[Any, ...])
Num = Any  # a kernel's scalar: a machine number, compiled; a Python or NumPy number otherwise

# Status of a record: 0 is well; the engine dead-letters the rest by these.
OK, BAD_WIRE, UNKNOWN_SCHEMA, BAD_AVRO, BAD_UTF8 = range(5)

CHILDREN_MAX = 65_536  # children of all maps and arrays of one record

BOOLEAN, INT, LONG, ENUM, FLOAT, DOUBLE, BYTES, STRING, MAP, ARRAY = range(10)
KINDS = {
    "boolean": BOOLEAN,
    "int": INT,
    "long": LONG,
    "enum": ENUM,
    "float": FLOAT,
    "double": DOUBLE,
    "bytes": BYTES,
    "string": STRING,
    "map": MAP,
    "array": ARRAY,
}
NAMES = {kind: name for name, kind in KINDS.items()}
SOURCES = 3  # buffers that spans may point into

# The arrays of Cols that a kind is stored in.
INTS = (BOOLEAN, INT, LONG, ENUM)
FLOATS = (FLOAT, DOUBLE)
SPANS = (BYTES, STRING)
LISTS = (MAP, ARRAY)


class Cols(NamedTuple):
    """The arrays that kernels take, all C-contiguous; column r of each is record r.

    A null has null = 1 and, in its value's place, 0, NaN, an empty span or an empty list.
    """

    i: I64  # [ints, cap] booleans (0, 1), ints, longs, indexes into an enum's symbols
    f: F64  # [floats, cap]
    pos: I64  # [spans, cap] where a span begins in its buffer
    len: I64  # [spans, cap] bytes
    null: U8  # [nulls, cap] 1 = null
    at: I64  # [lists, cap] the first child
    cnt: I64  # [lists, cap] children
    kpos: I64  # [ccap] a child's key (maps)
    klen: I64  # [ccap]
    vi: I64  # [ccap] a child's value, in the array of its kind
    vf: F64  # [ccap]
    vpos: I64  # [ccap]
    vlen: I64  # [ccap]


class UnsupportedSchema(ValueError):
    """A schema has something that columns don't hold."""


@dataclass(frozen=True, slots=True)
class Type:
    """A field's or an item's type as it stands on the wire."""

    kind: int
    nullable: bool = False
    null_branch: int = 0  # index of null in the union
    item: "Type | None" = None  # of a map's values or an array's items
    symbols: tuple[str, ...] = ()  # of an enum
    name: str = ""  # of an enum, with its namespace
    aliases: tuple[str, ...] = ()
    default: str = ""  # of an enum: what an unknown symbol is read as; "" = refused

    @property
    def kind_name(self) -> str:
        """The kind as schemas call it."""
        return NAMES[self.kind]


@dataclass(frozen=True, slots=True)
class Field:
    """A field and where it lies: `slot` counts within ints, floats, spans or lists."""

    name: str
    type: Type
    slot: int
    null_slot: int  # -1: not nullable
    src: int  # the buffer of its spans; of an item's spans if it is a map or an array
    key_src: int  # the buffer of a map's keys
    has_default: bool = False
    default: Any = None
    aliases: tuple[str, ...] = ()


def parse_type(schema: Any, named: Mapping[str, Any], where: str, depth: int = 0) -> Type:
    """The type of a field of a schema that fastavro parsed; `where` names it in errors."""
    if isinstance(schema, list):
        others = [branch for branch in schema if branch != "null"]
        if len(schema) != 2 or len(others) != 1 or depth:
            raise UnsupportedSchema(f"{where}: only a union of null and one type is supported")
        one = parse_type(others[0], named, where)
        return Type(
            one.kind, True, schema.index("null"),
            one.item, one.symbols, one.name, one.aliases, one.default,
        )  # fmt: skip
    if isinstance(schema, str) and schema in named:
        schema = named[schema]
    body = schema if isinstance(schema, dict) else {"type": schema}
    kind = KINDS.get(body["type"], -1)
    if kind < 0 or (kind in LISTS and depth):
        raise UnsupportedSchema(f"{where}: {body['type']} is not supported here")
    if kind == ENUM:
        return Type(
            kind,
            symbols=tuple(body["symbols"]),
            name=body["name"],
            aliases=tuple(body.get("aliases", ())),
            default=body.get("default", ""),
        )
    if kind in LISTS:
        inner = body["values" if kind == MAP else "items"]
        return Type(kind, item=parse_type(inner, named, where, depth + 1))
    return Type(kind)


def parse_fields(schema: Any) -> Iterator[tuple[dict[str, Any], Type]]:
    """Every field of a record schema with its type, in the order of the wire."""
    named: dict[str, Any] = {}
    parsed = parse_schema(schema, named_schemas=named)
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise UnsupportedSchema("only a record can be laid out in columns")
    for field in parsed["fields"]:
        yield field, parse_type(field["type"], named, f"{parsed['name']}.{field['name']}")


class Layout:
    """The columns of a schema's newest version.

    `slots[field]` is the field's row in Cols.i (boolean, int, long, enum), Cols.f (float, double),
    Cols.pos and Cols.len (bytes, string) or Cols.at and Cols.cnt (map, array); `null_slots[field]`
    its row in Cols.null. `src` says which of three buffers a field's spans point into (0 unless
    said): "tenant" for the field, "weights.key" for a map's keys, "weights.item" for the values of
    a map or the items of an array.

    >>> schema = {"type": "record", "name": "r", "fields": [
    ...     {"name": "tenant", "type": "string"}, {"name": "ts", "type": "long"},
    ...     {"name": "score", "type": ["null", "double"]}]}
    >>> layout = Layout(schema, {"tenant": 1})
    >>> layout.slots, layout.null_slots
    ({'tenant': 0, 'ts': 0, 'score': 0}, {'score': 0})
    """

    def __init__(self, schema: Any, src: Mapping[str, int] | None = None) -> None:
        self.schema = schema
        given = dict(src or {})
        counts = {"i": 0, "f": 0, "s": 0, "l": 0, "n": 0}
        fields = []
        for raw, kind in parse_fields(schema):
            fields.append(_place(raw, kind, counts, given))
        if given:
            raise ValueError(f"src names no string, map or array of the schema: {sorted(given)}")
        self.fields: tuple[Field, ...] = tuple(fields)
        self.by_name: dict[str, Field] = {field.name: field for field in fields}
        self.slots: dict[str, int] = {field.name: field.slot for field in fields}
        self.null_slots: dict[str, int] = {
            field.name: field.null_slot for field in fields if field.null_slot >= 0
        }
        self.ints, self.floats = counts["i"], counts["f"]
        self.spans, self.lists, self.nulls = counts["s"], counts["l"], counts["n"]


def by_field(kind: type[Named], found: Any) -> Named:
    """A NamedTuple of this kind: each of its fields is what `found` has under the field's name.

    >>> class Slots(NamedTuple):
    ...     ts: int
    >>> by_field(Slots, {"tenant": 0, "ts": 1})
    Slots(ts=1)
    """
    fields: Any = kind
    return kind(*(found[name] for name in fields._fields))


def _place(raw: dict[str, Any], kind: Type, counts: dict[str, int], src: dict[str, int]) -> Field:
    """Give a field the next slot of its kind, and take what `src` says of it."""
    name = raw["name"]
    array = "i" if kind.kind in INTS else "f" if kind.kind in FLOATS else "l"
    own = keys = 0
    if kind.kind in SPANS:
        array = "s"
        own = src.pop(name, 0)
    if kind.kind == MAP:
        keys = src.pop(f"{name}.key", 0)
    if kind.item is not None and kind.item.kind in SPANS:
        own = src.pop(f"{name}.item", 0)
    if not (0 <= own < SOURCES and 0 <= keys < SOURCES):
        raise ValueError(f"{name}: spans point into buffer 0, 1 or 2")
    slot, null_slot = counts[array], -1
    counts[array] += 1
    if kind.nullable:
        null_slot = counts["n"]
        counts["n"] += 1
    return Field(
        name, kind, slot, null_slot, own, keys,
        "default" in raw, raw.get("default"), tuple(raw.get("aliases", ())),
    )  # fmt: skip
