"""Which of the outbox's events the topics hold: those of this installation's relays, by headers."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from confluent_kafka import Consumer, Message, TopicPartition

from agents.settings import Settings
from stores.outbox_reconcile import Record
from topics.messages import headers_of
from topics.reading import TopicAndPartition, offsets_at, read_to, span_of

ANSWER_S = 30.0
SILENCE_S = 60.0  # a transaction of somebody else's may hide what is behind it for so long
READ_MAX = 5_000  # records in memory
TELL_S = 5.0


@dataclass(slots=True)
class ReadProgress:
    """How far the reading is. `whole_since`: from here on no log has lost its beginning."""

    partitions: int = 0
    records: int = 0  # of all, read
    ours: int = 0
    about: int = 0  # offsets between beginning and end
    whole_since: datetime | None = None
    cut: list[str] = field(default_factory=list)  # partitions whose log begins later than asked


class SentEvents:
    """Reads topics from a time to their ends as they are now, open transactions included."""

    def __init__(
        self, settings: Settings, topics: Mapping[str, int], since: datetime | None, source: str
    ) -> None:
        """`topics`: name -> partitions. `source`: the header `ce_source` of our records."""
        self.read = ReadProgress()
        self._settings = settings
        self._source = source.encode()
        self._since = since
        self._cut: set[TopicAndPartition] = (
            set()
        )  # their first record says since when they are whole
        self._consumer = self._made("read_committed")
        self._wanted = [
            (settings.topic(name), number)
            for name, count in topics.items()
            for number in range(count)
        ]

    def records(self, told: Callable[[ReadProgress], None]) -> Iterator[list[Record]]:
        """Our records in parts; `told` hears how far it is. KafkaException."""
        said = time.monotonic()
        try:
            ends = self._place()
            for messages in read_to(self._consumer, ends, READ_MAX, silence_s=SILENCE_S):
                self._note(messages)
                found = (_record(message, self._source) for message in messages)
                ours = [one for one in found if one is not None]
                self.read.ours += len(ours)
                yield ours
                if time.monotonic() - said > TELL_S:
                    said = time.monotonic()
                    told(self.read)
        finally:
            self._consumer.close()

    def _place(self) -> dict[TopicAndPartition, int]:
        """Find beginnings, and begin to read; the ends of what there is."""
        plain = self._made("read_uncommitted")
        try:
            spans = [span_of(plain, place, ANSWER_S) for place in self._wanted]
        finally:
            plain.close()
        self.read.partitions = len(self._wanted)
        ends: dict[TopicAndPartition, int] = {}
        starts = self._starts([low for low, _ in spans])
        for place, start, (low, high) in zip(self._wanted, starts, spans, strict=True):
            if 0 < low == high:
                self._begins(int(time.time() * 1000))  # all of it is gone: who knows since when
            if not 0 <= start < high:
                continue
            if low > 0 and start <= low:
                self.read.cut.append(f"{place[0]} partition {place[1]}")
                self._cut.add(place)
            ends[place] = high
            self.read.about += high - start
        of = dict(zip(self._wanted, starts, strict=True))
        self._consumer.assign([TopicPartition(*place, of[place]) for place in ends])
        return ends

    def _starts(self, lows: list[int]) -> list[int]:
        """Where each partition is read from; -1: it has nothing so young. KafkaException."""
        if self._since is None:
            return lows
        since = int(self._since.timestamp() * 1000)
        found = offsets_at(self._consumer, self._wanted, since, ANSWER_S)
        return [-1 if (at := found[place]) is None else at for place in self._wanted]

    def _note(self, messages: list[Message]) -> None:
        self.read.records += len(messages)
        for message in messages if self._cut else ():
            place = message.topic() or "", message.partition() or 0
            if place in self._cut:
                self._cut.discard(place)
                self._begins(message.timestamp()[1])

    def _begins(self, at_ms: int) -> None:
        """What was before this time is gone from a log."""
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        self.read.whole_since = max(at, self.read.whole_since or at)

    def _made(self, isolation: str) -> Consumer:
        return Consumer(
            self._settings.librdkafka(
                **{
                    "group.id": self._settings.prefix("soma-outbox-reconcile"),
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "isolation.level": isolation,
                    "enable.partition.eof": True,
                    "queued.max.messages.kbytes": 16_384,
                }
            )
        )


def _record(message: Message, source: bytes) -> Record | None:
    """Tenant, dedupe key, id and creation of a record of ours; None for others'."""
    given = dict(headers_of(message))
    if given.get("ce_source") != source:
        return None
    tenant, key, number, at = (
        given.get(name) for name in ("tenant-id", "dedupe-key", "ce_id", "ce_time")
    )
    try:
        moment = datetime.fromisoformat(_text(at))
        return _text(tenant), _text(key), int(_text(number)), moment
    except (TypeError, ValueError):
        return None  # somebody else wrote it under our name


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError("a header without a value")
    return value.decode()
