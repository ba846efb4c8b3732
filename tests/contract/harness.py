"""Runs a processor's fold through the engine's own path, without a broker: bytes in, bytes out.

What the engine would send is read back by aiokafka's reader, not by our own.
"""

import importlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from aiokafka.record.memory_records import MemoryRecords

from agents.engine.batches import RawBatch, raw_batch
from agents.engine.builder import HEADER, RawBuilder
from agents.engine.digest import rows_of
from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Batch, Context, Fold, Place, Processor
from agents.engine.records import frame_one
from agents.engine.recovery import Loader
from agents.engine.registry import processors
from agents.engine.work import POSITION_KEY, Worker
from agents.engine.workspace import Outcome, Workspace
from agents.settings import Settings
from topics import codec
from topics.columns import Buffer, Columns
from topics.partition import partition_of

PARTITIONS = 1  # every tenant belongs here, unless a test says otherwise
TOPIC_ID = "0123abcd" * 4
LOG_MS = 1_760_000_000_000


def _with_policies(processor: Processor) -> list[Processor]:
    """The processor as it is, and with each policy that its samples have."""
    module = importlib.import_module(f"tests.unit.agents.{processor.name}.samples")
    policies = module.policies() if hasattr(module, "policies") else []
    return [processor, *(replace(processor, policy=lambda _, p=p: p) for p in policies)]


PROCESSORS = [
    each
    for processor in sorted(processors().values(), key=lambda p: p.name)
    for each in _with_policies(processor)
]
SETTINGS = Settings(kafka_bootstrap="127.0.0.1:1", topics_partitions=PARTITIONS)


@dataclass
class Message:
    """A record of the input, at an offset of the test's choice."""

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


def samples(processor: Processor) -> Any:
    """The room's own samples module: records(rng, n) and settings()."""
    return importlib.import_module(f"tests.unit.agents.{processor.name}.samples")


def plan_of(processor: Processor, partitions: int = PARTITIONS) -> Plan:
    """The processor's programs."""
    return Plan(processor, SETTINGS, partitions)


def messages(plan: Plan, records: list[dict[str, Any]], first: int = 0) -> list[Message]:
    """Records on the wire, keyed by tenant, at offsets first, first + 1, …"""
    return [
        Message(first + i, r["tenant"].encode(), codec.encode(plan.schema, r))
        for i, r in enumerate(records)
    ]


def setting(offset: int, tenant: str, name: str, value: str) -> Message:
    """A control record that changes a setting."""
    record = {
        "tenant": tenant,
        "setting": name,
        "value": value,
        "author": "test",
        "ts": LOG_MS * 1000,
    }
    return Message(offset, tenant.encode(), codec.encode("control_setting", record))


def batch_of(part: list[Message], log_ms: int = LOG_MS) -> RawBatch:
    """One record batch as the broker would send it: offsets and log append time filled in."""
    base = part[0].offset
    body = b"".join(frame_one(m.offset - base, m.key, m.value, m.headers) for m in part)
    data = bytearray(RawBuilder(body, len(part))._build())
    fields = list(HEADER.unpack_from(data))
    fields[0], fields[5], fields[6] = base, fields[5] | 8, part[-1].offset - base
    fields[7] = fields[8] = log_ms
    HEADER.pack_into(data, 0, *fields)
    return raw_batch(bytes(data))


def read(topic: str, partition: int, builder: RawBuilder) -> list[Sent]:
    """The records of a batch that the engine built."""
    records = MemoryRecords(builder._build())
    found = []
    while records.has_next():
        batch = records.next_batch()
        assert batch is not None and batch.validate_crc()
        found += [Sent(topic, partition, r.key, r.value, tuple(r.headers)) for r in batch]
    return found


class Run:
    """A fold with everything it has sent so far."""

    def __init__(self, plan: Plan, fold: Fold | None = None, partition: int = 0) -> None:
        self.plan = plan
        self.place = Place(TOPIC_ID[:8], partition)
        self.fold = fold if fold is not None else plan.processor.make(self.context)
        self.worker = Worker(plan, self.place, self.fold)
        self.space = Workspace(plan)
        self.sent: list[Sent] = []
        self.results: dict[str, int] = {}
        self.last, self.transactions = Outcome(0), 0
        self.counted: dict[str, int] = {}
        self.next = 0

    @property
    def context(self) -> Context:
        return self.plan.context(self.place, defaults_of(self.plan.processor, SETTINGS))

    def restart(self, fold: Fold) -> None:
        """Go on with another fold, as after a recovery; what was sent stays sent."""
        self.fold = fold
        self.worker = Worker(self.plan, self.place, fold)

    def feed(self, parts: list[list[Message]], log_ms: int = LOG_MS) -> "Run":
        """Each part is one record batch in a transaction of its own, appended at this time."""
        for part in parts:
            if part:
                self.transaction([batch_of(part, log_ms)])
        return self

    def transaction(self, batches: list[RawBatch]) -> None:
        """Fold until these batches are done, as the partition's task does."""
        while batches[-1].next_offset > self.next:
            outcome = self.worker.run(self.space, batches, self.next, lambda _: b"position")
            assert outcome.next_offset > self.next
            self.last, self.next = outcome, outcome.next_offset
            self.transactions += 1
            for topic, partition, builder in outcome.sends:
                self.sent += read(topic, partition, builder)
            for mine, more in ((self.results, outcome.results), (self.counted, outcome.counted)):
                for name, count in more.items():
                    mine[name] = mine.get(name, 0) + count

    def of(self, topic: str) -> list[Sent]:
        """What was sent to a topic, position rows left out."""
        return [sent for sent in self.sent if sent.topic == topic and sent.key != POSITION_KEY]

    def outputs(self) -> list[Sent]:
        """What was sent to the sinks."""
        return [sent for sink in self.plan.sinks for sent in self.of(sink.topic)]

    def rows(self) -> dict[bytes, bytes]:
        """The state topic after compaction."""
        table: dict[bytes, bytes] = {}
        for sent in self.of(self.plan.state):
            assert sent.key is not None
            if sent.value is None:
                table.pop(sent.key, None)
            else:
                table[sent.key] = sent.value
        return table


def loaded(plan: Plan, rows: dict[bytes, bytes], order: np.random.Generator | None = None) -> Run:
    """A run whose fold was recovered from these rows, in a random order if one is given."""
    run = Run(plan)
    keys = sorted(rows)
    if order is not None:
        order.shuffle(keys)
    if keys:
        Loader(plan, 0, run.fold).load(keys, [rows[k] for k in keys], np.zeros(len(keys), np.uint8))
    assert rows_of(plan, run.fold) == rows
    return run


def row_path(plan: Plan, part: list[Message]) -> list[bytes]:
    """The reference: fastavro decodes one record at a time, the law folds it, fastavro encodes.

    Sink by sink, as `Run.outputs` has them.
    """
    place = Place(TOPIC_ID[:8], 0)
    fold = plan.processor.make(plan.context(place, defaults_of(plan.processor, SETTINGS)))
    encoded: list[list[bytes]] = [[] for _ in plan.sinks]
    for message in part:
        assert message.value is not None
        name, record = codec.decode(message.value)
        assert name == plan.schema
        columns, scratch = Columns(plan.layout), Buffer()
        columns.reserve(1, 0)
        columns.put(0, record, scratch)
        outputs = tuple(plan.output(sink) for sink in plan.sinks)
        batch = Batch(
            scratch.data,
            columns,
            np.array([message.offset]),
            np.array([LOG_MS]),
            np.zeros(1, np.uint8),
        )
        fold.fold(batch, 0, 1, outputs)
        for sink, output, mine in zip(plan.sinks, outputs, encoded, strict=True):
            bufs = (scratch.data, fold.names, output.scratch.data)
            schema = sink.layout.schema["name"].split(".")[-1]
            mine += [codec.encode(schema, output.columns.get(k, bufs)) for k in range(output.n)]
    return [value for mine in encoded for value in mine]


def homes(tenants: list[str], n: int) -> dict[str, int]:
    """tenant -> partition."""
    return {tenant: partition_of(tenant, n) for tenant in tenants}
