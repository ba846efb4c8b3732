"""Row path and column path: the same bytes taken, to the same records; the same reasons why not."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.topics.strategies import NAMED, NAMED_RECORDS
from topics.codec import BadRecord, decode, encode, header
from topics.columns import Columns, Reader
from topics.layout import Layout
from topics.schemas import schemas

REASONS = {1: "bad_wire_format", 2: "unknown_schema", 3: "bad_avro", 4: "bad_utf8"}


@cache
def reader(name: str) -> Reader:
    return Reader(Layout(schemas().newest(name)), schemas().writers(name))


def by_columns(name: str, values: list[bytes]) -> list[Any]:
    """Each value's record, or the reason why it is bad, by the kernels in one batch."""
    buf = np.frombuffer(b"".join(values) + b" ", np.uint8)
    size = np.array([len(value) for value in values], np.int64)
    at = np.cumsum(size) - size
    status = np.zeros(len(values), np.uint8)
    columns = Columns(reader(name).layout)
    reader(name).decode(buf, at, size, status, columns)
    return [
        REASONS[int(code)] if code else columns.get(k, (buf, buf, buf))
        for k, code in enumerate(status)
    ]


def by_rows(value: bytes) -> Any:
    try:
        return decode(value)[1]
    except BadRecord as error:
        return error.reason


def assert_agree(name: str, values: list[bytes]) -> None:
    for value, found in zip(values, by_columns(name, values), strict=True):
        expected = by_rows(value)
        assert repr(found) == repr(expected), value.hex(" ")  # repr: a NaN isn't equal to itself


@given(NAMED.flatmap(lambda name: st.tuples(st.just(name), st.lists(st.binary(max_size=60)))))
def test_on_random_avro(pair: tuple[str, list[bytes]]) -> None:
    name, bodies = pair
    number = schemas().schema_id(name)
    assert_agree(name, [header(number) + body for body in bodies])


@given(NAMED_RECORDS, st.data())
def test_on_mutated_values(pair: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    name, record = pair
    good = encode(name, record)
    mutated = []
    for _ in range(8):
        value = bytearray(good)
        for _ in range(data.draw(st.integers(0, 3))):
            value[data.draw(st.integers(5, len(value) - 1))] = data.draw(st.integers(0, 255))
        mutated.append(bytes(value[: data.draw(st.integers(0, len(value)))]))
    assert_agree(name, [good, *mutated])


@given(st.lists(st.binary(max_size=10)))
@example([b"", b"\x00", b"\x00\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01", b"\x00\x00\x00\x10\x00"])
def test_on_random_bytes(values: list[bytes]) -> None:
    foreign = [v for v in values if v[:1] != b"\x00" or len(v) < 5 or v[1:5] != b"\x00\x00\x00\x01"]
    for value, found in zip(foreign, by_columns("observation", foreign), strict=True):
        assert found in ("bad_wire_format", "unknown_schema"), value


@pytest.mark.parametrize("name", schemas().names())
def test_on_every_truncation(name: str) -> None:
    fields = schemas().newest(name)["fields"]
    record = {field["name"]: _some(field["type"]) for field in fields}
    good = encode(name, record)
    assert_agree(name, [good[:end] for end in range(5, len(good) + 1)] + [good + b"\x00"])


def _some(kind: Any) -> Any:
    if isinstance(kind, list):
        return _some(kind[-1])
    if isinstance(kind, dict) and kind["type"] in ("map", "array"):
        item = _some(kind["values" if kind["type"] == "map" else "items"])
        return {"ké": item, "k2": item} if kind["type"] == "map" else [item, item]
    if isinstance(kind, dict) and kind["type"] == "enum":
        return kind["symbols"][-1]
    body = kind["type"] if isinstance(kind, dict) else kind
    return {"string": "né", "bytes": b"\xff" * 70, "float": 0.5, "double": 0.1}.get(body, 300)
