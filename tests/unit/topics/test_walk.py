import io
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topics.strategies import flat, values
from topics.walk import CHILDREN_MAX, BadRecord, Walk

FLAT_VALUES = flat().flatmap(lambda schema: st.tuples(st.just(schema), values(schema)))


def written(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), record)
    return out.getvalue()


def schema_of(kind: Any) -> dict[str, Any]:
    return {"type": "record", "name": "thing", "fields": [{"name": "field", "type": kind}]}


def refused(kind: Any, data: bytes) -> BadRecord:
    with pytest.raises(BadRecord) as caught:
        Walk(data, 0).record(schema_of(kind))
    return caught.value


@given(FLAT_VALUES, st.binary(max_size=3))
def test_takes_what_fastavro_writes(
    pair: tuple[dict[str, Any], dict[str, Any]], head: bytes
) -> None:
    schema, record = pair
    Walk(head + written(schema, record), len(head)).record(schema)


@given(FLAT_VALUES, st.data())
def test_what_it_takes_fastavro_reads_to_the_end(
    pair: tuple[dict[str, Any], dict[str, Any]], data: st.DataObject
) -> None:
    schema, record = pair
    value = bytearray(written(schema, record))
    for _ in range(data.draw(st.integers(0, 3)) if value else 0):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    value = value[: data.draw(st.integers(0, len(value)))]
    try:
        Walk(bytes(value), 0).record(schema)
    except BadRecord:
        return
    stream = io.BytesIO(value)
    schemaless_reader(stream, parse_schema(schema), None)
    assert stream.tell() == len(value)


@given(flat(), st.binary(max_size=64))
def test_random_bytes_are_taken_or_refused_and_nothing_else(
    schema: dict[str, Any], data: bytes
) -> None:
    try:
        Walk(data, 0).record(schema)
    except BadRecord as error:
        assert error.reason in ("bad_avro", "bad_utf8")


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("long", b"", "ends too early"),
        ("long", b"\x80", "ends too early"),
        ("long", b"\xff" * 10 + b"\x01", "more than 64 bits"),
        ("long", b"\x80" * 9 + b"\x02", "more than 64 bits"),
        ("long", b"\x02\x00", "1 byte(s) too many"),
        ("int", b"\x80\x80\x80\x80\x10", "an int of more than 32 bits"),
        ("double", b"\x00" * 7, "claims 8 bytes where 7"),
        ("string", b"\x08abc", "claims 4 bytes where 3"),
        ("bytes", b"\x01", "claims -1 bytes"),
        ("bytes", b"\xfe" + b"\xff" * 8 + b"\x01", "claims 9223372036854775807 bytes"),
        ("boolean", b"\x02", "2 for a boolean"),
        (["null", "long"], b"\x01\x02", "index -1 of a union with 2"),
        (["null", "long"], b"\x04\x02", "index 2 of a union with 2"),
        ({"type": "enum", "name": "e", "symbols": ["a"]}, b"\x01", "index -1 of an enum with 1"),
        ({"type": "array", "items": "long"}, b"\x02\x02", "ends too early"),
        ({"type": "map", "values": "long"}, b"\x02\x02k", "ends too early"),
        ({"type": "array", "items": "long"}, b"\x06\x02\x02", "claims 3 items where 2 bytes"),
        ({"type": "map", "values": "long"}, b"\x04\x00\x00\x00", "claims 2 items where 3 bytes"),
        ({"type": "array", "items": "long"}, b"\x01\x01\x02\x00", "claims a block of -1 bytes"),
        ({"type": "array", "items": "long"}, b"\x01\x08\x02\x00", "claims a block of 4 bytes"),
        ({"type": "array", "items": "long"}, b"\x01\x04\x02\x00", "another size than it claims"),
    ],
)
def test_lies_are_named(kind: Any, data: bytes, said: str) -> None:
    error = refused(kind, data)
    assert error.reason == "bad_avro"
    assert said in error.detail
    assert error.detail.startswith("field: ") or "too many" in said


@pytest.mark.parametrize("kind", ["string", {"type": "map", "values": "long"}])
def test_text_must_be_utf8(kind: Any) -> None:
    data = b"\x02\xff" if kind == "string" else b"\x02\x02\xff\x02\x00"
    assert refused(kind, data).reason == "bad_utf8"


def test_counts_are_bounded_before_anything_is_made() -> None:
    huge = b"\xfe" + b"\xff" * 8 + b"\x01"
    assert f"more than {CHILDREN_MAX}" in refused({"type": "array", "items": "long"}, huge).detail
    sized = b"\x01" + huge
    assert refused({"type": "array", "items": "long"}, sized).reason == "bad_avro"


def test_several_blocks_and_blocks_with_a_size_are_taken() -> None:
    schema = schema_of({"type": "array", "items": "long"})
    data = b"\x02\x02" + b"\x03\x04\x04\x06" + b"\x00"  # [1], then [2, 3] with its size, then end
    Walk(data, 0).record(schema)
    assert schemaless_reader(io.BytesIO(data), parse_schema(schema), None) == {"field": [1, 2, 3]}
