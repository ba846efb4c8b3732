"""The hash against librdkafka's own, on a real broker."""

import random
from collections.abc import Iterator

import pytest
from confluent_kafka import Message, Producer

from agents.settings import Settings
from topics.partition import partition_of

MADE = ("cog.observations",)

TOPIC = "cog.observations"
KEYS = 3000


@pytest.fixture
def keys() -> list[bytes]:
    rng = random.Random(11)
    fixed = [b"a", b"tenant", "mieć-ö-数".encode(), b"\xff\xfe\x80", b"\x00" * 7]
    return fixed + [rng.randbytes(rng.randint(1, 40)) for _ in range(KEYS)]


def placed(settings: Settings, keys: list[bytes], partitioner: str) -> Iterator[tuple[bytes, int]]:
    """Where librdkafka puts these keys."""
    found: list[tuple[bytes, int]] = []

    def delivered(error: object, message: Message) -> None:
        assert error is None
        found.append((message.key(), message.partition()))

    producer = Producer(settings.librdkafka(partitioner=partitioner, linger_ms=20))
    for key in keys:
        producer.produce(settings.topic(TOPIC), key=key, value=b"x", on_delivery=delivered)
    assert producer.flush(30) == 0
    yield from found


def test_librdkafka_s_murmur2_puts_every_key_where_we_do(
    topics: Settings, keys: list[bytes]
) -> None:
    n = topics.topics_partitions
    assert n
    wrong = [
        k for k, place in placed(topics, keys, "murmur2_random") if place != partition_of(k, n)
    ]
    assert wrong == []


def test_librdkafka_s_default_puts_most_keys_elsewhere(topics: Settings, keys: list[bytes]) -> None:
    """Why the engine forwards: a careless producer is wrong for three of four tenants."""
    n = topics.topics_partitions
    assert n
    wrong = [
        k for k, place in placed(topics, keys, "consistent_random") if place != partition_of(k, n)
    ]
    assert len(wrong) > len(keys) / 2
