"""Rows counted by their values as they change: what `RowCount` shows of a row processor."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from agents.engine.row_counts import Counts, RowCount

if TYPE_CHECKING:
    from agents.kit.table import Row


class By(NamedTuple):
    """How many rows have each of these values in a field, instead of a counter."""

    field: str
    values: tuple[str, ...]
    help: str


class RowCounts:
    """Of one partition. Rows with none of the values cost nothing."""

    def __init__(self, declared: Iterable[RowCount], rows: "Mapping[str, Row]") -> None:
        self._rows = rows
        self._known: list[tuple[RowCount, dict[str, str]]] = [(one, {}) for one in declared]
        self._counts: list[Counter[str]] = [Counter() for _ in self._known]

    def look_at(self, keys: Iterable[str]) -> None:
        """These rows may be others now, or gone."""
        for (declared, known), counts in zip(self._known, self._counts, strict=True):
            for key in keys:
                one = self._rows.get(key)
                value = getattr(one.row, declared.label) if one is not None else ""
                if (was := known.pop(key, None)) is not None:
                    counts[was] -= 1
                if value in declared.values:
                    known[key] = value
                    counts[value] += 1

    def now(self) -> Counts:
        """How many there are."""
        return {
            declared.name: {value: counts[value] for value in declared.values}
            for (declared, _), counts in zip(self._known, self._counts, strict=True)
        }
