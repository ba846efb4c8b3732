"""Kernels over parsed records: whose they are, where they belong, and copies of them, framed."""

import numpy as np

from agents.engine.records import digits_of, put_bytes, put_digits
from topics.compiled import entry
from topics.kernels import murmur2_kernel
from topics.layout import I64, U8, Num
from topics.write_kernels import put_varint, varint_size

SEPARATOR = 0x1F  # between a tenant and its domain or entity in a key
FRAME_MAX = 10  # bytes that a record's own length takes at most
BYTE3, BYTE2, BYTE1 = 24, 16, 8  # shifts of a big-endian number's bytes
HEADER = 5  # bytes before the Avro: 0, and the schema's id, big-endian


@entry
def look(
    b: U8, n: Num, kpos: I64, klen: I64, vpos: I64, vlen: I64, reserved: I64,
    tlen: I64, control: U8,
) -> None:  # fmt: skip
    """tlen[:n]: how much of each key is the tenant (-1: no key); control[:n]: 1 for a control
    record, whose schema id is one of `reserved`. All spans lie in b (parse has checked them).
    """
    for i in range(n):
        m = 0
        while m < klen[i] and b[kpos[i] + m] != SEPARATOR:
            m += 1
        tlen[i] = m if klen[i] >= 0 else np.int64(-1)
        control[i] = 0
        p = vpos[i]
        if vlen[i] >= HEADER and b[p] == 0:
            code = (
                np.int64(b[p + 1]) << BYTE3
                | np.int64(b[p + 2]) << BYTE2
                | np.int64(b[p + 3]) << BYTE1
                | np.int64(b[p + 4])
            )
            for k in range(reserved.shape[0]):
                if reserved[k] == code:
                    control[i] = 1


@entry
def homes(b: U8, rows: I64, kpos: I64, tlen: I64, mine: Num, partitions: Num, out: I64) -> None:
    """out[k]: the partition of the tenant of record rows[k]; of one without a key: `mine`."""
    for k in range(rows.shape[0]):
        r = rows[k]
        if tlen[r] < 0:
            out[k] = mine % partitions
        else:
            out[k] = murmur2_kernel(b, kpos[r], tlen[r]) % partitions


@entry
def frame_copies(
    out: U8, p: Num, limit: Num, rows: I64, lo: Num, hi: Num,
    b: U8, kpos: I64, klen: I64, vpos: I64, vlen: I64, hpos: I64, hlen: I64, hcnt: I64, offs: I64,
    name: U8, origin: U8,
) -> tuple[Num, Num]:  # fmt: skip
    """Frames records rows[lo:hi] as they came, and with a header more, up to `limit` bytes or one.

    `name` is the framed name of that header, `origin` is b"topic/partition/", to which the record's
    offset is written. All spans lie in b. Returns (next record, end): (lo, p) if none fits.
    """
    for k in range(lo, hi):
        r = rows[k]
        kl, vl = klen[r], vlen[r]
        d = digits_of(offs[r])
        size = origin.shape[0] + d
        body = 2 + varint_size(k - lo)
        body += varint_size(kl) + max(kl, 0) + varint_size(vl) + max(vl, 0)
        body += varint_size(hcnt[r] + 1) + hlen[r] + name.shape[0] + varint_size(size) + size
        if p + body + FRAME_MAX > (out.shape[0] if k == lo else limit):
            return k, p
        p = put_varint(out, p, body)
        out[p] = 0
        out[p + 1] = 0
        p = put_varint(out, p + 2, k - lo)
        p = put_varint(out, p, kl)
        p = put_bytes(out, p, b, kpos[r], max(kl, 0))
        p = put_varint(out, p, vl)
        p = put_bytes(out, p, b, vpos[r], max(vl, 0))
        p = put_varint(out, p, hcnt[r] + 1)
        p = put_bytes(out, p, b, hpos[r], hlen[r])
        p = put_bytes(out, p, name, 0, name.shape[0])
        p = put_varint(out, p, size)
        p = put_bytes(out, p, origin, 0, origin.shape[0])
        p = put_digits(out, p, offs[r], d)
    return hi, p
