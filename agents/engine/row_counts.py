"""How many rows of a processor's state have some value in a field, or the field's mean, as a gauge
of this process.

What has stood in a partition since its last commit is counted by the fold, as its rows change; a
worker shows the sum over its partitions, and workers together what there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from prometheus_client import Gauge

from agents.engine.processor import Tally

Counts = Mapping[str, Mapping[str, int]]  # a gauge's name -> value -> rows
Place = tuple[str, str]  # a processor, and a partition


@dataclass(frozen=True, slots=True)
class RowCount(Tally):
    """A tally that is no counter: rows by their values in the field `label`, for these values."""

    values: tuple[str, ...] = ()


ROWS, MILLIONTHS = "rows", "millionths"  # what a mean is made of: whole numbers add up exactly
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class RowMean(RowCount):
    """A tally that is no counter either: the mean of the number in the field `label`, over rows."""

    values: tuple[str, ...] = (ROWS, MILLIONTHS)


@runtime_checkable
class CountingRows(Protocol):
    """A fold that knows its rows by their values."""

    def row_counts(self) -> Counts:
        """How many there are now: of each `RowCount` declared, each of its values."""


class RowGauge:
    """One of them, as Prometheus shows it."""

    def __init__(self, declared: RowCount) -> None:
        self._gauge = Gauge(declared.name, declared.help, self.labels_of(declared))
        self._values = declared.values
        self._of: dict[Place, Mapping[str, int]] = {}
        self._show()

    @staticmethod
    def labels_of(declared: RowCount) -> list[str]:
        """The names of its labels."""
        return [declared.label]

    def total(self, value: str) -> int:
        """How many rows of this process have it."""
        return sum(counts.get(value, 0) for counts in self._of.values())

    def _show(self) -> None:
        for value in self._values:
            self._gauge.labels(value).set(self.total(value))

    def put(self, place: Place, counts: Mapping[str, int]) -> None:
        """So many rows stand in a partition."""
        if self._of.get(place) != counts:
            self._of[place] = dict(counts)
            self._show()

    def drop(self, place: Place) -> None:
        """A partition isn't here any more."""
        if self._of.pop(place, None):
            self._show()


class MeanGauge(RowGauge):
    """That of a `RowMean`: 0 without rows."""

    @staticmethod
    def labels_of(declared: RowCount) -> list[str]:  # noqa: ARG004
        """It has none."""
        return []

    def _show(self) -> None:
        rows = self.total(ROWS)
        self._gauge.set(self.total(MILLIONTHS) / MILLION / rows if rows else 0.0)
