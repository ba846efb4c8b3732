"""Kernels of the relay: rows out of a binary COPY, and records with headers out of rows.

Formats: PostgreSQL's manual, COPY, "Binary Format"; Kafka protocol guide, "Record" (magic 2). Every
length is checked against what is left before it is used, and no index is negative.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.records import digits_of, framed, put_bytes, put_digits
from topics.compiled import entry, kernel
from topics.kernels import murmur2_kernel
from topics.layout import I64, U8, Num
from topics.write_kernels import inside, put_varint, varint_size

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
# The columns of `outbox_relay.fetch`, in its order.
ID, TOPIC, TENANT, KEY, DEDUPE, CREATED, VALUE, PAYLOAD, HEADERS = range(9)
FIELDS = 9
JSONB = 1  # the version that stands before the text of a jsonb

NO_END = -1  # `parse`: the bytes aren't a whole COPY
FULL = -2  # there are more rows than places

_EPOCH_2000_US = 946_684_800_000_000  # PostgreSQL's times count from there
_FIRST_US = -62_135_596_800_000_000  # year 1
_LAST_US = 253_402_300_799_999_999  # year 9999
_DAY_US = 86_400_000_000
TIME_BYTES = 27  # 2026-01-31T12:00:00.000000Z


@kernel
def _int(b: U8, p: Num, size: Num) -> Num:
    """A big-endian signed integer of 2, 4 or 8 bytes; the caller knows them to be there."""
    v = np.uint64(0)
    for j in range(size):
        v = (v << np.uint64(8)) | np.uint64(b[np.uint64(p + j)])
    shift = np.uint64(64 - 8 * size)
    return np.int64(v << shift) >> np.int64(shift)


@entry
def parse(b: U8, start: Num, end: Num, pos: I64, length: I64, ids: I64, created: I64) -> Num:
    """Spans of the rows in b[start:end], which begin behind COPY's header.

    pos and length are [FIELDS, rows]; length -1: null. Returns how many rows there are, NO_END for
    bytes that aren't `FIELDS` columns a row with an int8 id and time up to COPY's end, or FULL.
    """
    p = start
    n = 0
    while True:
        if end - p < 2:
            return NO_END
        count = _int(b, p, 2)
        p += 2
        if count == -1:
            return n if p == end else NO_END
        if count != FIELDS:
            return NO_END
        if n == ids.shape[0]:
            return FULL
        for k in range(FIELDS):
            if end - p < 4:
                return NO_END
            size = _int(b, p, 4)
            p += 4
            if size < -1 or size > end - p:
                return NO_END
            if size != 8 and k in (ID, CREATED):
                return NO_END
            if size < 0 and k < VALUE:
                return NO_END
            pos[k, n] = p
            length[k, n] = size
            p += max(size, 0)
        ids[n] = _int(b, pos[ID, n], 8)
        created[n] = _int(b, pos[CREATED, n], 8)
        n += 1


@entry
def partitions(b: U8, pos: I64, length: I64, count: Num, out: I64) -> None:
    """The partition of each tenant; its span was found by `parse`."""
    for r in range(out.shape[0]):
        out[r] = murmur2_kernel(b, pos[r], length[r]) % count


@entry
def same(b: U8, rows: I64, pos: I64, length: I64, at: I64, size: I64, out: U8) -> None:
    """out[k] = whether span k (pos, length) is what row rows[k] has at `at`, `size`."""
    for k in range(rows.shape[0]):
        r = rows[k]
        out[k] = 0
        if not inside(pos[k], length[k], b.shape[0]) or not inside(at[r], size[r], b.shape[0]):
            continue
        if length[k] != size[r]:
            continue
        out[k] = 1
        for j in range(size[r]):
            if b[pos[k] + j] != b[at[r] + j]:
                out[k] = 0
                break


@entry
def put_time(out: U8, p: Num, since_2000: Num) -> Num:
    """Write a time of PostgreSQL (us since 2000) as ISO 8601 in UTC; returns the place behind.

    Times outside the years 1-9999 (and infinity) are written as the nearest one inside. Days to
    dates: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    """
    low, high = _FIRST_US - _EPOCH_2000_US, _LAST_US - _EPOCH_2000_US
    us = min(max(since_2000, low), high) + _EPOCH_2000_US
    days = us // _DAY_US
    rest = us - days * _DAY_US
    z = days + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    p = put_digits(out, p, yoe + era * 400 + (1 if month <= 2 else 0), 4)
    out[p] = 45  # -
    p = put_digits(out, p + 1, month, 2)
    out[p] = 45
    p = put_digits(out, p + 1, doy - (153 * mp + 2) // 5 + 1, 2)
    out[p] = 84  # T
    p = put_digits(out, p + 1, rest // 3_600_000_000, 2)
    out[p] = 58  # :
    p = put_digits(out, p + 1, rest // 60_000_000 % 60, 2)
    out[p] = 58
    p = put_digits(out, p + 1, rest // 1_000_000 % 60, 2)
    out[p] = 46  # .
    p = put_digits(out, p + 1, rest % 1_000_000, 6)
    out[p] = 90  # Z
    return p + 1


def parts_of(source: bytes, topic: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The constant parts of a topic's headers, end to end, and where each begins (6 places).

    0: ce_specversion, ce_source, ce_type and the name ce_id; then the names ce_time, tenant-id,
    dedupe-key and soma-key, each before its value.
    """
    first = framed(b"ce_specversion") + framed(b"1.0")
    first += framed(b"ce_source") + framed(source) + framed(b"ce_type") + framed(topic)
    names = [b"ce_time", b"tenant-id", b"dedupe-key", b"soma-key"]
    parts = [first + framed(b"ce_id"), *map(framed, names)]
    ends = np.cumsum([0, *map(len, parts)])
    return np.frombuffer(bytearray(b"".join(parts)), np.uint8), ends.astype(np.int64)


OURS = 8  # headers that every record has


@entry
def frame(
    out: U8, limit: Num, rows: I64, lo: Num, hi: Num,
    b: U8, pos: I64, length: I64, ids: I64, created: I64,
    j: U8, from_j: U8, vpos: I64, vlen: I64,
    x: U8, xpos: I64, xlen: I64, xcount: I64, parts: U8, at: I64,
) -> tuple[Num, Num]:  # fmt: skip
    """Frames rows[lo:hi] into out, up to `limit` bytes, or one record.

    Key: the tenant. Value: vpos, vlen in j where from_j, else in b. Headers: ours (`parts_of`), and
    `xcount` ready ones at xpos, xlen in x. Returns (next record, end): (lo, 0) if not even one
    fits into out, (-1, 0) for spans outside their buffers.
    """
    p = 0
    for k in range(lo, hi):
        r = rows[k]
        t, tn, kp, kn = pos[TENANT, r], length[TENANT, r], pos[KEY, r], length[KEY, r]
        dp, dn = pos[DEDUPE, r], length[DEDUPE, r]
        size = j.shape[0] if from_j[r] != 0 else b.shape[0]
        if ids[r] < 0 or not inside(vpos[r], vlen[r], size):
            return -1, 0
        if not inside(t, tn, b.shape[0]) or not inside(kp, kn, b.shape[0]):
            return -1, 0
        if not inside(dp, dn, b.shape[0]) or not inside(xpos[r], xlen[r], x.shape[0]):
            return -1, 0
        digits = digits_of(ids[r])
        body = 2 + varint_size(k - lo) + varint_size(tn) + tn + varint_size(vlen[r]) + vlen[r]
        body += varint_size(OURS + xcount[r]) + at[5] + 1 + digits + 1 + TIME_BYTES
        body += varint_size(tn) + tn + varint_size(dn) + dn + varint_size(kn) + kn + xlen[r]
        if p + body + 10 > (out.shape[0] if k == lo else limit):
            return k, p
        p = put_varint(out, p, body)
        out[p] = 0
        out[p + 1] = 0
        p = put_varint(out, p + 2, k - lo)
        p = put_varint(out, p, tn)
        p = put_bytes(out, p, b, t, tn)
        p = put_varint(out, p, vlen[r])
        if from_j[r] != 0:
            p = put_bytes(out, p, j, vpos[r], vlen[r])
        else:
            p = put_bytes(out, p, b, vpos[r], vlen[r])
        p = put_varint(out, p, OURS + xcount[r])
        p = put_bytes(out, p, parts, at[0], at[1] - at[0])
        p = put_varint(out, p, digits)
        p = put_digits(out, p, ids[r], digits)
        p = put_bytes(out, p, parts, at[1], at[2] - at[1])
        p = put_varint(out, p, TIME_BYTES)
        p = put_time(out, p, created[r])
        p = put_bytes(out, p, parts, at[2], at[3] - at[2])
        p = put_varint(out, p, tn)
        p = put_bytes(out, p, b, t, tn)
        p = put_bytes(out, p, parts, at[3], at[4] - at[3])
        p = put_varint(out, p, dn)
        p = put_bytes(out, p, b, dp, dn)
        p = put_bytes(out, p, parts, at[4], at[5] - at[4])
        p = put_varint(out, p, kn)
        p = put_bytes(out, p, b, kp, kn)
        p = put_bytes(out, p, x, xpos[r], xlen[r])
    return hi, p


def header_end(data: Any) -> int:
    """Where the rows of a binary COPY begin. ValueError if it isn't one, or one with oids."""
    fixed = len(SIGNATURE) + 8
    if len(data) < fixed or bytes(data[: len(SIGNATURE)]) != SIGNATURE:
        raise ValueError("not a binary COPY")
    flags = int.from_bytes(data[len(SIGNATURE) : fixed - 4], "big")
    more = int.from_bytes(data[fixed - 4 : fixed], "big")
    if flags & 0xFFFF0000 or more > len(data) - fixed:
        raise ValueError("a binary COPY of an unknown kind")
    return fixed + more
