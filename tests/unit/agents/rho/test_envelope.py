"""Envelopes: bit for bit there and back; all else is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.rho.envelope import (
    HEADER_BYTES,
    VERSION_MAX,
    BadEnvelope,
    bytes_of,
    crc_of,
    pack,
    packed_crc,
    shape_of,
    unpack,
    version_of,
)

shapes = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(st.data(), shapes, st.integers(0, VERSION_MAX))
def test_any_bits_come_back(data: st.DataObject, shape: tuple[int, int], version: int) -> None:
    """NaN with any payload, negative zero, subnormal numbers: what is in 8 bytes stays there."""
    size = shape[0] * shape[1] * 8
    raw = data.draw(st.binary(min_size=size, max_size=size))
    made = pack(np.frombuffer(raw, "<f8").reshape(shape), version)
    back = unpack(made)
    assert (back.version, back.matrix.shape, back.matrix.tobytes()) == (version, shape, raw)
    assert shape_of(made) == shape and len(made) == HEADER_BYTES + size
    assert pack(back.matrix, version) == made


def test_a_transposed_view_is_packed_as_it_reads() -> None:
    matrix = np.arange(6.0).reshape(2, 3).T
    assert (unpack(pack(matrix)).matrix == matrix).all()


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    for data in (raw, b"SRHO" + raw, b"SRHO\x01\x01\0\0" + raw):
        with pytest.raises(BadEnvelope):
            unpack(data)


@given(st.data())
def test_each_changed_or_lacking_byte_is_seen(data: st.DataObject) -> None:
    made = pack(np.eye(3) / 3, 7)
    at = data.draw(st.integers(0, len(made) - 1))
    flipped = bytearray(made)
    flipped[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(flipped), made[:at], made + made[at:]):
        with pytest.raises(BadEnvelope):
            unpack(bad)


def test_the_header_is_as_it_is_written_down() -> None:
    made = pack(np.zeros((2, 3)), 258)
    assert version_of(made[:HEADER_BYTES]) == 258
    assert packed_crc(crc_of(made)) == made[28:32] and len(crc_of(made)) == 8
    assert struct.unpack_from("<4sBBHIIQI", made) == (b"SRHO", 1, 1, 0, 2, 3, 258, 0)
    assert HEADER_BYTES == 32 and len(made) == 32 + 48 and bytes_of(512) == 2_097_184


@pytest.mark.parametrize("matrix", [np.zeros(3), np.zeros((2, 2), np.float32), np.zeros((1, 1, 1))])
def test_only_matrices_of_float64_are_packed(matrix: np.ndarray) -> None:
    with pytest.raises(BadEnvelope):
        pack(matrix)
    with pytest.raises(BadEnvelope):
        pack(np.eye(2), VERSION_MAX + 1)
