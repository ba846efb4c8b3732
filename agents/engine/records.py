"""Kernels over the records of a v2 record batch: parse them into spans, frame new ones.

Format: Kafka protocol guide, "Record" (magic 2). Every length is checked against its enclosing span
before it is used, whatever the bytes.
"""

import numpy as np

from topics.compiled import entry, glue, kernel
from topics.kernels import varint as read_varint
from topics.layout import I64, U8, Num
from topics.write_kernels import put_varint, varint_size

ORIGIN = b"soma-origin"
HOPS = b"soma-hops"


@glue
def _blob(b: U8, p: Num, stop: Num) -> tuple[Num, Num, Num]:
    """A key or value: its length (-1: null), where it begins, its end (-1 if it lies)."""
    n, p = read_varint(b, p, stop)
    if p < 0 or n > stop - p:
        return np.int64(-1), np.int64(0), np.int64(-1)
    return max(n, np.int64(-1)), p, p + max(n, np.int64(0))


@glue
def parse(
    b: U8, p: Num, end: Num, count: Num, base: Num, limit: Num, stamp: I64, first: Num,
    offs: I64, ms: I64, kpos: I64, klen: I64, vpos: I64, vlen: I64,
    hpos: I64, hlen: I64, hcnt: I64, at: Num,
) -> Num:  # fmt: skip
    """Spans of the `count` records in b[p:end], into the arrays from index `at` on.

    `limit` is the batch's next offset; `stamp` (first, max, log append time) its times; records
    before offset `first` are passed over. Where the arrays are full the rest is checked and not
    stored. Returns how many were stored, or -1 for a batch that lies: a length beyond its span,
    offsets that don't rise within the batch, bytes left over.
    """
    last = np.int64(-1)
    r = at
    room = offs.shape[0]
    for _ in range(count):
        size, p = read_varint(b, p, end)
        if p < 0 or size < 1 or size > end - p:
            return -1
        stop = p + size
        delta_ms, p = read_varint(b, p + 1, stop)  # behind the attributes, which nothing uses
        if p < 0:
            return -1
        delta, p = read_varint(b, p, stop)
        if p < 0 or delta <= last or delta >= limit - base:
            return -1
        last = delta
        kn, kp, p = _blob(b, p, stop)
        if p < 0:
            return -1
        vn, vp, p = _blob(b, p, stop)
        if p < 0:
            return -1
        hn, p = read_varint(b, p, stop)
        if p < 0 or hn < 0 or hn > stop - p:
            return -1
        hp = p
        p = _skip_headers(b, p, stop, hn)
        if p != stop:
            return -1
        if base + delta >= first and r < room:
            offs[r] = base + delta
            ms[r] = stamp[1] if stamp[2] else stamp[0] + delta_ms
            kpos[r] = kp
            klen[r] = kn
            vpos[r] = vp
            vlen[r] = vn
            hpos[r] = hp
            hlen[r] = p - hp
            hcnt[r] = hn
            r += 1
    return r - at if p == end else -1


@glue
def _skip_headers(b: U8, p: Num, stop: Num, count: Num) -> Num:
    """The end of `count` headers, or -1 if one reaches beyond the record."""
    for _ in range(count):
        size, p = read_varint(b, p, stop)
        if p < 0 or size < 0 or size > stop - p:
            return -1
        p += size
        size, p = read_varint(b, p, stop)
        if p < 0 or size > stop - p:
            return -1
        p += max(size, 0)
    return p


@kernel
def put_bytes(out: U8, p: Num, data: U8, at: Num, n: Num) -> Num:
    """Copy data[at:][:n] to out[p:]; returns the place behind. Both spans must lie inside."""
    # Unsigned indexes: a signed one might be negative, and that question for each byte costs more
    # than ten times the copy, which otherwise becomes a memcpy.
    for j in range(n):
        out[np.uint64(p + j)] = data[np.uint64(at + j)]
    return p + n


@kernel
def digits_of(n: Num) -> Num:
    """How many decimal digits a number has that isn't negative."""
    d = 1
    while n >= 10:
        n //= 10
        d += 1
    return d


@kernel
def put_digits(out: U8, p: Num, value: Num, digits: Num) -> Num:
    """Write a number's last `digits` decimal digits to out[p:]; returns the place behind."""
    for j in range(digits):
        out[p + digits - 1 - j] = np.uint8(48 + value % 10)
        value //= 10
    return p + digits


@entry
def frame(
    out: U8, p: Num, limit: Num, rows: I64, lo: Num, hi: Num,
    keys: U8, kpos: I64, klen: I64, values: U8, off: I64, gone: U8,
) -> tuple[Num, Num]:  # fmt: skip
    """Frames records rows[lo:hi] without headers into out[p:], up to `limit` bytes, or one.

    Record k has the key keys[kpos[r]:][:klen[r]] (r = rows[k], klen -1: null) and the value
    values[off[k]:off[k+1]] (gone[k] != 0: null). Returns (next record, end): (lo, p) if none fits,
    (-1, p) for spans outside their buffers.
    """
    for k in range(lo, hi):
        r = rows[k]
        kl = klen[r]
        vl = off[k + 1] - off[k] if gone[k] == 0 else np.int64(-1)
        ks = kpos[r]
        vs = off[k]
        if kl > 0 and (ks < 0 or ks + kl > keys.shape[0]):
            return -1, p
        if vl > 0 and (vs < 0 or vs + vl > values.shape[0]):
            return -1, p
        body = 3 + varint_size(k - lo) + varint_size(kl) + max(kl, 0) + varint_size(vl) + max(vl, 0)
        if p + body + 10 > (out.shape[0] if k == lo else limit):
            return k, p
        p = put_varint(out, p, body)
        out[p] = 0
        out[p + 1] = 0
        p = put_varint(out, p + 2, k - lo)
        p = put_varint(out, p, kl)
        p = put_bytes(out, p, keys, ks, max(kl, 0))
        p = put_varint(out, p, vl)
        p = put_bytes(out, p, values, vs, max(vl, 0))
        out[p] = 0
        p += 1
    return hi, p


@entry
def frame_copies(
    out: U8, p: Num, limit: Num, rows: I64, lo: Num, hi: Num,
    b: U8, kpos: I64, klen: I64, vpos: I64, vlen: I64, hpos: I64, hlen: I64, hcnt: I64, offs: I64,
    name: U8, origin: U8, tail: U8,
) -> tuple[Num, Num]:  # fmt: skip
    """Frames records rows[lo:hi] as they came, with a header more, or two, up to `limit` bytes, or
    one record.

    `name` is the first header's framed name, `origin` its text's beginning, b"topic/partition/", to
    which the record's offset is written; `tail` is a second one, framed, or empty. All spans lie in
    b (checked by parse and the reader before). Returns (next record, end): (lo, p) if none fits.
    """
    more = 2 if tail.shape[0] else 1
    for k in range(lo, hi):
        r = rows[k]
        kl, vl = klen[r], vlen[r]
        d = digits_of(offs[r])
        n = origin.shape[0] + d
        body = 2 + varint_size(k - lo)
        body += varint_size(kl) + max(kl, 0) + varint_size(vl) + max(vl, 0)
        body += varint_size(hcnt[r] + more) + hlen[r]
        body += name.shape[0] + varint_size(n) + n + tail.shape[0]
        if p + body + 10 > (out.shape[0] if k == lo else limit):
            return k, p
        p = put_varint(out, p, body)
        out[p] = 0
        out[p + 1] = 0
        p = put_varint(out, p + 2, k - lo)
        p = put_varint(out, p, kl)
        p = put_bytes(out, p, b, kpos[r], max(kl, 0))
        p = put_varint(out, p, vl)
        p = put_bytes(out, p, b, vpos[r], max(vl, 0))
        p = put_varint(out, p, hcnt[r] + more)
        p = put_bytes(out, p, b, hpos[r], hlen[r])
        p = put_bytes(out, p, name, 0, name.shape[0])
        p = put_varint(out, p, n)
        p = put_bytes(out, p, origin, 0, origin.shape[0])
        p = put_digits(out, p, offs[r], d)
        p = put_bytes(out, p, tail, 0, tail.shape[0])
    return hi, p


def varint(value: int) -> bytes:
    """Zigzag varint of one number, as the record format wants it."""
    z = (value << 1) ^ (value >> 63)
    out = bytearray()
    while z > 127:
        out.append(z & 127 | 128)
        z >>= 7
    out.append(z)
    return bytes(out)


def framed(text: bytes | None) -> bytes:
    """Length and bytes; None as length -1."""
    return varint(-1) if text is None else varint(len(text)) + text


def read_headers(data: bytes, count: int) -> list[tuple[str, bytes | None]]:
    """The headers of one record, from the span that `parse` found (so the lengths are sound)."""
    b = np.frombuffer(data, np.uint8)
    found: list[tuple[str, bytes | None]] = []
    at = 0
    for _ in range(count):
        n, at = read_varint(b, at, len(data))
        key = data[at : at + n].decode("utf-8", "replace")
        at += n
        n, at = read_varint(b, at, len(data))
        found.append((key, data[at : at + n] if n >= 0 else None))
        at += max(n, 0)
    return found


def frame_one(
    delta: int, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> bytes:
    """One framed record, for the few that are written in Python (dead letters, position rows)."""
    parts = [b"\0\0", varint(delta), framed(key), framed(value), varint(len(headers))]
    for name, text in headers:
        parts += [framed(name.encode()), framed(text)]
    body = b"".join(parts)
    return varint(len(body)) + body
