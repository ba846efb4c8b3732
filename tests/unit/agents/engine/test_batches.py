"""Unpacking: every codec, truncation, and batches that unpack to more than is allowed."""

import gzip
import struct
from collections.abc import Callable
from typing import Any

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.batches import GZIP, HEADER_BYTES, LZ4, SNAPPY, ZSTD, BadBatch, RawBatch, unpack

LIMIT = 1 << 20
PACK: dict[int, Callable[[bytes], Any]] = {
    GZIP: gzip.compress,
    SNAPPY: cramjam.snappy.compress_raw,
    LZ4: cramjam.lz4.compress,
    ZSTD: cramjam.zstd.compress,
}
codecs = pytest.mark.parametrize("codec", list(PACK))


def batch(codec: int, body: bytes) -> RawBatch:
    return RawBatch(bytes(HEADER_BYTES) + body, 0, 1, 1, codec, 0, 0, True)


@codecs
def test_what_was_packed_comes_back(codec: int) -> None:
    content = b"the same again " * 5000
    assert unpack(batch(codec, bytes(PACK[codec](content))), LIMIT).tobytes() == content


@codecs
def test_a_bomb_is_refused_at_the_limit(codec: int) -> None:
    bomb = bytes(PACK[codec](bytes(64 << 20)))
    assert len(bomb) < 4 << 20
    with pytest.raises(BadBatch):
        unpack(batch(codec, bomb), LIMIT)


@codecs
def test_exactly_the_limit_is_allowed(codec: int) -> None:
    assert len(unpack(batch(codec, bytes(PACK[codec](bytes(LIMIT)))), LIMIT)) == LIMIT


@codecs
def test_truncated_bytes_are_refused(codec: int) -> None:
    packed = bytes(PACK[codec](bytes(range(256)) * 100))
    with pytest.raises(BadBatch):
        unpack(batch(codec, packed[: len(packed) // 2]), LIMIT)


@codecs
@given(junk=st.binary(max_size=300))
@settings(deadline=None)
def test_random_bytes_are_refused_or_small(codec: int, junk: bytes) -> None:
    try:
        assert len(unpack(batch(codec, junk), LIMIT)) <= LIMIT
    except BadBatch as error:
        assert str(error)


def test_the_java_clients_snappy_framing() -> None:
    content = b"block " * 1000
    raw = bytes(cramjam.snappy.compress_raw(content))
    framed = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + 2 * (struct.pack(">i", len(raw)) + raw)
    assert unpack(batch(SNAPPY, framed), LIMIT).tobytes() == 2 * content
    for wrong in (framed[:-1], framed + b"\0\0", framed[:16] + struct.pack(">I", 2**32 - 1) + raw):
        with pytest.raises(BadBatch):
            unpack(batch(SNAPPY, wrong), LIMIT)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(BadBatch, match="codec 7"):
        unpack(batch(7, b"x"), LIMIT)
