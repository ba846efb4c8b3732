"""The state of the gateway, read back: one row per partition, whole in itself.

Before an owner reads it, it puts a mark into the partition (`GatewayWriter.claim`); the mark's
offset tells its rows from those of others, and of these the last one of the latest owner counts.
So what an overtaken one writes late is passed over; and it asks nobody to sleep (`sleepers.py`).
What it delivers late is there twice for the remote, under the same idempotency keys.
"""

from dataclasses import dataclass, field, replace

from confluent_kafka import Message

from agents.engine.errors import UnknownVersion
from agents.engine.recovery import reader
from agents.gateway.marks import chosen
from agents.gateway.writer import OWNER, STATE, STATE_KEY
from agents.settings import Settings
from topics import codec
from topics.messages import headers_of
from topics.reading import ends_of, read_to


@dataclass(frozen=True, slots=True)
class Saved:
    """What is delivered of a partition: all before `next_offset`, but for who is behind."""

    next_offset: int = 0
    behind: dict[str, int] = field(default_factory=dict)
    asleep: frozenset[str] = frozenset()  # those of them whose circuits have asked for sleep
    end: int = 0  # of the rows' log: where the next one comes to stand


def load(settings: Settings, partitions: set[int], topic_id: str) -> dict[int, Saved]:
    """The saved state of these partitions; from the log's beginning where there is none.

    Raises UnknownVersion; KafkaException.
    """
    last: dict[int, Message] = {}
    topic = settings.topic(STATE)
    places = [(topic, number) for number in partitions]
    consumer = reader(settings, "soma-recovery", places)
    try:
        ends = ends_of(consumer, places)
        for messages in read_to(consumer, ends):
            for message in messages:
                number = message.partition() or 0
                if message.key() == STATE_KEY and (
                    number not in last or owner_of(message) >= owner_of(last[number])
                ):
                    last[number] = message
    finally:
        consumer.close()
    found = {}
    for number in partitions:
        row, where = last.get(number), f"{topic}/{number}"
        saved = Saved() if row is None else saved_of(row.value(), topic_id, where)
        found[number] = replace(saved, end=ends[topic, number])
    return found


def owner_of(message: Message) -> int:
    """Whose row it is: where its owner's mark stands. One of before there were any is its own."""
    said = dict(headers_of(message)).get(OWNER)
    return int(said) if said is not None else message.offset() or 0


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
