"""What the tests of columns share: random schemas and records, fastavro as oracle, batches."""

import io
import math
import struct
from typing import Any

import fastavro
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from topics.columns import Columns, Layout, Reader

HEADER = b"\x00\x00\x00\x00\x07"
SCHEMA_ID = 7
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LONGS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 63, 64, -64, -65])
DOUBLES = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan, -0.0, 5e-324, 1e300])
SYMBOLS = ["a", "b", "c", "d", "e"]
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS,
    "float": DOUBLES,
    "double": DOUBLES,
    "bytes": st.binary(max_size=20),
    "string": TEXT,
}


def enum(number: int, symbols: list[str]) -> dict[str, Any]:
    return {"type": "enum", "name": f"E{number}", "symbols": symbols}


@st.composite
def types(draw: st.DrawFn, number: int) -> Any:
    """Any type that a field of columns may have; `number` keeps the names of enums apart."""
    name = draw(st.sampled_from([*PRIMITIVES, "enum"]))
    one = enum(number, SYMBOLS[: draw(st.integers(1, 5))]) if name == "enum" else name
    shape = draw(st.sampled_from(["plain", "plain", "map", "array"]))
    if shape == "map":
        one = {"type": "map", "values": one}
    elif shape == "array":
        one = {"type": "array", "items": one}
    return draw(st.sampled_from([one, one, ["null", one], [one, "null"]]))


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 7))
    fields = [{"name": f"f{k}", "type": draw(types(k))} for k in range(count)]
    return {"type": "record", "name": "R", "fields": fields}


def values(type_: Any) -> st.SearchStrategy[Any]:
    if isinstance(type_, list):
        return st.none() | values(next(branch for branch in type_ if branch != "null"))
    if isinstance(type_, str):
        return PRIMITIVES[type_]
    if type_["type"] == "enum":
        return st.sampled_from(type_["symbols"])
    if type_["type"] == "map":
        return st.dictionaries(TEXT, values(type_["values"]), max_size=4)
    return st.lists(values(type_["items"]), max_size=4)


def records(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({f["name"]: values(f["type"]) for f in schema["fields"]})


@st.composite
def batches(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    schema = draw(schemas())
    return schema, draw(st.lists(records(schema), min_size=1, max_size=4))


def written(schema: Any, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def read(body: bytes, schema: Any, reader: Any = None) -> tuple[Any, int]:
    """What fastavro reads, and how many bytes it takes for that."""
    source = io.BytesIO(body)
    record = fastavro.schemaless_reader(source, schema, reader or schema)
    return record, source.tell()


def bits(value: Any) -> Any:
    """A value in which NaN equals NaN and 0.0 isn't -0.0."""
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: bits(each) for key, each in value.items()}
    return [bits(each) for each in value] if isinstance(value, list) else value


def spans(values: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """A buffer with these values in it, where they begin, and their sizes."""
    length = np.array([len(value) for value in values], np.int64)
    buf = np.frombuffer(bytearray(b"".join(values)), np.uint8)
    return buf, np.cumsum(length) - length, length


def decoded(
    values: list[bytes], writer: Any, reader: Any = None
) -> tuple[Columns, NDArray[np.uint8], NDArray[np.uint8]]:
    """A batch of wire values through a Reader: (columns, status, buffer)."""
    layout = Layout(reader or writer)
    program = Reader(layout, {3: layout.schema, SCHEMA_ID: writer})
    buf, pos, length = spans([program.constants, *values])
    status = np.zeros(len(values), np.uint8)
    columns = Columns(layout)
    program.decode(buf, pos[1:], length[1:], status, columns)
    return columns, status, buf


def status_of(body: bytes, schema: Any) -> int:
    return int(decoded([HEADER + body], schema)[1][0])
