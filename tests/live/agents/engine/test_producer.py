"""A transaction whose owner is another by now ends as fenced, wherever that is heard."""

import asyncio
import gc
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from agents.engine.builder import RawBuilder
from agents.engine.errors import Fenced, Refused
from agents.engine.producer import Transactions
from agents.engine.records import frame_one
from agents.settings import Settings
from tests.live.helpers import produce, read
from topics.broker import alter

MADE = ("cog.segments", "cog.next.events")  # topics


def test_an_owner_that_is_fenced_between_two_batches_says_so(topics: Settings) -> None:
    """The second topic was made after it began: the first one's refusal comes before its leader."""
    first, second = topics.topic("cog.segments"), topics.prefix("made.later")

    def batch(topic: str) -> tuple[str, int, RawBuilder]:
        return topic, 0, RawBuilder(frame_one(0, b"k", b"v", []), 1)

    admin = AdminClient(topics.librdkafka())

    async def fenced() -> None:
        ours, other = (
            Transactions(topics.bootstrap(), topics.prefix("fenced-between"), {}) for _ in range(2)
        )
        try:
            await ours.start()
            await ours.commit([batch(first)])
            admin.create_topics([NewTopic(second, 1, 1)])[second].result(30)
            await other.start()
            with pytest.raises(Fenced):
                await ours.commit([batch(first), batch(second)])
            await other.commit([batch(first), batch(second)])
        finally:
            await ours.stop()
            await other.stop()

    asyncio.run(fenced())


def test_when_several_batches_fail_asyncio_has_nothing_to_add(topics: Settings) -> None:
    """Fenced while it sends to all partitions: one error, which says it."""
    unheard: list[dict[str, Any]] = []
    topic, count = topics.topic("cog.segments"), topics.topics_partitions
    batches = [
        (topic, number, RawBuilder(frame_one(0, b"k", b"v", []), 1)) for number in range(count)
    ]

    async def fenced() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, said: unheard.append(said))
        ours, other = (
            Transactions(topics.bootstrap(), topics.prefix("fenced-amid"), {}) for _ in range(2)
        )
        try:
            await ours.start()
            await other.start()
            with pytest.raises(Fenced):
                await ours.commit(batches)
        finally:
            await ours.stop()
            await other.stop()

    asyncio.run(fenced())
    gc.collect()
    assert not unheard


def test_a_transaction_begins_when_the_last_ones_markers_are_written(topics: Settings) -> None:
    async def twice() -> None:
        one = Transactions(topics.bootstrap(), topics.prefix("paced"), {})
        try:
            await one.start()
            assert one.unready_s() == 0.0
            topic = topics.topic("cog.segments")
            await one.commit([(topic, 0, RawBuilder(frame_one(0, b"k", b"v", []), 1))])
            assert 0.0 < one.unready_s() <= 0.015
        finally:
            await one.stop()

    asyncio.run(twice())


def test_what_is_refused_is_named_and_holds_up_no_reader(topics: Settings) -> None:
    """Both batches are in one transaction; nobody takes the id again that would end it."""
    first, second = topics.topic("cog.segments"), topics.topic("cog.next.events")
    alter(AdminClient(topics.librdkafka()), second, {"max.message.bytes": "200"})

    async def commit() -> None:
        one = Transactions(topics.bootstrap(), topics.prefix("refused"), {})
        try:
            await one.start()
            sends = [(first, b"small"), (second, bytes(range(256)))]
            with pytest.raises(Refused, match=rf"{second}/0: records larger than it takes"):
                await one.commit([
                    (topic, 0, RawBuilder(frame_one(0, b"k", value, []), 1))
                    for topic, value in sends
                ])  # fmt: skip
        finally:
            await one.stop()

    asyncio.run(commit())
    produce(topics, "cog.segments", [(b"k", b"later")], partition=0)
    assert [found.value() for found in read(topics, "cog.segments")] == [b"later"]
