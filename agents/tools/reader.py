"""A topic's committed records, decoded for people; belongs to no consumer group."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from agents.tools.known import ANSWER_S, partitions_of
from topics import codec, strictjson
from topics.catalogue import CATALOGUE, dlq_of
from topics.messages import headers_of
from topics.missed import Missed, let_go
from topics.partition import partition_of
from topics.reading import PASSED, TopicAndPartition, ends_of, read_to, span_of

if TYPE_CHECKING:
    from agents.settings import Settings

POLL_S = 0.1
POLL_MAX = 500


@dataclass(frozen=True, slots=True)
class Seen:
    """One record: where it stood, and what it says, or why it can't be read."""

    topic: str
    partition: int
    offset: int
    log_ms: int
    key: str | None
    headers: dict[str, str]
    schema: str | None = None
    record: dict[str, Any] | None = None
    error: str | None = None
    guest: bool = False  # not of the topic's own schema: a control record, a dead letter

    @property
    def place(self) -> str:
        """Where it stood, for people."""
        return f"{self.topic} partition {self.partition} offset {self.offset}"

    @property
    def tenant(self) -> str | None:
        """The tenant that the record names, else the part of its key that does."""
        named = (self.record or {}).get("tenant")
        return named if isinstance(named, str) else (self.key or "").partition("\x1f")[0] or None

    def envelope(self) -> dict[str, Any]:
        """All of it as JSON data."""
        data: dict[str, Any] = {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "log_ms": self.log_ms,
            "key": self.key,
        }
        if self.headers:
            data["headers"] = self.headers
        said = {"error": self.error} if self.error else {"schema": self.schema}
        return data | said | ({} if self.error else {"record": self.record})

    def line(self) -> dict[str, Any]:
        """What it says; of dead letters and tombstones, which say too little themselves, all of it.

        What isn't of the topic's own schema comes with the name of its schema.
        """
        if self.record is None or self.schema is None or "soma-reason" in self.headers:
            return self.envelope()
        return {"schema": self.schema} | self.record if self.guest else self.record


class TopicReader:
    """Reads every partition of a topic, read_committed, from a start to the end or for ever."""

    def __init__(
        self, settings: "Settings", topic: str, start: str = "end", of: str | None = None
    ) -> None:
        """`start`: 'beginning', 'end' or an offset of each partition; `of`: only this tenant's."""
        self.topic = settings.topic(topic)
        self._settings = settings
        self._missed = Missed(settings.librdkafka(), settings.stalled_after_s)
        self._consumer = self._client()
        partitions = partitions_of(self._consumer, settings, topic)
        if of is not None:
            partitions = {partition_of(of, len(partitions))}
        self.first = int(start) if start.isdecimal() else 0  # offsets before it aren't wanted
        self.spans = self._asked({(self.topic, number) for number in partitions})
        starts = [self._start(place, start) for place in self.spans]
        self._ends = {
            (one.topic, one.partition): end
            for one in starts
            if one.offset < (end := self.spans[one.topic, one.partition][1])
        }
        # Before which offset all has come; behind the last record there are markers.
        self._reached = {
            (one.topic, one.partition): max(one.offset, self.spans[one.topic, one.partition][0])
            for one in starts
        }
        self._consumer.assign(starts)

    def _client(self) -> Consumer:
        return Consumer(
            self._settings.librdkafka(
                group_id=self._settings.prefix("watch"),  # never joined: assigned by hand
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="error",
                fetch_queue_backoff_ms=10,
                queued_max_messages_kbytes=16_384,
                error_cb=_say_if_away,
            )
        )

    def _asked(
        self, places: Iterable[TopicAndPartition]
    ) -> dict[TopicAndPartition, tuple[int, int]]:
        try:
            return {place: span_of(self._consumer, place, ANSWER_S) for place in sorted(places)}
        except KafkaException as error:
            self._consumer.close()
            raise self._failed(error.args[0]) from error

    def _start(self, place: TopicAndPartition, start: str) -> TopicPartition:
        """Where to read a partition from. An offset that the log doesn't have is never asked for:
        from the end on its records are passed over until the offset comes.
        """
        low, end = self.spans[place]
        if start == "beginning":
            return TopicPartition(*place, OFFSET_BEGINNING)
        return TopicPartition(*place, end if start == "end" else min(max(low, self.first), end))

    def records(self, follow: bool = True) -> Iterator[Message]:
        """Messages in the order of each partition; without `follow` to the end as it was at the
        start: the last stable offset.
        """
        while follow:
            yield from self.read()
        try:
            for messages in read_to(self._consumer, self._ends, POLL_MAX, POLL_S):
                yield from messages
        except KafkaException as error:
            raise self._failed(error.args[0]) from error

    def read(self) -> list[Message]:
        """What comes within POLL_S, at most POLL_MAX messages."""
        if self._missed.due and (missed := self._missed.look(self._reached)):
            click.echo(f"nothing came of {missed}: a new client of Kafka goes on there", err=True)
            lost, self._consumer = self._consumer, self._client()
            self._consumer.assign([TopicPartition(*p, at) for p, at in self._reached.items()])
            let_go(lost)
        good: list[Message] = []
        for message in self._consumer.consume(POLL_MAX, POLL_S):
            error = message.error()
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                self._reached[place] = offset + (error is None)
            if error is None:
                if offset >= self.first:
                    good.append(message)
            elif error.code() not in PASSED and not error.retriable():
                raise self._failed(error)
        return good

    def held_up(self) -> bool:
        """Whether the log of a partition went on behind its stable end, and still does: a
        transaction is open there, and what is committed behind it can't be read.
        """
        group, isolation = self._settings.prefix("watch"), "read_uncommitted"
        whole = Consumer(self._settings.librdkafka(group_id=group, isolation_level=isolation))
        try:
            ends = ends_of(whole, self.spans)
            stable = ends_of(self._consumer, self.spans)
        except KafkaException as error:
            raise self._failed(error.args[0]) from error
        finally:
            whole.close()
        return any(ends[place] > stable[place] for place in ends)

    def _failed(self, error: KafkaError) -> click.ClickException:
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            return click.ClickException(f"{self.topic}: what came next is gone from the log")
        return click.ClickException(f"{self.topic}: {error.str()}")

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()


def _say_if_away(error: KafkaError) -> None:
    if error.code() == KafkaError._ALL_BROKERS_DOWN:
        click.echo("Kafka doesn't answer; waiting for it", err=True)


def seen(message: Message, topic: str, schema: str | None) -> Seen:
    """Decode a message; `schema` is the topic's, None for dead letters. Never raises on bytes."""
    key = message.key()
    base = Seen(
        topic=topic,
        partition=message.partition() or 0,  # the stubs allow None; a consumed record has both
        offset=message.offset() or 0,
        log_ms=message.timestamp()[1],
        key=None if key is None else _text(key),
        headers={name: _text(value or b"") for name, value in headers_of(message)},
    )
    value = message.value()
    if value is None:
        return base
    if schema is None:
        return _letter(base, value, topic)
    try:
        return _decoded(base, value, schema)
    except codec.BadRecord as error:
        return replace(base, error=f"{error.reason}: {error.detail}")


def _decoded(base: Seen, value: bytes, schema: str) -> Seen:
    """With the record of a value: JSON of the topic's schema, or Avro of any."""
    if strictjson.begins_object(value):
        name, record = schema, codec.from_json(schema, value)
    else:
        name, record = codec.decode(value)
    return replace(base, schema=name, record=codec.to_json(name, record), guest=name != schema)


def _letter(base: Seen, value: bytes, topic: str) -> Seen:
    """A dead letter: its record by the schema of where it was, or its bytes where they are none."""
    origin = CATALOGUE.get(topic.removesuffix(dlq_of("")))
    try:
        if origin is not None and origin.schema is not None and "soma-form" not in base.headers:
            return _decoded(base, value, origin.schema)
    except codec.BadRecord:
        pass  # for this it is a letter, as often as not: its headers say more
    return replace(base, record={"value": _text(value)})


def _text(value: bytes | str) -> str:
    """Text if it is UTF-8, else base64 with a mark."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()
