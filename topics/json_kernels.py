"""Compiled loops from the text of JSON objects straight to Avro; `topics.json_encoder` drives them.

A text is gone through twice: where each field's value lies, then value by value in the order of the
schema. Nothing is decided here against a record: whatever is odd (wrong, unknown, given twice, in
base64, with half of a surrogate pair) ends with -1, and the row path has the word. What is written
is what it would have written. No position is read before it is compared with the text's end, none
is negative, and a row is begun only where there is room for all that its text can become.
"""

import numpy as np

from topics.compiled import entry, kernel
from topics.json_numbers import FLOAT_END, real, time, whole
from topics.json_text import put_text, same, skip, skip_text, space
from topics.layout import (
    ARRAY,
    BOOLEAN,
    DOUBLE,
    ENUM,
    FLOAT,
    I64,
    INT,
    LONG,
    MAP,
    STRING,
    U8,
    Num,
)  # fmt: skip
from topics.write_kernels import fits, inside, put_float, put_varint

# Kinds of values beside those of the layout.
TIME, VECTOR32, VECTOR64 = range(100, 103)

# Columns of a program: a row per field of the schema, then one for each item of a map or an array.
KIND = 0
NULL_AT = 1  # which branch of the union is null; -1: no union
NAME_AT, NAME_LEN = 2, 3  # in the program's bytes
DEFAULT_AT, DEFAULT_LEN = 4, 5  # Avro, in the program's bytes; length -1: none
SYMBOL_AT, SYMBOLS = 6, 7  # an enum's rows in the table of symbols
ITEM = 8  # the row of a map's or an array's items
WIDTH = 9
WORDS = b"nulltruefalse"  # how the program's bytes begin

CHILDREN_FEW = 63  # of a map or an array: their number is one byte
GROWTH = 8  # bytes of Avro at most for a byte of text ("1," becomes a double),
FIELD_ROOM = 16  # and for a field beside that


@entry
def _symbol(b: U8, p: Num, e: Num, ops: I64, o: Num, symbols: I64, text: U8) -> Num:
    """An enum's index of the symbol b[p:e], or -1."""
    for k in range(ops[o, SYMBOLS]):
        r = ops[o, SYMBOL_AT] + k
        if same(b, p, e - p, text, symbols[r, 0], symbols[r, 1]):
            return np.int64(k)
    return np.int64(-1)


@entry
def put_quoted(
    b: U8, p: Num, e: Num, plain: Num, ops: I64, o: Num, symbols: I64, text: U8, out: U8, q: Num
) -> Num:
    """Text, a symbol or a time, whose quotes enclose b[p:e]; returns the place behind, or -1."""
    kind = ops[o, KIND]
    if kind == STRING:
        return put_text(b, p, e, plain, out, q)
    good, v = False, np.int64(0)
    if kind == TIME:
        good, v = time(b, p, e)
    elif kind == ENUM:
        v = _symbol(b, p, e, ops, o, symbols, text)
        good = v >= 0
    return put_varint(out, q, v) if good else np.int64(-1)


@entry
def put_scalar(
    b: U8, p: Num, e: Num, plain: Num, ops: I64, o: Num, symbols: I64, text: U8, out: U8, q: Num
) -> Num:
    """A value of one part, b[p:e], by row o of the program; returns the place behind, or -1."""
    none, kind = np.int64(-1), ops[o, KIND]
    if b[p] == 34:
        return put_quoted(b, p + 1, e - 1, plain, ops, o, symbols, text, out, q)
    if kind in (FLOAT, DOUBLE):
        end, x = real(b, p, e)
        if end != e or (kind == FLOAT and abs(x) >= FLOAT_END):
            return none
        return put_float(out, q, x, kind)
    if kind in (INT, LONG, TIME):
        end, v = whole(b, p, e)
        if end != e or (kind == INT and not fits(v, kind, 0)):
            return none
        return put_varint(out, q, v)
    yes = same(b, p, e - p, text, 4, 4)
    if kind != BOOLEAN or not (yes or same(b, p, e - p, text, 8, 5)):
        return none
    out[q] = np.uint8(yes)
    return q + 1


@kernel
def next_child(b: U8, p: Num, e: Num) -> Num:
    """From behind a child to the next one, or to e; -1: neither follows."""
    p = space(b, p, e)
    if p == e:
        return p
    if b[p] != 44:
        return np.int64(-1)
    p = space(b, p + 1, e)
    return p if p < e else np.int64(-1)


@entry
def put_vector(b: U8, p: Num, e: Num, kind: Num, out: U8, q: Num) -> Num:
    """A list of numbers, b[p:e], as packed floats or doubles; returns the place behind, or -1."""
    if b[p] != 91 or b[e - 1] != 93:
        return np.int64(-1)
    e -= 1
    p = space(b, p + 1, e)
    many = np.int64(p < e)
    for j in range(p, e):
        many += b[j] == 44
    one = FLOAT if kind == VECTOR32 else DOUBLE
    q = put_varint(out, q, many * (4 if kind == VECTOR32 else 8))
    for _ in range(many):
        p, x = real(b, p, e)
        if p < 0 or (kind == VECTOR32 and abs(x) >= FLOAT_END):
            return np.int64(-1)
        q = put_float(out, q, x, one)
        p = next_child(b, p, e)
        if p < 0:
            return p
    return q if p == e else np.int64(-1)


@entry
def _again(out: U8, keys: I64, n: Num) -> Num:
    """Whether the key n, as it was written, is one of those before it."""
    at, size = keys[2 * n], keys[2 * n + 1] - keys[2 * n]
    for k in range(n):
        if same(out, keys[2 * k], keys[2 * k + 1] - keys[2 * k], out, at, size):
            return True
    return False


@entry
def put_key(b: U8, p: Num, e: Num, out: U8, q: Num, keys: I64, n: Num) -> tuple[Num, Num]:
    """The n-th key of a map at p, and the colon: (where its value begins, place behind), or -1."""
    none = np.int64(-1), np.int64(-1)
    if b[p] != 34:
        return none
    end, plain = skip_text(b, p + 1, e)
    if end < 0:
        return none
    keys[2 * n] = q
    q = put_text(b, p + 1, end - 1, plain, out, q)
    keys[2 * n + 1] = q
    if q < 0 or _again(out, keys, n):
        return none
    p = space(b, end, e)
    if p >= e or b[p] != 58:
        return none
    return space(b, p + 1, e), q


@entry
def put_children(
    b: U8, p: Num, e: Num, ops: I64, o: Num, symbols: I64, text: U8, out: U8, q: Num, keys: I64
) -> Num:
    """A map or an array, b[p:e], of few; returns the place behind, or -1. `keys`: scratch."""
    is_map = ops[o, KIND] == MAP
    if b[p] != (123 if is_map else 91) or b[e - 1] != (125 if is_map else 93):
        return np.int64(-1)
    e -= 1
    p = space(b, p + 1, e)
    first, n = q, 0
    q += p < e  # their number, if there are any
    while 0 <= p < e and n <= CHILDREN_FEW:
        if is_map:
            p, q = put_key(b, p, e, out, q, keys, n)
            if p < 0:
                return p
        end, plain = skip(b, p, e)
        if end < 0:
            return end
        q = put_scalar(b, p, end, plain, ops, ops[o, ITEM], symbols, text, out, q)
        if q < 0:
            return q
        n += 1
        p = next_child(b, end, e)
    if p < 0 or n > CHILDREN_FEW:
        return np.int64(-1)
    if n > 0:
        out[first] = np.uint8(2 * n)
    out[q] = 0
    return q + 1


@entry
def find(b: U8, p: Num, e: Num, ops: I64, fields: Num, text: U8, found: I64) -> Num:
    """Where each field's value lies in the object b[p:e]: found[f] = begin (-1: not given), end,
    whether it is plain text. 0, or -1: it is no object, or has others than these fields, once."""
    none = np.int64(-1)
    for f in range(fields):
        found[f, 0] = -1
    p = space(b, p, e)
    if p >= e or b[p] != 123:
        return none
    p = space(b, p + 1, e)
    more = p >= e or b[p] != 125
    while more:
        if p >= e or b[p] != 34:
            return none
        end, _ = skip_text(b, p + 1, e)
        f = 0
        while f < fields and not same(
            b, p + 1, end - p - 2, text, ops[f, NAME_AT], ops[f, NAME_LEN]
        ):
            f += 1
        if end < 0 or f == fields or found[f, 0] >= 0:
            return none
        p = space(b, end, e)
        if p >= e or b[p] != 58:
            return none
        p = space(b, p + 1, e)
        end, plain = skip(b, p, e)
        if end < 0:
            return none
        found[f, 0], found[f, 1], found[f, 2] = p, end, plain
        p = space(b, end, e)
        if p >= e or (b[p] != 44 and b[p] != 125):
            return none
        more = b[p] == 44
        if more:
            p = space(b, p + 1, e)
    return np.int64(0) if space(b, p + 1, e) == e else none


@entry
def put_field(
    b: U8, p: Num, e: Num, plain: Num, ops: I64, o: Num, symbols: I64, text: U8, out: U8, q: Num,
    keys: I64,
) -> Num:  # fmt: skip
    """A field's value, b[p:e], with its union's branch; returns the place behind, or -1."""
    kind, null_at = ops[o, KIND], ops[o, NULL_AT]
    if null_at >= 0:
        null = same(b, p, e - p, text, 0, 4)
        out[q] = np.uint8(2 * null_at if null else 2 * (1 - null_at))
        q += 1
        if null:
            return q
    if kind in (MAP, ARRAY):
        return put_children(b, p, e, ops, o, symbols, text, out, q, keys)
    if kind in (VECTOR32, VECTOR64):
        return put_vector(b, p, e, kind, out, q)
    return put_scalar(b, p, e, plain, ops, o, symbols, text, out, q)


@entry
def put_record(
    b: U8, ops: I64, fields: Num, symbols: I64, text: U8, out: U8, q: Num, found: I64, keys: I64
) -> Num:
    """The fields that `find` found, or their defaults; returns the place behind, or -1."""
    for f in range(fields):
        if found[f, 0] < 0:
            at, n = ops[f, DEFAULT_AT], ops[f, DEFAULT_LEN]
            if n < 0:
                return np.int64(-1)
            for j in range(n):
                out[q + j] = text[at + j]
            q += n
            continue
        q = put_field(b, found[f, 0], found[f, 1], found[f, 2], ops, f, symbols, text, out, q, keys)
        if q < 0:
            return q
    return q


@entry
def encode(
    b: U8, lo: Num, pos: I64, length: I64, tenant_at: I64, tenant_len: I64, most: Num,
    ops: I64, fields: Num, tenant: Num, symbols: I64, text: U8, header: U8, room: Num,
    out: U8, q: Num, at: I64, size: I64, found: I64, keys: I64,
) -> tuple[Num, Num]:  # fmt: skip
    """The texts lo, lo + 1, … at pos, length in b as values at at[k], size[k] in out, from q on.

    size[k] is -1 where the row path has the word: a text that is odd or has more than `most` bytes,
    spans outside of b, another tenant than the one at tenant_at, tenant_len. Returns (next text,
    position): it stops where out may be too small for the next one.
    """
    for k in range(lo, pos.shape[0]):
        p, n, t, tn = pos[k], length[k], tenant_at[k], tenant_len[k]
        at[k], size[k] = q, -1
        if n > most or not inside(p, n, b.shape[0]) or not inside(t, tn, b.shape[0]):
            continue
        if GROWTH * n + room > out.shape[0] - q:
            return k, q
        if find(b, p, p + n, ops, fields, text, found) < 0 or found[tenant, 0] < 0:
            continue
        s, e = found[tenant, 0], found[tenant, 1]
        if found[tenant, 2] == 0 or not same(b, s + 1, e - s - 2, b, t, tn):
            continue
        for j in range(header.shape[0]):
            out[q + j] = header[j]
        end = put_record(b, ops, fields, symbols, text, out, q + header.shape[0], found, keys)
        if end >= 0:
            size[k] = end - q
            q = end
    return pos.shape[0], q
