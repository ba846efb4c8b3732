"""Reading dead letters: a range of log times, or single places, to the end as it was."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from agents.dlq.content import content_of
from agents.dlq.law import Mark, status_of, whose
from agents.dlq.letters import DlqError, LateError, Letter, Place, letter_of
from topics.broker import BrokerError, connect, topic_ids
from topics.catalogue import CATALOGUE, dlq_of
from topics.messages import as_bytes, headers_of
from topics.reading import SILENCE_S, offsets_at, read_to, span_of

if TYPE_CHECKING:
    from agents.settings import Settings

ANSWER_S = 10.0
FOREIGN = "foreign"  # stands for the reason of what isn't a letter of ours
MOST = 200  # records taken from the client at once: each may have a megabyte


@dataclass(frozen=True)
class Choice:
    """Which letters. Empty: all. Times are the log's, in milliseconds; `until` is left out."""

    topics: tuple[str, ...]  # where the records were
    reasons: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    statuses: frozenset[str] = frozenset()
    places: frozenset[Place] = frozenset()  # these alone

    def takes(self, letter: Letter, marks: Mapping[bytes, Mark]) -> bool:
        """Whether a letter, read from the range of time, is one of them."""
        if self.places and letter.place not in self.places:
            return False
        if self.reasons and (letter.reason or FOREIGN) not in self.reasons:
            return False
        if self.statuses and status_of(letter, marks) not in self.statuses:
            return False
        return not self.tenants or whose(letter, content_of(letter)) in self.tenants

    @property
    def narrow(self) -> bool:
        """Whether anything but topics is said."""
        said = (self.reasons, self.tenants, self.places, self.since_ms, self.until_ms)
        return any(one is not None and one != frozenset() for one in said)


def with_letters() -> list[str]:
    """The topics that have dead letters."""
    return [name for name in CATALOGUE if dlq_of(name) in CATALOGUE]


class LetterReader:
    """Reads letters of any topics; belongs to no group. Close it. `DlqError`."""

    def __init__(
        self, settings: "Settings", topics: Sequence[str], deadline: float | None = None
    ) -> None:
        """`deadline` (time.monotonic()): when to give up; DlqError where a topic isn't there."""
        self._settings = settings
        self._deadline = deadline
        self.topic_ids = _ids(settings, topics)
        self._consumer = Consumer(
            settings.librdkafka(
                group_id=settings.prefix("dlq"),  # never joined: assigned by hand
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",  # where the log begins, if what was first is gone
                fetch_queue_backoff_ms=10,
                fetch_wait_max_ms=50,
                queued_max_messages_kbytes=16_384,
            )
        )
        try:
            self.ends = {(t, p): self._span(t, p) for t in topics for p in self._partitions(t)}
        except KafkaException as error:
            self._consumer.close()
            raise DlqError(said(error)) from error

    def _partitions(self, topic: str) -> list[int]:
        name = self._settings.topic(dlq_of(topic))
        return sorted(self._consumer.list_topics(name, timeout=ANSWER_S).topics[name].partitions)

    def _span(self, topic: str, partition: int) -> tuple[int, int]:
        return span_of(self._consumer, (self._settings.topic(dlq_of(topic)), partition), ANSWER_S)

    def letters(self, topic: str, choice: Choice, partition: int | None = None) -> Iterator[Letter]:
        """The letters of a topic within the choice's times and places, partition by partition."""
        try:
            for (one, number), (low, end) in self.ends.items():
                if one == topic and partition in (None, number):
                    for start, stop in self._ranges(topic, number, low, end, choice):
                        yield from self._read(topic, number, start, stop)
        except KafkaException as error:
            raise DlqError(f"{dlq_of(topic)}: {said(error)}") from error

    def between(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Letter]:
        """The letters of a partition from one offset to before another. `DlqError`."""
        try:
            yield from self._read(topic, partition, start, stop)
        except KafkaException as error:
            raise DlqError(f"{dlq_of(topic)}: {said(error)}") from error

    def _ranges(
        self, topic: str, partition: int, low: int, end: int, choice: Choice
    ) -> list[tuple[int, int]]:
        """Offsets to read: from the first to the one that is left out."""
        if choice.places:
            wanted = sorted(
                place.offset
                for place in choice.places
                if place[:2] == (dlq_of(topic), partition) and low <= place.offset < end
            )
            return _joined(wanted)
        start = self._at(topic, partition, choice.since_ms, low, end)
        stop = self._at(topic, partition, choice.until_ms, end, end)
        return [(start, stop)] if start < stop else []

    def _at(self, topic: str, partition: int, ms: int | None, unsaid: int, end: int) -> int:
        """The first offset at or after a log time."""
        if ms is None:
            return unsaid
        place = self._settings.topic(dlq_of(topic)), partition
        found = offsets_at(self._consumer, [place], ms, ANSWER_S)[place]
        return end if found is None else min(found, end)

    def _read(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Letter]:
        place = self._settings.topic(dlq_of(topic)), partition
        self._consumer.assign([TopicPartition(*place, start)])
        silence_s = SILENCE_S if self._deadline is None else max(0.1, self._left())
        for messages in read_to(self._consumer, {place: stop}, MOST, silence_s=silence_s):
            self._left()
            yield from (self._letter(topic, message) for message in messages)
        self._consumer.unassign()

    def _left(self) -> float:
        """Seconds that are left; `LateError` if none are."""
        if self._deadline is None:
            return SILENCE_S
        if (left := self._deadline - time.monotonic()) <= 0:
            raise LateError("not all letters could be read in time: ask for fewer topics, or times")
        return left

    def _letter(self, topic: str, message: Message) -> Letter:
        place = Place(dlq_of(topic), message.partition() or 0, message.offset() or 0)
        return letter_of(
            place, self.topic_ids[topic], message.timestamp()[1], as_bytes(message.key()),
            as_bytes(message.value()), headers_of(message), self._settings.topic(topic),
        )  # fmt: skip

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()


def _ids(settings: "Settings", topics: Sequence[str]) -> dict[str, str]:
    """Kafka's ids of the letters' topics. `DlqError`."""
    names = {settings.topic(dlq_of(one)): one for one in topics}
    try:
        ids = topic_ids(connect(settings.librdkafka()), names)
    except BrokerError as error:
        raise DlqError(str(error)) from error
    if lacking := sorted(set(names) - set(ids)):
        listed = ", ".join(lacking)
        raise DlqError(f"the broker has no topic {listed}: create them with `soma topics apply`")
    return {one: ids[name] for name, one in names.items()}


def _joined(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges that hold these offsets, which rise: those close together are read at once."""
    ranges: list[tuple[int, int]] = []
    for offset in offsets:
        if ranges and offset - ranges[-1][1] < MOST:
            ranges[-1] = ranges[-1][0], offset + 1
        else:
            ranges.append((offset, offset + 1))
    return ranges


def said(error: KafkaException) -> str:
    """What the broker said."""
    first = error.args[0] if error.args else error
    return str(first.str() if isinstance(first, KafkaError) else first)
