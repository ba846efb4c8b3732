"""Runs a processor's fold through the engine's own path, without a broker: bytes in, bytes out.

What the engine would send is read back by aiokafka's reader, not by our own. Each processor of the
house and of the examples, with its samples; the rest is what packages of other people use, too.
"""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np

from agents.contract import trials
from agents.contract.trials import PARTITIONS, SETTINGS, Subject, messages, setting, sleep
from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Fold, Policy, Processor
from agents.engine.registry import processors
from agents.kit import run as kit
from agents.kit.run import LOG_MS, TOPIC_ID, Message, Sent, batch_of, read
from ops.examples import PLUGIN
from ops.examples.install import install
from topics.partition import partition_of

__all__ = [
    "LOG_MS", "PARTITIONS", "SETTINGS", "TOPIC_ID", "Message", "Sent", "batch_of", "messages",
    "read", "setting", "sleep",
]  # fmt: skip


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
FORGETFUL = ("feedback", "prune", "episodes")  # which need to know nothing
KEEPING = [one for one in PROCESSORS if one.name not in FORGETFUL]
_SAMPLED = frozenset(one.name for one in PROCESSORS)  # tests make others, too


def defaults(processor: Processor) -> dict[str, str]:
    """The deployment's values, and those under which its samples do something."""
    if processor.name not in _SAMPLED:
        return defaults_of(processor, SETTINGS)
    return subject_of(processor).defaults()


def subject_of(processor: Processor) -> Subject:
    """The processor on trial, with its own samples."""
    return Subject(processor, samples(processor))


def plan_of(processor: Processor, partitions: int = PARTITIONS) -> Plan:
    """The processor's programs."""
    return Plan(processor, SETTINGS, partitions)


class Run(kit.Run):
    """A fold with the tests' settings."""

    def __init__(self, plan: Plan, fold: Fold | None = None, partition: int = 0) -> None:
        super().__init__(plan, defaults(plan.processor), fold, partition)


def loaded(plan: Plan, rows: dict[bytes, bytes], order: np.random.Generator | None = None) -> Run:
    """A run whose fold was recovered from these rows, in a random order if one is given."""
    run = Run(plan)
    trials.recovered(plan, run, rows, order)
    return run


def homes(tenants: list[str], n: int) -> dict[str, int]:
    """tenant -> partition."""
    return {tenant: partition_of(tenant, n) for tenant in tenants}
