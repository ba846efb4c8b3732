"""What one thread works in, and what it hands back: one transaction's content."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from agents.engine.builder import RawBuilder
from agents.engine.by_sleep import BySleep
from agents.engine.plan import Plan
from agents.engine.processor import Output, Question, StateRows
from agents.engine.row_counts import Counts
from topics.catalogue import MESSAGE_BYTES_MAX
from topics.columns import Buffer, Columns

FRAME_BYTES = 900_000  # of records per batch, before compression


@dataclass(slots=True)
class Outcome:
    """One transaction's content, and what to count once it is committed."""

    next_offset: int
    sends: list[tuple[str, int, RawBuilder]] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)  # folded, control, misrouted, dead
    dead: Counter[str] = field(default_factory=Counter)  # by reason
    outputs: int = 0
    rows: int = 0
    newest_ts: int = 0  # event time of the last record folded, microseconds
    questions: list[Question] = field(default_factory=list)  # all unanswered ones, oldest first
    counted: Mapping[str, int] = field(default_factory=dict)  # by tally
    row_counts: Counts = field(default_factory=dict)  # behind these records
    by_sleep: BySleep = field(default_factory=dict)
    deadline: int | None = None  # of the fold, behind these records: asked now and then


class Workspace:
    """The arrays that one thread works in; grown to the largest batch, never beyond the limits."""

    def __init__(self, plan: Plan) -> None:
        cap = plan.batch_max
        self.buf = Buffer(1 << 20)
        self.offs, self.ms, self.kpos, self.klen, self.vpos = (
            np.empty(cap, np.int64) for _ in range(5)
        )
        self.vlen, self.hpos, self.hlen, self.hcnt, self.dest = (
            np.empty(cap, np.int64) for _ in range(5)
        )
        self.status = np.empty(cap, np.uint8)
        self.columns_of = tuple(Columns(kind.layout) for kind in plan.kinds)
        self.columns = self.columns_of[0]
        self.kind = np.zeros(cap, np.uint8)  # which of `columns_of` a record is in
        # Spans of the tenants, whatever their records' schema.
        self.tpos, self.tlen = (np.empty(cap, np.int64) for _ in range(2))
        self.outputs = tuple(plan.output(sink) for sink in plan.sinks)
        self.rows = plan.state_rows()
        self.encoded = Buffer(1 << 20)
        self.frame = np.empty(MESSAGE_BYTES_MAX + (128 << 10), np.uint8)
        self.n = 0

    def clear(self) -> None:
        """Empty everything, keep the room."""
        self.n = 0
        self.buf.clear()
        self.kind.fill(0)
        for columns in self.columns_of:
            columns.clear()
        for output in self.outputs:
            empty_output(output)


def empty_output(output: Output) -> None:
    """Make an output ready for the next batch."""
    output.n = 0
    output.columns.clear()
    output.scratch.clear()
    output.own.clear()
    output.gone.clear()


def empty_rows(rows: StateRows) -> None:
    """Make state rows ready for the next batch."""
    rows.n = 0
    rows.columns.clear()
    rows.scratch.clear()
