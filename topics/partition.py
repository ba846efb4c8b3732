"""Where a tenant lives: murmur2 of its UTF-8 bytes, as the Java client's default partitioner.

Source: `org.apache.kafka.common.utils.Utils.murmur2` (MurmurHash2 by Austin Appleby, seed
0x9747b28c). librdkafka does the same under `partitioner=murmur2_random`; its own default doesn't.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

POSITIVE = 0x7FFFFFFF  # Java drops the sign by this mask, not by abs()
_SEED = 0x9747B28C
_M = 0x5BD1E995  # < 2**31, so a product with 32 bits fits into a signed 64-bit integer
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The hash as Java gives it: a signed 32-bit integer."""
    h = _SEED ^ len(data)
    whole = len(data) & ~3
    for j in range(0, whole, 4):
        k = int.from_bytes(data[j : j + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h > POSITIVE else h


def partition_of(tenant: str | bytes, n: int) -> int:
    """The partition, 0..n-1, that a tenant's records belong to."""
    key = tenant.encode() if isinstance(tenant, str) else tenant
    return (murmur2(key) & POSITIVE) % n


@njit(cache=True, nogil=True, error_model="numpy")
def murmur2_kernel(buf: NDArray[np.uint8], pos: int, length: int) -> np.int64:
    """murmur2 of buf[pos : pos + length] as int64, sign dropped: `% n` gives the partition.

    The caller has checked that the span lies inside buf.
    """
    h = np.int64(_SEED) ^ np.int64(length)
    whole = length // 4
    for j in range(whole):
        at = pos + 4 * j
        k = np.int64(buf[at])
        k |= np.int64(buf[at + 1]) << 8
        k |= np.int64(buf[at + 2]) << 16
        k |= np.int64(buf[at + 3]) << 24
        k = (k * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    rest = length - 4 * whole
    if rest > 0:
        for j in range(rest):
            h ^= np.int64(buf[pos + 4 * whole + j]) << (8 * j)
        h = (h * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    h ^= h >> 15
    return h & POSITIVE
