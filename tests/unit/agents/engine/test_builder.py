"""Record batches of our own making, read back by aiokafka and byte by byte."""

import struct

import cramjam
import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.batches import LZ4, raw_batch, unpack
from agents.engine.builder import COMPRESS_FROM, HEADER, RawBuilder
from agents.engine.records import frame_one

Record = tuple[bytes | None, bytes | None]
LZ4_MAGIC = 0x184D2204


def framed(content: list[Record]) -> bytes:
    return b"".join(frame_one(k, key, value, []) for k, (key, value) in enumerate(content))


def read(data: bytes) -> list[Record]:
    memory = MemoryRecords(data)
    batch = memory.next_batch()
    assert batch is not None and batch.validate_crc()
    found = [(r.key, r.value) for r in batch]
    assert not memory.has_next()
    return found


blobs = st.none() | st.binary(max_size=400)


@given(content=st.lists(st.tuples(blobs, blobs), min_size=1, max_size=20))
@settings(deadline=None)
def test_what_is_built_is_read_by_aiokafka(content: list[Record]) -> None:
    body = framed(content)
    builder = RawBuilder(np.frombuffer(body, np.uint8), len(content))
    assert builder.record_count() == len(content) and builder.closed()
    data = builder._build()
    assert builder.size() == len(data)
    assert read(data) == content
    batch = raw_batch(data)
    assert batch.codec == (LZ4 if len(body) >= COMPRESS_FROM else 0)
    assert unpack(batch, 1 << 20).tobytes() == body
    assert (batch.count, batch.next_offset) == (len(content), len(content))


@pytest.mark.parametrize(("size", "codec"), [(COMPRESS_FROM - 1, 0), (COMPRESS_FROM, LZ4)])
def test_only_what_is_worth_it_is_compressed(size: int, codec: int) -> None:
    builder = RawBuilder(bytes(size), 1)
    assert raw_batch(builder._build()).codec == codec


@pytest.mark.parametrize("producer", [-1, 77])
def test_the_header_says_what_aiokafka_told(producer: int) -> None:
    builder = RawBuilder(framed([(b"k", b"v")]), 1)
    if producer >= 0:
        builder._set_producer_state(producer, 3, 12)
    data = builder._build()
    offset, length, leader, magic, _, attributes, last, first_ms, max_ms, *state, count = (
        HEADER.unpack_from(data)
    )
    assert (offset, length, leader, magic) == (0, len(data) - 12, -1, 2)
    assert (last, count) == (0, 1) and first_ms == max_ms > 1_700_000_000_000
    assert attributes == (0x10 if producer >= 0 else 0)
    assert state == ([77, 3, 12] if producer >= 0 else [-1, -1, -1])


def test_a_batch_can_be_built_again_with_another_sequence() -> None:
    builder = RawBuilder(framed([(b"k", b"v" * 5000)]), 1)
    builder._set_producer_state(1, 1, 1)
    first = builder._build()
    builder._set_producer_state(1, 2, 0)
    assert read(first) == read(builder._build()) == [(b"k", b"v" * 5000)]


@pytest.mark.parametrize("size", [COMPRESS_FROM, 65_536, 1_000_000])
@pytest.mark.parametrize("noisy", [False, True])
def test_lz4_frames_have_independent_blocks(size: int, noisy: bool) -> None:
    body = np.random.default_rng(1).bytes(size) if noisy else b"again and " * (size // 10 + 1)
    packed = RawBuilder(body, 1)._build()[HEADER.size :]
    magic, flags, blocks = struct.unpack_from("<IBB", packed)
    assert magic == LZ4_MAGIC
    assert flags >> 6 == 1, "version 1"
    assert flags & 0x20, "independent blocks: what Kafka's own reader demands"
    assert 4 <= blocks >> 4 & 7 <= 7
    assert bytes(cramjam.lz4.decompress(packed)) == body
    assert len(packed) < size + 200
