"""What the broker says of topics, and the few changes we ask of it. No rules here."""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

TIMEOUT_S = 15.0
LED_S = 90.0  # until new topics are led: hundreds of logs to make, on a machine that may be busy
CONNECT_S = 10.0
PARTITIONS_MAX = 1_000  # made by one request: the controller takes 10,000 changes at once
_MASK = (1 << 64) - 1


class BrokerError(Exception):
    """The broker can't be reached, or refuses; the text says what was asked of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it. `replication` is that of its weakest partition."""

    topic_id: str  # 32 hex digits; a recreated topic has another
    partitions: int
    replication: int
    config: Mapping[str, str]


def connect(config: Mapping[str, Any]) -> AdminClient:
    """An admin client whose broker has answered. `BrokerError` says why none did."""
    heard: list[str] = []
    listening: dict[str, Any] = {**config, "error_cb": lambda error: heard.append(error.str())}
    admin = AdminClient(listening)
    asked = admin.describe_cluster(request_timeout=CONNECT_S)
    try:
        asked.result(CONNECT_S + 5)
    except KafkaException as error:
        admin.poll(0)  # serves error_cb
        why = heard[0] if heard else error.args[0].str()
        where = config["bootstrap.servers"]
        raise BrokerError(f"No Kafka broker answers at {where}: {why}") from error
    return admin


def look(admin: AdminClient, names: Iterable[str]) -> dict[str, Found]:
    """The topics that exist among these, by their names on the broker."""
    described = _describe(admin, list(names))
    configs = _configs(admin, described)
    return {
        name: Found(
            hex_id(topic.topic_id),
            len(topic.partitions),
            min(len(partition.replicas) for partition in topic.partitions),
            configs[name],
        )
        for name, topic in described.items()
        if name in configs
    }


def not_taking(admin: AdminClient, names: Iterable[str]) -> str:
    """Which of these topics takes no records just now, and why; empty: all that exist do.

    A producer hears nothing of it: it asks again, until its time is over.
    """
    described = _describe(admin, list(names))
    configs = _configs(admin, described)
    for name, topic in described.items():
        wanted = int(configs.get(name, {}).get("min.insync.replicas", 1))
        for one in topic.partitions:
            if one.leader is None or one.leader.id < 0:
                why = "no broker leads it: one is away, or its disk is full or broken"
            elif (there := len(one.isr)) < wanted:
                why = f"{there} of the {wanted} replicas that min.insync.replicas wants are in sync"
            else:
                continue
            return f"{name}/{one.id} takes no records: {why}"
    return ""


def _configs(admin: AdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The settings of topics; those that are gone lack."""
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    asked = admin.describe_configs(resources, request_timeout=TIMEOUT_S) if resources else {}
    return {
        resource.name: {key: str(entry.value) for key, entry in answer.items()}
        for resource, future in asked.items()
        if (answer := _answer(future, f"the settings of {resource.name}")) is not None
    }


def topic_ids(
    admin: AdminClient, names: Iterable[str], timeout_s: float = TIMEOUT_S
) -> dict[str, str]:
    """Kafka's id, 32 hex digits, of each topic that exists (names as on the broker)."""
    described = _describe(admin, list(names), timeout_s)
    return {name: hex_id(topic.topic_id) for name, topic in described.items()}


def session_limits_s(admin: AdminClient) -> tuple[float, float] | None:
    """The least and the greatest session timeout of a group's member that the broker takes.

    None if it doesn't say, for that takes the right to describe its settings.
    """
    nodes = admin.describe_cluster(request_timeout=TIMEOUT_S).result(TIMEOUT_S + 5).nodes
    broker = ConfigResource(ConfigResource.Type.BROKER, str(nodes[0].id))
    (asked,) = admin.describe_configs([broker], request_timeout=TIMEOUT_S).values()
    try:
        found = asked.result(TIMEOUT_S + 5)
    except (KafkaException, TimeoutError):
        return None
    least, most = (found.get(f"group.{end}.session.timeout.ms") for end in ("min", "max"))
    if least is None or most is None:
        return None
    return int(least.value) / 1000.0, int(most.value) / 1000.0


def seen(admin: AdminClient, names: Iterable[str]) -> set[str]:
    """Which of these topics exist and aren't hidden from us by ACLs."""
    asked = admin.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S)
    hidden = KafkaError.TOPIC_AUTHORIZATION_FAILED
    found: set[str] = set()
    for name, future in asked.items():
        try:
            if _answer(future, f"about {name}") is not None:
                found.add(name)
        except BrokerError as error:
            cause = error.__cause__
            if not (isinstance(cause, KafkaException) and cause.args[0].code() == hidden):
                raise
    return found


def hex_id(uuid: Any) -> str:
    """A confluent Uuid as 32 hex digits, its bytes in order."""
    high, low = uuid.get_most_significant_bits(), uuid.get_least_significant_bits()
    return f"{high & _MASK:016x}{low & _MASK:016x}"


def create(
    admin: AdminClient, name: str, partitions: int, replication: int, config: Mapping[str, str]
) -> None:
    """Create a topic; that another has just created it is no error."""
    create_all(admin, {name: config}, partitions, replication)


def create_all(
    admin: AdminClient, wanted: Mapping[str, Mapping[str, str]], partitions: int, replication: int
) -> None:
    """Create topics, name -> settings; that another has just created one is no error.

    Many in one request: each request is a round of the controller's log of its own.
    """
    for names in requests_of(list(wanted), partitions):
        todo = [NewTopic(one, partitions, replication, config=dict(wanted[one])) for one in names]
        for name, future in admin.create_topics(todo, operation_timeout=TIMEOUT_S).items():
            _answer(future, f"to create {name}", KafkaError.TOPIC_ALREADY_EXISTS)


def requests_of(names: Sequence[str], partitions: int) -> list[Sequence[str]]:
    """Topics of so many partitions, in order, by the request that creates them."""
    many = max(1, PARTITIONS_MAX // partitions)
    return [names[k : k + many] for k in range(0, len(names), many)]


def alter(admin: AdminClient, name: str, config: Mapping[str, str]) -> None:
    """Set these settings of a topic and leave its others alone."""
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in config.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
    asked = admin.incremental_alter_configs([resource], request_timeout=TIMEOUT_S)
    for future in asked.values():
        _answer(future, f"to change the settings of {name}")


def wait_for(admin: AdminClient, names: Iterable[str]) -> None:
    """Return once the broker shows all these topics, and leads each of their partitions.

    Creation is acknowledged before that, and topics are shown before their logs are made.
    """
    deadline = time.monotonic() + LED_S
    wanted = set(names)
    while missing := wanted - (shown := _describe(admin, sorted(wanted))).keys():
        _wait(deadline, f"not to be seen: {', '.join(sorted(missing))}")
    places = [TopicPartition(name, p.id) for name, topic in shown.items() for p in topic.partitions]
    while why := _not_led(admin, places):
        _wait(deadline, why)


def _wait(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise BrokerError(f"created, but {what}")
    time.sleep(0.05)


def _not_led(admin: AdminClient, places: list[TopicPartition]) -> str:
    """Of which partition nobody tells the end yet, and why; empty: all are led."""
    if not places:
        return ""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = admin.list_offsets(dict.fromkeys(places, latest), request_timeout=TIMEOUT_S)
    for at, future in asked.items():
        try:
            future.result(TIMEOUT_S + 5)
        except (KafkaException, TimeoutError) as error:
            return f"{at.topic}/{at.partition} is led by nobody: {error}"
    return ""


def _describe(admin: AdminClient, names: list[str], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    if not names:
        return {}
    asked = admin.describe_topics(TopicCollection(names), request_timeout=timeout_s)
    answers = {name: _answer(future, f"about {name}") for name, future in asked.items()}
    return {name: topic for name, topic in answers.items() if topic is not None}


def _answer(
    future: "Future[Any]", what: str, fine: int = KafkaError.UNKNOWN_TOPIC_OR_PART
) -> Any | None:
    """The future's result; None if it failed with the code that is `fine`."""
    try:
        return future.result(TIMEOUT_S + 5)
    except KafkaException as error:
        if error.args[0].code() == fine:
            return None
        raise BrokerError(f"The broker was asked {what}: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise BrokerError(f"The broker was asked {what} and didn't answer") from error
