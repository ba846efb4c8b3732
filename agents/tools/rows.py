"""Rows of a CSV file or of JSON lines, one at a time, and how far they have been read.

One pass; memory stays within one row's limit however large the source is. A row that can't be read
is yielded with what is wrong with it, and reading goes on behind it: whoever wants to stops there.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, Self, TypeVar

from topics import strictjson

ROW_BYTES_MAX = 1 << 20  # no topic of ours takes a larger record
HEAD_BYTES = 1 << 16  # of a source's start, by which it is known again
CHUNK = 1 << 20
BOM = b"\xef\xbb\xbf"
MAGIC = {
    b"\x1f\x8b": "gzip: try `zcat FILE | soma …`",
    b"PK\x03\x04": "a zip or spreadsheet file: save it as CSV first",
    b"\xff\xfe": "UTF-16: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
}

T_co = TypeVar("T_co", covariant=True)


class TableError(ValueError):
    """The source as a whole can't be read, or isn't the one it was, or a row ends the reading.

    The text says why, and names the line if there is one.
    """

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {why}" if line else why)
        self.line = line


class _BadLineError(Exception):
    """A line can't be used; the row that it is part of is passed over."""


@dataclass(frozen=True, slots=True)
class Row(Generic[T_co]):
    """One row: the line it starts at (from 1) and its cells, or what is wrong with it."""

    line: int
    cells: T_co
    error: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a source has been read, and the digests by which its bytes so far are known."""

    place: int  # bytes
    line: int
    head: str  # of the first min(place, HEAD_BYTES) bytes
    last_row: str  # of the last row's bytes
    last_row_bytes: int
    ended: bool  # whether the last line had its end


class Source:
    """Lines of a byte stream as text, for a row reader; `raw` is the row at hand as it came.

    `strict`: every byte must be UTF-8 text. Otherwise other bytes become lone surrogates: they
    matter only in a cell that is used.
    """

    def __init__(
        self,
        stream: BinaryIO,
        seekable: bool = False,
        limit: int = ROW_BYTES_MAX,
        name: str = "",
        strict: bool = False,
    ) -> None:
        self.name = name  # for people
        self.place = 0  # bytes read
        self.line = 0  # of the line read last, from 1
        self.blank = 0  # empty lines passed over
        self._stream = stream
        self._seekable = seekable
        self._limit = limit
        self._strict = strict
        self._head = bytearray()
        self._again = b""  # a line that was looked at, and is read again
        self._pieces: list[bytes] = []
        self._size = 0
        self._last = b""
        self._done = (0, 0)  # place and line that the accepted rows reach

    @property
    def raw(self) -> bytes:
        """The bytes of the row at hand; only its end if it is beyond the limit."""
        return b"".join(self._pieces)

    def begin(self) -> int:
        """A new row begins; returns its line."""
        self._pieces, self._size = [], 0
        return self.line + 1

    def accept(self) -> None:
        """The row at hand is done: the next mark is behind it."""
        self._last = self.raw
        self._done = (self.place, self.line)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        piece = self._again or self._stream.readline(self._limit + 1)
        self._again = b""
        if not piece:
            raise StopIteration
        self.line += 1
        self._count(piece)
        self._size += len(piece)
        if self._size > self._limit:
            while piece and not piece.endswith(b"\n"):
                piece = self._stream.readline(self._limit)
                self._count(piece)
            self._pieces = [piece]
            raise _BadLineError(f"longer than {self._limit:,} bytes")
        self._pieces.append(piece)
        return self._text(_opening(piece) if self.line == 1 else piece)

    def first(self) -> str:
        """The first line that isn't empty, which stays to be read; `TableError` if none is."""
        while True:
            line = self.begin()
            try:
                text = next(self)
            except StopIteration:
                what = "holds nothing but empty lines" if self.line else "is empty"
                raise TableError(f"it {what}") from None
            except _BadLineError as error:
                raise TableError(str(error), line) from None
            if text.strip():
                self._back()
                return text
            self.blank += 1

    def rest(self, limit: int) -> str:
        """All that is left as one text; `TableError` beyond `limit` bytes, or if it is none."""
        line = self.line + 1
        left = self._again + self._stream.read(limit + 1 - len(self._again))
        self._again = b""
        if len(left) > limit:
            raise TableError(f"one JSON document of more than {limit:,} bytes; give JSON lines")
        self._count(left)
        try:
            return self._text(left.removeprefix(BOM) if line == 1 else left)
        except _BadLineError as error:
            raise TableError(str(error), line) from None

    def mark(self) -> Mark:
        """How far the accepted rows reach."""
        place, line = self._done
        head = bytes(self._head[:place])
        ended = self._last.endswith((b"\n", b"\r")) or not self._last
        return Mark(place, line, _digest(head), _digest(self._last), len(self._last), ended)

    def skip_to(self, mark: Mark) -> None:
        """Go on behind a mark; `TableError` if the bytes before it aren't those that were read."""
        if mark.place < self.place and not self._seekable:
            raise TableError("its first row isn't the one that was imported")
        last = self._jump(mark) if self._seekable else self._read_on(mark)
        head = bytes(self._head[: mark.place])
        if _digest(head) != mark.head or _digest(last) != mark.last_row:
            raise TableError(f"its first {mark.place} bytes aren't those that were imported")
        self.line, self._last = mark.line, last
        self._done = (mark.place, mark.line)
        if not mark.ended and (rest := self._stream.readline(self._limit)):
            self._count(rest)
            if rest.strip():
                raise TableError(f"line {mark.line} went on after it was imported")

    def _back(self) -> None:
        """Put the line at hand back."""
        self._again = self._pieces.pop()
        self.line -= 1
        self.place -= len(self._again)
        del self._head[self.place :]

    def _text(self, data: bytes) -> str:
        if not self._strict:
            return data.decode("utf-8", "surrogateescape")
        if b"\x00" in data:
            raise _BadLineError("a zero byte: this is a binary file, no text")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            at = error.start
            raise _BadLineError(f"byte {at + 1} ({data[at]:#04x}) isn't UTF-8") from None

    def _count(self, piece: bytes) -> None:
        self.place += len(piece)
        if len(self._head) < HEAD_BYTES:
            self._head += piece[: HEAD_BYTES - len(self._head)]

    def _jump(self, mark: Mark) -> bytes:
        self._stream.seek(0)
        self._head[:] = self._stream.read(HEAD_BYTES)
        self._stream.seek(mark.place - mark.last_row_bytes)
        self.place = mark.place
        return self._stream.read(mark.last_row_bytes)

    def _read_on(self, mark: Mark) -> bytes:
        last = self.raw
        while self.place < mark.place:
            piece = self._stream.read(min(CHUNK, mark.place - self.place))
            if not piece:
                break
            self._count(piece)
            last = (last + piece)[-max(mark.last_row_bytes, 1) :]
        return last[-mark.last_row_bytes :] if mark.last_row_bytes else b""


def _opening(line: bytes) -> bytes:
    """The first line without its byte order mark; TableError for what is known to be no text."""
    for magic, what in MAGIC.items():
        if line.startswith(magic):
            raise TableError(f"this is {what}")
    return line.removeprefix(BOM)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def csv_rows(source: Source, delimiter: str = ",") -> Iterator[Row[list[str]]]:
    """Rows of CSV (RFC 4180), the header among them; empty lines are left out, but counted."""
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        line = source.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, [], f"not CSV: {error}")
        except _BadLineError as error:
            yield Row(line, [], str(error))
        else:
            if cells and not (len(cells) == 1 and cells[0].isspace()):
                yield Row(line, cells)
            else:
                source.blank += 1


def json_rows(source: Source) -> Iterator[Row[dict[str, Any]]]:
    """Objects of JSON lines; empty lines are left out, but counted."""
    while True:
        line = source.begin()
        try:
            text = next(source)
            if not text.strip():
                source.blank += 1
                continue
            data = strictjson.parse(text)
        except StopIteration:
            return
        except (_BadLineError, strictjson.NotJsonError) as error:
            yield Row(line, {}, str(error))
        else:
            if isinstance(data, dict):
                yield Row(line, data)
            else:
                yield Row(line, {}, f"a JSON object is wanted, not a {type(data).__name__}")
