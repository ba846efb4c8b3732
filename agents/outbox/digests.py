"""What a row of the outbox is, in 8 bytes: its id may be another row's in a restored database."""

import numpy as np
from numpy.typing import NDArray

from agents.outbox.kernels import DEDUPE, TENANT
from agents.outbox.rows import Rows
from topics.compiled import entry, kernel
from topics.layout import I64, U8

DIGEST = np.dtype("<u8")

_BASIS = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_BETWEEN = 0x1F


@kernel
def _byte(digest: np.uint64, byte: np.uint64) -> np.uint64:
    """One step of FNV-1a."""
    return np.uint64((digest ^ byte) * np.uint64(_PRIME))


@entry
def digest_rows(b: U8, pos: I64, length: I64, created: I64, out: NDArray[np.uint64]) -> None:
    """out[r] = FNV-1a (64 bits; Fowler, Noll, Vo) of row r's tenant, dedupe key and creation.

    `pos` and `length` are [FIELDS, n], spans that `parse` found in `b`.
    """
    for r in range(out.shape[0]):
        digest = np.uint64(_BASIS)
        for column in (TENANT, DEDUPE):
            for j in range(pos[column, r], pos[column, r] + length[column, r]):
                digest = _byte(digest, np.uint64(b[np.uint64(j)]))
            digest = _byte(digest, np.uint64(_BETWEEN))
        rest = np.uint64(created[r])
        for _ in range(8):
            digest = _byte(digest, rest & np.uint64(255))
            rest >>= np.uint64(8)
        out[r] = digest


def digests_of(rows: Rows) -> NDArray[np.uint64]:
    """The digest of each row."""
    out = np.zeros(rows.n, DIGEST)
    digest_rows(rows.b, rows.pos, rows.length, rows.created, out)
    return out
