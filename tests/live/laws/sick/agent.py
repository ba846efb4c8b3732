"""A processor whose law does what its records say: raise, sleep, write too much.

State: how many records of each tenant were folded (`next_offset` of a gateway_state row).
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.errors import LawFailed
from agents.engine.processor import Batch, Context, Control, Output, Processor, Reads, StateRows
from topics.columns import Columns


@dataclass
class Sick:
    """A `Fold`."""

    context: Context
    name: str = "sick"
    counts: dict[str, int] = field(default_factory=dict)
    dirty: dict[str, None] = field(default_factory=dict)
    names: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1, np.uint8))
    row: int = -1

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> int | None:
        for r in range(lo, hi):
            if batch.status[r]:
                continue
            self.row = r
            record = batch.columns.get(r, (batch.buf, batch.buf, batch.buf))
            try:
                self.law(record["tenant"], json.loads(record["payload"]))
            except ValueError as error:
                raise LawFailed(r, repr(error)) from error
            finally:
                self.row = -1
            if time.monotonic() > batch.ends and r + 1 < hi:
                return r + 1
        return None

    def law(self, tenant: str, told: dict[str, Any]) -> None:
        if told.get("raise") == self.name:
            raise ValueError(f"a record of {tenant} that I can't bear")
        time.sleep(told.get("sleep", 0.0) if told.get("of", self.name) == self.name else 0.0)
        self.counts[tenant] = self.counts.get(tenant, 0) + 1
        self.dirty[tenant] = None

    def under_way(self) -> int:
        return self.row

    def control(self, control: Control) -> str | None:
        return None

    def changed(self, rows: StateRows) -> None:
        keys = list(self.dirty)
        self.names = np.frombuffer(bytearray("".join(keys).encode() or b"."), np.uint8)
        rows.key_len = np.array(list(map(len, keys)), np.int64)
        rows.key_pos = np.cumsum(rows.key_len) - rows.key_len
        rows.gone, rows.n = np.zeros(len(keys), np.uint8), len(keys)
        rows.columns.reserve(rows.n)
        for k, name in enumerate(keys):
            row = {"next_offset": self.counts[name], "behind": {}, "topic_id": "", "version": 0}
            rows.columns.put(k, row, rows.scratch)
        self.dirty.clear()

    def load(
        self, rows: Columns, lo: int, hi: int, buf: NDArray[np.uint8],
        key_pos: NDArray[np.int64], key_len: NDArray[np.int64], gone: NDArray[np.uint8],
    ) -> None:  # fmt: skip
        slot = rows.layout.slots["next_offset"]
        for k in range(lo, hi):
            name = buf[key_pos[k] : key_pos[k] + key_len[k]].tobytes().decode()
            self.counts[name] = int(rows.cols.i[slot, k])

    def rows_all(self, rows: StateRows) -> None:
        self.dirty = dict.fromkeys(self.counts)
        self.changed(rows)

    def deadline(self) -> int | None:
        return None

    def tenants(self) -> int:
        return len(self.counts)


PROCESSOR = Processor(
    name="sick", source="memory.events", sinks=(), state_schema="gateway_state", law=1,
    settings={}, make=Sick, reads=Reads(domain=None), in_loop=False,
    state_src={"topic_id": 2, "behind.key": 2},
)  # fmt: skip
