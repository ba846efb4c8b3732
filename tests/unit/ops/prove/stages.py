"""A stage as it should be, from the feed and the verifier's own law, to be spoiled by tests."""

import struct
from typing import Any

from ops.prove.check import Law, RefusedError, Stage
from ops.prove.feed import OBSERVATIONS, Feed
from ops.prove.fuse import Fusion
from ops.prove.partitions import home
from ops.prove.predict import Prediction
from ops.prove.wire import Record, UnreadableError, Wire

PARTITIONS = 2
TOPIC_ID = "0badcafe"
LOG_MS = 1_750_000_600_000

DEFAULTS: dict[str, dict[str, str]] = {
    "predictors": {
        "predictor": "heat", "alpha": "2.0", "diffusion_time": "0.5", "graph": "path",
        "forgetting": "0.01",
    },
    "integrator": {
        "fusion": "fixed_share", "alpha": "2.0", "share": "0.001", "temperature": "1.0",
        "entropy_cap": "1.0", "margin": "0.05", "min_dwell_ms": "50.0",
        "stale_after_ms": "10000.0", "forget_after_s": "2592000",
    },
}  # fmt: skip
LAWS: dict[str, type[Law]] = {"predictors": Prediction, "integrator": Fusion}
VECTORS = {"x": "f", "mean": "d", "m2": "d"}


def perfect(processor: str, events: int, seed: int = 1) -> Stage:
    """What correct workers would have left in the topics."""
    wire = Wire()
    stage = Stage(LAWS[processor], TOPIC_ID, PARTITIONS, [], [], [], [], [], processor)
    maker = _Maker(wire, stage)
    wants_observations = processor == "predictors"
    feed = iter(Feed(seed, wire, PARTITIONS, tenants=6))
    while len(stage.source) < events:
        event = next(feed)
        if (event.topic == OBSERVATIONS) == wants_observations:
            maker.append(event.partition, event.key, event.value)
    maker.close()
    return stage


class _Maker:
    """Plays the part of a processor: folds as it appends to the source."""

    def __init__(self, wire: Wire, stage: Stage) -> None:
        self.wire, self.stage = wire, stage
        self.laws = [stage.law() for _ in range(PARTITIONS)]
        self.ends: dict[tuple[int, int], int] = {}
        for number, law in enumerate(self.laws):
            settings = DEFAULTS[stage.processor]
            law.epoch(settings)
            epoch = {"processor": stage.processor, "partition": number, "number": 1,
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
        out = law.fold(row, cause, record.log_ms, None)
        self._put(self.stage.sink, record.partition, tenant, self.wire.encode(law.sink, out))

    def close(self) -> None:
        """State rows and positions."""
        for number, law in enumerate(self.laws):
            for key, row in law.rows().items():
                packed = {
                    name: struct.pack(f"<{len(value)}{VECTORS[name]}", *value)
                    if name in VECTORS else value
                    for name, value in row.items()
                }  # fmt: skip
                empty = dict.fromkeys(VECTORS, b"") if law.state == "predictors_state" else {}
                value = self.wire.encode(law.state, empty | packed)
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
