"""Ready-made record batches for aiokafka's producer: it fills in what only it knows.

`RawBuilder` stands in for aiokafka's BatchBuilder; the few methods that its accumulator and sender
call are pinned by tests/contract/test_private_interfaces.py.
"""

import struct
import time

import cramjam
import numpy as np
from aiokafka.record.util import calc_crc32c
from numpy.typing import NDArray

HEADER = struct.Struct(">qiibIhiqqqhii")
_CRC = struct.Struct(">I")
_CRC_AT = 17
_ATTRIBUTES_AT = 21
_TRANSACTIONAL = 0x10
_LZ4 = 3
# Magic, flags (version 1, independent blocks), block size (up to 4 MiB), a byte of their xxh32.
_LZ4_HEADER = bytes.fromhex("04224d18607073")
_LZ4_STORED = 1 << 31  # in a block's length: its bytes are as they were
_LZ4_BLOCK_MAX = 4 << 20
_LZ4_END = bytes(4)
COMPRESS_FROM = 1024  # bytes: smaller batches aren't worth it


class RawBuilder:
    """One record batch of framed records, compressed here, in the caller's thread."""

    __slots__ = ("_codec", "_count", "_data", "_state")

    def __init__(self, records: bytes | NDArray[np.uint8], count: int) -> None:
        size = len(records)
        self._codec = _LZ4 if size >= COMPRESS_FROM else 0
        plain = memoryview(records) if isinstance(records, bytes) else records.data
        body = _lz4(plain) if self._codec else bytes(plain)
        self._data = bytearray(HEADER.size + len(body))
        self._data[HEADER.size :] = body
        self._count = count
        self._state = (-1, -1, -1)

    def closed(self) -> bool:
        """Nothing can be appended."""
        return True

    def close(self) -> None:
        """Closed from the start."""

    def size(self) -> int:
        """Bytes on the wire."""
        return len(self._data)

    def record_count(self) -> int:
        """Records in the batch."""
        return self._count

    def _set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int
    ) -> None:
        self._state = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        now = int(time.time() * 1000)
        attributes = self._codec | (_TRANSACTIONAL if self._state[0] >= 0 else 0)
        last = self._count - 1
        length = len(self._data) - 12
        HEADER.pack_into(
            self._data,
            0,
            0,
            length,
            -1,
            2,
            0,
            attributes,
            last,
            now,
            now,
            *self._state,
            self._count,
        )
        crc = calc_crc32c(memoryview(self._data)[_ATTRIBUTES_AT:])
        _CRC.pack_into(self._data, _CRC_AT, crc)
        return bytes(self._data)


def _lz4(records: memoryview) -> bytes:
    """An LZ4 frame of independent blocks (Kafka refuses linked ones, cramjam's default).

    Format: LZ4 frame, version 1.6; without checksums, for the batch has its own. cramjam's frame
    writer would take a third longer.
    """
    parts = [_LZ4_HEADER]
    for at in range(0, len(records), _LZ4_BLOCK_MAX):
        block = records[at : at + _LZ4_BLOCK_MAX]
        packed = cramjam.lz4.compress_block(block, store_size=False)
        if len(packed) < len(block):
            parts += [len(packed).to_bytes(4, "little"), bytes(packed)]
        else:
            parts += [(len(block) | _LZ4_STORED).to_bytes(4, "little"), bytes(block)]
    return b"".join([*parts, _LZ4_END])
