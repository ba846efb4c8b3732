"""Bytes nobody vouches for: taken if and only if they are rightly Avro, and never out of bounds.

`topics.walk`, the strict reading in plain Python, says what is right; what the kernels take,
fastavro must read to the same record and to the last byte; what they refuse, fastavro refuses too,
unless it is one of the things that it lets pass (each has a test of its own below).
"""

import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topics.columnar import (
    HEADER,
    bits,
    decoded,
    read,
    records,
    schemas,
    spans,
    status_of,
    written,
)
from topics.columns import (
    BAD_AVRO,
    BAD_UTF8,
    BAD_WIRE,
    CHILDREN_MAX,
    OK,
    UNKNOWN_SCHEMA,
    Columns,
    Layout,
    Reader,
)
from topics.walk import BadRecord, Walk

pytestmark = pytest.mark.kernel
REASONS = {"bad_avro": BAD_AVRO, "bad_utf8": BAD_UTF8}
I64_MIN = b"\xff" * 9 + b"\x01"  # as a varint
I64_MAX = b"\xfe" + b"\xff" * 8 + b"\x01"


def strictly(schema: dict[str, Any], body: bytes) -> int:
    try:
        Walk(body, 0).record(schema)
    except BadRecord as error:
        return REASONS[error.reason]
    return OK


def assert_taken_rightly(schema: dict[str, Any], bodies: list[bytes]) -> None:
    columns, status, buf = decoded([HEADER + body for body in bodies], schema)
    for row, body in enumerate(bodies):
        assert status[row] == strictly(schema, body), body.hex(" ")
        if status[row] == OK:
            expected, size = read(body, schema)
            assert size == len(body)
            assert bits(columns.get(row, [buf] * 3)) == bits(expected)


@given(st.data())
def test_mutated_records(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    good = written(schema, data.draw(records(schema)))
    bodies = [good]
    for _ in range(6):
        body = bytearray(good)
        for _ in range(data.draw(st.integers(0, 2)) if body else 0):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(body)))
        extra = data.draw(st.binary(max_size=3))
        bodies.append(data.draw(st.sampled_from([bytes(body), bytes(body[:cut]), body + extra])))
    assert_taken_rightly(schema, bodies)


@given(schemas(), st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_random_bytes(schema: dict[str, Any], bodies: list[bytes]) -> None:
    assert_taken_rightly(schema, bodies)


@given(st.lists(st.binary(max_size=8), max_size=6))
def test_random_wire_values(bodies: list[bytes]) -> None:
    schema = one("string")
    _, status, _ = decoded(bodies, schema)
    for body, code in zip(bodies, status, strict=True):
        if len(body) < 5 or body[0]:
            assert code == BAD_WIRE
        elif body[:5] not in (HEADER, b"\0\0\0\0\x03"):
            assert code == UNKNOWN_SCHEMA


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 40),
            st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 40),
        )
    )
)
def test_spans_of_values_that_lie(places: list[tuple[int, int]]) -> None:
    layout = Layout(one("string"))
    buf = np.frombuffer(bytearray((HEADER + b"\x06abc") * 3), np.uint8)
    status = np.zeros(len(places), np.uint8)
    pos, length = np.array(places, np.int64).reshape(-1, 2).T.copy()
    columns = Columns(layout)
    Reader(layout, {7: layout.schema}).decode(buf, pos, length, status, columns)
    for (at, size), code in zip(places, status, strict=True):
        inside = at >= 0 and size >= 5 and at + size <= 27
        assert (code == OK) == (inside and at % 9 == 0 and size == 9)
        assert (code == BAD_WIRE) == (not inside or buf[at] != 0)


def one(type_: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": "a", "type": type_}]}


ENUM = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
ARRAY = {"type": "array", "items": "int"}
MAP = {"type": "map", "values": "int"}
LAXER = [  # what fastavro lets pass
    ("long", b"\x80" * 10 + b"\x00", "a varint of eleven bytes"),
    ("long", b"\xff" * 9 + b"\x02", "a varint of 65 bits"),
    ("int", b"\x80\x80\x80\x80\x10", "an int of 33 bits"),
    ("boolean", b"\x02", "a boolean of 2"),
    (ENUM, b"\x01", "an enum's index below zero"),
    (["null", "int"], b"\x03", "a union's index below zero"),
    (ARRAY, b"\x01\x04\x02\x00", "a block shorter than it says"),
    (ARRAY, b"\x01\x00\x02\x00", "a block longer than it says"),
    (ARRAY, b"\x02\x02\x00\x00", "a byte left over"),
]


@pytest.mark.parametrize(("type_", "body", "what"), LAXER, ids=[what for _, _, what in LAXER])
def test_refuses_what_fastavro_lets_pass(type_: Any, body: bytes, what: str) -> None:
    read(body, one(type_))
    assert status_of(body, one(type_)) == BAD_AVRO


@pytest.mark.parametrize(
    "head", [I64_MIN, b"\xfe" + b"\xff" * 8 + b"\x01", b"\xfe\xff\xff\xff\x0f"]
)
@pytest.mark.parametrize("type_", [ARRAY, MAP, "string", "bytes", ENUM, ["null", "string"]])
def test_counts_and_lengths_at_the_edges(type_: Any, head: bytes) -> None:
    for tail in (b"", b"\x00", b"\x00" * 20, head, head + head + b"\x00" * 9):
        assert status_of(head + tail, one(type_)) == BAD_AVRO


def test_numbers_at_the_edges_are_read() -> None:
    schema = one("long")
    bodies = [written(schema, {"a": v}) for v in (-(2**63), 2**63 - 1)]
    bodies.append(b"\x80" * 9 + b"\x00")  # zero, written in ten bytes
    columns, status, _ = decoded([HEADER + body for body in bodies], schema)
    assert (status.tolist(), columns.cols.i[0, :3].tolist()) == ([0] * 3, [-(2**63), 2**63 - 1, 0])


def test_blocks_of_either_sign_and_several_are_read() -> None:
    schema = one(MAP)
    body = b"\x02\x02a\x02" + b"\x03\x0c\x02b\x04\x02c\x06" + b"\x02\x02a\x08" + b"\x00"
    columns, status, buf = decoded([HEADER + body], schema)
    assert (status[0], columns.cols.cnt[0, 0]) == (OK, 4)  # a key that comes twice stands twice,
    assert columns.get(0, [buf])["a"] == read(body, schema)[0]["a"] == {"a": 4, "b": 2, "c": 3}


def test_children_of_a_record_are_bounded_over_all_its_maps_and_arrays() -> None:
    fields = [{"name": "a", "type": ARRAY}, {"name": "b", "type": ARRAY}]
    schema = {"type": "record", "name": "R", "fields": fields}
    for more, expected in ((0, OK), (1, BAD_AVRO)):
        lists = {"a": [1] * (CHILDREN_MAX - 5), "b": [2] * (5 + more)}
        assert status_of(written(schema, lists), schema) == expected
    skipped = decoded([HEADER + written(schema, lists)], schema, {**schema, "fields": fields[:1]})
    assert skipped[1][0] == BAD_AVRO


@pytest.mark.parametrize(
    "text",
    [
        b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2\x20", b"\xe0\x9f\xbf", b"\xed\xa0\x80",
        b"\xe2\x82", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff",
        b"\xf0\x9f\x98", b"abcdefgh\xff", b"abcdefghi\xff", b"\xffabcdefghijklmnop",
    ],
)  # fmt: skip
def test_text_and_keys_must_be_utf8(text: bytes) -> None:
    span = bytes([2 * len(text)]) + text
    for tail in (b"", b"." * 20):  # the record ends with the buffer, or doesn't
        for type_, body in (
            ("string", span),
            (MAP, b"\x02" + span + b"\x00\x00"),
            ({"type": "array", "items": "string"}, b"\x02" + span + b"\x00"),
            (["null", "string"], b"\x02" + span),
        ):
            layout = Layout(one(type_))
            buf = np.frombuffer(bytearray(HEADER + body + tail), np.uint8)
            where, status = (np.array([0]), np.array([5 + len(body)])), np.zeros(1, np.uint8)
            Reader(layout, {7: layout.schema}).decode(buf, *where, status, Columns(layout))
            assert status[0] == BAD_UTF8
    assert status_of(span, one("bytes")) == OK
    gone = {"type": "record", "name": "R", "fields": []}
    assert decoded([HEADER + span], one("string"), gone)[1][0] == BAD_UTF8
    assert decoded([HEADER + span], one("bytes"), gone)[1][0] == OK
    assert decoded([HEADER + span], one("bytes"), one("string"))[1][0] == BAD_UTF8
    assert decoded([HEADER + span], one("string"), one("bytes"))[1][0] == BAD_UTF8


def test_an_unknown_writer_is_told_from_bytes_that_are_none() -> None:
    layout = Layout(one("long"))
    reader, columns = Reader(layout, {}), Columns(layout)
    values = [struct.pack(">bI", 0, 2**32 - 1), b"\x00" * 4, b"{}", b"\x01\0\0\0\x07", b""]
    buf, pos, length = spans(values)
    status = np.zeros(5, np.uint8)
    reader.decode(buf, pos, length, status, columns)
    assert status.tolist() == [UNKNOWN_SCHEMA, BAD_WIRE, BAD_WIRE, BAD_WIRE, BAD_WIRE]


def test_bad_records_cost_no_more_than_their_bytes() -> None:
    """Megabytes of empty blocks, of counts that lie and of children: time goes with the bytes."""
    schema = one(ARRAY)
    rows = [
        HEADER + b"\x01\x02\x00" * 300_000,  # blocks of one item until the children are too many
        HEADER + b"\x80" * 900_000,
        *[HEADER + b"\xfe\xff\x07" + b"\x00" * 60_000 for _ in range(10)],
    ]
    decoded(rows[:1], schema)
    begun = time.perf_counter()
    _, status, _ = decoded(rows, schema)
    assert set(status.tolist()) == {BAD_AVRO}
    assert time.perf_counter() - begun < 5
