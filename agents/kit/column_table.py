"""A table of a columnar processor's state: rows of one kind, found by the codes of their names."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.engine.processor import StateRows
from agents.kit.columns import Memory, TableSchema, memory
from agents.kit.packing import Bytes, Ints
from agents.kit.pool import Pool
from topics.columns import Columns
from topics.layout import Named, by_field

ROWS_MIN = 64  # of a table
SPARE = 16  # a table makes one row more for so many as it has, before they are needed
NAMES_MIN = 1024  # below, no memory is given back


class Beside(NamedTuple):
    """An array with a part for each row, which a row gets full of `fill`."""

    shape: tuple[int, ...]  # of the part
    dtype: Any = np.float64
    fill: float = 0.0
    names: bool = False  # whether it holds codes of names


def longer(old: NDArray[Any], size: int, fill: Any = 0) -> NDArray[Any]:
    """The same array with so many rows; zeros take no memory until they are written over."""
    shape = (size, *old.shape[1:])
    new = np.full(shape, fill, old.dtype) if fill else np.zeros(shape, old.dtype)
    new[: old.shape[0]] = old
    return new


class ColumnTable:
    """The rows of one kind. `rows` is a structured array; growing makes another."""

    def __init__(
        self,
        schema: TableSchema,
        beside: Mapping[str, Beside] | None = None,
        pool: Pool | None = None,
    ) -> None:
        """`pool`: where each row has a block, by its columns `at` and `size`."""
        self.schema = schema
        self.pool, self._blocks = pool or Pool(least=0), pool is not None
        self.declared = dict(beside or {})
        self.of: Ints = np.full(ROWS_MIN, -1, np.int64)  # code -> row, -1: none
        self.rows = schema.rows(0)
        self.beside: dict[str, NDArray[Any]] = {
            name: np.full((0, *one.shape), one.fill, one.dtype)
            for name, one in self.declared.items()
        }
        self._whole, self._beside = self.rows, self.beside  # with room for rows to come
        self.living = 0
        self._free: Ints = np.empty(0, np.int64)  # rows, the next one last
        self._lay(ROWS_MIN)

    def _lay(self, size: int) -> None:
        """Make the arrays so much longer as they need to have so many rows."""
        have = self.rows.shape[0]
        if size > self._whole.shape[0]:
            room = max(size, 2 * have)
            self._whole = longer(self.rows, room)
            self._beside = {
                name: longer(array, room, self.declared[name].fill)
                for name, array in self.beside.items()
            }
        self.rows = self._whole[:size]
        memory(self.rows[have:]).wholes[:] = memory(self.schema.first[None]).wholes
        self.beside = {name: array[:size] for name, array in self._beside.items()}
        self._free = np.concatenate((np.arange(size - 1, have - 1, -1), self._free))

    @property
    def memory(self) -> Memory:
        """The rows as numbers, as they are now."""
        return memory(self.rows)

    def views(self, kind: type[Named]) -> Named:
        """A NamedTuple of this kind's fields, as they are now: columns, arrays beside them and, as
        `pool` and `counts`, those of the pool.
        """
        columns = {name: self.rows[name] for name in self.schema.dtype.names or ()}
        return by_field(
            kind, columns | self.beside | {"pool": self.pool.data, "counts": self.pool.counts}
        )

    def reserve(self, more: int) -> None:
        """Make room for so many more items of the pool."""
        self.pool.reserve(more, self.rows["at"], self.rows["size"])

    def take_rows(self, codes: Ints) -> Ints:
        """New rows for these names, which have none."""
        n, spare = codes.shape[0], self._free.shape[0]
        if spare < n:
            have = self.rows.shape[0]
            self._lay(max(have + n - spare, have + have // SPARE))
            spare = self._free.shape[0]
        of = self._free[spare - n :][::-1].copy()
        self._free = self._free[: spare - n]
        self.rows["code"][of] = codes
        self.of[codes] = of
        self.living += n
        return of

    def drop_rows(self, of: Ints) -> None:
        """Let rows go: their memory is as new."""
        self.of[self.rows["code"][of]] = -1
        self.renew(of)
        self._free = np.concatenate((self._free, of))
        self.living -= of.shape[0]

    def renew(self, of: Ints, but: Collection[str] = ()) -> None:
        """Make rows as new, all but these columns."""
        if self._blocks:
            self.pool.leave(self.rows["size"][of])
        self.dropped(of)
        names = self.schema.dtype.names or ()
        held = {name: self.rows[name][of] for name in but if name in names}
        self.memory.wholes[of] = memory(self.schema.first[None]).wholes
        for name, column in held.items():
            self.rows[name][of] = column
        for name, one in self.declared.items():
            self.beside[name][of] = one.fill

    def codes(self) -> list[NDArray[Any]]:
        """All arrays that hold codes of names."""
        found = [self.rows[name] for name in ("code", *(column for _, column in self.schema.texts))]
        return found + [self.beside[name] for name, one in self.declared.items() if one.names]

    def renamed(self, moved: Ints, size: int) -> None:
        """Give names their new codes; there is room for `size` of them."""
        new = np.append(moved, -1)  # so that no name (-1) stays none
        for codes in self.codes():
            codes[...] = new[codes]
        live = np.flatnonzero(self.rows["code"] >= 0)
        self.of = np.full(size, -1, np.int64)
        self.of[self.rows["code"][live]] = live

    def compact(self) -> Ints | None:
        """Give back memory if most of it is free; old row -> new row where rows have moved."""
        moved = self._compact_rows()
        if self.pool.wasteful:
            self.pool.compact(0, self.rows["at"], self.rows["size"])
        return moved

    def _compact_rows(self) -> Ints | None:
        live = np.flatnonzero(self.rows["code"] >= 0)
        n, have = live.shape[0], self.rows.shape[0]
        if 2 * n > have or have <= NAMES_MIN:
            return None
        moved = np.full(have, -1, np.int64)
        moved[live] = np.arange(n)
        self.rows = self._whole = self.rows[live]
        self.beside = self._beside = {name: array[live] for name, array in self.beside.items()}
        self.of[self.rows["code"]] = np.arange(n)
        self._free = np.empty(0, np.int64)
        self._lay(max(ROWS_MIN, n + n // 4))
        return moved

    def put(self, names: Names, rows: StateRows, at: Ints, of: Ints) -> None:
        """Write the table's rows `of` into rows `at`, which are there."""
        if not at.shape[0]:
            return
        children, size = self.room(of)
        children += self.schema.children * at.shape[0]
        rows.columns.reserve(0, rows.columns.used + children)
        rows.scratch.reserve(size)
        self.schema.put(self._copied(of), names.arrays, at, rows.columns)
        self.pack(rows, at, of, names)

    def load_rows(
        self, rows: Columns, at: Ints, of: Ints, buf: Bytes, texts: Ints, items: Ints
    ) -> int:
        """Take rows `at`, all spans and lists of which are inside, into the table's rows `of`.

        Returns a bad one, or -1. texts[slot, k] and items[child] are the codes of names.
        """
        if not at.shape[0]:
            return -1
        taken = self._copied(of)
        if (bad := self.schema.take(taken, texts, at, rows.cols)) >= 0:
            return bad
        self.memory.wholes[of] = memory(taken).wholes
        return self.unpack(rows, at, of, buf, items)

    def _copied(self, of: Ints) -> NDArray[np.void]:
        """self.rows[of], which takes NumPy twenty times as long to copy as numbers."""
        return self.memory.wholes.take(of, axis=0).view(self.schema.dtype)[:, 0]

    # --- a processor's own --------------------------------------------------------------------

    def room(self, of: Ints) -> tuple[int, int]:
        """How many children and scratch bytes `pack` needs for these rows, at most."""
        return 0, 0

    def pack(self, rows: StateRows, at: Ints, of: Ints, names: Names) -> None:
        """Write the packed fields of the table's rows `of` into rows `at`."""

    def unpack(self, rows: Columns, at: Ints, of: Ints, buf: Bytes, items: Ints) -> int:
        """Take the packed fields of rows `at` into the table's rows `of`; a bad one, or -1.

        The other columns are as the row has them. Spans and lists lie inside, whatever their
        lengths; numbers may be any. A row is loaded over what it was.
        """
        return -1

    def dropped(self, of: Ints) -> None:
        """These rows go: give back what they have elsewhere, besides their blocks."""
