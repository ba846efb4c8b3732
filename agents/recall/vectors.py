"""Unit vectors of one dimension in one contiguous array, which grows by half of itself.

At 32 bits a component they are float32, and a rough product says itself how wrong it can be. At 16
they are two planes of int8 and a scale a row: v = scale * (coarse + fine / 254). The scan reads
the coarse plane alone, a quarter of the memory; what it finds is ranked anew by both. At 8 there is
only the coarse one. Rounding to float32 or less happens once, when a vector is put in.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agents.recall.law import Floats

FIRST = 16  # rows at first
GROWTH = 1.5
LEVELS, FINE = 127, 254  # of an int8; steps between two of them
UNIT_32 = 2.0**-24  # rounding of a float32
TERMS_MORE = 8  # roundings beside those of a sum: of query, row, and clip
EXACT, SMALL, LEAST = BITS = (32, 16, 8)

Single = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
Array = npt.NDArray[Any]


class Vectors(Protocol):
    """Rows by their place. The places are whoever's who calls; there are `room` of them."""

    dimension: int
    bits: int
    room: int

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""

    def grow(self, least: int) -> None:
        """Make room for so many rows."""

    def put(self, place: int | slice, vector: Array) -> None:
        """Put a unit vector (d,) at a place, or (n, d) at as many places."""

    def rough(self, query: Floats, count: int, places: Places | None = None) -> Single:
        """Products with the first `count` rows, or those at `places`, quickly; not further from
        what `exact` rows say than `wrong`, if that isn't None.
        """

    @property
    def wrong(self) -> float | None:
        """How far `rough` can be off; None: nobody knows."""

    def exact(self, places: Places) -> Floats:
        """Rows (n, d) as they are kept."""

    def planes(self) -> dict[str, Array]:
        """The arrays, for a snapshot."""

    def fill(self, planes: dict[str, Array]) -> None:
        """Have these arrays, as `planes` gave them, for their own."""


class Whole:
    """float32 a component."""

    bits = EXACT

    def __init__(self, dimension: int) -> None:
        self.dimension, self.room = dimension, 0
        self._rows: Single = np.zeros((0, dimension), np.float32)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes

    @property
    def wrong(self) -> float | None:
        # Of a sum of d products in any order, of unit vectors (Higham 2002, 3.1).
        return (self.dimension + TERMS_MORE) * UNIT_32

    def grow(self, least: int) -> None:
        self.room = _larger(self.room, least)
        self._rows = _copied(self._rows, self.room)

    def put(self, place: int | slice, vector: Array) -> None:
        self._rows[place] = vector

    def rough(self, query: Floats, count: int, places: Places | None = None) -> Single:
        rows = self._rows[:count] if places is None else self._rows[places]
        return np.asarray(rows @ query.astype(np.float32), np.float32)

    def exact(self, places: Places) -> Floats:
        return self._rows[places].astype(np.float64)

    def planes(self) -> dict[str, Array]:
        return {"rows": self._rows}

    def fill(self, planes: dict[str, Array]) -> None:
        self._rows = planes["rows"]
        self.room = len(self._rows)


class Planes:
    """One or two int8 a component."""

    wrong = None

    def __init__(self, dimension: int, bits: int) -> None:
        self.dimension, self.bits, self.room = dimension, bits, 0
        self._coarse = np.zeros((0, dimension), np.int8)
        self._fine = np.zeros((0, dimension if bits == SMALL else 0), np.int8)
        self._scale: Single = np.zeros(0, np.float32)

    @property
    def nbytes(self) -> int:
        return self._coarse.nbytes + self._fine.nbytes + self._scale.nbytes

    def grow(self, least: int) -> None:
        self.room = _larger(self.room, least)
        self._coarse = _copied(self._coarse, self.room)
        self._fine = _copied(self._fine, self.room)
        self._scale = _copied(self._scale, self.room)

    def put(self, place: int | slice, vector: Array) -> None:
        scale, coarse = _quantised(vector)
        self._scale[place], self._coarse[place] = scale, coarse
        if self.bits == SMALL:
            left = vector / _divisor(scale) - coarse
            self._fine[place] = np.clip(np.rint(left * FINE), -LEVELS, LEVELS)

    def rough(self, query: Floats, count: int, places: Places | None = None) -> Single:
        from agents.recall.kernels import scan  # numba is loaded where it is needed

        scale, coarse = _quantised(query)
        rows = self._coarse if places is None else self._coarse[places]
        scales = self._scale[:count] if places is None else self._scale[places]
        out = np.empty(len(scales), np.int32)
        scan(rows, coarse, len(scales), out)
        return np.asarray(out * (scales * scale), np.float32)

    def exact(self, places: Places) -> Floats:
        rows = self._coarse[places].astype(np.float64)
        if self.bits == SMALL:
            rows += self._fine[places] / FINE
        return np.asarray(rows * self._scale[places].astype(np.float64)[:, None], np.float64)

    def planes(self) -> dict[str, Array]:
        return {"coarse": self._coarse, "fine": self._fine, "scale": self._scale}

    def fill(self, planes: dict[str, Array]) -> None:
        self._coarse, self._fine = planes["coarse"], planes["fine"]
        self._scale = planes["scale"]
        self.room = len(self._scale)


def vectors(dimension: int, bits: int) -> Vectors:
    """An empty array of vectors. ValueError for bits other than 32, 16 and 8."""
    if bits not in BITS:
        raise ValueError(f"vectors have {', '.join(map(str, BITS))} bits a component, not {bits}")
    return Whole(dimension) if bits == EXACT else Planes(dimension, bits)


def warm(bits: int) -> None:
    """Compile what vectors of so many bits need, or load it, before the first search."""
    if bits != EXACT:
        one = vectors(1, bits)
        one.grow(1)
        one.rough(np.ones(1), 1)


def _quantised(vector: Array) -> tuple[Any, npt.NDArray[np.int8]]:
    """The scale of each row (…, d), float32, and its components as int8."""
    scale = (np.max(np.abs(vector), axis=-1, initial=0.0) / LEVELS).astype(np.float32)
    coarse = np.clip(np.rint(vector / _divisor(scale)), -LEVELS, LEVELS)
    return scale, coarse.astype(np.int8)


def _divisor(scale: Any) -> Array:
    """What rows are divided by: 1 for those that are zero."""
    return np.asarray(np.where(scale > 0, scale, np.float32(1)))[..., None]


def _larger(room: int, least: int) -> int:
    return max(FIRST, least, int(room * GROWTH))


def _copied(array: Array, room: int) -> Array:
    """The array with that many rows; new ones are zero, by the system, so they cost nothing yet."""
    whole = np.zeros((room, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole
