"""A fold with real columns around it: dicts in, dicts out."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agents.engine.processor import Batch, Context, Control, Output, Place, Policy, StateRows
from agents.integrator.agent import PROCESSOR
from agents.integrator.fold import IntegratorFold
from topics.columns import Buffer, Columns, Layout
from topics.schemas import Schemas

SCHEMAS = Schemas()
UPDATE = Layout(SCHEMAS.newest("predictor_update"))
SINKS = tuple(
    Layout(SCHEMAS.newest(schema), dict(PROCESSOR.sink_src[topic]))
    for topic, schema in (
        ("cog.global.frame", "global_frame"),
        ("cog.fusion.drift.events", "fusion_drift_event"),
        ("cog.fusion.rollback.events", "fusion_rollback_event"),
    )
)
ROW = Layout(SCHEMAS.newest("integrator_state"), dict(PROCESSOR.state_src))
LOADED = Layout(SCHEMAS.newest("integrator_state"))
PLACE = Place("0011aabb", 3)
LOG_MS = 1_700_000_000_000

Record = dict[str, Any]


def update(tenant: str, domain: str, error: float, ts: int, **more: Any) -> Record:
    """A predictor update with the rest at its defaults."""
    return {
        "tenant": tenant, "domain": domain, "predictor_type": "heat", "error_metric": error,
        "prediction_latency_ms": 0.0, "model_version": "1.0", "vector_dim": 1, "confidence": 0.0,
        "observation_id": "", "ts": ts,
    } | more  # fmt: skip


def setting(tenant: str, name: str, value: str, log_ms: int = LOG_MS) -> Control:
    return Control("setting", tenant, name, value, 0, 0, log_ms)


def answer(tenant: str, name: str, outcome: str, leader: str = "", why: str = "") -> Control:
    value = json.dumps({"id": name, "leader": leader, "rationale": why})
    return Control("answer", tenant, outcome, value, 0, 0, LOG_MS)


def tick(ts: int) -> Control:
    return Control("tick", "", "", "", ts, 0, 0)


def batch(records: Sequence[Record], offset: int = 0, log_ms: int = LOG_MS) -> Batch:
    scratch, columns, n = Buffer(64), Columns(UPDATE), len(records)
    columns.reserve(max(1, n))
    for k, record in enumerate(records):
        columns.put(k, record, scratch)
    return Batch(
        scratch.data[: scratch.used].copy(),
        columns,
        np.arange(offset, offset + n),
        np.full(n, log_ms, np.int64),
        np.zeros(n, np.uint8),
    )


def empty_rows() -> StateRows:
    none = np.zeros(0, np.int64)
    return StateRows(Columns(ROW), Buffer(), 0, none, none.copy(), np.zeros(0, np.uint8))


class Run:
    """One partition of the integrator."""

    def __init__(self, policy: Policy | None = None, **defaults: str) -> None:
        self.fold = IntegratorFold(Context(PLACE, defaults, policy))
        self.offset = 0
        self.status: list[int] = []
        self.drifts: list[Record] = []
        self.rollbacks: list[Record] = []

    def feed(self, records: Sequence[Record], log_ms: int = LOG_MS) -> list[Record]:
        """Fold one batch; returns its frames. `status` has what became of each record."""
        given = batch(records, self.offset, log_ms)
        outs = tuple(Output(Columns(sink), Buffer(), np.zeros(0, np.int64)) for sink in SINKS)
        self.fold.fold(given, 0, len(records), outs)
        self.offset += len(records)
        self.status = given.status.tolist()
        out = outs[0]
        assert out.cause[: out.n].tolist() == np.flatnonzero(given.status == 0).tolist()
        frames, drifts, rollbacks = (
            [o.columns.get(k, (given.buf, self.fold.names, o.scratch.data)) for k in range(o.n)]
            for o in outs
        )
        self.drifts += drifts
        self.rollbacks += rollbacks
        return frames

    def control(self, *controls: Control) -> list[str | None]:
        return [self.fold.control(each) for each in controls]

    def changed(self) -> dict[str, Record | None]:
        """The rows changed since the last call, by key; None is a tombstone."""
        rows = empty_rows()
        self.fold.changed(rows)
        return self.read(rows)

    def rows(self) -> dict[str, Record | None]:
        """Every row, by key."""
        rows = empty_rows()
        self.fold.rows_all(rows)
        return dict(sorted(self.read(rows).items()))

    def read(self, rows: StateRows) -> dict[str, Record | None]:
        names = self.fold.names
        found: dict[str, Record | None] = {}
        for k in range(rows.n):
            key = names[rows.key_pos[k] :][: rows.key_len[k]].tobytes().decode()
            assert key not in found
            bufs = (names[:0], names, rows.scratch.data)
            found[key] = None if rows.gone[k] else rows.columns.get(k, bufs)
        return found

    def load(self, rows: Iterable[tuple[str, Record | None]]) -> "Run":
        """Take in rows of the state topic."""
        pairs = list(rows)
        scratch, columns = Buffer(64), Columns(LOADED)
        columns.reserve(max(1, len(pairs)))
        pos, size = np.zeros((2, len(pairs)), np.int64)
        gone = np.zeros(len(pairs), np.uint8)
        for k, (key, record) in enumerate(pairs):
            pos[k], size[k] = scratch.append(key.encode()), len(key.encode())
            gone[k] = record is None
            if record is not None:
                columns.put(k, record, scratch)
        self.fold.load(columns, 0, len(pairs), scratch.data, pos, size, gone)
        return self

    def reborn(self, order: Sequence[int] | None = None, **defaults: str) -> "Run":
        """Another run that has recovered this one's state, rows taken in the given order."""
        pairs = list(self.rows().items())
        other = Run(self.fold.policy, **defaults)
        other.load([pairs[k] for k in order] if order else pairs)
        other.offset = self.offset
        return other


def same(a: Any, b: Any) -> bool:
    """Whether records are equal to the bit (NaN equals NaN)."""
    return repr(a) == repr(b)


__all__ = ["PLACE", "Run", "answer", "batch", "replace", "same", "setting", "tick", "update"]
