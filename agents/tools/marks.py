"""How far each import came: the marks in the compacted topic `soma.imports`, by import."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from topics import codec
from topics.reading import UNSETTLED, read_to

if TYPE_CHECKING:
    from agents.settings import Settings

MARKS = "soma.imports"
ASK_S = 10.0
# An open transaction of another, killed import holds the partition's readers up until the broker
# aborts it: 20 s (60 s, of an older version), and it looks every 10 s.
WAIT_S = 90.0
POLL_S = 0.2


class LedgerError(Exception):
    """Kafka didn't do what it was asked; the text says what, and why."""


def last_mark(settings: "Settings", partition: int, key: bytes) -> Mapping[str, Any] | None:
    """The last committed mark under a key, None if there is none; `LedgerError` if unreadable.

    Reads on to where the log ends now, not only to where readers of committed records may go: a
    mark of ours that is committed may stand behind another's open transaction.
    """
    place = TopicPartition(settings.topic(MARKS), partition, OFFSET_BEGINNING)
    end = _end(settings, place)
    consumer = Consumer(
        settings.librdkafka(
            group_id=settings.prefix("imports"),  # never joined, nothing is committed
            enable_auto_commit=False,
            isolation_level="read_committed",
            enable_partition_eof=True,
            fetch_wait_max_ms=50,
        )
    )
    found: bytes | None = None
    try:
        consumer.assign([place])
        for messages in read_to(consumer, {(place.topic, partition): end}, silence_s=WAIT_S):
            for message in messages:
                found = message.value() if message.key() == key else found
    except KafkaException as raised:
        raise LedgerError(f"to read how far it came: {raised.args[0].str()}") from raised
    finally:
        consumer.close()
    return codec.decode(found)[1] if found is not None else None


def _end(settings: "Settings", place: TopicPartition) -> int:
    """Where the partition's log ends, whatever of it is committed."""
    admin = AdminClient(settings.librdkafka())
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(place.topic, place.partition): latest}
    deadline = time.monotonic() + ASK_S
    while True:
        answers = admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ASK_S
        )
        try:
            return int(next(iter(answers.values())).result().offset)
        except KafkaException as raised:
            error: KafkaError = raised.args[0]
            if error.code() not in UNSETTLED or time.monotonic() >= deadline:
                raise LedgerError(f"to read how far it came: {error.str()}") from raised
        time.sleep(POLL_S)
