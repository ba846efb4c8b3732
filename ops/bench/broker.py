"""Topics of a benchmark run: made before, measured at their ends, deleted after."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import (
    IsolationLevel,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from agents.settings import Settings

PARTITIONS = 4  # unless the settings say otherwise
DEADLINE_S = 60.0
# What a broker says of a partition whose making it hasn't heard of, or not finished.
NOT_YET = (
    "UNKNOWN_TOPIC_OR_PART",
    "NOT_LEADER_FOR_PARTITION",
    "LEADER_NOT_AVAILABLE",
    "UNKNOWN_LEADER_EPOCH",
)


class Broker:
    """The broker that a benchmark runs on, and the topics that it made there."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.partitions = settings.topics_partitions or PARTITIONS
        self.admin = AdminClient(settings.librdkafka())

    def names(self) -> list[str]:
        """Every topic on the broker."""
        return list(self.admin.list_topics(timeout=30).topics)

    def create(self, *topics: str, compression: str = "producer") -> None:
        """Make topics as the catalogue would, with as many partitions and one replica."""
        config = {"message.timestamp.type": "LogAppendTime", "compression.type": compression}
        new = [NewTopic(name, self.partitions, 1, config=config) for name in topics]
        for made in self.admin.create_topics(new).values():
            made.result(30)
        self.wait(*topics)

    def wait(self, *topics: str) -> None:
        """Wait until topics just made are known everywhere, and their partitions have leaders."""
        deadline = time.monotonic() + DEADLINE_S
        for topic in topics:
            while True:
                try:
                    self.id_prefix(topic)
                    self.ends(topic)
                    break
                except KafkaException as error:
                    if error.args[0].name() not in NOT_YET or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)

    def delete(self, topics: list[str]) -> None:
        """Delete topics, and wait until they are gone."""
        for gone in self.admin.delete_topics(topics, operation_timeout=30).values():
            try:
                gone.result(30)
            except KafkaException as error:
                if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
                    raise
        deadline = time.monotonic() + DEADLINE_S
        while set(topics) & set(self.names()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the broker still has {topics}")
            time.sleep(0.05)

    @contextmanager
    def cleaned(self, *marks: str) -> Iterator[None]:
        """Delete, at the end, every topic whose name contains one of `marks`."""
        try:
            yield
        finally:
            left = [name for name in self.names() if any(mark in name for mark in marks)]
            if left:
                self.delete(left)

    def id_prefix(self, topic: str) -> str:
        """The first 8 hex digits of a topic's id, with which the ids of its records begin."""
        described = self.admin.describe_topics(TopicCollection([topic]))[topic].result(30)
        high = described.topic_id.get_most_significant_bits()  # signed, 64 bits
        return f"{(high >> 32) & 0xFFFFFFFF:08x}"

    def ends(self, topic: str) -> list[int]:
        """The last stable offset of each partition: what read_committed readers can read."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(topic, p): latest for p in range(self.partitions)}
        answers = self.admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=30
        )
        return [answers[place].result(30).offset for place in asked]
