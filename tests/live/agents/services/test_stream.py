"""A stream's place in its log: nothing is passed over in silence, and lag tools see its end."""

import logging

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from agents.gateway.read_ahead import ReadAhead
from agents.services.stream import Stream
from agents.settings import Settings
from tests.live.helpers import eventually, produce

TOPIC = "memory.events"


def placed(stream: Stream, partition: int, offset: int) -> int:
    """Where the partition begins, once it has been placed."""
    found: list[int] = []

    def done() -> bool:
        stream.read(100, 0.05)
        if not found and partition in stream.unplaced:
            at = stream.place(partition, offset)
            found.extend([] if at is None else [at])
        return bool(found)

    eventually(done, 30.0, "the partition is placed")
    return found[0]


def offsets(stream: Stream, read_ahead: ReadAhead, count: int) -> list[int | None]:
    def come() -> bool:
        stream.read(100, 0.05)
        return len(read_ahead.records()) >= count

    eventually(come, 30.0, f"{count} records come")
    return [message.offset() for message in read_ahead.messages()]


def test_what_was_deleted_while_it_paused_is_named(
    topics: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    produce(topics, TOPIC, [(b"k", b"x")] * 10, partition=0)
    read_ahead = ReadAhead()
    stream = Stream(topics, "test", TOPIC, read_ahead)
    try:
        assert placed(stream, 0, 2) == 2
        assert offsets(stream, read_ahead, 8) == [*range(2, 10)]
        stream.pause()
        produce(topics, TOPIC, [(b"k", b"x")] * 10, partition=0)
        name = topics.topic(TOPIC)
        admin = AdminClient(topics.librdkafka())  # an answer comes while it lives
        asked = admin.delete_records([TopicPartition(name, 0, 15)])
        assert [one.result(30).low_watermark for one in asked.values()] == [15]
        stream.resume()
        with caplog.at_level(logging.ERROR):
            assert placed(stream, 0, 10) == 15
        assert "the store is at offset 10, the log has 15 to 20: going on at 15" in caplog.text
        assert offsets(stream, read_ahead, 5) == [*range(15, 20)]
    finally:
        stream.close()


def test_the_group_is_told_of_markers_too(topics: Settings) -> None:
    producer = Producer(topics.librdkafka(transactional_id=topics.prefix("one")))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topics.topic(TOPIC), b"x", partition=0)
    producer.commit_transaction(30)
    read_ahead, admin = ReadAhead(), AdminClient(topics.librdkafka())
    place = TopicPartition(topics.topic(TOPIC), 0)
    end = admin.list_offsets({place: OffsetSpec.latest()})[place].result(30).offset
    assert end == 2, "a record and its marker"
    stream = Stream(topics, "test", TOPIC, read_ahead)
    try:
        assert placed(stream, 0, 0) == 0
        assert offsets(stream, read_ahead, 1) == [0]

        def told() -> bool:
            stream.read(100, 0.05)
            stream.done({0: 1})
            (answer,) = admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(topics.prefix("projection.test"), [place])]
            ).values()
            return bool(answer.result(30).topic_partitions[0].offset == end)

        eventually(told, 30.0, "the group's offset is the log's end")
    finally:
        stream.close()
