"""Finding one record: by its place, or by an id that is in one of its fields.

An id is the place of a record, `<8 hex of the topic's Kafka id>-<partition>-<offset>`: its own, or
that of the record that caused it, which lies in the same partition and wasn't written later.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Message

from agents.engine.recovery import reader
from agents.history.errors import Gone, HistoryError, TookTooLong
from agents.history.log import offset_at
from agents.settings import Settings
from topics import codec
from topics.broker import connect, topic_ids
from topics.catalogue import CATALOGUE
from topics.messages import as_bytes
from topics.reading import NO_PARTITION, TopicAndPartition, read_to, span_of

ID = re.compile(r"([0-9a-f]{8})-(\d{1,9})-(\d{1,18})")
SHORT = 8  # hex digits of a topic's id in a record's
FIND_S = 60.0  # for a record by its id
SKEW_MS = 5_000  # that brokers' clocks may differ by
MOST = 5_000  # records at a time


class Place(NamedTuple):
    """Where a record stands; the topic by its name in the catalogue."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it stands in its topic. `fields` are None where it can't be read."""

    place: Place
    id: str  # by its place
    log_ms: int
    key: bytes | None
    value: bytes | None
    fields: Mapping[str, Any] | None = field(default=None, repr=False)
    schema: str = ""

    @property
    def data(self) -> dict[str, Any] | None:
        """Its fields as JSON data."""
        return codec.to_json(self.schema, dict(self.fields)) if self.fields is not None else None

    @property
    def tenants(self) -> frozenset[str]:
        """Whose it is by its key and by itself: one, unless it isn't as it should be."""
        key = (self.key or b"").decode(errors="replace")
        return frozenset({key, str((self.fields or {}).get("tenant") or "")} - {""})

    @property
    def owner(self) -> str | None:
        """Whose it is; None: that isn't clear."""
        return next(iter(self.tenants)) if len(self.tenants) == 1 else None

    def of(self, tenant: str | None) -> bool:
        """Whether it is this tenant's and nobody else's; None: anybody's."""
        return tenant is None or self.tenants == {tenant}


Told = Callable[[str], None]


def parts(text: str) -> tuple[str, int, int] | None:
    """(Topic's id, partition, offset) of an id; None if it is none."""
    found = ID.fullmatch(text)
    return (found[1], int(found[2]), int(found[3])) if found is not None else None


class Finder:
    """Looks into the catalogue's topics, as they are when it is made. BrokerError.

    `told` hears now and then how far it is.
    """

    def __init__(self, settings: Settings, told: Told) -> None:
        self._settings, self._told = settings, told
        names = {settings.topic(one): one for one in CATALOGUE}
        found = topic_ids(connect(settings.librdkafka()), names)
        self.ids = {names[one]: whole[:SHORT] for one, whole in found.items()}

    def place(self, text: str) -> Place:
        """The place that an id names. HistoryError: of no topic that is here."""
        named = parts(text)
        topics = [one for one, short in self.ids.items() if named and short == named[0]]
        if named is None or not topics:
            raise HistoryError(
                f"{text}: no topic here has an id that begins so (it was made anew since, or this "
                "is another Kafka or namespace)"
            )
        return Place(topics[0], named[1], named[2])

    def at(self, place: Place) -> Record:
        """The record at a place. Gone: retention took it; HistoryError: there is none."""
        where = self._settings.topic(place.topic), place.partition
        if place.topic not in self.ids:
            raise HistoryError(f"{place}: there is no topic {where[0]}")
        consumer = reader(self._settings, "soma-history", [where], place.offset)
        try:
            low, end = self._span(consumer, place, where)
            if place.offset < low:
                raise Gone(
                    f"{place} is gone: the topic's retention removed all before offset {low}"
                )
            if place.offset >= end:
                raise HistoryError(f"{place}: there is no such record, the log ends at {end}")
            for messages in read_to(consumer, {where: place.offset + 1}):
                for one in messages:
                    if one.offset() == place.offset:
                        return self._record(place.topic, one)
        finally:
            consumer.close()
        raise HistoryError(
            f"{place}: no record stands there: it is a transaction's marker, or one that was "
            "aborted or compacted"
        )

    def caused(
        self, topic: str, name: str, cause: Record, most: int, tenant: str | None = None,
        others: list[Record] | None = None,
    ) -> list[Record]:  # fmt: skip
        """The records of a topic whose field `name` is the id of `cause`, at most so many.

        Of a tenant alone, unless it is None: others' take no room from them, and those that were
        met on the way go to `others`. TookTooLong after FIND_S.
        """
        place = self._settings.topic(topic), cause.place.partition
        start = since(self._settings, place, cause) if topic in self.ids else None
        if start is None:
            return []
        found: list[Record] = []
        for last, ones in mentions(self._settings, place, (start, None), cause.id, self._told):
            records = [self._record(topic, one) for one in ones]
            named = [one for one in records if (one.fields or {}).get(name) == cause.id]
            found += [one for one in named if one.of(tenant)]
            if others is not None:
                others += [one for one in named if not one.of(tenant)]
            if len(found) >= most or self._behind(topic, last, name, cause):
                break
        return found[:most]

    def _span(self, consumer: Consumer, place: Place, where: TopicAndPartition) -> tuple[int, int]:
        """From where to where a place's partition goes. HistoryError: the topic hasn't got it."""
        try:
            return span_of(consumer, where, self._settings.answer_timeout_s)
        except KafkaException as error:
            if error.args[0].code() not in NO_PARTITION:
                raise
            raise HistoryError(f"{place}: {where[0]} has no such partition") from None

    def _behind(self, topic: str, message: Message, name: str, cause: Record) -> bool:
        """Whether what comes is of later causes only: our writers take them in their order."""
        if "users" in CATALOGUE[topic].writers:
            return False
        fields = self._record(topic, message).fields or {}
        other, mine = parts(str(fields.get(name))), parts(cause.id)
        return other is not None and mine is not None and other[:2] == mine[:2] and other > mine

    def _record(self, topic: str, message: Message) -> Record:
        place = Place(topic, message.partition() or 0, message.offset() or 0)
        value = as_bytes(message.value())
        schema, fields = _read(value or b"", CATALOGUE[topic].schema or "")
        short = self.ids[topic]
        return Record(
            place, f"{short}-{place.partition}-{place.offset}", message.timestamp()[1],
            as_bytes(message.key()), value, fields, schema,
        )  # fmt: skip


def since(settings: Settings, place: TopicAndPartition, cause: Record) -> int | None:
    """From where on a partition has what a record caused; None: nothing is so young.

    KafkaException.
    """
    return offset_at(settings, place, max(0, cause.log_ms - SKEW_MS))


def mentions(
    settings: Settings, place: TopicAndPartition, span: tuple[int, int | None], text: str,
    told: Told,
) -> Iterator[tuple[Message, list[Message]]]:  # fmt: skip
    """The last record of each part of a span (None: to its end), and those that have an id in them.

    In Avro or in JSON. TookTooLong after FIND_S; KafkaException.
    """
    until = time.monotonic() + FIND_S
    begin, quoted = bytes([2 * len(text)]) + text.encode(), f'"{text}"'.encode()
    consumer = reader(settings, "soma-history", [place], span[0])
    try:
        high = span_of(consumer, place, settings.answer_timeout_s)[1]
        end = high if span[1] is None else min(span[1], high)
        for messages in read_to(consumer, {place: end} if end > span[0] else {}, MOST):
            values = [(one, as_bytes(one.value()) or b"") for one in messages]
            yield messages[-1], [one for one, it in values if begin in it or quoted in it]
            where, at = f"{place[0]}/{place[1]}", messages[-1].offset() or 0
            told(f"{where}: offset {at:,} of {end:,}")
            if time.monotonic() > until:
                raise TookTooLong(
                    f"{text} wasn't found in {where} within {FIND_S:g} s: from offset {span[0]:,} "
                    f"to {at:,} of {end:,}"
                )
    finally:
        consumer.close()


def _read(value: bytes, schema: str) -> tuple[str, Mapping[str, Any] | None]:
    """A value's schema and fields, in Avro or JSON; no fields: it can't be read."""
    try:
        if value[:1] == b"{" and schema:
            return schema, codec.from_json(schema, value)
        return codec.decode(value)
    except codec.BadRecord:
        return "", None
