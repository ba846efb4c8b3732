"""Memories of one tenant with vectors of one kind: their columns, and the exact search over them.

A place is a number: a row of the vectors and of each column. A removed memory leaves its place,
with the weight 0, to the next one. What is asked beyond similarity is a weight of each row,

    g = importance^alpha * 2^((ts - ref) / tau)

which is the score's by a factor that all rows share, so it is made once and not for each question.

The k best are found in two steps. Rough products (float32, by BLAS) say of each row the least and
the most that it can be worth; whose most is below the k-th greatest least is out. The others, few
more than k, are worth what the law says in float64. So the ids are those of a search in float64
through all rows. (Vectors of fewer bits have no such bound: several times k are looked at.)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.recall import law
from agents.recall.entry import TYPES, Entry, Filters, field_of, hashed
from agents.recall.importance import Scale
from agents.recall.law import Floats
from agents.recall.vectors import Places, vectors

FIELDS_MAX = 16  # of payloads, for which columns are kept
BLOCK = 256  # rows of which one is looked at first
BLOCKS = 4  # times k: so many blocks there should be
WIDER, AND_MORE = 4, 100  # times k, and more: looked at where nobody knows how wrong rough is
FEW = 2048  # rows that are looked at one by one
SPARSE = 4  # of so many rows one is wanted: then only these are read
CHUNK = 4096  # rows in float64 at a time
EXPONENT_MAX = 500.0  # half-lives from `ref`, before another is taken
NOBODY = np.iinfo(np.int64).min
TINY = float(np.finfo(np.float64).tiny)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Law:
    """The score's numbers; a half-life of infinity: nothing is forgotten."""

    alpha: float = 1.0
    half_life_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Found:
    """A memory and what it is worth; no similarity: it was found by its words alone."""

    score: float
    similarity: float | None
    entry: Entry


class Shelf:
    """Rows of one dimension, made by one model. Whoever calls holds the tenant's lock."""

    def __init__(self, dimension: int, revision: str, bits: int, law: Law) -> None:
        self.dimension, self.revision = dimension, revision
        self.vectors = vectors(dimension, bits)
        self.stale = False  # the weights are to be made anew: another scale of importance
        self.count = 0  # places that were ever used
        self._law = law
        self._free: list[int] = []
        self._entries: list[Entry | None] = []
        self._namespaces = np.zeros(0, np.int32)
        self._types = np.zeros(0, np.int8)
        self._times = np.zeros(0, np.int64)
        self._raw = np.zeros(0, np.float64)
        self._weights = np.zeros(0, np.float64)
        self._columns: dict[str, npt.NDArray[np.int64]] = {}  # by field, the last asked last
        self._ref = NOBODY
        self._newest = NOBODY

    def __len__(self) -> int:
        return self.count - len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        columns: tuple[Any, ...] = (
            self._namespaces,
            self._types,
            self._times,
            self._raw,
            self._weights,
        )
        own = sum(int(one.nbytes) for one in (*columns, *self._columns.values()))
        return self.vectors.nbytes + own

    def entries(self) -> Iterator[Entry]:
        """Those that are there."""
        return (one for one in self._entries if one is not None)

    # --- rows ---

    def put(self, entry: Entry, vector: Floats, namespace: int, scale: Scale) -> None:
        """A new memory, with its unit vector and its namespace's number."""
        place = self._free.pop() if self._free else self._next()
        entry.place = place
        self._entries[place] = entry
        self.vectors.put(place, vector)
        self._namespaces[place] = namespace
        for name, column in self._columns.items():
            column[place] = field_of(entry.payload, name)
        self.weigh(entry, scale)

    def weigh(self, entry: Entry, scale: Scale) -> None:
        """What changes without the content has changed: time, type, importance."""
        place, ts, raw = entry.place, entry.updated_ts, entry.importance_raw
        self._types[place] = TYPES.index(entry.memory_type)
        self._times[place] = ts
        self._raw[place] = math.nan if raw is None else raw
        self._newest = max(self._newest, ts)
        if self._ref == NOBODY:
            self._ref = ts
        if (ts - self._ref) / law.MICROS > EXPONENT_MAX * self._law.half_life_s:
            self._ref, self.stale = ts, True
        at = slice(place, place + 1)
        self._weights[at] = self._relative(at, scale)

    def remove(self, entry: Entry) -> None:
        """Leave its place to another."""
        self._entries[entry.place] = None
        self._weights[entry.place] = 0.0
        self._free.append(entry.place)

    def restore(
        self, entries: list[Entry], planes: dict[str, Any], numbers: list[int], scale: Scale
    ) -> None:
        """Be what a snapshot says: entries, vectors and numbers of namespaces, in one order."""
        self.vectors.fill(planes)
        self.count, self._entries = len(entries), [*entries]
        for place, entry in enumerate(entries):
            entry.place = place
        self._namespaces = np.array(numbers, np.int32)
        self._types = np.array([TYPES.index(one.memory_type) for one in entries], np.int8)
        self._times = np.array([one.updated_ts for one in entries], np.int64)
        raw = (math.nan if one.importance_raw is None else one.importance_raw for one in entries)
        self._raw = np.fromiter(raw, np.float64, len(entries))
        if entries:
            self._ref = self._newest = int(self._times.max())
        self._weights = self._relative(slice(0, self.count), scale)

    def _next(self) -> int:
        place = self.count
        if place == self.vectors.room:
            self.vectors.grow(place + 1)
            room = self.vectors.room
            self._namespaces = _longer(self._namespaces, room)
            self._types, self._times = _longer(self._types, room), _longer(self._times, room)
            self._raw, self._weights = _longer(self._raw, room), _longer(self._weights, room)
            self._columns = {name: _longer(one, room) for name, one in self._columns.items()}
        self.count += 1
        self._entries.append(None)
        return place

    def _relative(self, at: slice, scale: Scale) -> Floats:
        """Weights of rows: the score's, but for the factor that all share. None is 0: one that
        underflows is there all the same.
        """
        weights = scale(self._raw[at]) ** self._law.alpha
        if not math.isinf(self._law.half_life_s):
            lives = (self._times[at] - self._ref) / (law.MICROS * self._law.half_life_s)
            weights = weights * np.exp2(np.maximum(lives, -law.HALF_LIVES_MAX))
        return np.asarray(np.maximum(weights, TINY), np.float64)

    # --- search ---

    def search(self, query: Floats, k: int, filters: Filters, now: int, scale: Scale,
               namespace: int | None) -> list[Found]:  # fmt: skip
        """The k best by (score, id) of those that fit, with a score above 0, best first.

        `query`: unit (d,); `now`: microseconds; `namespace`: the number of the filter's.
        """
        if self.count == 0 or k < 1:
            return []
        weights = self._now(now, scale)
        places = None
        if filters:
            fit = self._fit(filters, namespace)
            places = np.flatnonzero(fit & (weights > 0.0))
            if places.size * SPARSE >= self.count and places.size > FEW:
                weights, places = np.where(fit, weights, 0.0), None
        if places is None or places.size > FEW:
            places = self._likely(query, k, weights, places)
        return self._ranked(query, k, places, now, scale)

    def _now(self, now: int, scale: Scale) -> Floats:
        """A weight of each row, 0 of those that are gone."""
        rows = slice(0, self.count)
        if self.stale:
            alive = self._weights[rows] > 0.0
            self._weights[rows] = np.where(alive, self._relative(rows, scale), 0.0)
            self.stale = False
        if self._newest <= now or math.isinf(self._law.half_life_s):
            return self._weights[rows]
        # Some are of a time to come, and no younger than now for that.
        alive = self._weights[rows] > 0.0
        ages = (now - self._times[rows]) / law.MICROS
        aged = law.decay(ages, self._law.half_life_s)
        return np.where(alive, scale(self._raw[rows]) ** self._law.alpha * aged, 0.0)

    def _fit(self, filters: Filters, namespace: int | None) -> Mask:
        """Which rows fit the filters; of removed ones anything."""
        rows = slice(0, self.count)
        fit = np.ones(self.count, np.bool_)
        if filters.namespace is not None:
            fit &= self._namespaces[rows] == namespace if namespace is not None else False
        if filters.memory_type is not None:
            fit &= self._types[rows] == TYPES.index(filters.memory_type)
        if filters.since is not None:
            fit &= self._times[rows] >= filters.since
        if filters.until is not None:
            fit &= self._times[rows] < filters.until
        for name, value in filters.payload.items():
            fit &= self._column(name)[rows] == hashed(value)
        return fit

    def _column(self, name: str) -> "npt.NDArray[np.int64]":
        """The hashes of a payload field: made when it is first asked for, then kept."""
        column = self._columns.pop(name, None)
        if column is None:
            column = np.zeros(self.vectors.room, np.int64)
            for entry in self.entries():
                column[entry.place] = field_of(entry.payload, name)
            if len(self._columns) >= FIELDS_MAX:
                self._columns.pop(next(iter(self._columns)))
        self._columns[name] = column
        return column

    def _likely(self, query: Floats, k: int, weights: Floats, places: Places | None) -> Places:
        """Where the k best are: some more rows than these, in any order."""
        rough = self.vectors.rough(query, self.count, places)
        own = weights if places is None else weights[places]
        wrong = self.vectors.wrong
        if wrong is None:
            wrong, k = 0.0, WIDER * k + AND_MORE
        most = (rough + wrong) * own
        bound = kth(most - 2 * wrong * own, k)
        chosen = np.flatnonzero((most >= bound) & (most > 0.0))
        return chosen if places is None else places[chosen]

    def _ranked(self, query: Floats, k: int, places: Places, now: int, scale: Scale) -> list[Found]:
        """The k best of these places, by the law."""
        sims, scores = np.zeros(places.size), np.zeros(places.size)
        for begin in range(0, places.size, CHUNK):
            at = slice(begin, begin + CHUNK)
            few = places[at]
            sims[at] = law.similarity(self.vectors.exact(few), query)
            ages = (now - self._times[few]) / law.MICROS
            important = scale(self._raw[few])
            scores[at] = law.score(
                sims[at], important, ages, self._law.alpha, self._law.half_life_s
            )
        least = (
            float(np.partition(scores, scores.size - k)[scores.size - k])
            if scores.size > k
            else 0.0
        )
        found = []
        for at_ in np.flatnonzero((scores >= least) & (scores > 0.0)):
            entry = self._entries[places[at_]]
            assert entry is not None  # its weight is above 0
            found.append(Found(float(scores[at_]), float(sims[at_]), entry))
        return best(found, k)


def best(found: list[Found], k: int) -> list[Found]:
    """The k best, by score and then by id."""
    return sorted(found, key=lambda one: (-one.score, one.entry.id))[:k]


def kth(values: Floats, k: int) -> float:
    """No more than the k-th greatest value, and nearly that; -inf if there are no k.

    The greatest of each block of rows is quickly found, and the k-th of these is one that k rows
    reach: `argpartition` through all rows takes as long as the product with them.
    """
    if values.size < k:
        return -math.inf
    size = min(BLOCK, values.size // (BLOCKS * k))
    if size > 1:
        values = values[: values.size // size * size].reshape(-1, size).max(axis=1)
    return float(np.partition(values, values.size - k)[values.size - k])


def _longer(array: Any, room: int) -> Any:
    whole = np.zeros(room, array.dtype)
    whole[: len(array)] = array
    return whole
