"""A matrix as bytes: 32 bytes of header, then its numbers row by row, bit for bit.

    0  4  the letters SRHO             8  4  rows
    4  1  format: 1                   12  4  columns
    5  1  numbers: 1, float64         16  8  version; 0: it has none yet
    6  2  0                           24  4  0
                                      28  4  CRC-32 (zlib's) of all else

Little-endian throughout. The Lua script of the cache reads version and CRC where they stand
(stores/matrix_cache.lua), and PostgreSQL the CRC (stores/matrix_store.py).
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEDIA_TYPE = "application/octet-stream"
MAGIC, FORMAT, FLOAT64 = b"SRHO", 1, 1
NUMBER_BYTES = 8
VERSION_MAX = 2**53 - 1  # what a number of Lua, and of JSON in a browser, holds exactly
_NUMBERS = np.dtype("<f8")
_HEAD = struct.Struct("<4sBBHIIQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEAD.size + _CRC.size


class BadEnvelope(ValueError):
    """Bytes that are no envelope, or a damaged one; the text says what is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """What an envelope holds. `matrix`: rows × columns float64, not to be written."""

    version: int
    matrix: NDArray[np.float64]


def pack(matrix: NDArray[Any], version: int = 0) -> bytes:
    """The envelope of a matrix of float64; `BadEnvelope` for other numbers or shapes."""
    if matrix.dtype != np.float64 or matrix.ndim != 2:
        raise BadEnvelope(f"a matrix of float64 has two dimensions, not {matrix.ndim}")
    if not 0 <= version <= VERSION_MAX:
        raise BadEnvelope(f"a version is 0 to {VERSION_MAX}, not {version}")
    rows, columns = matrix.shape
    head = _HEAD.pack(MAGIC, FORMAT, FLOAT64, 0, rows, columns, version, 0)
    body = np.ascontiguousarray(matrix, _NUMBERS).tobytes()
    return b"".join((head, _CRC.pack(zlib.crc32(body, zlib.crc32(head))), body))


def unpack(data: bytes) -> Envelope:
    """What `pack` was given; `BadEnvelope` for all that it didn't make."""
    if len(data) < HEADER_BYTES:
        raise BadEnvelope(f"an envelope has {HEADER_BYTES} bytes and more, not {len(data)}")
    head = data[: _HEAD.size]
    magic, form, numbers, none, rows, columns, version, zero = _HEAD.unpack(head)
    if magic != MAGIC:
        raise BadEnvelope("an envelope begins with SRHO")
    if (form, numbers, none, zero) != (FORMAT, FLOAT64, 0, 0) or version > VERSION_MAX:
        raise BadEnvelope("an envelope of a format or of numbers that aren't known")
    if len(data) != (wanted := HEADER_BYTES + rows * columns * NUMBER_BYTES):
        raise BadEnvelope(f"an envelope of {rows} × {columns} has {wanted} bytes, not {len(data)}")
    body = memoryview(data)[HEADER_BYTES:]
    if _CRC.unpack_from(data, _HEAD.size)[0] != zlib.crc32(body, zlib.crc32(head)):
        raise BadEnvelope("the CRC isn't that of what came: it is damaged")
    return Envelope(version, np.frombuffer(body, _NUMBERS).reshape(rows, columns))


def crc_of(data: bytes) -> str:
    """The CRC of an envelope, or of its head, as eight digits of 16."""
    return f"{_CRC.unpack_from(data, _HEAD.size)[0]:08x}"


def packed_crc(text: str) -> bytes:
    """What `crc_of` told, as an envelope has it; ValueError for other text."""
    return _CRC.pack(int(text, 16))


def version_of(data: bytes) -> int:
    """The version by the head alone."""
    return int(_HEAD.unpack_from(data)[6])


def shape_of(data: bytes) -> tuple[int, int]:
    """Rows and columns by the header alone; `BadEnvelope` where it has none."""
    if len(data) < HEADER_BYTES or data[: len(MAGIC)] != MAGIC:
        raise BadEnvelope("an envelope begins with SRHO")
    _, _, _, _, rows, columns, _, _ = _HEAD.unpack_from(data)
    return rows, columns


def bytes_of(dimension: int) -> int:
    """How many bytes the envelope of a square matrix has."""
    return HEADER_BYTES + dimension * dimension * NUMBER_BYTES
