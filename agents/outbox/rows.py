"""The rows of a batch as they came from PostgreSQL: spans into one buffer."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agents.outbox.kernels import FIELDS, FULL, NO_END, header_end, parse

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(slots=True)
class Refusal:
    """Why a row can't be sent. `final`: waiting would change nothing."""

    error: str
    final: bool


@dataclass(slots=True)
class Rows:
    """`pos` and `length` are [FIELDS, n]; values to send are in `j` where `from_j`, else in `b`."""

    n: int
    b: Bytes
    pos: Ints
    length: Ints
    ids: Ints
    created: Ints
    refused: dict[int, Refusal] = field(default_factory=dict)

    def text(self, column: int, row: int) -> bytes:
        """A field's bytes; empty if it is null."""
        at, size = int(self.pos[column, row]), int(self.length[column, row])
        return self.b[at : at + size].tobytes() if size > 0 else b""


def rows_of(copied: bytes, most: int, tail: bytes = b"") -> Rows:
    """The rows of a binary COPY of at most `most` rows; `tail` is put behind them in `b`.

    ValueError for bytes that aren't one.
    """
    begin = header_end(copied)
    b = np.frombuffer(bytearray(copied + tail), np.uint8)
    pos, length = np.zeros((2, FIELDS, most), np.int64)
    ids, created = np.zeros((2, most), np.int64)
    n = int(parse(b, begin, len(copied), pos, length, ids, created))
    if n in (NO_END, FULL):
        raise ValueError("more rows than asked for" if n == FULL else "a COPY that lies or is cut")
    return Rows(n, b, pos, length, ids[:n], created[:n])
