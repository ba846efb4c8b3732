"""Tables for whoever takes all rows or none: named columns, and a cell of each in every row.

The rows come one by one (`rows`). What isn't a table is a `TableError` that names the line and what
is wrong; nothing is passed over except empty lines, which are counted.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, TypeVar

from agents.tools.rows import Row, Source, TableError, csv_rows, json_rows
from agents.tools.times import is_moment, shown

COLUMNS_MAX = 4096
DELIMITERS = ",;\t"
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "-nan"})
QUOTED = re.compile(r'"[^"]*"')

Cells = Sequence[Any]  # text in CSV; JSON values in JSON lines
T = TypeVar("T")


class Table(ABC):
    """Named columns, and rows one after another. Iterate once."""

    columns: tuple[str, ...]
    named: bool  # the names are the file's own

    def __init__(self, source: Source) -> None:
        self.source = source

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
    """Comma-separated values (RFC 4180); semicolons and tabs are recognised by the first line.

    Without a header the columns are named column1, column2, … A first row that holds anything but
    numbers, times and missing values is a header, unless `header` says.
    """

    def __init__(self, source: Source, header: bool | None, delimiter: str | None) -> None:
        super().__init__(source)
        first = source.first()
        if "\r" in first.rstrip("\r\n"):
            raise TableError("line ends are bare carriage returns: convert them to newlines", 1)
        mark = delimiter or max(DELIMITERS, key=QUOTED.sub("", first).count)
        self._rows = csv_rows(source, mark)
        row = _good(next(self._rows))
        if header is None:
            header = not all(_is_data(cell) for cell in row.cells)
        self.named = header
        names = [cell.strip() for cell in row.cells]
        self._take(names if header else [f"column{k + 1}" for k in range(len(names))], row.line)
        if not header:
            self._rows = chain([row], self._rows)

    def __iter__(self) -> Iterator[Row[Cells]]:
        width = len(self.columns)
        for row in self._rows:
            if row.error or len(row.cells) != width:
                why = f"{len(row.cells)} cells instead of {width} ({', '.join(self.columns)})"
                raise TableError(row.error or why, row.line)
            yield row


class JsonTable(Table):
    """One JSON object a line. The first one's keys are the columns, or `wanted` if given.

    A row that lacks one of them is an error; so is a key that the first row didn't have, but with
    `wanted` others are no concern of ours.
    """

    named = True

    def __init__(self, source: Source, wanted: Sequence[str]) -> None:
        super().__init__(source)
        self._lax = bool(wanted)
        source.first()
        self._rows = json_rows(source)
        first = _good(next(self._rows))
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


def csv_table(
    stream: BinaryIO | Source, header: bool | None = None, delimiter: str | None = None
) -> CsvTable:
    """A CSV table over a byte stream; TableError when it has no first row."""
    return CsvTable(strict(stream), header, delimiter)


def json_table(stream: BinaryIO | Source, wanted: Sequence[str] = ()) -> JsonTable:
    """A table over JSON lines; TableError when there is no first object."""
    return JsonTable(strict(stream), wanted)


def strict(stream: BinaryIO | Source) -> Source:
    """A source that takes nothing but UTF-8 text."""
    return stream if isinstance(stream, Source) else Source(stream, strict=True)


def number(cell: object) -> float:
    """A cell as a number; NaN for a missing value (an empty cell, null, NaN, an infinity).

    ValueError for anything else.
    """
    if isinstance(cell, str):
        try:
            value = float(cell)
        except ValueError:
            if cell.strip().lower() in MISSING:
                return math.nan
            raise ValueError(f"{shown(cell.strip())} isn't a number") from None
        if "_" in cell or not cell.isascii():  # float() takes 1_000 and other scripts' digits
            raise ValueError(f"{shown(cell.strip())} isn't a number")
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


def _is_data(cell: str) -> bool:
    if is_moment(cell):
        return True
    try:
        number(cell)
    except ValueError:
        return False
    return True
