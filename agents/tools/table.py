"""Tables for whoever takes all rows or none: named columns, and a cell of each in every row.

The rows come one by one (`rows`). What isn't a table is a `TableError` that names the line and what
is wrong; nothing is passed over except empty lines, which are counted.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, TypeVar

from agents.tools.csvfile import CsvFile
from agents.tools.csvform import Told
from agents.tools.numbers import MISSING, POINT, NoNumberError, Numbers
from agents.tools.output import counted
from agents.tools.rows import COLUMNS_MAX, json_rows
from agents.tools.source import UNENDED, Row, Source, TableError
from agents.tools.times import Dates, shown

Cells = Sequence[Any]  # text in CSV; JSON values in JSON lines
T = TypeVar("T")


class Table(ABC):
    """Named columns, and rows one after another. Iterate once."""

    columns: tuple[str, ...]
    named: bool  # the names are the file's own

    def __init__(self, source: Source, told: Told) -> None:
        self.source = source
        self.numbers = Numbers(POINT)
        self.dates = Dates(told.day_first)

    @property
    def blank(self) -> int:
        """Empty lines so far."""
        return self.source.blank

    @abstractmethod
    def __iter__(self) -> Iterator[Row[Cells]]:
        """The rows; TableError at the first that isn't one."""

    def place(self, column: str) -> int:
        """A column's place from 0, by its name or its number from 1; TableError lists them."""
        if column in self.columns:
            return self.columns.index(column)
        if column.isascii() and column.isdigit() and 1 <= int(column) <= len(self.columns):
            return int(column) - 1
        raise TableError(f"there is no column {column!r}; there are {', '.join(self.columns)}")

    def _take(self, columns: Sequence[str], line: int) -> None:
        if len(columns) > COLUMNS_MAX:
            raise TableError(f"{len(columns):,} columns (at most {COLUMNS_MAX:,})", line)
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise TableError(f"two columns are named {twice[0]!r}", line)
        self.columns = tuple(columns)


class CsvTable(Table):
    """Comma-separated values, as `CsvFile` finds or was told that they are written."""

    def __init__(self, source: Source, told: Told) -> None:
        super().__init__(source, told)
        self._file = CsvFile(source, told)
        self.named = self._file.named
        self.numbers, self.dates = self._file.numbers, self._file.dates
        self._take(self._file.columns, source.line)

    def __iter__(self) -> Iterator[Row[Cells]]:
        width = len(self.columns)
        for row in self._file:
            if row.error or len(row.cells) != width:
                cells, names = counted(len(row.cells), "cell"), ", ".join(self.columns)
                why = f"{cells} instead of {width} ({names})"
                raise TableError(row.error or why, row.line)
            yield row


class JsonTable(Table):
    """One JSON object a line. The first one's keys are the columns, or `wanted` if given.

    A row that lacks one of them is an error; so is a key that the first row didn't have, but with
    `wanted` others are no concern of ours.
    """

    named = True

    def __init__(self, source: Source, wanted: Sequence[str], told: Told) -> None:
        super().__init__(source, told)
        self._lax = bool(wanted)
        source.first()
        self._rows = json_rows(source)
        row = next(self._rows, None)
        if row is None:
            raise TableError(UNENDED, source.waiting)
        first = _good(row)
        if not first.cells:
            raise TableError("the first object is empty", first.line)
        for name in wanted:
            if name not in first.cells:
                raise TableError(
                    f"there is no {name!r}; there are {', '.join(first.cells)}", first.line
                )
        self._take(list(wanted) or list(first.cells), first.line)
        self._rows = chain([first], self._rows)

    def __iter__(self) -> Iterator[Row[Cells]]:
        known = frozenset(self.columns)
        for row in self._rows:
            found = _good(row).cells
            if missing := [name for name in self.columns if name not in found]:
                raise TableError(f"there is no {missing[0]!r}", row.line)
            if not self._lax and len(found) > len(known):
                new = next(name for name in found if name not in known)
                raise TableError(f"{new!r} isn't in the first object", row.line)
            yield Row(row.line, [found[name] for name in self.columns])


def _good(row: Row[T]) -> Row[T]:
    """The row; TableError if something is wrong with it."""
    if row.error:
        raise TableError(row.error, row.line)
    return row


def csv_table(stream: BinaryIO | Source, told: Told | None = None) -> CsvTable:
    """A CSV table over a byte stream; TableError when it has no first row, or two readings."""
    told = told or Told()
    return CsvTable(strict(stream, told), told)


def json_table(
    stream: BinaryIO | Source, wanted: Sequence[str] = (), told: Told | None = None
) -> JsonTable:
    """A table over JSON lines; TableError when there is no first object."""
    told = told or Told()
    return JsonTable(strict(stream, told), wanted, told)


def strict(stream: BinaryIO | Source, told: Told | None = None) -> Source:
    """A source that takes nothing but text."""
    if isinstance(stream, Source):
        return stream
    told = told or Told()
    final, encoding = told.final, told.encoding
    return Source(stream, stream.seekable(), strict=True, final=final, encoding=encoding)


def number(cell: object, numbers: Numbers | None = None) -> float:
    """A cell as a number; NaN for a missing value (an empty cell, null, NaN, an infinity).

    ValueError for anything else.
    """
    if isinstance(cell, str):
        text = cell.strip()
        try:
            value = (numbers or Numbers(POINT)).read(text)
        except NoNumberError:
            if text.lower() in MISSING:
                return math.nan
            raise
    elif cell is None:
        return math.nan
    elif isinstance(cell, int | float) and not isinstance(cell, bool):
        try:
            value = float(cell)
        except OverflowError:
            return math.nan
    else:
        raise ValueError(f"{shown(json.dumps(cell))} isn't a number")
    return value if math.isfinite(value) else math.nan
