"""Kernels that tell what a record is, and whether it may be folded here."""

import numpy as np

from agents.engine import reasons
from topics.compiled import glue, kernel
from topics.kernels import murmur2_kernel
from topics.layout import I64, U8, Num

NAME_MAX = 128  # bytes of a tenant or domain
STRING_MAX = 1024  # bytes of any other string, unless its source says otherwise (Reads.strings)
TS_MIN = 946_684_800_000_000  # 2000-01-01, microseconds
TS_AHEAD = 3_600_000_000  # one hour
JSON_START = 123  # '{'
EVERYONE = 42  # '*'
SEPARATOR = 31  # 0x1f: in a key, between a tenant and what is its own
HEADER = 5  # bytes before the Avro: 0, and the schema's id, big-endian

_OK = reasons.OK
_NULL = reasons.NULL_VALUE
_JSON = reasons.JSON
_CONTROL = reasons.CONTROL
_TENANT = reasons.TENANT
_DOMAIN = reasons.DOMAIN
_TS = reasons.TS_RANGE
_MISROUTED = reasons.MISROUTED
_LONG = reasons.LONG_STRING


@glue
def begins_object(b: U8, p: Num, end: Num) -> Num:
    """Whether b[p:end] is meant as a JSON object, as `topics.strictjson` has it."""
    if end - p >= 3 and b[p] == 0xEF and b[p + 1] == 0xBB and b[p + 2] == 0xBF:
        p += 3  # a byte order mark
    while p < end and (b[p] == 32 or b[p] == 9 or b[p] == 10 or b[p] == 13):
        p += 1
    return p < end and b[p] == JSON_START


@kernel
def is_control(b: U8, p: Num, n: Num, reserved: I64) -> Num:
    """Whether the value b[p : p + n] is a control record's: its schema id is one of `reserved`.

    It lies in b.
    """
    if n < HEADER or b[p] != 0:
        return False
    code = (
        np.int64(b[p + 1]) << 24
        | np.int64(b[p + 2]) << 16
        | np.int64(b[p + 3]) << 8
        | np.int64(b[p + 4])
    )
    found = False
    for k in range(reserved.shape[0]):
        found = found or reserved[k] == code
    return found


@glue
def classify(b: U8, vpos: I64, vlen: I64, n: Num, reserved: I64, status: U8) -> Num:
    """status[:n]: 0, NULL_VALUE, JSON, or CONTROL (a schema id of `reserved`).

    Returns how many aren't 0.
    """
    odd = 0
    for i in range(n):
        s = _OK
        p = vpos[i]
        if vlen[i] < 0:
            s = _NULL
        elif vlen[i] > 0 and p >= 0 and p + vlen[i] <= b.shape[0]:
            if begins_object(b, p, p + vlen[i]):
                s = _JSON
            elif is_control(b, p, vlen[i], reserved):
                s = _CONTROL
        status[i] = s
        if s != _OK:
            odd += 1
    return odd


@glue
def _name_ok(b: U8, p: Num, n: Num) -> Num:
    """1 to 128 of [A-Za-z0-9._-]."""
    if n < 1 or n > NAME_MAX:
        return False
    for j in range(n):
        c = b[p + j]
        letter = (c >= 97 and c <= 122) or (c >= 65 and c <= 90) or (c >= 48 and c <= 57)
        if not (letter or c == 46 or c == 95 or c == 45):
            return False
    return True


@glue
def _same(b: U8, p: Num, q: Num, n: Num) -> Num:
    """Whether b[p : p + n] and b[q : q + n] are the same bytes."""
    j = 0
    while j < n and b[p + j] == b[q + j]:
        j += 1
    return j == n


@glue
def admit(
    b: U8, n: Num, pos: I64, size: I64, strings: I64, limits: I64,
    tenant: Num, domain: Num, ts: I64, ms: I64,
    kpos: I64, klen: I64, partition: Num, partitions: Num, of_settings: Num, status: U8, dest: I64,
) -> tuple[Num, Num]:  # fmt: skip
    """Checks strings and event time of the records with status 0, and that they belong here.

    `pos` and `size` are the spans of all strings (rows `strings`, `tenant` and `domain` of them);
    `limits` are the most bytes of each. `domain` is -1 where there is none, `ts` then empty.

    A record whose key isn't its tenant, or whose tenant lives in another partition, becomes
    MISROUTED with its place in `dest`. With `of_settings` the tenant may be '*', and its key may go
    on behind it with 0x1f. Spans lie in b (the reader has checked them). Returns (records still 0,
    misrouted).
    """
    good = 0
    astray = 0
    for i in range(n):
        if status[i] != _OK:
            continue
        p = pos[tenant, i]
        m = size[tenant, i]
        if not (_name_ok(b, p, m) or (of_settings != 0 and m == 1 and b[p] == EVERYONE)):
            status[i] = _TENANT
            continue
        if domain >= 0 and not _name_ok(b, pos[domain, i], size[domain, i]):
            status[i] = _DOMAIN
            continue
        for j in range(strings.shape[0]):
            if size[strings[j], i] > limits[j]:
                status[i] = _LONG
        if status[i] != _OK:
            continue
        if ts.shape[0] and (ts[i] < TS_MIN or ts[i] > ms[i] * 1000 + TS_AHEAD):
            status[i] = _TS
            continue
        home = murmur2_kernel(b, p, m) % partitions
        whole = klen[i] == m or (of_settings != 0 and klen[i] > m and b[kpos[i] + m] == SEPARATOR)
        if home == partition and whole and _same(b, p, kpos[i], m):
            good += 1
        else:
            status[i] = _MISROUTED
            dest[i] = home
            astray += 1
    return good, astray
