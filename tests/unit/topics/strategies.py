"""What hypothesis draws for the tests of topics: records of a schema, schemas, versions of them."""

import struct
from typing import Any

from hypothesis import strategies as st

from topics.compat import kind_of
from topics.schemas import schemas

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LONGS = st.integers(-(2**63), 2**63 - 1)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS,
    "float": FLOATS,
    "double": DOUBLES,
    "bytes": st.binary(max_size=12),
    "string": TEXT,
}


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Values of a type, as the row path has them."""
    kind = kind_of(schema)
    if kind == "union":
        return st.one_of([values(branch) for branch in schema])
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    if kind == "map":
        return st.dictionaries(TEXT, values(schema["values"]), max_size=4)
    if kind == "array":
        return st.lists(values(schema["items"]), max_size=4)
    if kind == "record":
        return st.fixed_dictionaries({f["name"]: values(f["type"]) for f in schema["fields"]})
    if isinstance(schema, dict) and "vector" in schema:
        return vectors(schema["vector"])
    return PRIMITIVES[kind]


def vectors(vector: str) -> st.SearchStrategy[bytes]:
    """Vectors of finite numbers as little-endian bytes."""
    code, numbers = {"float32": ("f", FLOATS), "float64": ("d", DOUBLES)}[vector]
    lists = st.lists(numbers, max_size=5)
    return lists.map(lambda found: struct.pack(f"<{len(found)}{code}", *found))


def records(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Records of a schema of the catalogue."""
    return values(schemas().raw(name))


NAMED = st.sampled_from(schemas().names())
NAMED_RECORDS = NAMED.flatmap(lambda name: st.tuples(st.just(name), records(name)))


@st.composite
def types(draw: st.DrawFn) -> Any:
    """A type that a flat schema may have."""
    primitive = st.sampled_from([kind for kind in PRIMITIVES if kind != "null"])
    shape = draw(st.sampled_from(["primitive", "primitive", "null", "map", "array", "enum"]))
    if shape == "enum":
        symbols = draw(st.lists(st.sampled_from("abcde"), min_size=1, unique=True))
        enum: dict[str, Any] = {"type": "enum", "name": "letter", "symbols": symbols}
        if draw(st.booleans()):
            enum["default"] = draw(st.sampled_from(symbols))
        return enum
    one = draw(primitive)
    if shape == "null":
        return ["null", one]
    if shape == "map":
        return {"type": "map", "values": one}
    return {"type": "array", "items": one} if shape == "array" else one


@st.composite
def flat(draw: st.DrawFn) -> dict[str, Any]:
    """A flat record schema; at most one enum, for names may be defined once only."""
    fields: list[dict[str, Any]] = []
    for name in draw(st.lists(st.sampled_from("pqrst"), min_size=1, unique=True)):
        kind = draw(types())
        if kind_of(kind) == "enum" and any(kind_of(f["type"]) == "enum" for f in fields):
            kind = "string"
        field = {"name": name, "type": kind}
        if draw(st.booleans()):
            field["default"] = draw(defaults(kind))
        fields.append(field)
    return {"type": "record", "name": "thing", "namespace": "soma", "doc": "x", "fields": fields}


def defaults(kind: Any) -> st.SearchStrategy[Any]:
    """Defaults of a type as they stand in a schema file."""
    if isinstance(kind, list):
        return st.none()
    if kind_of(kind) == "bytes":
        return st.binary(max_size=4).map(lambda data: data.decode("latin-1"))
    if kind_of(kind) in ("map", "array"):
        return st.just({} if kind_of(kind) == "map" else [])
    return values(kind)
