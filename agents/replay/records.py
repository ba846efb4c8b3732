"""Records of a partition, unpacked and parsed: spans into one buffer."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from agents.engine.batches import BadBatch, RawBatch, unpack
from agents.engine.names import Names
from agents.engine.records import parse
from agents.replay.kernels import look
from agents.replay.modes import JobFailedError
from topics.columns import Buffer
from topics.schemas import control_ids

RECORDS_MAX = 50_000  # of a part, unless a batch alone has more
BYTES_MAX = 4 << 20  # likewise, as they lie in the log


@cache
def reserved() -> NDArray[np.int64]:
    """The ids of control records."""
    return np.array(control_ids(), np.int64)


class Records:
    """`n` records of some batches, in their order. Spans lie in `data`; lengths of -1 are nulls."""

    def __init__(self, count: int) -> None:
        self.n = 0
        self.buf = Buffer(1 << 16)
        self.offs, self.ms, self.kpos, self.klen, self.vpos = np.empty((5, count), np.int64)
        self.vlen, self.hpos, self.hlen, self.hcnt, self.tlen = np.empty((5, count), np.int64)
        self.control = np.empty(count, np.uint8)

    @property
    def data(self) -> NDArray[np.uint8]:
        """What spans point into."""
        found: NDArray[np.uint8] = self.buf.data
        return found

    def value(self, r: int) -> bytes | None:
        """A record's value."""
        p, size = int(self.vpos[r]), int(self.vlen[r])
        return None if size < 0 else self.data[p : p + size].tobytes()

    def tenants(self, names: Names, lo: int, hi: int, *, add: bool = False) -> NDArray[np.int64]:
        """The tenants of records lo..hi-1 as ints of `names`; below 0: not among them, or none."""
        skip, out = (self.tlen[:hi] < 0).astype(np.uint8), np.empty(hi, np.int64)
        names.intern(self.data, self.kpos, self.tlen, skip, out, lo, hi, add=add)
        return out[lo:]


def parts_of(batches: Sequence[RawBatch]) -> list[list[RawBatch]]:
    """Batches in parts that are worth a transaction, and not too large for one."""
    parts: list[list[RawBatch]] = []
    count = size = 0
    for batch in batches:
        if not parts or count + batch.count > RECORDS_MAX or size + len(batch.data) > BYTES_MAX:
            parts.append([])
            count = size = 0
        parts[-1].append(batch)
        count, size = count + batch.count, size + len(batch.data)
    return parts


def records_of(
    batches: Sequence[RawBatch], span: tuple[int, int], where: str, unpacked_max: int
) -> Records:
    """The records of batches whose offsets lie in the span. JobFailedError names a broken batch."""
    found = Records(sum(batch.count for batch in batches))
    first, end = span
    for batch in batches:
        try:
            body = unpack(batch, unpacked_max)
        except BadBatch as error:
            raise JobFailedError(f"{where}/{batch.base_offset}: {error}") from error
        at = found.buf.used
        found.buf.reserve(body.shape[0])
        found.buf.data[at : at + body.shape[0]] = body
        found.buf.used += body.shape[0]
        stamp = np.array([batch.first_ms, batch.max_ms, batch.log_append_time], np.int64)
        stored = parse(
            found.buf.data, at, found.buf.used, batch.count, batch.base_offset, batch.next_offset,
            stamp, first, found.offs, found.ms, found.kpos, found.klen, found.vpos, found.vlen,
            found.hpos, found.hlen, found.hcnt, found.n,
        )  # fmt: skip
        if stored < 0:
            raise JobFailedError(
                f"{where}/{batch.base_offset}: a record batch whose lengths or offsets contradict "
                "each other"
            )
        found.n += int(stored)
    found.n = int(np.searchsorted(found.offs[: found.n], end))
    look(
        found.buf.data, found.n, found.kpos, found.klen, found.vpos, found.vlen, reserved(),
        found.tlen, found.control,
    )  # fmt: skip
    return found
