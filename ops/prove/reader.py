"""Reading topics for the verifier: read_committed, from the first record to the last stable one."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from ops.prove.wire import Record

QUIET = {"log_level": 0}
READ_TIMEOUT_S = 60.0


def physical(namespace: str, topic: str) -> str:
    """A topic's name on the broker."""
    return f"{namespace}.{topic}" if namespace else topic


class Identity(NamedTuple):
    """What a broker says about a topic."""

    id: str  # first 8 hex digits of its Kafka id
    partitions: int


def identities(bootstrap: str, topics: Sequence[str]) -> dict[str, Identity]:
    """Each topic's Kafka id and partition count."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    futures = admin.describe_topics(TopicCollection(list(topics)), request_timeout=30)
    found = {}
    for name, future in futures.items():
        described = future.result(30)
        most = described.topic_id.get_most_significant_bits() & 0xFFFFFFFFFFFFFFFF
        found[name] = Identity(f"{most:016x}"[:8], len(described.partitions))
    return found


def consumer(bootstrap: str, topics: Sequence[str]) -> tuple[Consumer, list[TopicPartition]]:
    """A read_committed consumer at the beginning of every partition of the topics."""
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "prove-reader",  # never joined, nothing committed
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,
            **QUIET,
        }
    )
    places = []
    for topic in topics:
        described = reader.list_topics(topic, timeout=30).topics[topic]
        if described.error is not None:
            raise RuntimeError(f"{topic}: {described.error}")
        places += [TopicPartition(topic, number, 0) for number in described.partitions]
    reader.assign(places)
    return reader, places


def record_of(message: Message) -> Record:
    """A consumer's message as a plain record."""
    headers: Any = message.headers() or []
    return Record(
        message.topic() or "", message.partition() or 0, message.offset() or 0,
        message.timestamp()[1], _bytes(message.key()), _bytes(message.value()),
        tuple((name, _bytes(value) or b"") for name, value in headers),
    )  # fmt: skip


def _bytes(value: object) -> bytes | None:
    return value.encode() if isinstance(value, str) else value  # type: ignore[return-value]


def read_all(bootstrap: str, topic: str) -> Iterator[Record]:
    """Every committed record of a topic as it stands now, partitions mixed.

    The stable end is asked for first, and the position says when it is reached: others may go on
    writing, and markers of transactions take offsets too.
    """
    reader, places = consumer(bootstrap, [topic])
    idle = 0.0
    try:
        ends = {p.partition: reader.get_watermark_offsets(p, timeout=30)[1] for p in places}
        left = {number: end for number, end in ends.items() if end > 0}
        while left:
            messages = reader.consume(5000, 0.2)
            idle = 0.0 if messages else idle + 0.2
            if idle > READ_TIMEOUT_S:
                raise TimeoutError(f"{topic}: partitions {sorted(left)} don't come to their end")
            for message in messages:
                error = message.error()
                if error is None:
                    if (message.offset() or 0) < ends[message.partition() or 0]:
                        yield record_of(message)
                elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():
                    raise RuntimeError(f"{topic}: {error}")
            for at in reader.position([TopicPartition(topic, number) for number in left]):
                if at.offset >= left[at.partition]:
                    del left[at.partition]
    finally:
        reader.close()
