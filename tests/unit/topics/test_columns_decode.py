"""Bytes to columns: what fastavro reads, across versions of a schema, in batches of any kind."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topics.columnar import (
    HEADER,
    PRIMITIVES,
    SYMBOLS,
    batches,
    bits,
    decoded,
    enum,
    read,
    spans,
    types,
    values,
    written,
)
from topics.columns import BAD_AVRO, OK, Buffer, Columns, Layout, Reader, Unresolvable

pytestmark = pytest.mark.kernel

SHUFFLED = st.tuples(st.permutations(SYMBOLS), st.permutations(SYMBOLS))
BYTES = ("bytes", ["null", "bytes"], ["bytes", "null"])
PROMOTED = [
    ("int", "long"), ("int", "float"), ("int", "double"), ("long", "float"), ("long", "double"),
    ("float", "double"), ("string", "bytes"),
]  # fmt: skip


@given(batches())
def test_reads_what_fastavro_reads(batch: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    schema, records = batch
    bodies = [written(schema, record) for record in records]
    columns, status, buf = decoded([HEADER + body for body in bodies], schema)
    assert not status.any()
    for row, body in enumerate(bodies):
        assert bits(columns.get(row, [buf] * 3)) == bits(read(body, schema)[0])


@st.composite
def versions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A writer's schema and a reader's, and what may lie between them."""
    old, new = [], []
    for k in range(draw(st.integers(1, 7))):
        name, type_ = f"f{k}", draw(types(k))
        change = draw(st.sampled_from(["none", "removed", "added", "promoted", "enum", "nullable"]))
        if change == "promoted":
            pair = draw(st.sampled_from(PROMOTED))
            shape = draw(st.sampled_from(["plain", "map", "array", "null"]))
            a, b = (shaped(one, shape) for one in pair)
        elif change == "enum":
            a, b = (
                enum(k, draw(st.permutations(SYMBOLS))[: draw(st.integers(2, 5))]) for _ in "ab"
            )
        elif change == "nullable":
            plain = draw(st.sampled_from(list(PRIMITIVES)))
            a, b = draw(st.permutations([plain, ["null", plain], [plain, "null"]]))[:2]
        else:
            a = b = type_
        if change != "added":
            old.append({"name": name, "type": a})
        if change != "removed":
            new.append({"name": name, "type": b})
        if change == "added":
            new[-1]["default"] = draw(default(type_))
    return record(old), record(draw(st.permutations(new)))


def shaped(type_: str, shape: str) -> Any:
    if shape == "null":
        return ["null", type_]
    inner = {"map": "values", "array": "items"}.get(shape)
    return {"type": shape, inner: type_} if inner else type_


def default(type_: Any) -> st.SearchStrategy[Any]:
    """A default for a type: a union's is of its first branch; bytes' differ (tested below)."""
    if isinstance(type_, list):
        return st.none() if type_[0] == "null" else default(type_[0])
    inner = type_ if isinstance(type_, str) else type_.get("values", type_.get("items"))
    return st.just(empty(type_)) if inner == "bytes" else values(type_)


def empty(type_: Any) -> Any:
    return "" if type_ == "bytes" else {} if type_["type"] == "map" else []


def record(fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": fields}


@given(versions(), st.data())
def test_resolves_versions_as_fastavro_does(
    pair: tuple[dict[str, Any], dict[str, Any]], data: st.DataObject
) -> None:
    writer, reader = pair
    one = st.fixed_dictionaries({f["name"]: values(f["type"]) for f in writer["fields"]})
    bodies = [written(writer, r) for r in data.draw(st.lists(one, min_size=1, max_size=4))]
    columns, status, buf = decoded([HEADER + body for body in bodies], writer, reader)
    for row, body in enumerate(bodies):
        try:
            expected, _ = read(body, writer, reader)
        except Exception as error:  # a null or a symbol that the reader hasn't
            assert status[row] == BAD_AVRO, error
            continue
        for field in reader["fields"]:  # fastavro leaves the default of bytes as text
            if field["type"] in BYTES and expected[field["name"]] == "":
                expected[field["name"]] = b""
        assert status[row] == OK
        assert bits(columns.get(row, [buf] * 3)) == bits(expected)


def test_a_default_of_bytes_is_a_byte_per_code_point() -> None:
    fields = [{"name": "b", "type": "bytes", "default": "\u0001ÿ"}]
    columns, status, buf = decoded([HEADER], record([]), record(fields))
    assert (status[0], columns.get(0, [buf] * 3)) == (OK, {"b": b"\x01\xff"})


def test_a_default_of_text_must_stand_in_the_buffer() -> None:
    layout = Layout(record([{"name": "s", "type": "string", "default": "1.0"}]))
    reader, columns = Reader(layout, {7: record([])}), Columns(layout)
    assert reader.constants == b"1.0"
    buf = np.frombuffer(bytearray(b"..1.0" + HEADER), np.uint8)
    where, status = (np.array([5]), np.array([5])), np.zeros(1, np.uint8)
    for wrong in (0, 3, -1, 1000):
        with pytest.raises(ValueError, match="constants"):
            reader.decode(buf, *where, status, columns, constants_at=wrong)
    reader.decode(buf, *where, status, columns, constants_at=2)
    assert columns.get(0, [buf] * 3) == {"s": "1.0"}


def test_aliases_and_the_default_symbol_resolve() -> None:
    old = [{"name": "old", "type": "int"}, {"name": "e", "type": enum(1, ["x", "a"])}]
    verdict = {**enum(1, ["a", "other"]), "default": "other"}
    new = [{"name": "new", "aliases": ["old"], "type": "long"}, {"name": "e", "type": verdict}]
    body = written(record(old), {"old": 5, "e": "x"})
    columns, status, buf = decoded([HEADER + body], record(old), record(new))
    assert (status[0], columns.get(0, [buf] * 3)) == (OK, {"new": 5, "e": "other"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([], [{"name": "a", "type": "int"}]),
        ([{"name": "a", "type": "double"}], [{"name": "a", "type": "float"}]),
        ([{"name": "a", "type": "long"}], [{"name": "a", "type": "int"}]),
        ([{"name": "a", "type": "int"}], [{"name": "a", "type": "string"}]),
        ([{"name": "a", "type": enum(1, ["x"])}], [{"name": "a", "type": enum(2, ["x"])}]),
        ([{"name": "a", "type": shaped("int", "map")}], [{"name": "a", "type": "int"}]),
        (
            [{"name": "a", "type": shaped("int", "array")}],
            [{"name": "a", "type": shaped("string", "array")}],
        ),
    ],
)
def test_what_never_resolves_is_refused_at_once(old: Any, new: Any) -> None:
    with pytest.raises(Unresolvable, match=r"schema 7.*a"):
        Reader(Layout(record(new)), {7: record(old)})


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_batches_of_mixed_writers_and_statuses(count: int) -> None:
    old = record([{"name": "n", "type": "int"}, {"name": "l", "type": shaped("string", "array")}])
    fields = [{"name": "x", "type": ["null", "double"], "default": None}, *old["fields"][::-1]]
    layout = Layout(record(fields))
    reader = Reader(layout, {1: old, 2: layout.schema})
    records = [{"n": k, "l": ["ab"] * (k % 4), "x": k / 2 if k % 3 else None} for k in range(count)]
    bodies = [
        b"\0\0\0\0\x02" + written(layout.schema, r) if k % 2 else b"\0\0\0\0\x01" + written(old, r)
        for k, r in enumerate(records)
    ]
    buf, pos, length = spans(bodies)
    status = (np.arange(count) % 5 == 4).astype(np.uint8) * 77
    columns = Columns(layout, count)
    columns.cols.i[...] = -5
    reader.decode(buf, pos, length, status, columns)
    for k, expected in enumerate(records):
        if k % 5 == 4:  # another status: neither row nor status is touched
            assert (status[k], columns.cols.i[0, k]) == (77, -5)
            continue
        assert status[k] == OK
        expected["x"] = expected["x"] if k % 2 else None
        assert columns.get(k, [buf] * 3) == expected


def test_children_grow_as_they_come_and_are_kept_between_calls() -> None:
    schema = record([{"name": "l", "type": shaped("long", "array")}])
    layout = Layout(schema)
    reader, columns = Reader(layout, {7: schema}), Columns(layout)
    lists = [list(range(k)) for k in (0, 3000, 1, 65_536, 2)]
    buf, pos, length = spans([HEADER + written(schema, {"l": each}) for each in lists])
    status = np.zeros(5, np.uint8)
    reader.decode(buf, pos, length, status, columns)
    assert not status.any()
    assert columns.used == sum(map(len, lists))
    columns.put(5, {"l": [7]}, Buffer())
    assert [columns.get(k, [])["l"] for k in range(6)] == [*lists, [7]]
    columns.clear()
    reader.decode(buf, pos, length, status, columns)
    assert columns.used == sum(map(len, lists))


def test_read_only_buffers_are_taken_and_wrong_sizes_are_not() -> None:
    schema = record([{"name": "s", "type": "string"}])
    layout = Layout(schema)
    columns, status = Columns(layout), np.zeros(1, np.uint8)
    buf = np.frombuffer(HEADER + written(schema, {"s": "é"}), np.uint8)
    reader = Reader(layout, {7: schema})
    reader.decode(buf, np.array([0]), np.array([len(buf)]), status, columns)
    assert columns.get(0, [buf]) == {"s": "é"}
    with pytest.raises(ValueError, match="positions"):
        reader.decode(buf, np.array([0, 1]), np.array([1]), status, columns)
