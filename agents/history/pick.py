"""A kernel that leaves one tenant's records of a batch, and those that are for everybody."""

import numpy as np

from agents.engine.checks import is_control
from topics.compiled import entry
from topics.layout import I64, U8, Num


@entry
def pick(
    b: U8, n: Num, tenant: U8, reserved: I64,
    offs: I64, ms: I64, kpos: I64, klen: I64, vpos: I64, vlen: I64,
) -> Num:  # fmt: skip
    """Moves the spans of the records to be kept to the front; returns how many they are.

    Kept are those whose key is `tenant` (others never touch its state: a record whose key isn't its
    tenant is forwarded) and control records (a schema id of `reserved`), whatever their key. Spans
    lie inside b.
    """
    kept = 0
    for i in range(n):
        mine = klen[i] == tenant.shape[0]
        p = kpos[i]
        j = 0
        while mine and j < tenant.shape[0]:
            mine = b[p + j] == tenant[j]
            j += 1
        if mine or is_control(b, vpos[i], vlen[i], reserved):
            offs[kept] = offs[i]
            ms[kept] = ms[i]
            kpos[kept] = kpos[i]
            klen[kept] = klen[i]
            vpos[kept] = vpos[i]
            vlen[kept] = vlen[i]
            kept += 1
    return kept


def warm() -> None:
    """Compile the kernel, or load it: the first fold of one tenant needn't wait."""
    data, none = np.empty(0, np.uint8), np.empty(0, np.int64)
    pick(data, 0, data, none, none, none, none, none, none, none)
