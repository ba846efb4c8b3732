"""Rows of a CSV file or of JSON lines, as they come: one pass, memory bounded by the longest line.

Whoever reads a table gives bytes and gets rows with their line numbers. What isn't a table is a
`TableError` that names the line and what is wrong; nothing is passed over except empty lines, which
are counted.
"""

import csv
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from agents.tools.moments import is_moment

LINE_BYTES_MAX = 1 << 20
COLUMNS_MAX = 4096
DELIMITERS = ",;\t"
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "-nan"})
MAGIC = {
    b"\x1f\x8b": "gzip: try `zcat FILE | soma …`",
    b"PK\x03\x04": "a zip or spreadsheet file: save it as CSV first",
    b"\xff\xfe": "UTF-16: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
BOM = b"\xef\xbb\xbf"
QUOTED = re.compile(r'"[^"]*"')


class TableError(ValueError):
    """The bytes aren't such a table; the text names the line and what is wrong."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {why}" if line else why)
        self.line = line


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the line on which it ends (from 1), and a cell per column."""

    line: int
    cells: Sequence[Any]  # text in CSV; JSON values in JSON lines


class Source:
    """Decoded lines of a byte stream, and how far it has been read. A line can be put back."""

    def __init__(self, stream: BinaryIO, limit: int = LINE_BYTES_MAX) -> None:
        self.number = 0  # of the line read last, from 1
        self.bytes = 0
        self._stream, self._limit = stream, limit
        self._again: str | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again is not None:
            text, self._again = self._again, None
            return text
        line = self._stream.readline(self._limit + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.bytes += len(line)
        if self.number == 1:
            line = _opening(line)
        if len(line) > self._limit:
            raise TableError(f"longer than {self._limit:,} bytes", self.number)
        return self._text(line)

    def back(self, line: str) -> None:
        """Give the last line again."""
        self._again = line

    def first(self) -> str:
        """The first line that isn't empty, which stays to be read; TableError if there is none."""
        for line in self:
            if line.strip():
                self.back(line)
                return line
        raise TableError("it is empty" if not self.number else "it holds nothing but empty lines")

    def rest(self, limit: int) -> str:
        """All that is left as one text; TableError beyond `limit` bytes."""
        line = next(self, "")
        left = self._stream.read(limit + 1)
        if len(left) > limit:
            raise TableError(f"one JSON document of more than {limit:,} bytes; give JSON lines")
        self.bytes += len(left)
        return line + self._text(left)

    def _text(self, data: bytes) -> str:
        if b"\x00" in data:
            raise TableError("a zero byte: this is a binary file, no text", self.number)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            byte = data[error.start]
            raise TableError(
                f"byte {error.start + 1} ({byte:#04x}) isn't UTF-8", self.number
            ) from None


def _opening(line: bytes) -> bytes:
    """The first line without its byte order mark; TableError for what is known to be no text."""
    for magic, what in MAGIC.items():
        if line.startswith(magic):
            raise TableError(f"this is {what}")
    return line.removeprefix(BOM)


class Table(ABC):
    """Named columns, and rows one after another. Iterate once."""

    columns: tuple[str, ...]
    named: bool  # the names are the file's own
    blank = 0  # empty lines so far

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def __iter__(self) -> Iterator[Row]:
        """The rows; TableError at the first that isn't one."""

    def place(self, column: str) -> int:
        """A column's place from 0, by its name or its number from 1; TableError lists them."""
        if column in self.columns:
            return self.columns.index(column)
        if column.isascii() and column.isdigit() and 1 <= int(column) <= len(self.columns):
            return int(column) - 1
        raise TableError(f"there is no column {column!r}; there are {', '.join(self.columns)}")

    def _take(self, columns: Sequence[str]) -> None:
        if len(columns) > COLUMNS_MAX:
            raise TableError(f"{len(columns):,} columns (at most {COLUMNS_MAX:,})", 1)
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise TableError(f"two columns are named {twice[0]!r}", self.source.number)
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
        self._rows = self._read(csv.reader(source, delimiter=mark, strict=True))
        row = next(self._rows)
        if header is None:
            header = not all(_is_data(cell) for cell in row.cells)
        self.named = header
        names = [cell.strip() for cell in row.cells]
        self._take(names if header else [f"column{k + 1}" for k in range(len(names))])
        if not header:
            self._rows = chain([row], self._rows)

    def __iter__(self) -> Iterator[Row]:
        width = len(self.columns)
        for row in self._rows:
            if len(row.cells) != width:
                raise TableError(
                    f"{len(row.cells)} cells instead of {width} ({', '.join(self.columns)})",
                    row.line,
                )
            yield row

    def _read(self, rows: Iterator[list[str]]) -> Iterator[Row]:
        try:
            for cells in rows:
                if not cells or (len(cells) == 1 and cells[0].isspace()):
                    self.blank += 1
                else:
                    yield Row(self.source.number, cells)
        except csv.Error as error:
            raise TableError(f"not CSV: {error}", self.source.number) from None


class JsonTable(Table):
    """One JSON object a line. The first one's keys are the columns, or `wanted` if given.

    A row that lacks one of them is an error; so is a key that the first row didn't have, but with
    `wanted` others are no concern of ours.
    """

    named = True

    def __init__(self, source: Source, wanted: Sequence[str]) -> None:
        super().__init__(source)
        self._lax = bool(wanted)
        first = self._object(source.first())
        for name in wanted:
            if name not in first:
                raise TableError(
                    f"there is no {name!r}; there are {', '.join(first)}", source.number
                )
        self._take(list(wanted) or list(first))

    def __iter__(self) -> Iterator[Row]:
        known = frozenset(self.columns)
        for line in self.source:
            if line.isspace():
                self.blank += 1
                continue
            found, number = self._object(line), self.source.number
            if missing := [name for name in self.columns if name not in found]:
                raise TableError(f"there is no {missing[0]!r}", number)
            if not self._lax and len(found) > len(known):
                new = next(name for name in found if name not in known)
                raise TableError(f"{new!r} isn't in the first object", number)
            yield Row(number, [found[name] for name in self.columns])

    def _object(self, line: str) -> Mapping[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TableError(f"not JSON: {error}", self.source.number) from None
        if not isinstance(found, dict):
            kind = type(found).__name__
            raise TableError(f"a JSON object is wanted, not a {kind}", self.source.number)
        return found


def csv_table(
    stream: BinaryIO | Source, header: bool | None = None, delimiter: str | None = None
) -> CsvTable:
    """A CSV table over a byte stream; TableError when it has no first row."""
    return CsvTable(_source(stream), header, delimiter)


def json_table(stream: BinaryIO | Source, wanted: Sequence[str] = ()) -> JsonTable:
    """A table over JSON lines; TableError when there is no first object."""
    return JsonTable(_source(stream), wanted)


def _source(stream: BinaryIO | Source) -> Source:
    return stream if isinstance(stream, Source) else Source(stream)


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
            raise ValueError(f"{_short(cell.strip())} isn't a number") from None
        if "_" in cell or not cell.isascii():  # float() takes 1_000 and other scripts' digits
            raise ValueError(f"{_short(cell.strip())} isn't a number")
    elif cell is None:
        return math.nan
    elif isinstance(cell, int | float) and not isinstance(cell, bool):
        try:
            value = float(cell)
        except OverflowError:
            return math.nan
    else:
        raise ValueError(f"{_short(json.dumps(cell))} isn't a number")
    return value if math.isfinite(value) else math.nan


def _is_data(cell: str) -> bool:
    if is_moment(cell):
        return True
    try:
        number(cell)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
