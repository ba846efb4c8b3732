"""A processor on trial: records on the wire, its runs, and the way one record at a time takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from agents.engine.digest import rows_of
from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Batch, Place, Processor
from agents.kit.asleep import STATES
from agents.kit.run import LOG_MS, TOPIC_ID, Message, Run
from agents.settings import Settings
from topics import codec
from topics.columns import Buffer, Columns

PARTITIONS = 1  # every tenant belongs here, unless a test says otherwise
SETTINGS = Settings(
    kafka_bootstrap="127.0.0.1:1", topics_partitions=PARTITIONS, enable_cog_threads=True
)


class Samples(Protocol):
    """What a processor is tried with: a module, or anything else that has these two.

    Records are of the source's schema, with times before `LOG_MS`; most of them are folded and
    some bring outputs. Settings are valid values of the processor's settings. It may have
    `DEFAULTS`, the deployment's values, and `named(record, tenant)`, the record as another
    tenant's.
    """

    def records(self, rng: np.random.Generator, n: int) -> list[dict[str, Any]]: ...

    def settings(self) -> Sequence[tuple[str, str]]: ...


@dataclass(frozen=True)
class Subject:
    """A processor and what it is tried with."""

    processor: Processor
    samples: Samples
    more: Mapping[str, str] = field(default_factory=dict)  # of the deployment's values

    def __repr__(self) -> str:
        """Short: Hypothesis shows it with each failure."""
        return f"Subject({self.processor.name})"

    def defaults(self) -> dict[str, str]:
        """The deployment's values, and those under which its samples do something."""
        sampled: Mapping[str, str] = getattr(self.samples, "DEFAULTS", {})
        return defaults_of(self.processor, SETTINGS) | dict(sampled) | dict(self.more)

    def plan(self) -> Plan:
        """The processor's programs."""
        return Plan(self.processor, SETTINGS, PARTITIONS)

    def run(self, plan: Plan) -> Run:
        """A fold that knows nothing yet."""
        return Run(plan, self.defaults())

    def loaded(
        self, plan: Plan, rows: Mapping[bytes, bytes], order: np.random.Generator | None = None
    ) -> Run:
        """A run whose fold was recovered from these rows, in a random order if one is given."""
        return recovered(plan, self.run(plan), rows, order)

    def named(self, record: dict[str, Any], tenant: str) -> dict[str, Any]:
        """The record as another tenant's."""
        own = getattr(self.samples, "named", None)
        if own is not None:
            given: dict[str, Any] = own(record, tenant)
            return given
        return record | {self.processor.reads.tenant: tenant}


def recovered(
    plan: Plan, run: Run, rows: Mapping[bytes, bytes], order: np.random.Generator | None
) -> Run:
    """The run after these rows of its state topic were read. AssertionError if others come back."""
    keys = sorted(rows)
    if order is not None:
        order.shuffle(keys)
    run.load({key: rows[key] for key in keys})
    assert rows_of(plan, run.fold) == rows
    return run


def messages(plan: Plan, records: list[dict[str, Any]], first: int = 0) -> list[Message]:
    """Records on the wire, keyed by tenant, at offsets first, first + 1, …"""
    tenant = plan.processor.reads.tenant
    return [
        Message(first + i, r[tenant].encode(), codec.encode(plan.schema, r))
        for i, r in enumerate(records)
    ]


def setting(offset: int, tenant: str, name: str, value: str, version: int = 0) -> Message:
    """A control record that changes a setting; without a version one that was written directly."""
    record = {
        "tenant": tenant,
        "setting": name,
        "value": value,
        "author": "test",
        "ts": LOG_MS * 1000,
        "version": version,
    }
    return Message(offset, tenant.encode(), codec.encode("control_setting", record))


def sleep(offset: int, tenant: str, state: int, version: int = 1) -> Message:
    """A control record that says how deep a tenant sleeps."""
    record = {
        "tenant": tenant,
        "state": STATES[state],
        "version": version,
        "wake_on_traffic": version % 2 == 0,
        "ts": LOG_MS * 1000,
    }
    return Message(offset, tenant.encode(), codec.encode("control_sleep", record))


def row_path(plan: Plan, part: list[Message], defaults: Mapping[str, str]) -> list[bytes | None]:
    """The reference: fastavro decodes one record at a time, the law folds it, fastavro encodes.

    Sink by sink, as `Run.outputs` has them.
    """
    place = Place(TOPIC_ID[:8], 0)
    fold = plan.processor.make(plan.context(place, defaults))
    encoded: list[list[bytes | None]] = [[] for _ in plan.sinks]
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
            mine += [
                None if k in output.gone else codec.encode(schema, output.columns.get(k, bufs))
                for k in range(output.n)
            ]
    return [value for mine in encoded for value in mine]
