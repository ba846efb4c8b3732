"""Kafka's record format: our kernels beside aiokafka's reader and writer."""

from typing import Any

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine import records as kernels
from agents.engine.batches import HEADER_BYTES, raw_batch, unpack
from agents.engine.builder import RawBuilder
from topics.kernels import varint as read_varint

pytestmark = pytest.mark.kernel

blobs = st.none() | st.binary(max_size=300)
headers = st.lists(st.tuples(st.text(max_size=8), blobs), max_size=3)
record = st.tuples(blobs, blobs, headers)
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def built(content: list[Record], codec: int = 0) -> bytes:
    """A batch by aiokafka."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 24)
    for k, (key, value, heads) in enumerate(content):
        assert builder.append(k, 1000 + k, key, value, heads) is not None
    return bytes(builder.build())


class Spans:
    """The arrays that parse fills."""

    def __init__(self, cap: int) -> None:
        self.offs, self.ms, self.kpos, self.klen, self.vpos, self.vlen = (
            np.full(cap, -7, np.int64) for _ in range(6)
        )
        self.hpos, self.hlen, self.hcnt = (np.full(cap, -7, np.int64) for _ in range(3))

    def parse(self, body: Any, count: int, limit: int, first: int = 0, base: int = 0) -> int:
        stamp = np.array([1000, 2000, 0], np.int64)
        return int(
            kernels.parse(
                body, 0, len(body), count, base, limit, stamp, first,
                self.offs, self.ms, self.kpos, self.klen, self.vpos, self.vlen,
                self.hpos, self.hlen, self.hcnt, 0,
            )
        )  # fmt: skip

    def record(self, body: Any, r: int) -> Record:
        data = body.tobytes()
        key = None if self.klen[r] < 0 else data[self.kpos[r] : self.kpos[r] + self.klen[r]]
        value = None if self.vlen[r] < 0 else data[self.vpos[r] : self.vpos[r] + self.vlen[r]]
        blob = data[self.hpos[r] : self.hpos[r] + self.hlen[r]]
        return key, value, kernels.read_headers(blob, int(self.hcnt[r]))


@given(content=st.lists(record, min_size=1, max_size=20))
@settings(deadline=None)
def test_parse_finds_what_aiokafka_wrote(content: list[Record]) -> None:
    data = built(content)
    body = np.frombuffer(data, np.uint8)[HEADER_BYTES:].copy()
    spans = Spans(len(content))
    assert spans.parse(body, len(content), len(content)) == len(content)
    assert [spans.record(body, r) for r in range(len(content))] == content
    assert spans.offs.tolist() == list(range(len(content)))
    assert spans.ms.tolist() == [1000 + k for k in range(len(content))]


@given(content=st.lists(record, min_size=1, max_size=20))
@settings(deadline=None)
def test_frame_one_is_read_by_aiokafka(content: list[Record]) -> None:
    body = b"".join(kernels.frame_one(k, *one) for k, one in enumerate(content))
    found = read(RawBuilder(body, len(content))._build())
    assert found == content


def read(data: bytes) -> list[Record]:
    """A batch by aiokafka's reader."""
    memory = MemoryRecords(data)
    assert memory.has_next()
    batch = memory.next_batch()
    assert batch is not None and batch.validate_crc()
    return [(r.key, r.value, list(r.headers)) for r in batch]


@given(values=st.lists(blobs, min_size=1, max_size=30), keys=st.data())
@settings(deadline=None)
def test_frame_is_read_by_aiokafka(values: list[bytes | None], keys: st.DataObject) -> None:
    names = keys.draw(
        st.lists(st.binary(min_size=1, max_size=20), min_size=len(values), max_size=len(values))
    )
    pool = np.frombuffer(b"".join(names), np.uint8).copy()
    klen = np.array([len(n) for n in names], np.int64)
    kpos = np.cumsum(klen) - klen
    sizes = np.array([len(v or b"") for v in values], np.int64)
    off = np.concatenate(([0], np.cumsum(sizes)))
    gone = np.array([v is None for v in values], np.uint8)
    content = np.frombuffer(b"".join(v or b"" for v in values) or b"\0", np.uint8).copy()
    out, lo, found = np.zeros(20_000, np.uint8), 0, []
    while lo < len(values):
        hi, end = kernels.frame(
            out,
            0,
            500,
            np.arange(len(values)),
            lo,
            len(values),
            pool,
            kpos,
            klen,
            content,
            off,
            gone,
        )
        assert hi > lo
        found += read(RawBuilder(out[:end], hi - lo)._build())
        lo = hi
    assert found == [(n, v, []) for n, v in zip(names, values, strict=True)]


def test_a_record_larger_than_the_buffer_is_not_framed() -> None:
    one = np.zeros(1, np.int64)
    size = np.array([100], np.int64)
    out = np.zeros(90, np.uint8)
    args = (
        np.arange(1),
        0,
        1,
        np.zeros(4, np.uint8),
        one,
        one,
        np.zeros(100, np.uint8),
        np.array([0, 100]),
        np.zeros(1, np.uint8),
    )
    assert kernels.frame(out, 0, 90, *args) == (0, 0)
    assert size[0] > out.shape[0] - 10


@given(
    content=st.lists(record, min_size=1, max_size=8),
    flips=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), max_size=6),
    count=st.integers(-2, 40),
)
@settings(deadline=None, max_examples=300)
def test_bytes_that_lie_are_refused_or_stay_inside(
    content: list[Record], flips: list[tuple[int, int]], count: int
) -> None:
    body = np.frombuffer(built(content), np.uint8)[HEADER_BYTES:].copy()
    for at, byte in flips:
        body[at % len(body)] = byte
    spans = Spans(50)
    stored = spans.parse(body, count, len(content))
    assert stored in (-1, max(count, 0))
    for r in range(max(stored, 0)):
        for pos, length in (
            (spans.kpos[r], spans.klen[r]),
            (spans.vpos[r], spans.vlen[r]),
            (spans.hpos[r], spans.hlen[r]),
        ):
            assert length >= -1 and pos >= 0 and pos + max(length, 0) <= len(body)


@given(junk=st.binary(max_size=400), count=st.integers(0, 500))
@settings(deadline=None, max_examples=300)
def test_random_bytes_are_refused_or_stay_inside(junk: bytes, count: int) -> None:
    body = np.frombuffer(junk + b"\0", np.uint8)[: len(junk)].copy()
    spans = Spans(10)
    assert -1 <= spans.parse(body, count, 1 << 40) <= 10


def test_records_before_the_position_are_passed_over_and_the_rest_stops_at_the_arrays_end() -> None:
    content: list[Record] = [(b"k", b"%d" % k, []) for k in range(10)]
    body = np.frombuffer(built(content), np.uint8)[HEADER_BYTES:].copy()
    spans = Spans(4)
    assert spans.parse(body, 10, 110, first=103, base=100) == 4
    assert spans.offs.tolist() == [103, 104, 105, 106]
    assert spans.record(body, 0)[1] == b"3"


@given(value=st.integers(-(2**63), 2**63 - 1))
def test_varints(value: int) -> None:
    out = np.zeros(10, np.uint8)
    end = kernels.put_varint(out, 0, np.int64(value))
    assert end == kernels.varint_size(np.int64(value)) == len(kernels.varint(value))
    assert out[:end].tobytes() == kernels.varint(value)
    assert read_varint(out, 0, end) == (value, end)


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_every_codec_is_unpacked(codec: int) -> None:
    content: list[Record] = [(b"key", b"value-%d" % k * 20, []) for k in range(200)]
    plain, packed = built(content), built(content, codec)
    assert unpack(raw_batch(packed), 1 << 20).tobytes() == plain[HEADER_BYTES:]
