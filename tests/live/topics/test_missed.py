"""A client that hears nothing though the broker has something: another one shows it, in time."""

from confluent_kafka import TopicPartition

from agents.engine.logs import end_of
from agents.settings import Settings
from tests.live.helpers import eventually, produce
from topics.missed import Admin, Missed

MADE = ("memory.events",)

TOPIC = "memory.events"
AFTER_S = 1.0


def test_who_stands_still_before_the_end_is_told_once_and_then_more_rarely(
    topics: Settings,
) -> None:
    missed, name = Missed(topics.librdkafka(), AFTER_S), topics.topic(TOPIC)
    produce(topics, TOPIC, [(b"k", b"x")] * 3, partition=1)
    reached = {(name, 0): 0, (name, 1): 1}
    told: list[str] = []

    def looked() -> list[str]:
        if missed.due and (said := missed.look(reached)):
            told.append(said)
        return told

    eventually(looked, 30.0, "what stands still is told")
    assert told == [f"{name}/1 from 1 to 3"], "and what is at its end isn't"
    assert missed.stalled == {(name, 1)}
    assert missed.waits[name, 1] >= AFTER_S
    eventually(lambda: looked()[1:], 30.0, "it is told again")
    assert missed.waits[name, 1] >= 2 * AFTER_S
    reached[name, 1] = 3
    eventually(lambda: looked() and not missed.stalled, 30.0, "it got on")
    assert len(told) == 2


def test_where_no_broker_answers_nothing_is_told() -> None:
    missed = Missed(Settings(kafka_bootstrap="127.0.0.1:1").librdkafka(), AFTER_S)
    looks = 0

    def looked() -> bool:
        nonlocal looks
        if missed.due:
            looks += 1
            assert not missed.look({("t", 0): -1})
        return looks > 12

    eventually(looked, 60.0, "it has looked for longer than it waits for an answer")
    assert not missed.stalled


def test_one_client_asks_again_and_again_until_it_is_to_be_replaced(topics: Settings) -> None:
    admin, place = Admin(topics.librdkafka()), TopicPartition(topics.topic(TOPIC), 1)
    produce(topics, TOPIC, [(b"k", b"x")] * 3, partition=1)
    used = []
    for _ in range(20):
        assert end_of(admin, place, 10.0) == 3
        with admin.client() as client:
            used.append(client)
    assert all(client is used[0] for client in used), "one that is idle is taken again"
    admin.renew()
    with admin.client() as client:
        assert client is not used[0]
