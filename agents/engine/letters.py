"""Dead letters: the original record, and headers that say why and where from."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agents.engine import reasons
from agents.engine.batches import RawBatch
from agents.engine.builder import RawBuilder
from agents.engine.plan import Plan
from agents.engine.processor import Place
from agents.engine.records import frame_one, read_headers
from agents.engine.workspace import Workspace

BATCH_BYTES = 900_000  # of dead letters per record batch, unless one alone is larger
DETAIL_MAX = 500  # characters

Headers = list[tuple[str, bytes | None]]


class Letters:
    """The dead letters of one transaction."""

    def __init__(self, plan: Plan, place: Place) -> None:
        self._plan = plan
        self._place = place
        self._records: list[tuple[bytes | None, bytes | None, Headers]] = []
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
            self._add(why, int(ws.offs[r]), key, value, headers, self.details.get(r, ""))

    def add_batch(self, batch: RawBatch, detail: str) -> None:
        """A whole record batch, as it came."""
        self._add(reasons.NAMES[reasons.BATCH], batch.base_offset, None, batch.data, [], detail)

    def _add(
        self,
        why: str,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        detail: str,
    ) -> None:
        origin = f"{self._plan.source}/{self._place.partition}/{offset}"
        more: Headers = [
            ("soma-reason", why.encode()),
            ("soma-detail", detail[:DETAIL_MAX].encode("utf-8", "replace")),
            ("soma-origin", origin.encode()),
            ("soma-processor", self._plan.processor.name.encode()),
        ]
        self._records.append((key, value, headers + more))
        self.reasons[why] += 1

    def builders(self) -> Iterator[RawBuilder]:
        """The letters as record batches."""
        part: list[bytes] = []
        size = 0
        for key, value, headers in self._records:
            record = frame_one(len(part), key, value, headers)
            if part and size + len(record) > BATCH_BYTES:
                yield RawBuilder(b"".join(part), len(part))
                part, size = [], 0
                record = frame_one(0, key, value, headers)
            part.append(record)
            size += len(record)
        if part:
            yield RawBuilder(b"".join(part), len(part))


def _span(data: NDArray[np.uint8], pos: int, length: int) -> bytes | None:
    return None if length < 0 else data[pos : pos + length].tobytes()
