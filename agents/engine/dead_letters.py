"""Dead letters: the original record, and headers that say why and where from."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.engine import reasons
from agents.engine.batches import RawBatch
from agents.engine.builder import RawBuilder
from agents.engine.plan import Plan
from agents.engine.processor import Place
from agents.engine.records import frame_one, read_headers
from agents.engine.workspace import Workspace
from topics.catalogue import DLQ_EXTRA_BYTES, MESSAGE_BYTES_MAX

BATCH_BYTES = 900_000  # of dead letters per record batch, unless one alone is larger
LETTER_BYTES_MAX = MESSAGE_BYTES_MAX + DLQ_EXTRA_BYTES  # as the catalogue has it for such topics
DETAIL_MAX = 500  # characters

Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; `offset` is the record's in the source."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    why: Headers
    log_ms: int = 0  # the record's time in the log

    def said(self, name: str) -> str:
        """What a header of `why` says."""
        return (dict(self.why).get(name) or b"").decode()

    @property
    def reason(self) -> str:
        """The name of what is wrong."""
        return self.said("soma-reason")

    @property
    def detail(self) -> str:
        """What is wrong with this one."""
        return self.said("soma-detail")

    @property
    def origin(self) -> str:
        """Where the record stands: TOPIC/PARTITION/OFFSET, as on the broker."""
        return self.said("soma-origin")

    def frame(self, delta: int) -> bytes:
        """As a record of a batch."""
        return frame_one(delta, self.key, self.value, self.headers + self.why)


class DeadLetters:
    """The dead letters of one transaction, which folds `batches`."""

    def __init__(self, plan: Plan, place: Place, batches: Sequence[RawBatch]) -> None:
        self._plan = plan
        self._place = place
        self._batches = batches
        self._letters: list[Letter] = []
        self.reasons: Counter[str] = Counter()
        self.details: dict[int, str] = {}  # row of the workspace -> what was wrong with it

    def add_rows(self, ws: Workspace, rows: NDArray[np.int64]) -> None:
        """Records of the workspace, whose status says why."""
        data = ws.buf.data
        for r in rows.tolist():
            status = int(ws.status[r])
            why = reasons.reason(self._plan.processor, status)
            key = _span(data, ws.kpos[r], ws.klen[r])
            value = _span(data, ws.vpos[r], ws.vlen[r])
            headers: Headers = []
            if ws.hcnt[r]:
                blob = _span(data, ws.hpos[r], ws.hlen[r])
                headers = list(read_headers(blob or b"", int(ws.hcnt[r])))
            detail = self.details.get(r) or reasons.detail(self._plan.processor, status)
            at = int(ws.offs[r]), int(ws.ms[r])
            self._add(at, key, value, headers, why, detail)

    def cut(self, end: int) -> None:
        """Leave out what doesn't stand before this offset: it comes again."""
        for letter in [one for one in self._letters if one.offset >= end]:
            self._letters.remove(letter)
            self.reasons -= Counter([reasons.NAMES[reasons.BATCH]])

    def add_batch(self, batch: RawBatch, detail: str) -> None:
        """A whole record batch, as it came."""
        at = batch.base_offset, batch.max_ms
        self._add(at, None, batch.data, [], reasons.NAMES[reasons.BATCH], detail)

    def _add(
        self,
        at: tuple[int, int],
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        reason: str,
        detail: str,
    ) -> None:
        """`at`: its offset and its time in the log."""
        offset, log_ms = at
        origin = f"{self._plan.source}/{self._place.partition}/{offset}"
        why: Headers = [
            ("soma-reason", reason.encode()),
            ("soma-detail", detail[:DETAIL_MAX].encode("utf-8", "replace")),
            ("soma-origin", origin.encode()),
            ("soma-processor", self._plan.processor.name.encode()),
        ]
        self._letters.append(Letter(offset, key, value, headers, why, log_ms))
        self.reasons[reason] += 1

    @property
    def letters(self) -> Sequence[Letter]:
        """Those there are."""
        return self._letters

    def builders(self) -> Iterator[RawBuilder]:
        """The letters as record batches."""
        part: list[bytes] = []
        size = 0
        for letter in self._letters:
            record = letter.frame(len(part))
            if part and size + len(record) > BATCH_BYTES:
                yield RawBuilder(b"".join(part), len(part))
                part, size = [], 0
                record = letter.frame(0)
            if len(record) > BATCH_BYTES:
                yield self._alone(letter, record)
            else:
                part.append(record)
                size += len(record)
        if part:
            yield RawBuilder(b"".join(part), len(part))

    def _alone(self, letter: Letter, record: bytes) -> RawBuilder:
        """A large letter. A record that packs too badly here goes as the batch that it came in.

        The sender's compression may be better than ours by any factor, and what the broker refuses
        would stop the partition for good.
        """
        builder = RawBuilder(record, 1)
        if builder.size() <= LETTER_BYTES_MAX:
            return builder
        batch = next(b for b in self._batches if b.base_offset <= letter.offset < b.next_offset)
        form: Headers = [("soma-form", b"batch")]
        return RawBuilder(Letter(letter.offset, None, batch.data, form, letter.why).frame(0), 1)


def _span(data: NDArray[np.uint8], pos: int, length: int) -> bytes | None:
    return None if length < 0 else data[pos : pos + length].tobytes()
