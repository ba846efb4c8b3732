"""Kernels that leave one tenant's records of a batch, or some tenants', and those for everybody."""

from collections.abc import Iterable

import numpy as np

from agents.engine.checks import is_control
from topics.compiled import entry, kernel
from topics.layout import I64, U8, Num


@kernel
def _move(i: Num, to: Num, offs: I64, ms: I64, kpos: I64, klen: I64, vpos: I64, vlen: I64) -> None:
    """Bring the i-th record's span to the place `to`."""
    offs[to] = offs[i]
    ms[to] = ms[i]
    kpos[to] = kpos[i]
    klen[to] = klen[i]
    vpos[to] = vpos[i]
    vlen[to] = vlen[i]


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
            _move(i, kept, offs, ms, kpos, klen, vpos, vlen)
            kept += 1
    return kept


@entry
def pick_some(
    b: U8, n: Num, names: U8, ends: I64, reserved: I64,
    offs: I64, ms: I64, kpos: I64, klen: I64, vpos: I64, vlen: I64,
) -> Num:  # fmt: skip
    """As `pick`, of several tenants: their names stand in `names` one behind the other, in the
    order of their bytes, the k-th of them before `ends[k]`.
    """
    kept = 0
    for i in range(n):
        low, high, mine = 0, ends.shape[0], False
        while low < high and not mine:
            k = (low + high) // 2
            q = ends[k - 1] if k > 0 else 0
            size = ends[k] - q
            j = 0
            while j < size and j < klen[i] and names[q + j] == b[kpos[i] + j]:
                j += 1
            if j == size and j == klen[i]:
                mine = True
            elif j == size or (j < klen[i] and names[q + j] < b[kpos[i] + j]):
                low = k + 1
            else:
                high = k
        if mine or is_control(b, vpos[i], vlen[i], reserved):
            _move(i, kept, offs, ms, kpos, klen, vpos, vlen)
            kept += 1
    return kept


class Sample:
    """The names of some tenants, as `pick_some` reads them."""

    def __init__(self, tenants: Iterable[str]) -> None:
        each = sorted(one.encode() for one in set(tenants))
        self.tenants = frozenset(one.decode() for one in each)
        self.names = np.frombuffer(bytearray(b"".join(each)), np.uint8)
        self.ends = np.cumsum(np.array([len(one) for one in each], np.int64))


def warm() -> None:
    """Compile the kernels, or load them: the first fold of one tenant needn't wait."""
    data, none = np.empty(0, np.uint8), np.empty(0, np.int64)
    pick(data, 0, data, none, none, none, none, none, none, none)
    pick_some(data, 0, data, none, none, none, none, none, none, none, none)
