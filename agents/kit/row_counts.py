"""Rows counted by their values, or averaged, as they change: what `RowCount` and `RowMean` show."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from agents.engine.row_counts import MILLION, MILLIONTHS, ROWS, Counts, RowCount, RowMean

if TYPE_CHECKING:
    from agents.kit.table import Row


class By(NamedTuple):
    """How many rows have each of these values in a field, instead of a counter."""

    field: str
    values: tuple[str, ...]
    help: str


class Mean(NamedTuple):
    """The mean of a field's number over all rows, instead of a counter."""

    field: str
    help: str


class _Values:
    """How many rows have each of some values in a field, in one partition."""

    def __init__(self, declared: RowCount) -> None:
        self._field, self._values = declared.label, declared.values
        self._known: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def look_at(self, key: str, one: "Row | None") -> None:
        value = getattr(one.row, self._field) if one is not None else ""
        if (was := self._known.pop(key, None)) is not None:
            self._counts[was] -= 1
        if value in self._values:
            self._known[key] = value
            self._counts[value] += 1

    def now(self) -> dict[str, int]:
        return {value: self._counts[value] for value in self._values}


class _Sum:
    """The sum of a field's numbers in one partition, in millionths; NaN counts as no row."""

    def __init__(self, declared: RowCount) -> None:
        self._field = declared.label
        self._known: dict[str, int] = {}
        self._sum = 0

    def look_at(self, key: str, one: "Row | None") -> None:
        self._sum -= self._known.pop(key, 0)
        millionths = getattr(one.row, self._field) * MILLION if one is not None else math.nan
        if math.isfinite(millionths):
            self._known[key] = round(millionths)
            self._sum += self._known[key]

    def now(self) -> dict[str, int]:
        return {ROWS: len(self._known), MILLIONTHS: self._sum}


class RowCounts:
    """Of one partition. Rows with none of the values cost nothing."""

    def __init__(self, declared: Iterable[RowCount], rows: "Mapping[str, Row]") -> None:
        self._rows = rows
        self._each: dict[str, _Values | _Sum] = {
            one.name: _Sum(one) if isinstance(one, RowMean) else _Values(one) for one in declared
        }

    def look_at(self, keys: Iterable[str]) -> None:
        """These rows may be others now, or gone."""
        for each in self._each.values():
            for key in keys:
                each.look_at(key, self._rows.get(key))

    def now(self) -> Counts:
        """How many there are."""
        return {name: each.now() for name, each in self._each.items()}
