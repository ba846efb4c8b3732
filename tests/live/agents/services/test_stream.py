"""A stream's place in its log: nothing is passed over in silence, and lag tools see its end."""

import logging

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from prometheus_client import REGISTRY

from agents.services.read_ahead import ReadAhead
from agents.services.stream import Stream
from agents.settings import Settings
from ops.prove import proxy
from ops.prove.proxy import Proxy, Rule
from tests.live.agents.replay.helpers import make_topic
from tests.live.helpers import eventually, produce

MADE = ("memory.events",)  # topics

TOPIC = "memory.events"
FOREVER = 10**9


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


def stalled(name: str, partition: int) -> float | None:
    """For how long a partition has stood still, as /metrics has it."""
    labels = {"processor": name, "partition": str(partition)}
    return REGISTRY.get_sample_value("soma_partition_stalled_seconds", labels)


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

    def end() -> int:
        return int(admin.list_offsets({place: OffsetSpec.latest()})[place].result(30).offset)

    eventually(lambda: end() == 2, 30.0, "a record and its marker")
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
            return bool(answer.result(30).topic_partitions[0].offset == 2)

        eventually(told, 30.0, "the group's offset is the log's end")
    finally:
        stream.close()


def test_what_refuses_the_group_or_the_topic_as_a_whole_is_named(
    topics: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """No partition is to blame, and none comes; once it is over, nothing is said any more."""
    group = topics.prefix("projection.test")
    how = {"group_id": group, "partition_assignment_strategy": "cooperative-sticky"}
    other = Consumer(topics.librdkafka(**how))
    other.subscribe([topics.topic(TOPIC)])
    eventually(lambda: other.poll(0.1) or other.assignment(), 30.0, "the other has the partitions")
    one, lacks = (Stream(topics, "test", name, ReadAhead()) for name in (TOPIC, "not.made"))
    try:
        said = f"the broker refuses the group {group}: "
        eventually(lambda: one.read(1, 0.05) or one.troubles.startswith(said), 30.0, said)
        assert "nconsistent" in one.troubles
        other.close()
        assert placed(one, 0, 0) == 0 and one.troubles == ""
        said = f"there is no topic {topics.topic('not.made')}: `soma topics apply` makes it"
        eventually(lambda: lacks.read(1, 0.05) or lacks.troubles == said, 30.0, said)
        assert [one.getMessage() for one in caplog.records].count(f"test: {said}") == 1
        make_topic(topics, "not.made")
        eventually(lambda: lacks.read(1, 0.05) or not lacks.troubles, 60.0, "it is there")
    finally:
        other.close()
        one.close()
        lacks.close()


@pytest.mark.parametrize(
    "rule",
    [
        Rule(proxy.FETCH, "", FOREVER, lost=True, until=proxy.LEAVE_GROUP),
        Rule(proxy.FETCH, "", FOREVER, until=proxy.LEAVE_GROUP),
    ],
    ids=["asks-nobody", "hears-nothing"],
)
def test_a_client_that_fetches_nothing_is_replaced(
    topics: Settings, caplog: pytest.LogCaptureFixture, rule: Rule
) -> None:
    with Proxy(topics.kafka_bootstrap) as between:
        behind = {"kafka_bootstrap": between.address, "stalled_after_s": 2.0}
        read_ahead = ReadAhead()
        stream = Stream(topics.model_copy(update=behind), "test", TOPIC, read_ahead)
        try:
            produce(topics, TOPIC, [(b"k", b"x")] * 3, partition=0)
            assert placed(stream, 0, 0) == 0
            assert offsets(stream, read_ahead, 3) == [0, 1, 2]
            between.rule(rule)
            eventually(lambda: stream.read(100, 0.05) or rule.hits, 30.0, "it asks for more")
            produce(topics, TOPIC, [(b"k", b"x")] * 2, partition=0)
            stood = f"test {topics.topic(TOPIC)}/0"

            def named() -> bool:
                stream.read(100, 0.05)
                return stream.stopped == {stood: "stalled"}

            eventually(named, 30.0, "what stands still is named")
            assert stalled("test", 0) >= 2.0
            assert not read_ahead.records()
            assert placed(stream, 0, 3) == 3
            assert offsets(stream, read_ahead, 2) == [3, 4]
            said = f"test stands still: the broker has {topics.topic(TOPIC)}/0 from 3 to 5"
            assert [said in record.getMessage() for record in caplog.records].count(True) == 1
            eventually(lambda: stream.read(100, 0.05) or not stream.stopped, 30.0, "all is well")
            assert stalled("test", 0) == 0.0
        finally:
            stream.close()


def test_a_client_that_has_fallen_out_of_its_group_is_replaced(
    topics: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """It has no partitions then, as one has that others left none: only the group tells."""
    with Proxy(topics.kafka_bootstrap) as between:
        behind = {"kafka_bootstrap": between.address, "stalled_after_s": 2.0}
        read_ahead = ReadAhead()
        alone = between.rule(Rule(proxy.JOIN_GROUP, "", lost=True))  # it waits 5 min for an answer
        stream = Stream(topics.model_copy(update=behind), "test", TOPIC, read_ahead)
        try:
            produce(topics, TOPIC, [(b"k", b"x")] * 3, partition=0)
            assert placed(stream, 0, 0) == 0
            assert offsets(stream, read_ahead, 3) == [0, 1, 2]
            assert alone.hits == 1
            assert "test stands still" in caplog.text
        finally:
            stream.close()
