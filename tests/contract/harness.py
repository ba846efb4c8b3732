"""Runs a processor's fold through the engine's own path, without a broker: bytes in, bytes out.

What the engine would send is read back by aiokafka's reader, not by our own.
"""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np

from agents.engine.digest import rows_of
from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Batch, Fold, Place, Policy, Processor
from agents.engine.registry import processors
from agents.kit import run as kit
from agents.kit.asleep import STATES
from agents.kit.run import LOG_MS, TOPIC_ID, Message, Sent, batch_of, read
from agents.settings import Settings
from ops.examples import PLUGIN
from ops.examples.install import install
from topics import codec
from topics.columns import Buffer, Columns
from topics.partition import partition_of

__all__ = ["LOG_MS", "TOPIC_ID", "Message", "Sent", "batch_of", "read"]

PARTITIONS = 1  # every tenant belongs here, unless a test says otherwise


def _examples() -> dict[str, Processor]:
    """The examples: a worker would have them by SOMA_PLUGINS."""
    install()
    return {n: importlib.import_module(m).PROCESSOR for n, m in PLUGIN.processors.items()}


def samples(processor: Processor) -> Any:
    """The processor's own samples module: records(rng, n) and settings()."""
    where = "ops.examples" if processor.name in PLUGIN.processors else "agents"
    return importlib.import_module(f"tests.unit.{where}.{processor.name}.samples")


def _with_policies(processor: Processor) -> list[Processor]:
    """The processor as it is, and with each policy that its samples have."""
    module = samples(processor)
    policies: list[Policy] = module.policies() if hasattr(module, "policies") else []
    return [processor, *(replace(processor, policy=lambda _, p=p: p) for p in policies)]


PROCESSORS = [
    each
    for processor in sorted((processors() | _examples()).values(), key=lambda p: p.name)
    for each in _with_policies(processor)
]
KEEPING = [one for one in PROCESSORS if one.name != "feedback"]  # which needs to know nothing
_SAMPLED = frozenset(one.name for one in PROCESSORS)  # tests make others, too
SETTINGS = Settings(
    kafka_bootstrap="127.0.0.1:1", topics_partitions=PARTITIONS, enable_cog_threads=True
)


def defaults(processor: Processor) -> dict[str, str]:
    """The deployment's values, and those under which its samples do something."""
    sampled = samples(processor) if processor.name in _SAMPLED else None
    more: dict[str, str] = getattr(sampled, "DEFAULTS", {})
    return defaults_of(processor, SETTINGS) | more


def plan_of(processor: Processor, partitions: int = PARTITIONS) -> Plan:
    """The processor's programs."""
    return Plan(processor, SETTINGS, partitions)


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


class Run(kit.Run):
    """A fold with the tests' settings."""

    def __init__(self, plan: Plan, fold: Fold | None = None, partition: int = 0) -> None:
        super().__init__(plan, defaults(plan.processor), fold, partition)


def loaded(plan: Plan, rows: dict[bytes, bytes], order: np.random.Generator | None = None) -> Run:
    """A run whose fold was recovered from these rows, in a random order if one is given."""
    run = Run(plan)
    keys = sorted(rows)
    if order is not None:
        order.shuffle(keys)
    run.load({key: rows[key] for key in keys})
    assert rows_of(plan, run.fold) == rows
    return run


def row_path(plan: Plan, part: list[Message]) -> list[bytes]:
    """The reference: fastavro decodes one record at a time, the law folds it, fastavro encodes.

    Sink by sink, as `Run.outputs` has them.
    """
    place = Place(TOPIC_ID[:8], 0)
    fold = plan.processor.make(plan.context(place, defaults(plan.processor)))
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
