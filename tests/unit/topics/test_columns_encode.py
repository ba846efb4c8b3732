"""Columns to bytes: fastavro's, byte for byte; and nothing beyond the arrays, whatever they say."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topics.columnar import HEADER, SCHEMA_ID, batches, decoded, written
from topics.columns import CHILDREN_MAX, Buffer, Columns, Layout, Writer

pytestmark = pytest.mark.kernel


def encoded(columns: Columns, bufs: Any, rows: Any, schema_id: int | None) -> list[bytes]:
    out, off = Buffer(), np.zeros(len(rows) + 1, np.int64)
    out.append(b"before")
    Writer(columns.layout, schema_id).encode(columns, np.array(rows, np.int64), bufs, out, off)
    assert out.data[:6].tobytes() == b"before"
    assert (off[0], off[-1]) == (6, out.used)
    return [out.data[a:z].tobytes() for a, z in pairwise(off)]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@given(batches(), st.sampled_from([None, SCHEMA_ID]))
def test_bytes_are_fastavros(
    batch: tuple[dict[str, Any], list[dict[str, Any]]], schema_id: int | None
) -> None:
    schema, records = batch
    columns, scratch = Columns(Layout(schema)), Buffer()
    for row, record in enumerate(records):
        columns.put(row, record, scratch)
    header = b"" if schema_id is None else HEADER
    expected = [header + written(schema, record) for record in records]
    bufs = (scratch.data, scratch.data, scratch.data)
    found = encoded(columns, bufs, range(len(records)), schema_id)
    assert found == expected
    backwards = encoded(columns, bufs, range(len(records))[::-1], schema_id)
    assert backwards == expected[::-1]


@given(batches())
def test_decode_then_encode_gives_the_same_bytes(
    batch: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    schema, records = batch
    values = [HEADER + written(schema, record) for record in records]
    columns, status, buf = decoded(values, schema)
    assert not status.any()
    assert encoded(columns, (buf, buf, buf), range(len(values)), SCHEMA_ID) == values


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # NumPy's, as plain Python
def test_floats_beyond_32_bits_become_infinite_as_in_fastavro() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "float"}]}
    layout = Layout(schema)
    columns = Columns(layout, 4)
    columns.cols.f[0] = [1e300, -1e300, 3.4028235677973366e38, 1e-46]
    empty = np.zeros(0, np.uint8)
    found = encoded(columns, (empty, empty, empty), range(4), None)
    assert found == [written(schema, {"x": x}) for x in columns.cols.f[0].tolist()]
    assert found[0] == b"\x00\x00\x80\x7f"


def test_spans_come_from_the_buffer_that_the_layout_names() -> None:
    weights = {"type": "map", "values": "string"}
    fields = [{"name": "s", "type": "string"}, {"name": "m", "type": weights}]
    schema = {"type": "record", "name": "R", "fields": fields}
    columns, scratch = Columns(Layout(schema, {"m.key": 1, "m.item": 2})), Buffer()
    columns.put(0, {"s": "ab", "m": {"cd": "ef"}}, scratch)
    bufs = tuple(np.frombuffer(text * 3, np.uint8) for text in (b"xy", b"kl", b"vw"))
    found = encoded(columns, bufs, [0], None)
    assert found == [written(schema, {"s": "xy", "m": {"kl": "vw"}})]


FIELDS = [
    {"name": "text", "type": "string"},
    {"name": "small", "type": "int"},
    {"name": "flag", "type": "boolean"},
    {"name": "verdict", "type": {"type": "enum", "name": "V", "symbols": ["a", "b"]}},
    {"name": "map", "type": {"type": "map", "values": "string"}},
    {"name": "list", "type": {"type": "array", "items": "int"}},
]
RECORD = {"text": "x", "small": 1, "flag": True, "verdict": "a", "map": {"k": "v"}, "list": [1, 2]}
LIES: dict[str, tuple[str, Callable[[Any], None]]] = {
    "span begins before the buffer": ("text", lambda c: c.pos.fill(-1)),
    "span ends behind the buffer": ("text", lambda c: c.len.fill(10**6)),
    "span of negative length": ("text", lambda c: c.len.fill(-1)),
    "span whose end overflows": ("text", lambda c: (c.pos.fill(2), c.len.fill(2**63 - 1))),
    "int of 33 bits": ("small", lambda c: c.i.__setitem__(0, 2**31)),
    "boolean of 2": ("flag", lambda c: c.i.__setitem__(1, 2)),
    "enum without such a symbol": ("verdict", lambda c: c.i.__setitem__(2, 2)),
    "enum below zero": ("verdict", lambda c: c.i.__setitem__(2, -1)),
    "map's key outside": ("map", lambda c: c.kpos.fill(10**9)),
    "map's value outside": ("map", lambda c: c.vlen.fill(10**9)),
    "children below zero": ("map", lambda c: c.at.fill(-1)),
    "children that don't exist": ("map", lambda c: c.at.fill(10**6)),
    "a negative count": ("map", lambda c: c.cnt.fill(-1)),
    "a count that overflows": ("map", lambda c: c.cnt.fill(2**63 - 1)),
    "more children than allowed": ("map", lambda c: c.cnt.fill(CHILDREN_MAX + 1)),
    "a child of 33 bits": ("list", lambda c: c.vi.fill(-(2**31) - 1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_columns_that_lie_are_refused_and_leave_nothing(lie: str) -> None:
    layout = Layout({"type": "record", "name": "R", "fields": FIELDS})
    columns, scratch, out = Columns(layout), Buffer(), Buffer()
    for row in range(600):  # the lie is found when blocks before it were written
        columns.put(row, RECORD, scratch)
    field, tell = LIES[lie]
    held = Columns(layout, columns.cap, columns.ccap)
    for new, old in zip(held.cols, columns.cols, strict=True):
        new[...] = old
    tell(columns.cols)
    rows, off = np.full(600, 300), np.zeros(601, np.int64)
    for array, honest in zip(columns.cols[:7], held.cols[:7], strict=True):
        array[:, :300] = honest[:, :300]
    rows[:299] = range(299)
    out.append(b"kept")
    bufs = (scratch.data[: scratch.used],) * 3
    with pytest.raises(ValueError, match=f"{field}: "):
        Writer(layout, 1).encode(columns, rows, bufs, out, off)
    assert out.used == 4


def test_rows_and_offsets_are_checked() -> None:
    layout = Layout({"type": "record", "name": "R", "fields": FIELDS})
    columns, scratch, out = Columns(layout), Buffer(), Buffer()
    columns.put(0, RECORD, scratch)
    writer, bufs = Writer(layout, 1), (scratch.data,) * 3
    for row in (-1, columns.cap):
        with pytest.raises(ValueError, match="record 0: row"):
            writer.encode(columns, np.array([row]), bufs, out, np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="offsets"):
        writer.encode(columns, np.array([0]), bufs, out, np.zeros(1, np.int64))
    writer.encode(columns, np.zeros(0, np.int64), bufs, out, np.zeros(1, np.int64))
    assert out.used == 0
