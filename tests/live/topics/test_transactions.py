"""Open transactions as the broker tells of them, and their end by hand."""

import asyncio
import time

import pytest
from confluent_kafka import KafkaException, Producer

from agents.engine.security import security
from agents.settings import Settings
from tests.live.helpers import eventually, produce, read
from topics import transactions
from topics.broker import BrokerError
from topics.transactions import Open

MADE = ("cog.observations", "memory.events")  # topics

TOPIC = "cog.observations"


def opened(settings: Settings, name: str, partition: int = 1) -> Producer:
    producer = Producer(settings.librdkafka(transactional_id=settings.prefix(name)))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(settings.topic(TOPIC), b"open", partition=partition)
    assert producer.flush(30) == 0
    return producer


def looked(settings: Settings) -> list[Open]:
    names = [settings.topic(TOPIC), settings.topic("memory.events")]
    return asyncio.run(transactions.look(settings.bootstrap(), security(settings), names))


def test_an_open_one_is_told_with_its_producer_and_its_beginning(topics: Settings) -> None:
    assert looked(topics) == []
    produce(topics, TOPIC, [(b"k", b"before")] * 3, partition=1)
    began = time.time() * 1000
    producer = opened(topics, "foreign")
    (one,) = looked(topics)
    assert (one.topic, one.partition, one.first_offset) == (topics.topic(TOPIC), 1, 3)
    assert (one.transactional_id, one.timeout_ms) == (topics.prefix("foreign"), 60_000)
    assert abs(one.since_ms - began) < 20_000
    producer.commit_transaction(30)
    eventually(lambda: looked(topics) == [])


def test_one_with_an_id_is_ended_by_its_coordinator(topics: Settings) -> None:
    producer = opened(topics, "foreign")
    produce(topics, TOPIC, [(b"k", b"behind")], partition=1)
    assert read(topics, TOPIC) == []
    transactions.fence(topics.librdkafka(), looked(topics)[0].transactional_id)
    eventually(lambda: looked(topics) == [])
    assert [message.value() for message in read(topics, TOPIC)] == [b"behind"]
    with pytest.raises(KafkaException, match=r"fenced|newer producer"):
        producer.commit_transaction(30)


def test_a_marker_ends_one_in_its_partition(topics: Settings) -> None:
    """As it must be done where no broker coordinates it any more."""
    producer = opened(topics, "foreign")
    produce(topics, TOPIC, [(b"k", b"behind")], partition=1)
    (one,) = looked(topics)
    asyncio.run(transactions.abort(topics.bootstrap(), security(topics), one))
    assert looked(topics) == []
    assert [message.value() for message in read(topics, TOPIC)] == [b"behind"]
    producer.abort_transaction(30)


def test_no_broker_is_one_clear_error() -> None:
    with pytest.raises(BrokerError, match=r"Kafka at 127.0.0.1:1 was asked about open trans"):
        asyncio.run(transactions.look("127.0.0.1:1", {}, [TOPIC]))
