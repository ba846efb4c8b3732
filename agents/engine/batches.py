"""Whole record batches instead of records: small hooks into aiokafka's fetcher, and nowhere else.

aiokafka keeps its own handling of CRC, aborted transactions and control batches; only the iteration
over a batch's records is replaced: a batch yields itself, once, as it came. The hooks are pinned
by tests/contract/test_private_interfaces.py. Format: Kafka protocol guide, record batch (magic 2).
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cramjam
import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from numpy.typing import NDArray

HEADER_BYTES = 61
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
_XERIAL = b"\x82SNAPPY\x00"  # magic of the Java client's snappy framing


class BadBatch(Exception):
    """A record batch that can't be unpacked, or that lies about its records."""


@dataclass(frozen=True, slots=True)
class RawBatch:
    """One record batch as the broker sent it. Offsets and times as in its header."""

    data: bytes  # header and (possibly compressed) records
    base_offset: int
    next_offset: int
    count: int
    codec: int
    first_ms: int
    max_ms: int
    log_append_time: bool

    @property
    def offset(self) -> int:
        """Offset of the last record: what aiokafka takes for the record's own."""
        return self.next_offset - 1

    @property
    def timestamp(self) -> int:
        """Milliseconds, for aiokafka and Faust."""
        return self.max_ms


class WholeBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """Iterates over itself as a single RawBatch; control batches still yield their records."""

    def __iter__(self) -> Iterator[Any]:
        if self.is_control_batch:
            records: Iterator[Any] = super().__iter__()
            return records
        return iter((raw_batch(bytes(self._buffer)),))


def raw_batch(data: bytes) -> RawBatch:
    """A batch from its bytes (magic 2, header included)."""
    fields = _DefaultRecordBatchPy.HEADER_STRUCT.unpack_from(data)
    attributes, delta = fields[5], fields[6]
    return RawBatch(
        data=data,
        base_offset=fields[0],
        next_offset=fields[0] + delta + 1,
        count=fields[12],
        codec=attributes & 7,
        first_ms=fields[7],
        max_ms=fields[8],
        log_append_time=bool(attributes & 8),
    )


class WholeBatches(_MemoryRecordsPy):  # type: ignore[misc]
    """A fetch response's records, cut into whole batches."""

    def next_batch(self, *_: Any) -> Any:
        part = self._next_slice
        if part is None:
            return None
        if part[self.MAGIC_OFFSET] < 2:
            raise BadBatch("message format older than version 2: convert the topic first")
        self._cache_next()
        return WholeBatch(part)


def install() -> None:
    """Put the hooks in place; every consumer of this process then delivers RawBatch objects."""
    fetcher.MemoryRecords = WholeBatches
    fetcher.PartitionRecords._consumer_record = lambda _self, _tp, record: record


def unpack(batch: RawBatch, limit: int) -> NDArray[np.uint8]:
    """The records' bytes, decompressed.

    Raises BadBatch for bytes that don't decompress, an unknown codec, or more than `limit` bytes:
    output buffers never grow beyond the limit.
    """
    body = memoryview(batch.data)[HEADER_BYTES:]
    if batch.codec == 0:
        return np.frombuffer(body, np.uint8)
    try:
        if batch.codec == GZIP:
            return _gzip(body, limit)
        if batch.codec == SNAPPY:
            return _snappy(body, limit)
        if batch.codec == LZ4:
            return _grow(cramjam.lz4.decompress_into, body, limit)
        if batch.codec == ZSTD:
            return _grow(cramjam.zstd.decompress_into, body, limit)
    except (zlib.error, cramjam.DecompressionError, ValueError) as error:
        raise BadBatch(f"records don't decompress into {limit} bytes: {error}") from error
    raise BadBatch(f"unknown compression codec {batch.codec}")


def _grow(into: Callable[..., int], body: memoryview, limit: int) -> NDArray[np.uint8]:
    """Decompress into a buffer that grows up to the limit (the size isn't known beforehand)."""
    size = min(limit, max(1 << 16, 4 * len(body)))
    while True:
        out = np.empty(size, np.uint8)
        try:
            return out[: into(body, out)]
        except cramjam.DecompressionError:
            if size == limit:
                raise
            size = min(limit, 4 * size)


def _gzip(body: memoryview, limit: int) -> NDArray[np.uint8]:
    stream = zlib.decompressobj(wbits=31)
    data = stream.decompress(body, limit)
    if not stream.eof:
        raise ValueError("truncated, or too large")
    return np.frombuffer(data, np.uint8)


def _snappy(body: memoryview, limit: int) -> NDArray[np.uint8]:
    """Raw snappy (librdkafka), or raw blocks behind lengths (the Java client's framing)."""
    blocks = _blocks(body) if bytes(body[:8]) == _XERIAL else [body]
    sizes = [cramjam.snappy.decompress_raw_len(bytes(b)) for b in blocks]
    if sum(sizes) > limit:
        raise ValueError("too large")
    out = np.empty(sum(sizes), np.uint8)
    at = 0
    for block, size in zip(blocks, sizes, strict=True):
        if cramjam.snappy.decompress_raw_into(block, out[at : at + size].data) != size:
            raise ValueError("block of another size than it says")
        at += size
    return out


def _blocks(body: memoryview) -> list[memoryview]:
    blocks, at = [], 16
    while at < len(body):
        if at + 4 > len(body):
            raise ValueError("truncated block length")
        size = int.from_bytes(body[at : at + 4], "big")
        if at + 4 + size > len(body):
            raise ValueError("truncated block")
        blocks.append(body[at + 4 : at + 4 + size])
        at += 4 + size
    return blocks
