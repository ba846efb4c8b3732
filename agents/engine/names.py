"""Interning: byte strings to dense ints, in compiled kernels over growable arrays.

Open addressing with linear probing over 64-bit FNV-1a hashes (Fowler, Noll, Vo). Nothing that a
law computes may depend on the ints: they follow the order of arrival, and change with a recovery.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topics.compiled import glue
from topics.layout import I64, U8, Num
from topics.write_kernels import inside

Int32s = NDArray[np.int32]
Hashes = NDArray[np.uint64]

ABSENT = -1


@glue
def _hash(buf: U8, pos: Num, length: Num) -> Num:
    h = np.uint64(14695981039346656037)
    for j in range(length):
        h = (h ^ np.uint64(buf[pos + j])) * np.uint64(1099511628211)
    return h ^ (h >> np.uint64(29))


@glue
def _slot(
    table: Int32s, hashes: Hashes, pool: U8, at: I64, size: I64,
    buf: U8, pos: Num, length: Num, h: Num,
) -> Num:  # fmt: skip
    """The table slot that holds this name, or the empty one where it belongs."""
    mask = table.shape[0] - 1
    s = np.int64(h & np.uint64(mask))
    while True:
        k = table[s]
        if k < 0:
            return s
        if hashes[k] == h and size[k] == length:
            same = True
            for j in range(length):
                if pool[at[k] + j] != buf[pos + j]:
                    same = False
                    break
            if same:
                return s
        s = (s + 1) & mask


@glue
def _intern(
    table: Int32s, hashes: Hashes, pool: U8, at: I64, size: I64, count: Num, used: Num,
    buf: U8, pos: I64, length: I64, skip: U8, lo: Num, hi: Num, add: Num, out: I64,
) -> tuple[Num, Num, Num]:  # fmt: skip
    """Fills out[lo:hi]; stops where the arrays are full. Returns (next, count, used)."""
    for i in range(lo, hi):
        if skip[i] != 0:
            out[i] = -1
            continue
        p = pos[i]
        n = length[i]
        if not inside(p, n, buf.shape[0]):
            out[i] = -1
            continue
        h = _hash(buf, p, n)
        s = _slot(table, hashes, pool, at, size, buf, p, n, h)
        k = table[s]
        if k < 0 and add:
            if 2 * (count + 1) > table.shape[0] or count >= at.shape[0] or used + n > pool.shape[0]:
                return i, count, used
            k = count
            table[s] = k
            hashes[k] = h
            at[k] = used
            size[k] = n
            for j in range(n):
                pool[used + j] = buf[p + j]
            used += n
            count += 1
        out[i] = k
    return hi, count, used


@glue
def _rehash(table: Int32s, hashes: Hashes, count: Num) -> None:
    """Put all names into a larger table."""
    mask = table.shape[0] - 1
    table[:] = -1
    for k in range(count):
        s = np.int64(hashes[k] & np.uint64(mask))
        while table[s] >= 0:
            s = (s + 1) & mask
        table[s] = k


class NameArrays(NamedTuple):
    """The bytes of names, as kernels take them: pool[at[k]:][:size[k]] are those of name k."""

    at: I64
    size: I64
    pool: U8


class Names:
    """A growing set of names. `pool[at[k] : at[k] + size[k]]` are the bytes of name k."""

    def __init__(self, capacity: int = 256) -> None:
        self.count = 0
        self.used = 0
        # A power of two: probing walks by a mask.
        self.table = np.full(1 << (4 * capacity - 1).bit_length(), ABSENT, np.int32)
        self.hashes = np.zeros(capacity, np.uint64)
        self.at = np.zeros(capacity, np.int64)
        self.size = np.zeros(capacity, np.int64)
        self.pool = np.zeros(32 * capacity, np.uint8)

    @property
    def arrays(self) -> NameArrays:
        """The names as they are now: growing makes other arrays."""
        return NameArrays(self.at, self.size, self.pool)

    def intern(
        self,
        buf: NDArray[np.uint8],
        pos: NDArray[np.int64],
        length: NDArray[np.int64],
        skip: NDArray[np.uint8],
        out: NDArray[np.int64],
        lo: int = 0,
        hi: int | None = None,
        *,
        add: bool = True,
    ) -> None:
        """out[i] = the int of the name at buf[pos[i]:][:length[i]] for lo <= i < hi; -1 where
        skip[i] != 0, where the span lies outside buf, or (without `add`) where it isn't known."""
        end = len(pos) if hi is None else hi
        while lo < end:
            lo, self.count, self.used = _intern(
                self.table, self.hashes, self.pool, self.at, self.size, self.count, self.used,
                buf, pos, length, skip, lo, end, add, out,
            )  # fmt: skip
            if lo < end:
                self._grow(int(length[lo]))

    def code(self, name: bytes, *, add: bool = True) -> int:
        """The int of one name; -1 if it isn't known and not to be added."""
        out = np.zeros(1, np.int64)
        buf = np.frombuffer(bytearray(name), np.uint8) if name else np.zeros(0, np.uint8)
        one = np.zeros(1, np.int64)
        self.intern(buf, one, one + len(name), np.zeros(1, np.uint8), out, add=add)
        return int(out[0])

    def name(self, k: int) -> bytes:
        """The bytes of name k."""
        if not 0 <= k < self.count:
            raise IndexError(f"no name {k} of {self.count}")
        return self.pool[self.at[k] : self.at[k] + self.size[k]].tobytes()

    def keep(self, live: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Forget the names that aren't live; returns old int -> new int (-1: forgotten).

        Order among the kept is kept, so arrays indexed by name can be compacted by `array[live]`.
        """
        kept = np.flatnonzero(live[: self.count])
        moved = np.full(self.count, ABSENT, np.int64)
        moved[kept] = np.arange(kept.shape[0])
        fresh = Names(max(256, int(kept.shape[0])))
        none, out = np.zeros(kept.shape[0], np.uint8), np.zeros(kept.shape[0], np.int64)
        fresh.intern(self.pool, self.at[kept], self.size[kept], none, out)
        self.__dict__.update(fresh.__dict__)
        return moved

    def _grow(self, length: int) -> None:
        if self.count >= self.at.shape[0]:
            for name in ("hashes", "at", "size"):
                old = getattr(self, name)
                grown = np.zeros(2 * old.shape[0], old.dtype)
                grown[: old.shape[0]] = old
                setattr(self, name, grown)
        if self.used + length > self.pool.shape[0]:
            pool = np.zeros(2 * self.pool.shape[0] + length, np.uint8)
            pool[: self.used] = self.pool[: self.used]
            self.pool = pool
        if 2 * (self.count + 1) > self.table.shape[0]:
            self.table = np.full(2 * self.table.shape[0], ABSENT, np.int32)
            _rehash(self.table, self.hashes, self.count)
