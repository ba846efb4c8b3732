"""The state of the gateway, read back: one row per partition, whole in itself.

Because each row is whole, and true of the remote whoever wrote it, owners need no fence between
them: what an overtaken one writes late can only make the next one deliver some events again, under
the same idempotency keys.
"""

from dataclasses import dataclass, field

from confluent_kafka import Message

from agents.engine.errors import UnknownVersion
from agents.engine.recovery import reader
from agents.gateway.marks import chosen
from agents.gateway.writer import STATE, STATE_KEY
from agents.settings import Settings
from topics import codec
from topics.reading import ends_of, read_to


@dataclass(frozen=True, slots=True)
class Saved:
    """What is delivered of a partition: all before `next_offset`, but for who is behind."""

    next_offset: int = 0
    behind: dict[str, int] = field(default_factory=dict)
    asleep: frozenset[str] = frozenset()  # those of them whose circuits have asked for sleep


def load(settings: Settings, partitions: set[int], topic_id: str) -> dict[int, Saved]:
    """The saved state of these partitions; from the log's beginning where there is none.

    Raises UnknownVersion; KafkaException.
    """
    last: dict[int, Message] = {}
    topic = settings.topic(STATE)
    places = [(topic, number) for number in partitions]
    consumer = reader(settings, "soma-recovery", places)
    try:
        for messages in read_to(consumer, ends_of(consumer, places)):
            for message in messages:
                if message.key() == STATE_KEY:
                    last[message.partition() or 0] = message
    finally:
        consumer.close()
    return {
        number: saved_of(last[number].value(), topic_id, f"{topic}/{number}")
        if number in last
        else Saved()
        for number in partitions
    }


def saved_of(value: str | bytes | None, topic_id: str, where: str) -> Saved:
    """A row's meaning; nothing where it speaks of another topic of that name."""
    try:
        name, row = codec.decode(value if isinstance(value, bytes) else b"")
    except codec.BadRecord as error:
        raise UnknownVersion(f"{where}: the row can't be read: {error.detail}") from error
    if name != "gateway_state" or row["version"] != 1:
        raise UnknownVersion(f"{where}: the row has version {row.get('version')} of {name!r}")
    if row["topic_id"] != topic_id:
        return Saved()
    behind = dict(row["behind"])
    asleep = row["asleep"] or b""  # fastavro makes a text of the default of bytes
    return Saved(row["next_offset"], behind, chosen(behind, asleep))
