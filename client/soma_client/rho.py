"""Density matrices by compare-and-set, and their envelope: 32 bytes, then float64 row by row.

    0  4  the letters SRHO             8  4  rows
    4  1  format: 1                   12  4  columns
    5  1  numbers: 1, float64         16  8  version; 0: it has none yet
    6  2  0                           24  4  0
                                      28  4  CRC-32 (zlib's) of all else

Little-endian throughout. Without NumPy; what has the buffer protocol (an array of NumPy) is taken
as it is, and `Matrix.view` makes one again: `numpy.asarray(matrix.view)`.
"""

import base64
import struct
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from soma_client.answers import Committed, take
from soma_client.call import OCTETS, Answer, Call, as_json, new_key
from soma_client.errors import BadAnswer, CantSend

MAGIC, FORMAT, FLOAT64 = b"SRHO", 1, 1
NUMBER_BYTES = 8
_HEAD = struct.Struct("<4sBBHIIQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEAD.size + _CRC.size

Rows = Sequence[Sequence[float]] | Any  # or a buffer of float64 with two dimensions


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix as it was read."""

    version: int
    rows: int
    columns: int
    numbers: "array[float]"  # row by row
    crc: str  # of its envelope: what a commit on top of it may hand back

    @property
    def view(self) -> "memoryview[float]":
        """Its numbers as rows × columns, without copying them."""
        flat = memoryview(self.numbers).cast("B")
        return flat.cast("d", (self.rows, self.columns))

    def lists(self) -> list[list[float]]:
        """Its rows."""
        wide = self.columns
        return [self.numbers[k * wide : (k + 1) * wide].tolist() for k in range(self.rows)]


def rho_commit(
    key: str,
    matrix: Rows,
    expected_version: int,
    *,
    expected_crc: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Committed]:
    """The next version of a matrix, if it is at `expected_version` (0: there is none). `Conflict`.

    `expected_crc`: of the one that was read (`Matrix.crc`); after a restored backup another may
    have its number. Symmetric, positive semidefinite, of trace 1; else `BadRequest` says which it
    isn't.
    """
    query = {"expected_version": str(expected_version)}
    if expected_crc:
        query["expected_crc"] = expected_crc
    return Call(
        "PUT", f"/rho/{quote(key, safe='')}", _committed, query, pack(matrix), OCTETS,
        key=idempotency_key or new_key(),
    )  # fmt: skip


def rho_commit_all(
    matrices: Mapping[str, tuple[Rows, int] | tuple[Rows, int, str]],
    *,
    idempotency_key: str | None = None,
) -> Call[Committed]:
    """Several at once, all or none: key -> (matrix, expected version), or with its CRC third."""
    commits = [
        {
            "key": key,
            "expected_version": expected,
            "expected_crc": crc[0] if crc else None,
            "envelope": base64.b64encode(pack(one)).decode(),
        }
        for key, (one, expected, *crc) in matrices.items()
    ]
    body = as_json({"commits": commits})
    return Call("POST", "/rho", _committed, body=body, key=idempotency_key or new_key())


def rho_read(key: str, *, min_version: int = 0) -> Call[Matrix]:
    """A matrix; not older than `min_version`. `NotThere`, `Conflict`."""
    query = {"min_version": str(min_version)} if min_version else {}
    return Call(
        "GET", f"/rho/{quote(key, safe='')}", lambda answer: unpack(answer.body), query,
        accept=OCTETS,
    )  # fmt: skip


def pack(matrix: Rows, version: int = 0) -> bytes:
    """The envelope of a matrix. `CantSend` where it is none."""
    rows, columns, body = _body(matrix)
    head = _HEAD.pack(MAGIC, FORMAT, FLOAT64, 0, rows, columns, version, 0)
    return b"".join((head, _CRC.pack(zlib.crc32(body, zlib.crc32(head))), body))


def unpack(data: bytes) -> Matrix:
    """What an envelope holds. `BadAnswer` for all that is none, or damaged."""
    if len(data) < HEADER_BYTES or data[: len(MAGIC)] != MAGIC:
        raise BadAnswer("the matrix' envelope doesn't begin with SRHO")
    head, body = data[: _HEAD.size], data[HEADER_BYTES:]
    _, form, kind, none, rows, columns, version, zero = _HEAD.unpack(head)
    if (form, kind, none, zero) != (FORMAT, FLOAT64, 0, 0):
        raise BadAnswer("the matrix' envelope is of a format that isn't known")
    crc = _CRC.unpack_from(data, _HEAD.size)[0]
    if len(body) != rows * columns * NUMBER_BYTES or crc != zlib.crc32(body, zlib.crc32(head)):
        raise BadAnswer("the matrix' envelope is damaged")
    numbers = array("d", body)
    if sys.byteorder == "big":
        numbers.byteswap()
    return Matrix(version, rows, columns, numbers, f"{crc:08x}")


def _body(matrix: Rows) -> tuple[int, int, bytes]:
    try:
        view = memoryview(matrix)  # type: ignore[arg-type]
    except TypeError:
        return _listed(matrix)
    if view.format not in ("d", "<d") or view.ndim != 2 or view.shape is None:
        raise CantSend(f"a matrix is float64 with two dimensions, not {view.format} × {view.ndim}")
    rows, columns = view.shape
    numbers = array("d", view.tobytes())  # C order, whatever the strides
    return rows, columns, _little(numbers)


def _listed(matrix: Sequence[Sequence[float]]) -> tuple[int, int, bytes]:
    numbers = array("d")
    try:
        columns = len(matrix[0])
        for row in matrix:
            if len(row) != columns:
                raise CantSend("the rows of the matrix aren't all of one length")
            numbers.extend(row)
    except (TypeError, IndexError, OverflowError) as error:
        raise CantSend(f"not a matrix: {error}") from None
    return len(matrix), columns, _little(numbers)


def _little(numbers: "array[float]") -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _committed(answer: Answer) -> Committed:
    return take(Committed, answer.json())
