"""What the log knows of a sleep's request: who asked so before, what was answered, where it acts.

All of it blocks: for threads. No question depends on this machine's clock: how far back one looks
is a number of records, or a time that the log itself has given.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from agents.settings import Settings
from topics import codec
from topics.partition import partition_of
from topics.reading import TopicAndPartition, ends_of, offsets_at, read_to, span_of

# As agents/sleep has them; without the engine that it brings.
REQUESTS, AUDIT = "brain.sleep.requests", "soma.audit"
REQUEST_SCHEMA, AUDIT_SCHEMA, CONTROL_SCHEMA = "sleep_request", "audit_event", "control_sleep"
CONCERNED = (
    "cog.observations", "cog.predictor.updates", "cog.global.frame", "cog.reward.events",
)  # fmt: skip

KEPT = 20_000  # the last requests of a partition, among which an idempotency key is looked for
ANSWER_S = 3.0  # for Kafka's answer to one question
SILENCE_S = 5.0  # without a step forward
FETCH_WAIT_MS = 20
BACK_MS = 100  # of the log's time: the brokers' clocks needn't agree better


class AwayError(Exception):
    """Kafka doesn't answer, or lacks the topics; the text says which."""


class Looking:
    """A consumer for one question; use it in a `with`. AwayError."""

    def __init__(self, settings: Settings, *, committed: bool = True) -> None:
        self._settings = settings
        isolation = "read_committed" if committed else "read_uncommitted"
        self._consumer = Consumer(
            settings.librdkafka(
                group_id=settings.prefix("soma-sleep-look"), isolation_level=isolation,
                enable_auto_commit=False, enable_partition_eof=True, auto_offset_reset="earliest",
                fetch_wait_max_ms=FETCH_WAIT_MS,
            )
        )  # fmt: skip

    def __enter__(self) -> "Looking":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._consumer.close()
        if isinstance(error, KafkaException):
            raise AwayError(f"Kafka: {error.args[0].str()}") from error

    def places(self, topic: str, tenant: str = "") -> list[TopicAndPartition]:
        """The partition of a topic where the tenant is; without one, all."""
        found = places_of(self._consumer, self._settings.topic(topic))
        return [found[partition_of(tenant, len(found))]] if tenant else found

    def last(self, place: TopicAndPartition, most: int) -> Iterator[Message]:
        """The last records of a partition, so many of its offsets."""
        low, end = span_of(self._consumer, place, ANSWER_S)
        yield from self._read({place: max(low, end - most)}, {place: end})

    def since(self, places: Iterable[TopicAndPartition], ms: int) -> Iterator[Message]:
        """Records from a time of the log on, to the end as it is now."""
        ends = ends_of(self._consumer, places, ANSWER_S)
        starts = offsets_at(self._consumer, ends, ms - BACK_MS, ANSWER_S)
        begun = {place: at for place, at in starts.items() if at is not None and at < ends[place]}
        yield from self._read(begun, {place: ends[place] for place in begun})

    def _read(
        self, starts: dict[TopicAndPartition, int], ends: dict[TopicAndPartition, int]
    ) -> Iterator[Message]:
        self._consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
        ahead = {place: end for place, end in ends.items() if end > starts[place]}
        for messages in read_to(self._consumer, ahead, silence_s=SILENCE_S):
            yield from messages


def places_of(consumer: Consumer, topic: str) -> list[TopicAndPartition]:
    """A topic's partitions, in order. AwayError, KafkaException."""
    found = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
    if found.error is not None or not found.partitions:
        raise AwayError(f"there is no topic {topic}: `soma topics apply` makes it")
    return [(topic, number) for number in sorted(found.partitions)]


def request_of(settings: Settings, tenant: str, request_id: str) -> tuple[dict[str, Any], int]:
    """A request that was written, and its log time in ms; ({}, 0): none is among the last KEPT.

    Uncommitted records count: those that have our ids are in no transaction, and seen at once.
    """
    key, needle = tenant.encode(), request_id.encode()
    with Looking(settings, committed=False) as look:
        (place,) = look.places(REQUESTS, tenant)
        for message in look.last(place, KEPT):
            value = message.value() or b""
            if message.key() == key and needle in value:
                record = _record(value, REQUEST_SCHEMA)
                if record.get("request_id") == request_id:
                    return record, message.timestamp()[1]
    return {}, 0


def answer_to(settings: Settings, request_id: str, ms: int) -> dict[str, Any] | None:
    """What was answered, from a time of the log on; None: nothing yet."""
    needle = request_id.encode()
    with Looking(settings) as look:
        for message in look.since(look.places(AUDIT), ms):
            value = message.value() or b""
            if needle in value and (said := answer_in(value)).get("request_id") == request_id:
                return said
    return None


def acts_at(settings: Settings, tenant: str, version: int, ms: int) -> dict[str, tuple[int, int]]:
    """Where a sleep's version acts, from a time of the log on: topic -> (partition, offset)."""
    begins = tuple(codec.headers(CONTROL_SCHEMA))
    names = {settings.topic(topic): topic for topic in CONCERNED}
    found: dict[str, tuple[int, int]] = {}
    with Looking(settings) as look:
        places = [place for topic in CONCERNED for place in look.places(topic, tenant)]
        for message in look.since(places, ms):
            value = message.value() or b""
            if value.startswith(begins):  # few are: an input may be busy
                record = _record(value, CONTROL_SCHEMA)
                if (record.get("tenant"), record.get("version")) == (tenant, version):
                    topic = names[message.topic() or ""]
                    found[topic] = message.partition() or 0, message.offset() or 0
    return found


def answer_in(value: bytes) -> dict[str, Any]:
    """What an event of the audit says of a request, with its time `ts` (microseconds); {} if it
    is of something else.
    """
    event = _record(value, AUDIT_SCHEMA)
    if event.get("action") != "sleep":
        return {}
    detail = json.loads(event["detail"])
    return {**detail, "ts": event["ts"]} if isinstance(detail, dict) else {}


def _record(value: bytes, schema: str) -> dict[str, Any]:
    """A record of ours, which is never JSON; {}: it is another."""
    try:
        name, record = codec.decode(value)
    except codec.BadRecord:
        return {}
    return record if name == schema else {}
