"""Memory for parts of rows that grow in steps: blocks of one array, claimed by kernels.

A table whose rows have blocks has two columns for it, `at` and `size`. A block that a row outgrew
or left is wasted until `reserve` finds that most of the pool is, and moves the others together.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.kit.packing import Ints
from topics.compiled import entry, kernel

USED, WASTED = range(2)  # of `counts`
POOL_MIN = 4096  # items; below, nothing is moved together


@kernel
def claim(counts: Ints, capacity: int, at: Ints, size: Ints, k: int, need: int) -> bool:
    """Give row k another block, of `need` items; False where the pool has no room for it."""
    if counts[USED] + need > capacity:
        return False
    counts[WASTED] += size[k]
    at[k], size[k] = counts[USED], need
    counts[USED] += need
    return True


@entry
def _gather(old: Ints, new: Ints, at: Ints, size: Ints, order: Ints) -> int:
    """Copy these rows' blocks (items as rows of 8-byte words) end to end; returns their end."""
    used = 0
    for k in order:
        for j in range(size[k]):
            for word in range(old.shape[1]):  # bits, not numbers: what isn't one stays what it is
                new[used + j, word] = old[at[k] + j, word]
        at[k] = used
        used += size[k]
    return used


class Pool:
    """`data`, of which counts[USED] items are taken; growing makes another array."""

    def __init__(self, dtype: Any = np.float64, least: int = POOL_MIN) -> None:
        """`dtype`: of an item. `least`: items, below which nothing is moved together."""
        self._dtype, self._least = dtype, least
        self.data: NDArray[Any] = np.empty(least, dtype)
        self.counts: Ints = np.zeros(2, np.int64)

    @property
    def wasteful(self) -> bool:
        """Whether most of it is wasted."""
        return bool(self.counts[USED] > self._least and 2 * self.counts[WASTED] > self.counts[USED])

    def reserve(self, more: int, at: Ints, size: Ints) -> None:
        """Make room for so many more items. `at`, `size`: the columns of all rows."""
        used = int(self.counts[USED])
        if used + more <= self.data.shape[0]:
            return
        if self.wasteful:
            self.compact(more, at, size)
            return
        fresh = np.empty(max(2 * self.data.shape[0], used + more), self._dtype)
        fresh[:used] = self.data[:used]
        self.data = fresh

    def compact(self, more: int, at: Ints, size: Ints) -> None:
        """Move all blocks together, into an array with room for so many more items."""
        used = int(self.counts[USED] - self.counts[WASTED])
        fresh = np.empty(max(2 * used, used + more, self._least), self._dtype)
        old, new = (one.view(np.int64).reshape(one.shape[0], -1) for one in (self.data, fresh))
        self.counts[:] = _gather(old, new, at, size, np.flatnonzero(size)), 0
        self.data = fresh

    def give(self, at: Ints, size: Ints, of: Ints, items: int) -> None:
        """Rows `of` get blocks of so many items."""
        self.reserve(items * of.shape[0], at, size)
        self.leave(size[of])
        at[of] = self.counts[USED] + items * np.arange(of.shape[0])
        size[of] = items
        self.counts[USED] += items * of.shape[0]

    def leave(self, size: NDArray[np.int64]) -> None:
        """The blocks of rows that go are wasted."""
        self.counts[WASTED] += int(size.sum())
