"""Reading to the end as it was: whoever writes on, whatever takes offsets."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from agents.settings import Settings
from tests.live.helpers import PARTITIONS, produce
from tests.live.restless import Restless
from topics.reading import TopicAndPartition, ends_of, offsets_at, read_to

MADE = ("cog.observations",)  # topics

TOPIC = "cog.observations"


@contextmanager
def reading(settings: Settings) -> Iterator[tuple[Consumer, list[TopicAndPartition]]]:
    consumer = Consumer(
        settings.librdkafka(
            group_id="reading", enable_auto_commit=False, enable_partition_eof=True,
            auto_offset_reset="earliest", isolation_level="read_committed",
        )
    )  # fmt: skip
    places = [(settings.topic(TOPIC), number) for number in range(settings.topics_partitions)]
    consumer.assign([TopicPartition(*place, 0) for place in places])
    try:
        yield consumer, places
    finally:
        consumer.close()


def transactions(settings: Settings, name: str) -> Producer:
    producer = Producer(settings.librdkafka(transactional_id=settings.prefix(name)))
    producer.init_transactions(30)
    producer.begin_transaction()
    return producer


def test_a_writer_that_never_pauses_keeps_nobody(topics: Settings) -> None:
    with Restless(topics, [TOPIC]), reading(topics) as (consumer, places):
        time.sleep(0.5)  # let some come together
        ends = ends_of(consumer, places)
        began = time.monotonic()
        seen: dict[TopicAndPartition, list[int]] = {place: [] for place in places}
        for messages in read_to(consumer, ends):
            for message in messages:
                seen[message.topic() or "", message.partition() or 0].append(message.offset() or 0)
        assert time.monotonic() - began < 20
    for place, end in ends.items():
        assert end > 0
        assert seen[place] == sorted(seen[place])
        assert len(seen[place]) > 0 and seen[place][-1] < end


def test_markers_and_aborted_records_take_offsets(topics: Settings) -> None:
    """The last record is far before the end, and no other comes: the position decides."""
    producer = transactions(topics, "one")
    name = topics.topic(TOPIC)
    producer.produce(name, b"kept", partition=0)
    producer.commit_transaction(30)
    producer.begin_transaction()
    for _ in range(5):
        producer.produce(name, b"gone", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    with reading(topics) as (consumer, places):
        ends = ends_of(consumer, places)
        assert ends[name, 0] == 8
        found = [one.value() for messages in read_to(consumer, ends) for one in messages]
    assert found == [b"kept"]


def test_an_open_transaction_ends_what_can_be_read(topics: Settings) -> None:
    """And who wants to read beyond it hears where it stands."""
    produce(topics, TOPIC, [(b"k", b"before")], partition=0)
    producer = transactions(topics, "open")
    producer.produce(topics.topic(TOPIC), b"open", partition=0)
    producer.flush(30)
    produce(topics, TOPIC, [(b"k", b"behind")], partition=0)
    with reading(topics) as (consumer, places):
        ends = ends_of(consumer, places)
        assert ends[places[0]] == 1
        found = [one.value() for messages in read_to(consumer, ends) for one in messages]
        assert found == [b"before"]
    with reading(topics) as (consumer, places):
        beyond = {places[0]: 3}
        with pytest.raises(KafkaException, match=rf"nothing came for 2 s .*{TOPIC}/0 to offset 3"):
            list(read_to(consumer, beyond, silence_s=2.0))
    producer.abort_transaction(30)


def test_an_error_of_one_partition_isnt_taken_for_an_offset(topics: Settings) -> None:
    produce(topics, TOPIC, [(b"k", b"v")])
    with reading(topics) as (consumer, places):
        found = offsets_at(consumer, places, 0)
        assert sorted(found.values(), key=str) == [0, *[None] * (PARTITIONS - 1)]
        with pytest.raises(KafkaException, match=r"[Uu]nknown"):
            offsets_at(consumer, [*places, (topics.topic(TOPIC), 99)], 0)
