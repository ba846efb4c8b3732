"""Kernels over parsed records: whose they are, and where they belong."""

import numpy as np

from agents.engine.checks import is_control
from agents.engine.processor import SEP
from topics.compiled import entry
from topics.kernels import murmur2_kernel
from topics.layout import I64, U8, Num

SEPARATOR = ord(SEP)


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
        control[i] = 1 if is_control(b, vpos[i], vlen[i], reserved) else 0


@entry
def homes(b: U8, rows: I64, kpos: I64, tlen: I64, mine: Num, partitions: Num, out: I64) -> None:
    """out[k]: the partition of the tenant of record rows[k]; of one without a key: `mine`."""
    for k in range(rows.shape[0]):
        r = rows[k]
        if tlen[r] < 0:
            out[k] = mine % partitions
        else:
            out[k] = murmur2_kernel(b, kpos[r], tlen[r]) % partitions
