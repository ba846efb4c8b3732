"""A processor for tests of the engine: it says in a memory event what it was given, row by row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import (
    SRC_SCRATCH,
    Batch,
    Context,
    Control,
    Output,
    Processor,
    Reads,
    StateRows,
)
from topics.columns import Columns
from topics.schemas import schemas

SOURCE, SINK, SCHEMA = "cog.observations", "memory.events", "memory_event"
SPANS = ("event_id", "id", "tenant", "namespace", "coordinate", "payload", "model_revision",
    "dedupe_key", "expected_key", "embedding", "links.key", "links.item")  # fmt: skip
KINDS = {
    SCHEMA: Reads(domain=None, strings={"payload": 5000}),
    "import_mark": Reads(tenant="source", domain=None, ts=None),
}


def event(tenant: str, payload: str, ts: int = 1_760_000_000_000_000) -> dict[str, Any]:
    """A memory event with little in it."""
    given = {f["name"]: f["default"] for f in schemas().newest(SCHEMA)["fields"] if "default" in f}
    said = {"event_id": "", "id": "", "tenant": tenant, "type": "created", "ts": ts}
    return given | said | {"coordinate": "", "payload": payload, "embedding": b""}


@dataclass
class Echo:
    """A `Fold` without state. `hears(self, batch, row, record, output)` says what is written."""

    context: Context
    hears: "Callable[[Echo, Batch, int, dict[str, Any], Output], None]"
    names: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    due: int | None = None

    def say(self, output: Output, cause: int, tenant: str, payload: str) -> None:
        """One more output."""
        output.reserve(1)
        output.columns.put(output.n, event(tenant, payload), output.scratch)
        output.cause[output.n] = cause
        output.n += 1

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> int | None:
        for r in range(lo, hi):
            if batch.status[r] == 0:
                of = batch.kind[r] if batch.kind is not None else 0
                columns = (batch.columns, *batch.others)[of]
                record = columns.get(r, (batch.buf, batch.buf, batch.buf))
                self.hears(self, batch, r, {"kind": int(of), **record}, outputs[0])
        return None

    def control(self, control: Control) -> str | None:
        return None

    def changed(self, rows: StateRows) -> None:
        """It has no state."""

    def load(
        self, rows: Columns, lo: int, hi: int, buf: NDArray[np.uint8],
        key_pos: NDArray[np.int64], key_len: NDArray[np.int64], gone: NDArray[np.uint8],
    ) -> None:  # fmt: skip
        """It has no state."""

    def rows_all(self, rows: StateRows) -> None:
        """It has no state."""

    def deadline(self) -> int | None:
        return self.due

    def tenants(self) -> int:
        return 0


def echo(
    hears: Callable[[Echo, Batch, int, dict[str, Any], Output], None], **more: Any
) -> Processor:
    """The processor whose fold calls `hears` for each record."""
    given: dict[str, Any] = {"kinds": KINDS, "make": lambda context: Echo(context, hears), **more}
    return Processor(
        name="echo", source=SOURCE, sinks=(SINK,), state_schema="gateway_state", law=1, settings={},
        reasons={"unheard": "it doesn't want to hear that"},
        sink_src={SINK: dict.fromkeys(SPANS, SRC_SCRATCH)}, **given,
    )  # fmt: skip
