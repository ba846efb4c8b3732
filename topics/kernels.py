"""What the compiled codec is made of: numbers, spans and text out of bytes nobody vouches for.

Every length is checked against what is left of its record before it is used, and no index is ever
negative: numba wraps those silently, with or without bounds checking. A position below 0 is the
negative of a failed status. With NUMBA_DISABLE_JIT=1 the same functions run as plain Python.

Where fastavro is laxer, this is what is refused: a varint of more than 64 bits, an int beyond 32, a
boolean that is neither 0 nor 1, an enum's or a union's index out of range (negative ones too), a
negative length, a block that isn't as long as it says, more than CHILDREN_MAX children in a record,
and bytes left over behind the record.
"""

import numpy as np

from topics.compiled import entry, kernel
from topics.layout import BAD_AVRO, BAD_UTF8, BOOLEAN, FLOAT, I64, INT, LONG, U8, Num
from topics.partition import MASK, POSITIVE, SEED, M


@entry
def _long_varint(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """A varint of any length: at most 64 bits, so at most ten bytes, the tenth 0 or 1."""
    v = np.uint64(0)
    shift = np.uint64(0)
    while p < e:
        x = np.uint64(b[p])
        p += 1
        if shift == np.uint64(63) and x > np.uint64(1):
            break
        v |= (x & np.uint64(127)) << shift
        if x < np.uint64(128):
            return np.int64(v >> np.uint64(1)) ^ -np.int64(v & np.uint64(1)), p
        shift += np.uint64(7)
    return np.int64(0), -BAD_AVRO


@kernel
def varint(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """The zigzag number at p and the position behind it, -BAD_AVRO when it doesn't end before e."""
    if p < e:
        x = np.int64(b[np.uint64(p)])
        if x < 128:
            return (x >> 1) ^ -(x & 1), p + 1
    v, p = _long_varint(b, p, e)
    return v, p


@entry
def _lead(c: Num) -> tuple[Num, Num, Num]:
    """Of a UTF-8 sequence's first byte: how many follow (0: invalid), bounds of the next byte."""
    if 0xC2 <= c <= 0xDF:
        return 1, 0x80, 0xBF
    if 0xE0 <= c <= 0xEF:
        return 2, 0xA0 if c == 0xE0 else 0x80, 0x9F if c == 0xED else 0xBF
    if 0xF0 <= c <= 0xF4:
        return 3, 0x90 if c == 0xF0 else 0x80, 0x8F if c == 0xF4 else 0xBF
    return 0, 0, 0


@entry
def utf8(b: U8, p: Num, e: Num) -> Num:
    """Whether b[p:e] is UTF-8 (Unicode 15, table 3-7: shortest forms, no surrogates)."""
    while p < e:
        c = np.int64(b[p])
        p += 1
        if c < 128:
            continue
        more, low, high = _lead(c)
        if more == 0 or more > e - p or b[p] < low or b[p] > high:
            return False
        for j in range(1, more):
            if b[p + j] & 0xC0 != 0x80:
                return False
        p += more
    return True


@kernel
def word32(b: U8, p: Num) -> Num:
    """The four bytes at p, little-endian; the caller knows them to be there. One load."""
    q, word = np.uint64(p), np.uint64(0)
    for j in range(4):
        word |= np.uint64(b[q + np.uint64(j)]) << np.uint64(8 * j)
    return np.uint32(word)


@kernel
def word64(b: U8, p: Num) -> Num:
    """The eight bytes at p, little-endian, as `word32`."""
    q, word = np.uint64(p), np.uint64(0)
    for j in range(8):
        word |= np.uint64(b[q + np.uint64(j)]) << np.uint64(8 * j)
    return word


@kernel
def ascii_only(b: U8, p: Num, n: Num) -> Num:
    """Whether no byte of b[p : p + n] is above 127; the caller knows them to be there."""
    seen = np.uint64(0)
    while n >= 8:
        seen |= word64(b, p)
        p += 8
        n -= 8
    if n > 0 and b.shape[0] - p >= 8:
        seen |= word64(b, p) << np.uint64(64 - 8 * n)  # the span's bytes are the low ones
    else:
        for j in range(p, p + n):
            seen |= np.uint64(b[j]) << np.uint64(56)
    return (seen & np.uint64(0x8080808080808080)) == np.uint64(0)


@kernel
def read_span(b: U8, p: Num, e: Num, check: Num) -> tuple[Num, Num, Num]:
    """A length and so many bytes: (position behind, where they begin, how many)."""
    n, p = varint(b, p, e)
    if p < 0:
        return p, np.int64(0), np.int64(0)
    if n < 0 or n > e - p:
        return np.int64(-BAD_AVRO), np.int64(0), np.int64(0)
    if check != 0 and not ascii_only(b, p, n) and not utf8(b, p, p + n):
        return np.int64(-BAD_UTF8), np.int64(0), np.int64(0)
    return p + n, p, n


@kernel
def read_int(b: U8, p: Num, e: Num, wire: Num, symbols: I64) -> tuple[Num, Num]:
    """A boolean, int, long or enum: (position behind, value). `symbols` is the reader's index of
    each of the writer's symbols, -1 where it has none."""
    if wire == BOOLEAN:
        if p >= e or b[p] > 1:
            return np.int64(-BAD_AVRO), np.int64(0)
        return p + 1, np.int64(b[p])
    v, p = varint(b, p, e)
    if p < 0 or wire == LONG:
        return p, v
    if wire == INT:
        if v < -0x80000000 or v > 0x7FFFFFFF:
            return np.int64(-BAD_AVRO), np.int64(0)
        return p, v
    if v < 0 or v >= symbols.shape[0] or symbols[v] < 0:
        return np.int64(-BAD_AVRO), np.int64(0)
    return p, symbols[v]


@kernel
def read_float(b: U8, p: Num, e: Num, wire: Num) -> tuple[Num, Num]:
    """A float or double: (position behind, value)."""
    if wire == FLOAT:
        if e - p < 4:
            return np.int64(-BAD_AVRO), np.float64(0.0)
        return p + 4, np.float64(np.uint32(word32(b, p)).view(np.float32))
    if e - p < 8:
        return np.int64(-BAD_AVRO), np.float64(0.0)
    return p + 8, np.float64(np.uint64(word64(b, p)).view(np.float64))


@entry
def murmur2_kernel(b: U8, p: Num, n: Num) -> Num:
    """murmur2 of b[p : p + n] as int64, sign dropped: `% n` gives the partition.

    The caller has checked that the span lies inside b.
    """
    h = np.int64(SEED) ^ np.int64(n)
    whole = n // 4
    for j in range(whole):
        at = p + 4 * j
        k = np.int64(b[at])
        k |= np.int64(b[at + 1]) << 8
        k |= np.int64(b[at + 2]) << 16
        k |= np.int64(b[at + 3]) << 24
        k = (k * M) & MASK
        k = ((k ^ (k >> 24)) * M) & MASK
        h = ((h * M) & MASK) ^ k
    rest = n - 4 * whole
    if rest > 0:
        for j in range(rest):
            h ^= np.int64(b[p + 4 * whole + j]) << (8 * j)
        h = (h * M) & MASK
    h = ((h ^ (h >> 13)) * M) & MASK
    h ^= h >> 15
    return h & POSITIVE
