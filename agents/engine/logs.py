"""What the broker says of a log. Called in threads, for each waits up to its deadline."""

from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition
from faust.types import TP

from agents.engine.position import Input
from agents.settings import Settings
from topics.broker import BrokerError, topic_ids
from topics.missed import Admin
from topics.reading import TopicAndPartition


def inspect(settings: Settings, admin: Admin, tp: TP, state: str) -> Input:
    """A source topic's id and a partition's offsets, and the id of the state topic.

    KafkaException, BrokerError.
    """
    answer_s = settings.answer_timeout_s
    found = ids_of(admin, [tp.topic, state], answer_s)
    for name in (tp.topic, state):
        if name not in found:
            raise BrokerError(f"topic {name} doesn't exist; `soma topics apply` creates it")
    client = Consumer(settings.librdkafka(**{"group.id": settings.prefix("soma-inspect")}))
    try:
        low, high = client.get_watermark_offsets(
            TopicPartition(tp.topic, tp.partition), timeout=answer_s
        )
    finally:
        client.close()
    return Input(found[tp.topic], low, high, found[state])


def end_of(admin: Admin, place: TopicPartition, answer_s: float) -> int:
    """Where a partition ends now, for who reads what is committed. KafkaException, TimeoutError."""
    return ends_now(admin, [place], answer_s)[place.topic, place.partition]


def ends_now(
    admin: Admin, places: Iterable[TopicPartition], answer_s: float
) -> dict[TopicAndPartition, int]:
    """Likewise, of several with one question."""
    with admin.client():  # for as long as the answer takes: another thread may renew it meanwhile
        asked = admin.ends(places, answer_s)
        return {
            (one.topic, one.partition): int(answer.result(answer_s + 1).offset)
            for one, answer in asked.items()
        }


def ids_of(admin: Admin, topics: list[str], answer_s: float) -> dict[str, str]:
    """The id of each topic that exists. KafkaException, BrokerError."""
    with admin.client() as client:
        return topic_ids(client, topics, answer_s)
