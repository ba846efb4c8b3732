"""Where a job reads and writes: the topics, whether they may be, and the range in them."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from agents.engine.names import Names
from agents.history.reading import RangeReader, Span
from agents.replay.bounds import SHOWN, refusal
from agents.replay.command import Command
from agents.replay.ids import located
from agents.replay.modes import CantReplayError, JobFailedError, Take
from agents.replay.ranges import ANSWER_S, log_of, range_of
from agents.replay.records import parts_of, records_of
from agents.settings import Settings
from topics.broker import Found as Topic
from topics.broker import connect, create, look, topic_ids, wait_for
from topics.catalogue import CATALOGUE
from topics.partition import partition_of
from topics.reading import ends_of

NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
NAMESPACE = re.compile(r"[a-z0-9-]{1,32}")
OPERATORS = "operators"  # among a topic's readers: people
INTERNAL = ("soma.", "__")
KEPT = ("min.insync.replicas",)  # of the source's settings, by its replication


@dataclass(slots=True)
class Found:
    """What a job's topics are, by their names on the broker."""

    source: str
    source_id: str
    target: str
    target_id: str
    target_partitions: int
    spans: dict[int, Span]
    missing: list[str]


def find(settings: Settings, command: Command) -> Found:
    """Look at the broker; a shadow's topic is made where there is none, but for a dry run.

    CantReplayError; BrokerError, KafkaException.
    """
    admin = connect(settings.librdkafka())
    source = _name("source", settings.topic(command.source))
    target = _target(settings, command)
    topics = look(admin, [source, target])
    if source not in topics:
        raise CantReplayError(f"source: there is no topic {source}")
    _may_write(settings, command, topics.get(target), admin)
    consumer = _consumer(settings)
    try:
        partitions = range(topics[source].partitions)
        log = log_of(consumer, source, topics[source].topic_id, partitions)
        since, until = (
            located(settings, admin, log, name, one)
            for name, one in zip(("since", "until"), command.bounds, strict=True)
        )
        if why := refusal(since, until, time.time_ns() // 1000):
            raise CantReplayError(why)
        partial = command.partial or command.dry_run  # which says what is missing
        spans, missing = range_of(consumer, log, since, until, partial)
    finally:
        consumer.close()
    if target not in topics and not command.dry_run:
        topics |= {target: _made(settings, command, topics[source], target, admin)}
    there = topics.get(target)
    return Found(
        source, topics[source].topic_id, target, there.topic_id if there is not None else "",
        there.partitions if there is not None else topics[source].partitions,
        _of_tenants(command, spans, len(partitions)), missing,
    )  # fmt: skip


def _name(what: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise CantReplayError(f"{what}: no topic can be named {name[:SHOWN]!r}")
    return name


def _target(settings: Settings, command: Command) -> str:
    """The topic to write, as on the broker."""
    if not command.shadow:
        return _name("target", settings.topic(command.target))
    if not NAMESPACE.fullmatch(command.shadow):
        raise CantReplayError(f"shadow: {command.shadow[:SHOWN]!r}: 1 to 32 of a-z 0-9 -")
    if command.shadow == settings.namespace:
        raise CantReplayError("shadow: this very installation has that namespace")
    return _name("shadow", settings.model_copy(update={"namespace": command.shadow}).topic(
        command.source
    ))  # fmt: skip


def _may_write(
    settings: Settings, command: Command, there: Topic | None, admin: AdminClient
) -> None:
    """Refuse what must not get records of the past."""
    if command.shadow:
        _check_shadow(settings, command, admin)
        return
    if command.target.startswith(INTERNAL):
        raise CantReplayError(f"target: {command.target} is internal, and takes no replays")
    topic = CATALOGUE.get(command.target)
    if others := [one for one in CATALOGUE if command.target.endswith(f".{one}")]:
        raise CantReplayError(
            f"target: {command.target} is named as {others[0]} of another namespace: a shadow is "
            "checked for who reads there"
        )
    if topic is not None and (readers := [one for one in topic.readers if one != OPERATORS]):
        raise CantReplayError(
            f"target: {command.target} is read by {', '.join(readers)}, who would take the past "
            "for the present: give a topic of your own, or a shadow"
        )
    if there is None:
        raise CantReplayError(
            f"target: there is no topic {settings.topic(command.target)}: make it first, with as "
            "many partitions as you like"
        )


def _check_shadow(settings: Settings, command: Command, admin: AdminClient) -> None:
    """Refuse a namespace in which a processor has worked on what is read there already."""
    topic = CATALOGUE.get(command.source)
    if topic is None:
        return
    own = settings.model_copy(update={"namespace": command.shadow})
    states = [own.topic(f"soma.{reader}.state") for reader in topic.readers]
    found = look(admin, states)
    consumer = _consumer(settings)
    try:
        for name, one in found.items():
            ends = ends_of(consumer, [(name, p) for p in range(one.partitions)], ANSWER_S)
            if any(ends.values()):
                raise CantReplayError(
                    f"shadow: a processor works in the namespace {command.shadow} ({name} has "
                    "rows): it would take the past for the present"
                )
    finally:
        consumer.close()


def _made(
    settings: Settings, command: Command, source: Topic, target: str, admin: AdminClient
) -> Topic:
    """Make a shadow's topic as the source is, and as the catalogue wants it."""
    topic = CATALOGUE.get(command.source)
    wanted = topic.settings() if topic is not None else {
        name: source.config[name]
        for name in ("message.timestamp.type", "cleanup.policy", "max.message.bytes")
        if name in source.config
    }  # fmt: skip
    kept = {name: source.config[name] for name in KEPT if name in source.config}
    create(admin, target, source.partitions, source.replication, {**wanted, **kept})
    wait_for(admin, [target])
    return look(admin, [target])[target]


def _of_tenants(command: Command, spans: Mapping[int, Span], partitions: int) -> dict[int, Span]:
    """Where the tenants live: of a topic of ours nothing of theirs lies elsewhere, but for what
    was forwarded from there.
    """
    topic = CATALOGUE.get(command.source)
    if not command.tenants or topic is None or topic.partitioning != "tenant":
        return dict(spans)
    homes = {partition_of(one, partitions) for one in command.tenants}
    return {p: span for p, span in spans.items() if p in homes}


def check_still(settings: Settings, plan: Mapping[str, Any]) -> None:
    """JobFailedError where a topic of the job's is gone, or another now. BrokerError."""
    wanted = {plan["source"]: plan["source_id"]}
    if not plan["dry_run"]:
        wanted[plan["target"]] = plan["target_id"]
    found = topic_ids(connect(settings.librdkafka()), wanted)
    for name, topic_id in wanted.items():
        if name not in found:
            raise JobFailedError(f"the topic {name} is gone")
        if found[name] != topic_id:
            raise JobFailedError(f"the topic {name} was made anew meanwhile")


async def missing_tenants(settings: Settings, command: Command, found: Found, take: Take) -> None:
    """CantReplayError names the tenants of whom there is nothing in the range.

    Reads until each was met: of those that are there, mostly not far.
    """
    names, met = Names(), set[int]()
    for one in command.tenants:
        names.code(one.encode())
    reader = RangeReader(settings, found.source, found.spans)
    try:
        while len(met) < names.count and (got := await reader.read()) is not None:
            partition, batches, _ = got
            for part in parts_of(batches):
                where, span = f"{found.source}/{partition}", found.spans[partition]
                most = settings.batch_unpacked_bytes_max
                records = await asyncio.to_thread(records_of, part, span, where, most)
                lo = 0
                while lo < records.n and len(met) < names.count:
                    hi = lo + await take(records.n - lo)
                    met.update(np.unique(records.tenants(names, lo, hi)).tolist())
                    met.discard(-1)
                    lo = hi
    finally:
        reader.close()
    if lacking := [names.name(k).decode() for k in range(names.count) if k not in met]:
        raise CantReplayError(f"tenants: nothing of {', '.join(lacking)} lies in the range")


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        settings.librdkafka(
            group_id=settings.prefix("soma-replay"), isolation_level="read_committed",
            enable_auto_commit=False,
        )
    )  # fmt: skip
