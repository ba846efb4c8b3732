"""A stage as it should be, from the feed and the verifier's own law, to be spoiled by tests."""

import struct
from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

from ops.prove.check import Stage
from ops.prove.feed import Feed
from ops.prove.fuse import FRAMES, Fusion
from ops.prove.law import Law, RefusedError
from ops.prove.partitions import home
from ops.prove.predict import Prediction
from ops.prove.segment import COUNTS, NUMBERS, Segmentation
from ops.prove.wire import Record, UnreadableError, Wire

PARTITIONS = 2
TOPIC_ID = "0badcafe"
LOG_MS = 1_750_000_600_000

DEFAULTS: dict[str, dict[str, str]] = {
    "predictors": {
        "predictor": "heat", "alpha": "2.0", "diffusion_time": "0.5", "graph": "path",
        "forgetting": "0.01", "calibrate": "on", "calibrate_every": "50", "next_events": "on",
    },
    "integrator": {
        "fusion": "fixed_share", "alpha": "2.0", "share": "0.001", "temperature": "1.0",
        "entropy_cap": "1.0", "margin": "0.05", "min_dwell_ms": "50.0",
        "stale_after_ms": "10000.0", "forget_after_s": "2592000", "veto_retry_ms": "1000.0",
        "drift": "on", "drift_entropy": "0.4", "drift_regret": "0.05", "drift_cooldown_s": "1.0",
        "auto_rollback": "on", "learned_temperature": "1.0", "prior": "1.0",
    },
    "segmentation": {"threshold": "on", "gradient": "1.5"},
}  # fmt: skip
LAWS: dict[str, type[Law]] = {
    "predictors": Prediction,
    "integrator": Fusion,
    "segmentation": Segmentation,
}
VECTORS = {"x": "f", "level": "d", "step": "d", "ratio": "d", "m2": "d", "predicted_state": "f",
           "values": "d", "confidences": "f"}  # fmt: skip


def packed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a law with its vectors as bytes."""
    return row | {
        name: struct.pack(f"<{len(row[name])}{kind}", *row[name])
        for name, kind in VECTORS.items() if isinstance(row.get(name), list)
    }  # fmt: skip


def _pack_points(row: dict[str, Any]) -> dict[str, Any]:
    """A row of segmentation's state as it is written."""
    times = row.get("times", [])
    gaps = [after - before for before, after in pairwise(times)]
    laws = row if "g_start" in row else {}
    empty = {"values": b"", "confidences": b"", "runs": b""}
    return empty | packed(row) | {
        "times": [*times[:1], *gaps],
        "leaders": row.get("leaders", []), "lasted": [1] * len(row.get("leaders", [])),
        "counts": [laws.get(name, 0) for name in COUNTS] if laws else [],
        "numbers": [laws.get(name, 0.0) for name in NUMBERS] if laws else [],
    }  # fmt: skip


def _pack_scales(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the predictors' state as it is written."""
    empty = dict.fromkeys(("x", "level", "step", "ratio", "m2"), b"")
    runs = row.get("runs", [])
    return empty | packed(row) | {"runs": struct.pack(f"{len(runs)}b", *runs)}


FILL = {"fusion_rollback_event": {"reason": "drift"}}  # what a law doesn't foretell
PACK: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "predictors": _pack_scales,
    "integrator": dict,
    "segmentation": _pack_points,
}  # fmt: skip


def perfect(processor: str, events: int, seed: int = 1) -> Stage:
    """What correct workers would have left in the topics."""
    wire = Wire()
    law = LAWS[processor]
    stage = Stage(law, TOPIC_ID, PARTITIONS, [], {s.topic: [] for s in law.sinks}, [], [], [])
    maker = _Maker(wire, stage)
    feed = iter(Feed(seed, wire, PARTITIONS, tenants=6, odd=4.0))
    frames = (
        iter(perfect("integrator", events, seed).outputs[FRAMES]) if law is Segmentation else ()
    )
    while len(stage.source) < events:
        event = next(feed)
        if event.topic == law.topic:
            maker.append(event.partition, event.key, event.value)
            for frame in islice(frames, 4):
                maker.append(frame.partition, frame.key, frame.value)
    maker.close()
    return stage


class _Maker:
    """Plays the part of a processor: folds as it appends to the source."""

    def __init__(self, wire: Wire, stage: Stage) -> None:
        self.wire, self.stage = wire, stage
        self.laws = [stage.law() for _ in range(PARTITIONS)]
        self.ends: dict[tuple[int, int], int] = {}
        for number, law in enumerate(self.laws):
            settings = DEFAULTS[law.processor]
            law.epoch(settings)
            epoch = {"processor": law.processor, "partition": number, "number": 1,
                     "from_offset": 0, "law": 1, "settings": settings, "ts": 0}  # fmt: skip
            self._put(stage.epochs, number, None, wire.encode("epoch", epoch))

    def append(
        self, number: int, key: bytes | None, value: bytes | None, headers: Any = ()
    ) -> None:
        """One record into the source, and what must come of it."""
        record = self._put(self.stage.source, number, key, value, headers)
        origin = f"{record.topic}/{number}/{record.offset}".encode()
        try:
            self._fold(record)
        except (RefusedError, UnreadableError) as error:
            why = (("soma-origin", origin), ("soma-reason", str(error).encode() or b"?"))
            self._put(self.stage.dead, number, key, value, why)

    def _fold(self, record: Record) -> None:
        law = self.laws[record.partition]
        name, row = self.wire.decode(record.value, law.source)
        if name == "control_setting":
            law.control(row["tenant"], row["setting"], row["value"])
            return
        if row["ts"] > record.log_ms * 1000 + 3_600_000_000:
            raise RefusedError("ts_range")
        tenant = row["tenant"].encode()
        place = home(row["tenant"], PARTITIONS)
        if (place, tenant) != (record.partition, record.key):
            origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
            headers = (("soma-origin", origin), ("soma-hops", b"1"))
            self.append(place, tenant, record.value, headers)
            return
        cause = f"{TOPIC_ID}-{record.partition}-{record.offset}"
        out = law.fold(row, cause, record.log_ms, {})
        for sink in law.sinks:
            for each in out.get(sink.topic, ()):
                value = self.wire.encode(sink.schema, packed(each) | FILL.get(sink.schema, {}))
                self._put(self.stage.outputs[sink.topic], record.partition, tenant, value)

    def close(self) -> None:
        """State rows and positions."""
        for number, law in enumerate(self.laws):
            for key, row in law.rows().items():
                value = self.wire.encode(law.state, PACK[law.processor](row))
                self._put(self.stage.state, number, key, value)
            end = sum(record.partition == number for record in self.stage.source)
            position = {"next_offset": end, "seen": end, "topic_id": "", "epoch": 1}
            value = self.wire.encode("position", position)
            self._put(self.stage.state, number, b"@position", value)

    def _put(
        self, topic: Any, number: int, key: bytes | None, value: bytes | None, headers: Any = ()
    ) -> Record:
        offset = self.ends.get((id(topic), number), 0)
        self.ends[id(topic), number] = offset + 1
        record = Record("topic", number, offset, LOG_MS, key, value, tuple(headers))
        topic.append(record)
        return record
