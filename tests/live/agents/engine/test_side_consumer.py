"""A consumer beside the group's reads each partition from where it is told, at any time."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from faust.types import TP

from agents.engine.security import security
from agents.engine.side_consumer import SideConsumer
from agents.engine.transport import POLL_S, Fetched
from agents.settings import Settings
from ops.prove import proxy
from ops.prove.proxy import Proxy, Rule
from tests.live.helpers import produce
from topics.connection import tasks_of

MADE = ("memory.events",)  # topics

TOPIC = "memory.events"


async def soon(condition: Callable[[], bool]) -> None:
    """Until it is true; TimeoutError after 20 s."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


class Heard:
    """What was offered, by tag: the offsets of the batches."""

    def __init__(self, settings: Settings) -> None:
        self.offsets: dict[tuple[TP, int], list[int]] = defaultdict(list)
        self.seen: dict[TP, int] = {}
        self.consumer = SideConsumer(settings, security(settings), "tests", self.offer, self.fail)

    def offer(self, tp: TP, fetched: Fetched) -> None:
        for batch in fetched.batches:
            self.offsets[tp, fetched.tag] += range(batch.base_offset, batch.next_offset)
        self.seen[tp] = fetched.seen

    def fail(self, error: BaseException) -> None:
        raise error

    async def close(self) -> None:
        """Nothing of any of its clients goes on behind it."""
        await self.consumer.close()
        await soon(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    async def until(self, place: tuple[TP, int], offsets: list[int]) -> None:
        await soon(lambda: self.offsets[place] == offsets)


def one_by_one(settings: Settings, partition: int, count: int) -> None:
    """So many records, each in a batch of its own."""
    for _ in range(count):
        produce(settings, TOPIC, [(b"k", b"v")], partition)


async def reads(settings: Settings) -> None:
    heard, topic = Heard(settings), settings.topic(TOPIC)
    consumer, (p0, p1) = heard.consumer, (TP(topic, 0), TP(topic, 1))
    first = await consumer.read_from(p0, 2)
    await heard.until((p0, first), [2, 3, 4])
    second = await consumer.read_from(p1, 0)
    await heard.until((p1, second), [0, 1, 2])
    await asyncio.to_thread(one_by_one, settings, 0, 1)
    await heard.until((p0, first), [2, 3, 4, 5])  # it went on where it was
    consumer.held.add(p1)
    await asyncio.sleep(2 * POLL_S)  # from the next poll on
    await asyncio.to_thread(one_by_one, settings, 1, 1)
    again = await consumer.read_from(p0, 4)
    await heard.until((p0, again), [4, 5])
    assert again != first and heard.offsets[p1, second] == [0, 1, 2], "what is held isn't delivered"
    consumer.held.discard(p1)
    await heard.until((p1, second), [0, 1, 2, 3])
    assert consumer.ends[p1] == (4, 4)

    consumer.drop([p1])
    await asyncio.to_thread(one_by_one, settings, 1, 1)
    await asyncio.to_thread(one_by_one, settings, 0, 1)
    await heard.until((p0, again), [4, 5, 6])
    assert heard.offsets[p1, second] == [0, 1, 2, 3], "what is dropped isn't read"

    await consumer.read_from(p1, 99)  # where there is nothing
    await soon(lambda: p1 in consumer.lost)
    back = await consumer.read_from(p1, 3)
    await heard.until((p1, back), [3, 4])
    assert not consumer.lost

    consumer.renew("the test wants it")
    await soon(lambda: consumer.lost == {p0, p1})
    last = await consumer.read_from(p0, 5)
    await heard.until((p0, last), [5, 6])
    assert consumer.lost == {p1}
    await heard.close()


def test_partitions_are_read_from_where_they_are_told(topics: Settings) -> None:
    one_by_one(topics, 0, 5)
    one_by_one(topics, 1, 3)
    asyncio.run(reads(topics))


async def let_go(between: Proxy, settings: Settings) -> None:
    heard, p0 = Heard(settings), TP(settings.topic(TOPIC), 0)
    silent = between.rule(Rule(proxy.METADATA, "soma-tests", 10**9))
    beginning = [asyncio.create_task(heard.consumer.read_from(p0, 0)) for _ in range(2)]
    await soon(lambda: silent.hits > 0)
    for task in beginning:
        task.cancel()
    found = await asyncio.wait_for(asyncio.gather(*beginning, return_exceptions=True), 5.0)
    assert [type(one) for one in found] == [asyncio.CancelledError] * 2
    heard.consumer.drop([p0])
    between.free()
    await heard.until((p0, await heard.consumer.read_from(p0, 1)), [1, 2])
    await heard.close()


def test_a_partition_that_is_taken_away_while_its_client_starts_leaves_nothing_behind(
    topics: Settings,
) -> None:
    one_by_one(topics, 0, 3)
    with Proxy(topics.bootstrap()) as between:
        asyncio.run(let_go(between, topics.model_copy(update={"kafka_bootstrap": between.address})))


async def without(settings: Settings, name: str) -> None:
    heard, p0, p1 = Heard(settings), *(TP(settings.topic(TOPIC), n) for n in (0, 1))
    consumer = heard.consumer
    first = await consumer.read_from(p0, 0)
    await heard.until((p0, first), [0, 1, 2])
    client: Any = consumer._consumer
    tasks_of(client)[name].cancel()
    await soon(lambda: consumer.lost == {p0})
    second, other = await consumer.read_from(p0, 2), await consumer.read_from(p1, 0)
    await heard.until((p0, second), [2])
    await heard.until((p1, other), [0])
    assert consumer._consumer is not client and not consumer.lost
    await heard.close()


@pytest.mark.parametrize("name", ["metadata", "fetcher"])
def test_a_client_of_which_a_task_has_ended_is_given_up_for_another(
    topics: Settings, name: str
) -> None:
    one_by_one(topics, 0, 3)
    one_by_one(topics, 1, 1)
    asyncio.run(without(topics, name))
