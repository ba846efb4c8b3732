"""Where a tenant lives: murmur2 of its UTF-8 bytes, as the Java client's default partitioner.

Source: `org.apache.kafka.common.utils.Utils.murmur2` (MurmurHash2 by Austin Appleby, seed
0x9747b28c). librdkafka does the same under `partitioner=murmur2_random`; its own default doesn't.
"""

POSITIVE = 0x7FFFFFFF  # Java drops the sign by this mask, not by abs()
SEED = 0x9747B28C
M = 0x5BD1E995  # < 2**31, so a product with 32 bits fits into a signed 64-bit integer
MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The hash as Java gives it: a signed 32-bit integer."""
    h = SEED ^ len(data)
    whole = len(data) & ~3
    for j in range(0, whole, 4):
        k = int.from_bytes(data[j : j + 4], "little") * M & MASK
        k = (k ^ k >> 24) * M & MASK
        h = (h * M & MASK) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * M & MASK
    h = (h ^ h >> 13) * M & MASK
    h ^= h >> 15
    return h - (1 << 32) if h > POSITIVE else h


def partition_of(tenant: str | bytes, n: int) -> int:
    """The partition, 0..n-1, that a tenant's records belong to."""
    key = tenant.encode() if isinstance(tenant, str) else tenant
    return (murmur2(key) & POSITIVE) % n
