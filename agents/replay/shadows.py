"""Shadows: namespaces beside this installation's, whose topics get what jobs make of the past."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from agents.engine.plan import Plan
from agents.replay.bounds import SHOWN
from agents.replay.modes import CantReplayError, JobFailedError
from agents.replay.ranges import ANSWER_S
from agents.settings import Settings
from topics.broker import BrokerError, connect, create, look, not_taking, topic_ids, wait_for
from topics.broker import Found as Topic
from topics.catalogue import CATALOGUE
from topics.reading import ends_of

NAMESPACE = re.compile(r"[a-z0-9-]{1,32}")
KEPT = ("min.insync.replicas",)  # of the live topic's settings, by its replication


@dataclass(frozen=True, slots=True)
class Target:
    """A topic of a shadow, as on the broker; the id is empty where it isn't made."""

    topic: str
    topic_id: str


def shadow_topic(settings: Settings, shadow: str, name: str) -> str:
    """A topic's name in a shadow, as on the broker. CantReplayError for what can't be one."""
    if not NAMESPACE.fullmatch(shadow):
        raise CantReplayError(f"shadow: {shadow[:SHOWN]!r}: 1 to 32 of a-z 0-9 -")
    if shadow == settings.namespace:
        raise CantReplayError("shadow: this very installation has that namespace")
    return settings.model_copy(update={"namespace": shadow}).topic(name)


def check_unused(
    settings: Settings, shadow: str, processors: Iterable[str], admin: AdminClient
) -> None:
    """Refuse a namespace in which one of these has worked already. CantReplayError, BrokerError."""
    own = settings.model_copy(update={"namespace": shadow})
    found = look(admin, [own.topic(f"soma.{name}.state") for name in dict.fromkeys(processors)])
    consumer = Consumer(
        settings.librdkafka(
            group_id=settings.prefix("soma-replay"), isolation_level="read_committed",
            enable_auto_commit=False,
        )
    )  # fmt: skip
    try:
        for name, one in found.items():
            ends = ends_of(consumer, [(name, p) for p in range(one.partitions)], ANSWER_S)
            if any(ends.values()):
                raise CantReplayError(
                    f"shadow: a processor works in the namespace {shadow} ({name} has rows): it "
                    "would take the past for the present"
                )
    finally:
        consumer.close()


def made(admin: AdminClient, name: str, like: Topic, target: str) -> Topic:
    """Make a shadow's topic as the live one is, and as the catalogue wants it. BrokerError."""
    topic = CATALOGUE.get(name)
    wanted = topic.settings() if topic is not None else {
        key: like.config[key]
        for key in ("message.timestamp.type", "cleanup.policy", "max.message.bytes")
        if key in like.config
    }  # fmt: skip
    kept = {key: like.config[key] for key in KEPT if key in like.config}
    create(admin, target, like.partitions, like.replication, {**wanted, **kept})
    wait_for(admin, [target])
    return look(admin, [target])[target]


def targets_of(settings: Settings, shadow: str, plan: Plan, dry: bool) -> dict[str, dict[str, Any]]:
    """Where a processor's outputs go in a shadow, by its sinks: made, but for a dry run.

    As JSON data of a Target. CantReplayError, BrokerError, KafkaException.
    """
    sinks = plan.processor.sinks
    if not sinks:
        raise CantReplayError(f"shadow: {plan.processor.name} has no outputs")
    names = {name: shadow_topic(settings, shadow, name) for name in sinks}
    admin = connect(settings.librdkafka())
    busy = [plan.processor.name, *(one for name in sinks for one in CATALOGUE[name].readers)]
    check_unused(settings, shadow, busy, admin)
    found = look(admin, [*map(settings.topic, sinks), *names.values()])
    targets: dict[str, dict[str, Any]] = {}
    for name, target in names.items():
        live = found.get(settings.topic(name))
        if live is None:
            raise CantReplayError(f"shadow: there is no topic {settings.topic(name)}")
        there = found.get(target)
        if there is not None and there.partitions != live.partitions:
            raise CantReplayError(
                f"shadow: {target} has {there.partitions} partitions, not {live.partitions}"
            )
        if there is None and not dry:
            there = made(admin, name, live, target)
        targets[name] = asdict(Target(target, there.topic_id if there is not None else ""))
    return targets


def check_same(settings: Settings, wanted: Mapping[str, str], writes: Iterable[str] = ()) -> None:
    """JobFailedError where a topic (name -> id) is gone, or another now. BrokerError: also where
    one that is to be written takes nothing just now.
    """
    admin = connect(settings.librdkafka())
    found = topic_ids(admin, wanted)
    for name, topic_id in wanted.items():
        if name not in found:
            raise JobFailedError(f"the topic {name} is gone")
        if found[name] != topic_id:
            raise JobFailedError(f"the topic {name} was made anew meanwhile")
    if why := not_taking(admin, writes):
        raise BrokerError(why)
