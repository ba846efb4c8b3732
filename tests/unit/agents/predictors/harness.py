"""A fold outside the engine: records in, records and rows out, as Python objects."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from agents.engine.processor import Batch, Context, Control, Output, Place, StateRows
from agents.predictors.agent import CALIBRATIONS, NEXT_EVENTS, PROCESSOR, UPDATES
from agents.predictors.fold import PredictorFold
from topics.columns import Buffer, Columns, Layout
from topics.schemas import schemas

Record = dict[str, Any]
Rows = dict[bytes, Record | None]  # None: a tombstone

SOURCE = Layout(schemas().newest("observation"))
SINKS = tuple(
    Layout(schemas().newest(schema), PROCESSOR.sink_src[topic])
    for schema, topic in (
        ("predictor_update", UPDATES),
        ("predictor_calibration", CALIBRATIONS),
        ("next_event", NEXT_EVENTS),
    )
)
STATE = Layout(schemas().newest(PROCESSOR.state_schema), PROCESSOR.state_src)
STORED = Layout(schemas().newest(PROCESSOR.state_schema))
PLACE = Place("0a1b2c3d", 3)

# As plain Python (NUMBA_DISABLE_JIT=1) a hash's wrapping product would be a warning.
_wrapping = np.errstate(over="ignore")


class Harness:
    """One partition's predictors."""

    def __init__(self, **defaults: str) -> None:
        self.fold = PredictorFold(Context(PLACE, defaults))
        self.offset = 0
        self.reasons: list[str] = []
        self.calibrations: list[Record] = []  # of the last run
        self.next_events: list[Record] = []

    @_wrapping
    def run(self, records: Sequence[Record], cuts: Sequence[int] = ()) -> list[Record]:
        """Fold records in one batch, in slices cut at `cuts`; returns the updates."""
        batch = self.batch(records)
        outputs = tuple(Output(Columns(sink), Buffer(), np.empty(0, np.int64)) for sink in SINKS)
        edges = [0, *sorted(cuts), len(records)]
        for lo, hi in pairwise(edges):
            self.fold.fold(batch, lo, hi, outputs)
        self.reasons = [list(PROCESSOR.reasons)[s - 64] for s in batch.status if s]
        good = [int(k) for k in np.flatnonzero(batch.status == 0)]
        updates, self.calibrations, self.next_events = (
            self._records(batch, output) for output in outputs
        )
        causes = [[int(k) for k in output.cause[: output.n]] for output in outputs]
        assert causes[0] == good
        assert all(sorted(set(found)) == found and set(found) <= set(good) for found in causes)
        return updates

    def _records(self, batch: Batch, output: Output) -> list[Record]:
        bufs = (batch.buf, self.fold.names, output.scratch.data)
        return [output.columns.get(r, bufs) for r in range(output.n)]

    def batch(self, records: Sequence[Record]) -> Batch:
        """The records as the engine would hand them over, logged when they happened."""
        columns, scratch = Columns(SOURCE), Buffer()
        for r, record in enumerate(records):
            columns.put(r, record, scratch)
        n = len(records)
        offsets = np.arange(self.offset, self.offset + n)
        self.offset += n
        log_ms = np.array([r.get("log_ms", r["ts"] // 1000 + 7) for r in records], np.int64)
        buf = scratch.data[: scratch.used].copy()
        return Batch(buf, columns, offsets, log_ms, np.zeros(n, np.uint8))

    @_wrapping
    def set(self, tenant: str, setting: str, value: str) -> str | None:
        """A settings record; returns why it was refused."""
        self.offset += 1
        return self.fold.control(Control("setting", tenant, setting, value, 0, self.offset, 0))

    @_wrapping
    def tick(self, ts: int) -> None:
        """The wall time, microseconds."""
        self.offset += 1
        assert self.fold.control(Control("tick", "", "", "", ts, self.offset, ts // 1000)) is None

    def changed(self) -> Rows:
        """The rows changed since the last call, in the order of first change."""
        return self._rows(self.fold.changed)

    def all(self) -> Rows:
        """Every row."""
        return dict(sorted(self._rows(self.fold.rows_all).items()))

    @_wrapping
    def load(self, rows: Mapping[bytes, Record | None]) -> None:
        """Take in rows, as a recovery would."""
        columns, scratch = Columns(STORED), Buffer()
        pos, size, gone = [], [], []
        for r, (key, row) in enumerate(rows.items()):
            columns.put(r, row or _BLANK, scratch)
            gone.append(row is None)
            pos.append(scratch.append(key))
            size.append(len(key))
        self.fold.load(
            columns, 0, len(rows), scratch.data[: scratch.used].copy(), np.array(pos, np.int64),
            np.array(size, np.int64), np.array(gone, np.uint8),
        )  # fmt: skip

    @_wrapping
    def _rows(self, write: Any) -> Rows:
        none = np.empty(0, np.int64)
        rows = StateRows(Columns(STATE), Buffer(), 0, none, none, np.empty(0, np.uint8))
        write(rows)
        names = self.fold.names
        bufs = (np.empty(0, np.uint8), names, rows.scratch.data)
        found: Rows = {}
        for r in range(rows.n):
            key = names[rows.key_pos[r] : rows.key_pos[r] + rows.key_len[r]].tobytes()
            assert key not in found
            found[key] = None if rows.gone[r] else rows.columns.get(r, bufs)
        return found


_BLANK: Record = {
    "dim": 0, "n": 0, "weight": 0.0, "x": b"", "level": b"", "step": b"", "ratio": b"", "runs": b"",
    "m2": b"", "restarts": 0, "ts": 0, "touched": 0, "median": 0.0, "median_run": 0, "slope": 1.0,
    "bias": 0.0, "info_slope": 1.25, "info_both": 0.0, "info_bias": 1.25, "logit": None,
    "samples": 0, "bins": [], "sums": [], "settings": {},
}  # fmt: skip


def observation(
    vector: Any, tenant: str = "t", domain: str = "state", ts: int = 1_700_000_000_000_000
) -> Record:
    """An observation of these numbers."""
    found = np.asarray(vector, "<f4").tobytes()
    return {"tenant": tenant, "domain": domain, "ts": ts, "vector": found, "sequence": None}
