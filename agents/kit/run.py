"""A processor's fold on the engine's own path, without a broker: record batches in, records out.

What the engine would send is read back by aiokafka's reader, not by our own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from aiokafka.record.memory_records import MemoryRecords

from agents.engine.batches import RawBatch, raw_batch
from agents.engine.builder import HEADER, RawBuilder
from agents.engine.plan import Plan
from agents.engine.processor import Fold, Place
from agents.engine.records import frame_one
from agents.engine.recovery import Loader
from agents.engine.work import POSITION_KEY, Worker
from agents.engine.workspace import Outcome, Workspace

TOPIC_ID = "0123abcd" * 4  # of the source: ids are derived from it
LOG_MS = 1_760_000_000_000  # the log's time where a test says nothing of it
_LOG_APPEND_TIME = 8  # the batch's attribute


@dataclass
class Message:
    """A record of the input, at an offset of the caller's choice."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


@dataclass
class Sent:
    """A record that the engine would send."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def batch_of(part: Sequence[Message], log_ms: int = LOG_MS) -> RawBatch:
    """One record batch as the broker would send it: offsets and log append time filled in."""
    base = part[0].offset
    body = b"".join(frame_one(m.offset - base, m.key, m.value, m.headers) for m in part)
    data = bytearray(RawBuilder(body, len(part))._build())
    fields = list(HEADER.unpack_from(data))
    fields[0], fields[5], fields[6] = base, fields[5] | _LOG_APPEND_TIME, part[-1].offset - base
    fields[7] = fields[8] = log_ms
    HEADER.pack_into(data, 0, *fields)
    return raw_batch(bytes(data))


def read(topic: str, partition: int, builder: RawBuilder) -> list[Sent]:
    """The records of a batch that the engine built. ValueError if it isn't one."""
    records = MemoryRecords(builder._build())
    found = []
    while records.has_next():
        batch = records.next_batch()
        if batch is None or not batch.validate_crc():
            raise ValueError(f"the engine built no record batch for {topic}")
        found += [Sent(topic, partition, r.key, r.value, tuple(r.headers)) for r in batch]
    return found


class Run:
    """A fold with everything it has sent so far."""

    def __init__(
        self,
        plan: Plan,
        defaults: Mapping[str, str],
        fold: Fold | None = None,
        partition: int = 0,
    ) -> None:
        self.plan = plan
        self.place = Place(TOPIC_ID[:8], partition)
        self.context = plan.context(self.place, defaults)  # what the fold gets at birth
        self.fold = fold if fold is not None else plan.processor.make(self.context)
        self.worker = Worker(plan, self.place, self.fold)
        self.space = Workspace(plan)
        self.sent: list[Sent] = []
        self.results: dict[str, int] = {}
        self.counted: dict[str, int] = {}
        self.last, self.transactions = Outcome(0), 0
        self.next = 0

    def restart(self, fold: Fold) -> None:
        """Go on with another fold, as after a recovery; what was sent stays sent."""
        self.fold = fold
        self.worker = Worker(self.plan, self.place, fold)

    def feed(self, parts: Sequence[Sequence[Message]], log_ms: int = LOG_MS) -> Self:
        """Each part is one record batch in a transaction of its own."""
        for part in parts:
            if part:
                self.transaction([batch_of(part, log_ms)])
        return self

    def transaction(self, batches: list[RawBatch]) -> None:
        """Fold until these batches are done, as the partition's task does."""
        while batches[-1].next_offset > self.next:
            outcome = self.worker.run(self.space, batches, self.next, lambda _: b"position")
            if outcome.next_offset <= self.next:
                raise RuntimeError(f"{self.plan.processor.name} doesn't get beyond {self.next}")
            self.last, self.next = outcome, outcome.next_offset
            self.transactions += 1
            for topic, partition, builder in outcome.sends:
                self.sent += read(topic, partition, builder)
            for total, more in ((self.results, outcome.results), (self.counted, outcome.counted)):
                for name, count in more.items():
                    total[name] = total.get(name, 0) + count

    def of(self, topic: str) -> list[Sent]:
        """What was sent to a topic, position rows left out."""
        return [sent for sent in self.sent if sent.topic == topic and sent.key != POSITION_KEY]

    def outputs(self) -> list[Sent]:
        """What the fold sent to the sinks."""
        return [
            one for sink in self.plan.sinks for one in self.of(sink.topic) if not self._told(one)
        ]

    def answers(self) -> list[Sent]:
        """What was sent to the sinks of dead letters."""
        return [one for sink in self.plan.sinks for one in self.of(sink.topic) if self._told(one)]

    def _told(self, one: Sent) -> bool:
        """Whether it is an answer: their keys are the places of records."""
        return (one.key or b"").startswith(f"{self.plan.source}/".encode())

    def rows(self) -> dict[bytes, bytes]:
        """The state topic after compaction."""
        table: dict[bytes, bytes] = {}
        for sent in self.of(self.plan.state):
            if sent.value is None:
                table.pop(sent.key or b"", None)
            else:
                table[sent.key or b""] = sent.value
        return table

    def load(self, rows: Mapping[bytes, bytes]) -> None:
        """Take in rows of the state topic, in this order, as a recovery does."""
        if rows:
            gone = np.zeros(len(rows), np.uint8)
            loader = Loader(self.plan, self.place.partition, self.fold)
            loader.load(list(rows), list(rows.values()), gone)
