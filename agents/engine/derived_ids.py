"""Derived ids, written by kernel: '<topic id>-<partition>-<offset>'."""

import numpy as np

from topics.compiled import glue
from topics.layout import U8, Num

ID_BYTES_MAX = 48  # bytes that the longest id needs: 8 + 1 + 10 + 1 + 19, rounded up


@glue
def put_derived_id(out: U8, at: Num, prefix: U8, offset: Num) -> Num:
    """Writes prefix and the decimal digits of offset (>= 0) at out[at:]; returns the end.

    Needs ID_BYTES_MAX bytes of room; returns -1, writing nothing, where there is less.
    """
    if at < 0 or offset < 0 or at + prefix.shape[0] + 20 > out.shape[0]:
        return -1
    for j in range(prefix.shape[0]):
        out[at + j] = prefix[j]
    at += prefix.shape[0]
    digits = 1
    rest = offset // 10
    while rest > 0:
        digits += 1
        rest //= 10
    rest = offset
    for j in range(digits):
        out[at + digits - 1 - j] = np.uint8(48 + rest % 10)
        rest //= 10
    return at + digits
