"""Rows of a CSV file or of JSON lines, one at a time, and how far they have been read.

Memory stays within one row's limit however large the source is. A row that can't be read is
yielded with what is wrong with it, and reading goes on behind it.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, Self, TypeVar

from agents.tools.table import MAGIC

ROW_BYTES_MAX = 1 << 20  # no topic of ours takes a larger record
HEAD_BYTES = 1 << 16  # of a source's start, by which it is known again
CHUNK = 1 << 20
_BOM = "\ufeff"

T = TypeVar("T")


class SourceError(Exception):
    """The source as a whole can't be read, or isn't the one it was; the text says why."""


class _TooLongError(Exception):
    """A row is beyond the limit."""


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One row: the line it starts at (from 1) and its cells, or what is wrong with it."""

    line: int
    cells: T
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

    Bytes that aren't UTF-8 become lone surrogates: they matter only in a cell that is used.
    """

    def __init__(
        self, stream: BinaryIO, seekable: bool, limit: int = ROW_BYTES_MAX, name: str = ""
    ) -> None:
        self.name = name  # for people
        self.place = 0
        self.line = 0
        self._stream = stream
        self._seekable = seekable
        self._limit = limit
        self._head = bytearray()
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
        piece = self._stream.readline(self._limit + 1)
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
            raise _TooLongError(f"longer than {self._limit} bytes")
        self._pieces.append(piece)
        if self.line > 1:
            return piece.decode("utf-8", "surrogateescape")
        for magic, what in MAGIC.items():
            if piece.startswith(magic):
                raise SourceError(f"this is {what}")
        return piece.decode("utf-8", "surrogateescape").removeprefix(_BOM)

    def mark(self) -> Mark:
        """How far the accepted rows reach."""
        place, line = self._done
        head = bytes(self._head[:place])
        ended = self._last.endswith((b"\n", b"\r")) or not self._last
        return Mark(place, line, _digest(head), _digest(self._last), len(self._last), ended)

    def skip_to(self, mark: Mark) -> None:
        """Go on behind a mark; `SourceError` if the bytes before it aren't those that were read."""
        if mark.place < self.place and not self._seekable:
            raise SourceError("its first row isn't the one that was imported")
        last = self._jump(mark) if self._seekable else self._read_on(mark)
        head = bytes(self._head[: mark.place])
        if _digest(head) != mark.head or _digest(last) != mark.last_row:
            raise SourceError(f"its first {mark.place} bytes aren't those that were imported")
        self.line, self._last = mark.line, last
        self._done = (mark.place, mark.line)
        if not mark.ended and (rest := self._stream.readline(self._limit)):
            self._count(rest)
            if rest.strip():
                raise SourceError(f"line {mark.line} went on after it was imported")

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
        except (csv.Error, _TooLongError) as error:
            yield Row(line, [], str(error))
            continue
        if len(cells) > 1 or (cells and cells[0].strip()):
            yield Row(line, cells)


def json_rows(source: Source) -> Iterator[Row[dict[str, Any]]]:
    """Objects of JSON lines; empty lines are left out, but counted."""
    while True:
        line = source.begin()
        try:
            text = next(source)
            if not text.strip():
                continue
            data = json.loads(text)
        except StopIteration:
            return
        except json.JSONDecodeError as error:
            yield Row(line, {}, f"not JSON: {error.msg} at character {error.pos}")
        except (_TooLongError, ValueError, RecursionError) as error:
            yield Row(line, {}, f"not JSON: {error}")
        else:
            if isinstance(data, dict):
                yield Row(line, data)
            else:
                yield Row(line, {}, "not a JSON object")
