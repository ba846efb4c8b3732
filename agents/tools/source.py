"""Lines of a byte stream as text, and how far they have been read.

One pass; memory stays within one row's limit however large the source is.
"""

import hashlib
import os
from collections import deque
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, NoReturn, Self, TypeVar

from topics.strictjson import BOM

ROW_BYTES_MAX = 1 << 20  # no topic of ours takes a larger record
HEAD_BYTES = 1 << 16  # of a source's start, by which it is known again
CHUNK = 1 << 20
LOOK_BYTES = 1 << 20
UNENDED = "the row isn't ended yet and waits for its rest (--final takes it as it is)"
MAGIC = {
    b"\x1f\x8b": "gzip: try `zcat FILE | soma …`",
    b"PK\x03\x04": "a zip or spreadsheet file: save it as CSV first",
    b"\xff\xfe\x00\x00": "UTF-32: convert it to UTF-8 (iconv -f UTF-32 -t UTF-8)",
    b"\x00\x00\xfe\xff": "UTF-32: convert it to UTF-8 (iconv -f UTF-32 -t UTF-8)",
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


class ReplacedError(TableError):
    """The source isn't the one whose rows were imported, or was changed."""


class BadLineError(Exception):
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

    `strict`: every byte must be text. Otherwise other bytes become lone surrogates: they matter
    only in a cell that is used. A last line without its end may be half of one: it isn't given out,
    but `waiting`, unless `final` says that nothing more will come.
    """

    def __init__(
        self,
        stream: BinaryIO,
        seekable: bool = False,
        limit: int = ROW_BYTES_MAX,
        name: str = "",
        strict: bool = False,
        final: bool = False,
        encoding: str = "utf-8",
    ) -> None:
        self.name = name  # for people
        self.final = final
        self.place = 0  # bytes read
        self.line = 0  # of the line read last, from 1
        self.row = 0  # the line at which the row at hand begins
        self.blank = 0  # empty lines passed over
        self.comments = 0  # and lines that begin with '#', where `commented`
        self.commented = False
        self.waiting = 0  # the line of the row that isn't complete yet; 0: there is none
        self._stream = stream
        self.seekable = seekable  # it can be taken up at any place
        self._limit = limit
        self._skipped = 0  # lines passed over at the start
        self.strict = strict  # may be changed from row to row
        self.encoding = encoding
        self._head = bytearray()
        self._ahead: deque[bytes] = deque()  # lines that were looked at, and are read again
        self._pieces: list[bytes] = []
        self._size = 0
        self._last = b""
        self._done = (0, 0)  # place and line that the accepted rows reach

    @property
    def raw(self) -> bytes:
        """The bytes of the row at hand; only its end if it is beyond the limit."""
        return b"".join(self._pieces)

    def begin(self) -> None:
        """A new row begins."""
        self._pieces, self._size, self.row = [], 0, self.line + 1

    def accept(self) -> None:
        """The row at hand is done: the next mark is behind it."""
        self._last = self.raw
        self._done = (self.place, self.line)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        if self.waiting:
            raise StopIteration
        piece = self._line()
        while piece[:1] == b"#" and self.commented and not self._pieces:
            if len(piece) > self._limit:
                break  # the row that it is taken for is refused
            self._take(piece)
            self.comments += 1
            self.row += 1
            piece = self._line()
        size = len(piece)
        if not size:
            raise StopIteration
        text = piece if self.line else _opening(piece)
        if piece[-1:] != b"\n" and size <= self._limit and not self.final:
            self.waiting = self.row
            raise StopIteration
        self._take(piece)
        self._size += size
        if self._size > self._limit:
            self._pass_over(piece)
        self._pieces.append(piece)
        return self._text(text)

    def wait(self) -> bool:
        """At the end within a row: whether it is to wait for its rest."""
        if not self.final:
            self.waiting = self.row
        return not self.final

    def look(self, lines: int) -> list[str]:
        """The next lines as text, which stay to be read: so many, or all there are.

        Not a last one without its end, nor what is behind a line beyond the limit or a MiB.
        """
        found: list[bytes] = []
        size = 0
        while len(found) < lines and size < LOOK_BYTES:
            piece = self._peek(len(found))
            if not piece or len(piece) > self._limit or not self._whole(piece):
                break
            size += len(piece)
            found.append(piece if found or self.line else _opening(piece))
        return [piece.decode(self.encoding, "replace") for piece in found]

    def skip(self, lines: int) -> None:
        """Pass over lines, whatever they are; `TableError` if there are fewer."""
        self._skipped = lines
        while self.line < lines:
            if not (piece := self._line()):
                raise TableError(f"it has {self.line:,} of the {lines:,} lines to pass over")
            if self.line == 0:
                _opening(piece)
            self._take(piece)

    def first(self) -> str:
        """The first line that isn't empty, which stays to be read; `TableError` if none is."""
        while True:
            piece = self._peek(0)
            line = self.line + 1
            if not piece:
                where = f" behind line {self._skipped}" if self._skipped else ""
                what = "holds nothing but empty lines" if self.blank else "is empty"
                raise TableError(f"it {what}{where}")
            if len(piece) > self._limit:
                raise TableError(f"longer than {self._limit:,} bytes", line)
            try:
                text = self._text(piece if self.line else _opening(piece))
            except BadLineError as error:
                raise TableError(str(error), line) from None
            if text.strip():
                return text
            self._take(self._line())
            self.blank += 1

    def rest(self, limit: int) -> str:
        """All that is left as one text; `TableError` beyond `limit` bytes, or if it is none."""
        line = self.line + 1
        left = b"".join(self._ahead)
        self._ahead.clear()
        left += self._stream.read(limit + 1 - len(left))
        if len(left) > limit:
            raise TableError(f"one JSON document of more than {limit:,} bytes; give JSON lines")
        self._count(left)
        try:
            return self._text(left.removeprefix(BOM) if line == 1 else left)
        except BadLineError as error:
            raise TableError(str(error), line) from None

    def mark(self) -> Mark:
        """How far the accepted rows reach."""
        place, line = self._done
        head = bytes(self._head[:place])
        ended = self._last.endswith((b"\n", b"\r")) or not self._last
        return Mark(place, line, _digest(head), _digest(self._last), len(self._last), ended)

    def recognise(self, mark: Mark) -> None:
        """`ReplacedError` if a file that can be taken up anywhere isn't the one that was read."""
        if self.seekable:
            self._check(mark, self._jump(mark))
            self._stream.seek(0)
            self._head.clear()
            self.place = 0

    def skip_to(self, mark: Mark) -> list[Row[Any]]:
        """Go on behind a mark; `ReplacedError` if the bytes before it aren't those that were read.

        Returns the bad row that it begins with, if any: the rest of a line that was taken without
        its end, and went on.
        """
        if mark.place < self.place and not self.seekable:
            raise TableError("its first row isn't the one that was imported")
        last = self._jump(mark) if self.seekable else self._read_on(mark)
        self._check(mark, last)
        self.line, self._last = mark.line, last
        self._done = (mark.place, mark.line)
        if mark.ended or not (rest := self._line()):
            return []
        self.begin()
        self._count(rest)
        if not rest.strip():
            return []
        self.row = mark.line
        if not self._whole(rest) and len(rest) <= self._limit:
            self.waiting = mark.line
            return []
        self._pieces = [rest]
        return [Row(mark.line, [], "went on after it was imported: what it was then is published")]

    def _check(self, mark: Mark, last: bytes) -> None:
        """Are the bytes before the mark those that were read? `ReplacedError` says what is not."""
        begins = min(mark.place, len(self._head))
        why = ""
        if self.place < mark.place:
            why = f"it has no more than {self.place:,}"
        elif _digest(bytes(self._head[:begins])) != mark.head:
            why = "it begins otherwise"
        elif self.place > mark.place or _digest(last) != mark.last_row:
            why = f"line {mark.line} is another"
        if why:
            raise ReplacedError(
                f"its first {mark.place:,} bytes aren't those that were imported: {why}"
            )

    def _peek(self, k: int) -> bytes:
        """The line k from here on, which stays to be read; empty at the end."""
        while len(self._ahead) <= k:
            piece = self._stream.readline(self._limit + 1)
            if not piece:
                return b""
            self._ahead.append(piece)
        return self._ahead[k]

    def _line(self) -> bytes:
        return self._ahead.popleft() if self._ahead else self._stream.readline(self._limit + 1)

    def _take(self, piece: bytes) -> None:
        self.line += 1
        self._count(piece)

    def _whole(self, piece: bytes) -> bool:
        return self.final or piece.endswith(b"\n")

    def _pass_over(self, piece: bytes) -> NoReturn:
        """The rest of a line that is too long."""
        last = piece
        while piece and not piece.endswith(b"\n"):
            piece = self._stream.readline(self._limit)
            last = piece or last
            self._count(piece)
        if not self._whole(last):
            self.waiting = self.row
            raise StopIteration
        self._pieces = [last]
        raise BadLineError(f"longer than {self._limit:,} bytes")

    def _text(self, data: bytes) -> str:
        if not self.strict:
            return data.decode(self.encoding, "surrogateescape")
        if b"\x00" in data:
            raise BadLineError("a zero byte: this is a binary file, no text")
        try:
            return data.decode(self.encoding)
        except UnicodeDecodeError as error:
            at, name = error.start, self.encoding.upper()
            raise BadLineError(
                f"byte {at + 1} ({data[at]:#04x}) isn't {name} (--encoding says what it is)"
            ) from None

    def _count(self, piece: bytes) -> None:
        self.place += len(piece)
        if len(self._head) < HEAD_BYTES:
            self._head += piece[: HEAD_BYTES - len(self._head)]

    def _jump(self, mark: Mark) -> bytes:
        self._ahead.clear()
        size = self._stream.seek(0, os.SEEK_END)
        self._stream.seek(0)
        self._head[:] = self._stream.read(HEAD_BYTES)
        self._stream.seek(max(0, mark.place - mark.last_row_bytes))
        self.place = min(size, mark.place)
        return self._stream.read(mark.last_row_bytes)

    def _read_on(self, mark: Mark) -> bytes:
        last = self.raw
        while self.place < mark.place:
            if self._ahead:
                piece = self._ahead.popleft()
            else:
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
