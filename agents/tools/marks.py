"""How far each import came: the marks in the compacted topic `soma.imports`, by import."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from topics import codec
from topics.reading import RETRY_S, ends_of, read_to

if TYPE_CHECKING:
    from agents.settings import Settings

MARKS = "soma.imports"
ASK_S = 10.0
# An open transaction of another, killed import holds the partition's readers up until the broker
# aborts it: 20 s (60 s, of an older version), and it looks every 10 s.
WAIT_S = 90.0


class LedgerError(Exception):
    """Kafka didn't do what it was asked; the text says what, and why."""


class FencedError(LedgerError):
    """Somebody else has begun the same after us."""


class RefusedError(LedgerError):
    """A topic doesn't take what it was sent, nor will it: the record's size, or our rights."""


def last_mark(settings: "Settings", partition: int, key: bytes) -> Mapping[str, Any] | None:
    """The last committed mark under a key, None if there is none; `LedgerError` if unreadable."""
    found: bytes | None = None
    for messages in committed(settings, MARKS, [partition]):
        for message in messages:
            found = message.value() if message.key() == key else found
    return codec.decode(found)[1] if found is not None else None


def committed(
    settings: "Settings", topic: str, partitions: Iterable[int], wait_s: float = WAIT_S,
    since: dict[int, int] | None = None,
) -> Iterator[list[Message]]:  # fmt: skip
    """The committed records of partitions, each in order; `LedgerError` if they can't be read.

    `since`: from which offset on, by partition; in the end it is where the next call goes on.

    Reads on to where the logs end now, not only to where readers of committed records may go: a
    mark of ours that is committed may stand behind another's open transaction.
    """
    places = [(settings.topic(topic), number) for number in partitions]
    at = {} if since is None else since
    try:
        ends = _whole(settings, places)
    except KafkaException as raised:
        raise _unread(raised) from raised
    left = {place: end for place, end in ends.items() if end > at.get(place[1], 0)}
    if not left:
        return
    consumer = Consumer(
        settings.librdkafka(
            group_id=settings.prefix("imports"),  # never joined, nothing is committed
            enable_auto_commit=False,
            isolation_level="read_committed",
            enable_partition_eof=True,
            fetch_wait_max_ms=50,
        )
    )
    try:
        consumer.list_topics(settings.topic(topic), timeout=ASK_S)  # else it asks when it reads
        consumer.assign(
            [TopicPartition(*place, at.get(place[1], OFFSET_BEGINNING)) for place in left]
        )
        yield from read_to(consumer, left, silence_s=wait_s)
        at |= {number: end for (_, number), end in left.items()}
    except KafkaException as raised:
        raise _unread(raised) from raised
    finally:
        consumer.close()


def _unread(raised: KafkaException) -> LedgerError:
    return LedgerError(f"to read how far it came: {raised.args[0].str()}")


def _whole(settings: "Settings", places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Where the partitions' logs end, whatever of them is committed."""
    group, isolation = settings.prefix("imports"), "read_uncommitted"
    reader = Consumer(settings.librdkafka(group_id=group, isolation_level=isolation))
    deadline = time.monotonic() + ASK_S
    try:
        while True:
            try:
                return ends_of(reader, places, ASK_S)
            except KafkaException as raised:
                # What was made a moment ago isn't known yet to the broker that we ask.
                new = raised.args[0].code() == KafkaError._UNKNOWN_PARTITION
                if not new or time.monotonic() >= deadline:
                    raise
            time.sleep(RETRY_S)
    finally:
        reader.close()
