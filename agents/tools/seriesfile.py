"""Series of numbers from a file or from standard input: CSV, JSON lines, the Turing dataset's JSON.

Every value column is a domain. Points come one by one, with the time as it was written and as
microseconds; what was unusual but lawful (missing values, time going backwards) is counted.
"""

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

from agents.tools.csvform import Told
from agents.tools.source import UNENDED, Row, Source, TableError
from agents.tools.table import Cells, Table, csv_table, json_table, number, strict
from agents.tools.tcpd import DOCUMENT_BYTES_MAX, Document, document
from agents.tools.times import DATE, Dates, is_compact, is_moment, micros, time_name, unit_of

Form = Literal["auto", "csv", "jsonl", "tcpd"]
NO_TIME = "none"
SECOND = 1_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class FileLayout:
    """What the file's reader was told; empty: as the file itself suggests."""

    form: Form = "auto"
    time_column: str = ""  # a name, a number from 1, or "none"
    domains: tuple[str, ...] = ()  # the value columns, by name or number
    unit: str = "auto"  # of times that are numbers; auto: by the first, as `unit_of` says, or s
    told: Told = field(default_factory=Told)


@dataclass(frozen=True, slots=True)
class Point:
    """One observation of every domain; `ts` in microseconds, NaN for a missing value."""

    index: int
    line: int  # 0 where lines mean nothing
    time: Any  # as written; the index where the file has no times
    ts: int
    values: tuple[float, ...]


@dataclass
class Seen:
    """What has been read so far."""

    points: int = 0
    line: int = 0  # at which the last one begins; 0 where lines mean nothing
    missing: list[int] = field(default_factory=list)  # per domain
    backwards: int = 0  # points whose time is before that of the point before
    words: bool = False  # times are words: the index counts seconds instead


class Series(ABC):
    """The domains of a file, and its points, once."""

    name = ""  # of the series, where the file says
    time_column = ""  # "" without one
    unit = ""  # of times that are numbers; "" before the first
    domains: tuple[str, ...]

    def __init__(self, dates: Dates | None = None) -> None:
        self.seen = Seen()
        self.dates = dates or Dates()

    @property
    def compact(self) -> bool:
        """Is 20260131 a date here, and no number? Known from the first point on."""
        return bool(self.time_column) and not self.seen.words and self.unit in ("", "iso")

    @property
    def blank(self) -> int:
        """Empty lines passed over so far."""
        return 0

    @property
    def bytes(self) -> int:
        """Bytes read so far, where it is known."""
        return 0

    @property
    def comments(self) -> int:
        """Comment lines passed over so far."""
        return 0

    @property
    def waiting(self) -> int:
        """The line of the last row, if it isn't ended and wasn't taken for that."""
        return 0

    def __iter__(self) -> Iterator[Point]:
        seen = self.seen
        seen.missing = [0] * len(self.domains)
        last = -math.inf
        for point in self._points():
            seen.points += 1
            seen.line = point.line
            seen.backwards += point.ts < last
            last = point.ts
            for k, value in enumerate(point.values):
                seen.missing[k] += math.isnan(value)
            yield point

    @abstractmethod
    def _points(self) -> Iterator[Point]: ...


class TableSeries(Series):
    """Points of a table."""

    def __init__(self, table: Table, layout: FileLayout) -> None:
        super().__init__(table.dates)
        self._table, self.unit = table, "" if layout.unit == "auto" else layout.unit
        named = [table.place(name) for name in layout.domains if not _renames(table, layout)]
        self._time = _time_place(table, layout.time_column, named)
        if self._time in named:
            raise TableError(f"column {table.columns[self._time]!r} is both time and domain")
        _once([table.columns[k] for k in named])
        at = named or [k for k in range(len(table.columns)) if k != self._time]
        if not at:
            raise TableError(f"there is no column of values besides {table.columns[0]!r}")
        self._at = tuple(at)
        self.domains = tuple(table.columns[k] for k in at)
        if _renames(table, layout):
            self.domains = layout.domains
        self.time_column = "" if self._time < 0 else table.columns[self._time]

    @property
    def blank(self) -> int:
        return self._table.blank

    @property
    def bytes(self) -> int:
        return self._table.source.place

    @property
    def comments(self) -> int:
        return self._table.source.comments

    @property
    def waiting(self) -> int:
        return self._table.source.waiting

    def _points(self) -> Iterator[Point]:
        index = -1
        for index, row in enumerate(self._table):
            values = tuple([self._value(row, k) for k in self._at])
            time, ts = self._moment(row, index)
            yield Point(index, row.line, time, ts, values)
        if index < 0 and self.waiting:
            raise TableError(UNENDED, self.waiting)
        if index < 0:
            raise TableError(f"there are no rows yet after the header ({', '.join(self.domains)})")

    def _value(self, row: Row[Cells], k: int) -> float:
        try:
            return number(row.cells[k], self._table.numbers)
        except ValueError as error:
            column = self._table.columns[k]
            if len(self._table.columns) == 1 and is_moment(str(row.cells[k])):
                raise TableError(
                    f"there are no values, only times in {column!r}", row.line
                ) from None
            raise TableError(f"column {column!r}: {error}", row.line) from None

    def _moment(self, row: Row[Cells], index: int) -> tuple[Any, int]:
        if self._time < 0:
            return index, index * SECOND
        cell = row.cells[self._time]
        if self.seen.words:
            return cell, index * SECOND
        try:
            ts = micros(cell, self._unit_for(cell), self.dates)
        except ValueError as error:
            # A first time in words says that all are; one among others is a mistake.
            if index == 0 and _is_word(cell):
                self.seen.words = True
                return cell, 0
            column = self._table.columns[self._time]
            raise TableError(f"column {column!r}: {error}", row.line) from None
        return _written(cell), ts

    def _unit_for(self, cell: object) -> str:
        """The unit of the times that are numbers: the first of these says, unless we were told."""
        if not self.unit and not (isinstance(cell, str) and DATE.match(cell.strip())):
            self.unit = unit_of(cell) or ("iso" if is_compact(cell) else "s")
        return self.unit or "s"


class DocumentSeries(Series):
    """Points of a document of the Turing dataset."""

    def __init__(self, found: Document, layout: FileLayout) -> None:
        super().__init__(Dates(layout.told.day_first))
        self.name, self._found = found.name, found
        wrong = [name for name in layout.domains if name not in found.labels]
        if wrong and not (len(found.labels) == len(layout.domains) == 1):
            known = ", ".join(found.labels)
            raise TableError(f"there is no series {wrong[0]!r}; there are {known}")
        self.domains = layout.domains or found.labels
        self._at = tuple(
            found.labels.index(name) if name in found.labels else 0 for name in self.domains
        )

    def _points(self) -> Iterator[Point]:
        times, values = self._found.times, [self._found.values[k] for k in self._at]
        for index, time in enumerate(times):
            yield Point(index, 0, time, index * SECOND, tuple([one[index] for one in values]))


def open_series(stream: BinaryIO | Source, layout: FileLayout | None = None) -> Series:
    """The series that a byte stream holds; TableError when it can't be one."""
    layout = layout or FileLayout()
    _once(layout.domains)
    source = strict(stream, layout.told)
    if layout.told.skip_lines:
        source.skip(layout.told.skip_lines)
    first = source.first()
    form = layout.form
    if form == "auto":
        form = _form(first)
    if form == "tcpd":
        return DocumentSeries(document(source.rest(DOCUMENT_BYTES_MAX)), layout)
    if form == "jsonl":
        return TableSeries(json_table(source, _wanted(first, layout), layout.told), layout)
    return TableSeries(csv_table(source, layout.told), layout)


def _once(domains: Sequence[str]) -> None:
    for k, name in enumerate(domains):
        if name in domains[:k]:
            raise TableError(f"the domain {name!r} is asked for twice")


def _form(first: str) -> Form:
    text = first.strip()
    if text.startswith("["):
        raise TableError("a JSON array: give one object a line, or the Turing dataset's JSON", 1)
    if not text.startswith("{"):
        return "csv"
    # A whole object on the first line is the first of many, unless it is a document itself.
    return "jsonl" if text.endswith("}") and '"n_obs"' not in text else "tcpd"


def _wanted(first: str, layout: FileLayout) -> list[str]:
    """The keys to look at: all, unless domains were named."""
    if not layout.domains:
        return []
    keys = json_table(io.BytesIO(first.encode()), told=Told(final=True)).columns
    time = layout.time_column or time_name(keys)
    return [*layout.domains, *([] if time in (None, NO_TIME) else [time])]


def _renames(table: Table, layout: FileLayout) -> bool:
    """Is the one domain asked for a name for the only column of values there is?"""
    values = len(table.columns) - (_time_place(table, layout.time_column, ()) >= 0)
    return len(layout.domains) == 1 and values == 1 and layout.domains[0] not in table.columns


def _time_place(table: Table, named: str, domains: Sequence[int]) -> int:
    """The time's column: as told, or one with such a name, or the first of several; -1: none."""
    if named == NO_TIME:
        return -1
    if named:
        return table.place(named)
    if len(table.columns) == 1:
        return -1
    free = [k for k in range(len(table.columns)) if k not in domains]
    if table.named and (name := time_name([table.columns[k] for k in free])) is not None:
        return table.columns.index(name)
    return 0 if 0 in free else -1


def _is_word(cell: object) -> bool:
    """Is it text that isn't meant as a number or as a date?"""
    found = _written(cell)
    return isinstance(found, str) and bool(found) and not DATE.match(found)


def _written(cell: Any) -> Any:
    """A time as it goes into the output: numbers as numbers."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return text
