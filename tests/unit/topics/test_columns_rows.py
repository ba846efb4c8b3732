"""The row path's way in and out of columns, and buffers that grow."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from tests.unit.topics.columnar import batches, bits, read, written
from topics.columns import CHILDREN_MAX, Buffer, Columns, Layout


@given(batches())
def test_get_gives_what_put_took(batch: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    schema, records = batch
    columns, scratch = Columns(Layout(schema)), Buffer()
    for row, record in enumerate(records):
        columns.put(row, record, scratch)
    for row, record in enumerate(records):
        expected, _ = read(written(schema, record), schema)  # floats narrowed
        assert bits(columns.get(row, [scratch.data] * 3)) == bits(expected)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("int", 2**31),
        ("long", -(2**63) - 1),
        ("long", 1.0),
        ("long", True),
        ("double", "1"),
        ("double", 10**400),
        ("boolean", 1),
        ("string", b"text"),
        ("string", "\ud800"),
        ("bytes", "text"),
        ("string", None),
        ({"type": "enum", "name": "E", "symbols": ["a"]}, "b"),
        ({"type": "array", "items": "long"}, {"a": 1}),
        ({"type": "array", "items": "long"}, [1, "2"]),
        ({"type": "map", "values": "long"}, [1]),
        ({"type": "map", "values": "long"}, {1: 1}),
    ],
)
def test_put_names_the_field_that_is_wrong(type_: Any, value: Any) -> None:
    fields = [{"name": "many", "type": {"type": "array", "items": "int"}}]
    schema = {"type": "record", "name": "R", "fields": [*fields, {"name": "odd", "type": type_}]}
    columns, scratch = Columns(Layout(schema)), Buffer()
    with pytest.raises(ValueError, match=r"^odd: "):
        columns.put(0, {"many": [1, 2], "odd": value}, scratch)
    assert columns.used == 0
    with pytest.raises(ValueError, match="odd: lacking"):
        columns.put(0, {"many": []}, scratch)


def test_put_bounds_the_children_of_a_record() -> None:
    fields = [{"name": "many", "type": {"type": "array", "items": "int"}}]
    columns = Columns(Layout({"type": "record", "name": "R", "fields": fields}))
    columns.put(0, {"many": [0] * CHILDREN_MAX}, Buffer())
    with pytest.raises(ValueError, match="65537 children"):
        columns.put(1, {"many": [0] * (CHILDREN_MAX + 1)}, Buffer())
    assert columns.used == CHILDREN_MAX


def test_growing_keeps_rows_and_children() -> None:
    items = {"type": "map", "values": "double"}
    schema = {"type": "record", "name": "R", "fields": [{"name": "m", "type": items}]}
    columns, scratch = Columns(Layout(schema)), Buffer()
    columns.put(0, {"m": {"a": 1.5, "": 2.0}}, scratch)
    before = columns.cols
    columns.reserve(1000, 5000)
    assert columns.cols is not before
    assert (columns.cap, columns.ccap) == (1000, 5000)
    assert all(array.flags.c_contiguous for array in columns.cols)
    assert columns.get(0, [scratch.data] * 3) == {"m": {"a": 1.5, "": 2.0}}
    after = columns.cols
    columns.reserve(10, 10)
    assert columns.cols is after


def test_a_span_outside_its_buffer_is_not_read() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "s", "type": "string"}]}
    columns, scratch = Columns(Layout(schema)), Buffer()
    columns.put(0, {"s": "text"}, scratch)
    for pos, size in [(0, 5), (-1, 1), (0, -1), (2**62, 2**62)]:
        columns.cols.pos[0, 0], columns.cols.len[0, 0] = pos, size
        with pytest.raises(ValueError, match="outside"):
            columns.get(0, [scratch.data[:4]] * 3)


def test_a_buffer_keeps_what_it_holds_as_it_grows() -> None:
    buffer, expected = Buffer(), b""
    for k in range(200):
        assert buffer.append(bytes([k]) * k) == len(expected)
        expected += bytes([k]) * k
    assert buffer.data[: buffer.used].tobytes() == expected
    assert buffer.data.dtype == np.uint8
    data = buffer.data
    buffer.clear()
    buffer.reserve(len(data))
    assert (buffer.used, buffer.data is data) == (0, True)
