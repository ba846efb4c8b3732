"""Rows out of COPY's bytes, whatever they are; records that Kafka's own reader understands."""

import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.builder import RawBuilder
from agents.engine.records import framed
from agents.outbox.kernels import FIELDS, SIGNATURE, TIME_BYTES, frame, parts_of, put_time
from agents.outbox.rows import Rows, rows_of
from agents.outbox.warm import copy_of

pytestmark = pytest.mark.kernel

IDS = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(str.encode)
MAYBE = st.none() | st.binary(max_size=300)
ROWS = st.lists(
    st.tuples(IDS, TEXT, TEXT, TEXT, TEXT, st.integers(-(2**62), 2**62), MAYBE, MAYBE, MAYBE),
    max_size=5,
)
Row = tuple[int, bytes, bytes, bytes, bytes, int, bytes | None, bytes | None, bytes | None]
EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)


def copied(rows: list[Row]) -> bytes:
    return copy_of(
        [(struct.pack(">q", r[0]), *r[1:5], struct.pack(">q", r[5]), *r[6:]) for r in rows]
    )


@given(ROWS)
def test_a_copys_rows_are_found(rows: list[Row]) -> None:
    found = rows_of(copied(rows), len(rows), b"tail")
    assert found.n == len(rows) and found.b.tobytes().endswith(b"tail")
    for k, row in enumerate(rows):
        assert (found.ids[k], found.created[k]) == (row[0], row[5])
        for column in (1, 2, 3, 4, 6, 7, 8):
            want = row[column]
            assert (found.length[column, k] < 0) == (want is None)
            assert found.text(column, k) == (want or b"")


@given(ROWS, st.data())
def test_bytes_that_lie_are_an_error_or_rows_within_them(
    rows: list[Row], data: st.DataObject
) -> None:
    raw = bytearray(copied(rows))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        found = rows_of(cut, len(rows))
    except ValueError:
        return
    ends = found.pos[:, : found.n] + np.maximum(found.length[:, : found.n], 0)
    assert (found.pos[:, : found.n] >= 19).all() and (ends <= len(cut)).all()


def test_a_copy_cut_anywhere_is_an_error() -> None:
    whole = copied([(7, b"t", b"a", b"k", b"d", 5, b"v", None, None)])
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="COPY"):
            rows_of(whole[:end], 1)
    with pytest.raises(ValueError, match="more rows"):
        rows_of(whole, 0)


@pytest.mark.parametrize(
    "bad",
    [
        SIGNATURE + struct.pack(">IIh", 1 << 16, 0, -1),  # with oids
        SIGNATURE + struct.pack(">IIh", 0, 100, -1),
        SIGNATURE + struct.pack(">IIh", 0, 0, FIELDS + 1),
        SIGNATURE + struct.pack(">IIhi", 0, 0, FIELDS, -2),
        SIGNATURE + struct.pack(">IIhi", 0, 0, FIELDS, 2**31 - 1),
        b"",
    ],
)
def test_what_is_no_copy_of_ours_is_an_error(bad: bytes) -> None:
    with pytest.raises(ValueError, match="COPY"):
        rows_of(bad, 10)


@given(st.integers(-63_082_281_600_000_000, 252_455_615_999_999_999))
def test_times_are_written_as_iso_8601(since_2000: int) -> None:
    out = np.zeros(TIME_BYTES, np.uint8)
    assert put_time(out, 0, since_2000) == TIME_BYTES
    want = EPOCH_2000 + timedelta(microseconds=since_2000)
    assert out.tobytes().decode() == want.strftime("%Y").zfill(4) + want.strftime(
        "-%m-%dT%H:%M:%S.%fZ"
    )


@pytest.mark.parametrize(
    ("since_2000", "text"),
    [(2**63 - 1, "9999-12-31T23:59:59.999999Z"), (-(2**63), "0001-01-01T00:00:00.000000Z")],
)
def test_infinite_times_are_the_last_and_first(since_2000: int, text: str) -> None:
    out = np.zeros(TIME_BYTES, np.uint8)
    put_time(out, 0, np.int64(since_2000))
    assert out.tobytes().decode() == text


def framed_rows(
    rows: Rows, values: list[bytes], extras: list[list[tuple[bytes, bytes | None]]]
) -> tuple[int, bytes]:
    """(records framed, bytes); every second value lies in the other buffer."""
    n = rows.n
    parts, at = parts_of(b"/soma/outbox", b"cog.observations")
    from_j = np.array([k % 2 for k in range(n)], np.uint8)
    j = b"".join(value for k, value in enumerate(values) if k % 2)
    vpos, vlen, inj = np.zeros(n, np.int64), np.zeros(n, np.int64), 0
    tail = rows.b.tobytes()
    for k, content in enumerate(values):
        vpos[k], vlen[k] = (inj, len(content)) if k % 2 else (len(tail), len(content))
        inj += len(content) if k % 2 else 0
        tail += b"" if k % 2 else content
    xs = [b"".join(framed(a) + framed(b) for a, b in one) for one in extras]
    xlen = np.array(list(map(len, xs)), np.int64)
    out = np.zeros(100_000, np.uint8)
    hi, end = frame(
        out, 90_000, np.arange(n), 0, n, _array(tail), rows.pos, rows.length, rows.ids,
        rows.created, _array(j), from_j, vpos, vlen, _array(b"".join(xs)),
        np.cumsum(xlen) - xlen, xlen, np.array(list(map(len, extras)), np.int64), parts, at,
    )  # fmt: skip
    return int(hi), out[:end].tobytes()


def _array(data: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


NAMED = st.tuples(TEXT.filter(bool), st.none() | st.binary(max_size=20))


@given(ROWS.filter(bool), st.data())
def test_framed_records_are_what_kafkas_client_reads(rows: list[Row], data: st.DataObject) -> None:
    values = [data.draw(st.binary(max_size=200)) for _ in rows]
    extras = [data.draw(st.lists(NAMED, max_size=3)) for _ in rows]
    hi, content = framed_rows(rows_of(copied(rows), len(rows)), values, extras)
    assert hi == len(rows)
    batch = DefaultRecordBatch(bytearray(RawBuilder(content, hi)._build()))
    assert batch.validate_crc()
    for record, row, one, more in zip(batch, rows, values, extras, strict=True):
        assert (record.key, record.value) == (row[2], one)
        headers = dict(record.headers)
        assert headers["ce_id"] == str(row[0]).encode() and headers["ce_specversion"] == b"1.0"
        assert headers["ce_source"] == b"/soma/outbox"
        assert headers["ce_type"] == b"cog.observations"
        assert (headers["tenant-id"], headers["dedupe-key"], headers["soma-key"]) == (
            row[2], row[4], row[3]
        )  # fmt: skip
        assert [(n.encode(), c) for n, c in record.headers[8:]] == more


def test_spans_outside_their_buffers_are_told_not_read() -> None:
    whole = copied([(7, b"t", b"a", b"k", b"d", 5, b"v", None, None)])
    for column, pos, length in [(2, -1, 1), (3, 10**9, 1), (4, 0, 10**9), (2, 5, -3)]:
        rows = rows_of(whole, 1)
        rows.pos[column, 0], rows.length[column, 0] = pos, length
        assert framed_rows(rows, [b"x"], [[]])[0] == -1
