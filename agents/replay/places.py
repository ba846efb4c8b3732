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
from agents.replay.modes import CantReplayError, Take
from agents.replay.ranges import log_of, range_of
from agents.replay.records import parts_of, records_of
from agents.replay.shadows import check_same, check_unused, made, shadow_topic
from agents.settings import Settings
from topics.broker import Found as Topic
from topics.broker import connect, look
from topics.catalogue import CATALOGUE
from topics.partition import partition_of

NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
OPERATORS = "operators"  # among a topic's readers: people
INTERNAL = ("soma.", "__")


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
            located(settings, log, name, one)
            for name, one in zip(("since", "until"), command.bounds, strict=True)
        )
        if why := refusal(since, until, time.time_ns() // 1000):
            raise CantReplayError(why)
        partial = command.partial or command.dry_run  # which says what is missing
        spans, missing = range_of(consumer, log, since, until, partial)
    finally:
        consumer.close()
    if target not in topics and not command.dry_run:
        topics |= {target: made(admin, command.source, topics[source], target)}
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
    return _name("shadow", shadow_topic(settings, command.shadow, command.source))


def _may_write(
    settings: Settings, command: Command, there: Topic | None, admin: AdminClient
) -> None:
    """Refuse what must not get records of the past."""
    if command.shadow:
        if (topic := CATALOGUE.get(command.source)) is not None:
            # Whoever writes it there, too: its readers may have no state (projections).
            check_unused(settings, command.shadow, (*topic.readers, *topic.writers), admin)
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
    """JobFailedError where a topic of the job's is gone, or another now. BrokerError: also where
    the target takes nothing just now.
    """
    wanted = {plan["source"]: plan["source_id"]}
    writes = {} if plan["dry_run"] else {plan["target"]: plan["target_id"]}
    check_same(settings, wanted | writes, writes)


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
