"""JSON's text, compiled: what to step over, and strings as the bytes that they mean.

All positions are within b, below e; -1 instead of one: it isn't JSON, or holds half of a surrogate
pair, which is left to Python.
"""

import numpy as np

from topics.compiled import entry, kernel
from topics.kernels import utf8
from topics.layout import U8, Num
from topics.write_kernels import put_bytes, put_varint


@kernel
def space(b: U8, p: Num, e: Num) -> Num:
    """The first place from p on that isn't white space, or e."""
    while p < e and (b[p] == 32 or 9 <= b[p] <= 10 or b[p] == 13):
        p += 1
    return p


@entry
def skip_text(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """From behind an opening quote: (behind the closing one or -1, whether all is plain ASCII)."""
    plain = True
    while p < e:
        c = b[p]
        p += 1
        if c == 34:
            return p, plain
        if c < 32:
            break
        if c == 92:
            plain = False
            p += 1
        elif c > 127:
            plain = False
    return np.int64(-1), False


@entry
def skip(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """A value of any kind, loosely: (position behind or -1, whether it is text of plain ASCII)."""
    if p >= e:
        return np.int64(-1), False
    if b[p] == 34:
        p, plain = skip_text(b, p + 1, e)
        return p, plain
    if b[p] != 91 and b[p] != 123:
        first = p
        while p < e and b[p] != 44 and b[p] != 93 and b[p] != 125 and b[p] > 32:
            p += 1
        return p if p > first else np.int64(-1), False
    depth = 0
    while p < e:
        c = b[p]
        p += 1
        if c == 34:
            p, _ = skip_text(b, p, e)
            if p < 0:
                break
        elif c == 91 or c == 123:
            depth += 1
        elif c == 93 or c == 125:
            depth -= 1
            if depth == 0:
                return p, False
    return np.int64(-1), False


@kernel
def _hex(c: Num) -> Num:
    """A hexadecimal digit's value; -1: it is none."""
    if 48 <= c <= 57:
        return np.int64(c) - 48
    if 97 <= (c | 32) <= 102:
        return np.int64(c | 32) - 87
    return np.int64(-1)


@entry
def _escape(b: U8, p: Num, e: Num) -> tuple[Num, Num]:
    """From behind a backslash: (position behind, code point), or -1 for halves of surrogates."""
    none = np.int64(-1), np.int64(0)
    if p >= e:
        return none
    c = b[p]
    if c == 34 or c == 92 or c == 47:
        return p + 1, np.int64(c)
    if c == 98:
        return p + 1, np.int64(8)
    if c == 102:
        return p + 1, np.int64(12)
    if c == 110:
        return p + 1, np.int64(10)
    if c == 114:
        return p + 1, np.int64(13)
    if c == 116:
        return p + 1, np.int64(9)
    if c != 117 or e - p < 5:
        return none
    code = np.int64(0)
    for j in range(p + 1, p + 5):
        digit = _hex(b[j])
        if digit < 0:
            return none
        code = code << 4 | digit
    if 0xD800 <= code <= 0xDFFF:
        return none
    return p + 5, code


@entry
def _unescaped(b: U8, p: Num, e: Num, write: Num, out: U8, q: Num) -> Num:
    """The bytes that text becomes, written at q where `write`: how many, or -1."""
    n = np.int64(0)
    while p < e:
        code = np.int64(b[p])
        p += 1
        if code != 92:
            if write:
                out[q + n] = np.uint8(code)
            n += 1
            continue
        p, code = _escape(b, p, e)
        if p < 0:
            return p
        if write:
            if code < 0x80:
                out[q + n] = np.uint8(code)
            elif code < 0x800:
                out[q + n] = np.uint8(0xC0 | code >> 6)
                out[q + n + 1] = np.uint8(0x80 | code & 63)
            else:
                out[q + n] = np.uint8(0xE0 | code >> 12)
                out[q + n + 1] = np.uint8(0x80 | code >> 6 & 63)
                out[q + n + 2] = np.uint8(0x80 | code & 63)
        n += 1 if code < 0x80 else 2 if code < 0x800 else 3
    return n


@entry
def put_text(b: U8, p: Num, e: Num, plain: Num, out: U8, q: Num) -> Num:
    """Text whose quotes enclose b[p:e], as Avro at q; returns the place behind, or -1."""
    if plain:
        return put_bytes(out, q, b, p, e - p)
    n = _unescaped(b, p, e, False, out, q)
    if n < 0 or not utf8(b, p, e):
        return np.int64(-1)
    q = put_varint(out, q, n)
    _unescaped(b, p, e, True, out, q)
    return q + n


@entry
def same(b: U8, p: Num, n: Num, text: U8, at: Num, size: Num) -> Num:
    """Whether two spans, both inside their buffers, hold the same."""
    alike = n == size
    j = 0
    while alike and j < n:
        alike = b[p + j] == text[at + j]
        j += 1
    return alike
