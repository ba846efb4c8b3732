"""A consumer beside the group's reads each partition from where it is told, at any time."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from faust.types import TP

from agents.engine.aside import Aside
from agents.engine.security import security
from agents.engine.transport import POLL_S, Fetched
from agents.settings import Settings
from tests.live.helpers import produce

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
        self.aside = Aside(settings, security(settings), "tests", self.offer, self.fail)

    def offer(self, tp: TP, fetched: Fetched) -> None:
        for batch in fetched.batches:
            self.offsets[tp, fetched.tag] += range(batch.base_offset, batch.next_offset)
        self.seen[tp] = fetched.seen

    def fail(self, error: BaseException) -> None:
        raise error

    async def until(self, place: tuple[TP, int], offsets: list[int]) -> None:
        await soon(lambda: self.offsets[place] == offsets)


def one_by_one(settings: Settings, partition: int, count: int) -> None:
    """So many records, each in a batch of its own."""
    for _ in range(count):
        produce(settings, TOPIC, [(b"k", b"v")], partition)


async def reads(settings: Settings) -> None:
    heard, topic = Heard(settings), settings.topic(TOPIC)
    aside, (p0, p1) = heard.aside, (TP(topic, 0), TP(topic, 1))
    first = await aside.read_from(p0, 2)
    await heard.until((p0, first), [2, 3, 4])
    second = await aside.read_from(p1, 0)
    await heard.until((p1, second), [0, 1, 2])
    await asyncio.to_thread(one_by_one, settings, 0, 1)
    await heard.until((p0, first), [2, 3, 4, 5])  # it went on where it was
    aside.held.add(p1)
    await asyncio.sleep(2 * POLL_S)  # from the next poll on
    await asyncio.to_thread(one_by_one, settings, 1, 1)
    again = await aside.read_from(p0, 4)
    await heard.until((p0, again), [4, 5])
    assert again != first and heard.offsets[p1, second] == [0, 1, 2], "what is held isn't delivered"
    aside.held.discard(p1)
    await heard.until((p1, second), [0, 1, 2, 3])
    assert aside.ends[p1] == (4, 4)

    aside.drop([p1])
    await asyncio.to_thread(one_by_one, settings, 1, 1)
    await asyncio.to_thread(one_by_one, settings, 0, 1)
    await heard.until((p0, again), [4, 5, 6])
    assert heard.offsets[p1, second] == [0, 1, 2, 3], "what is dropped isn't read"

    await aside.read_from(p1, 99)  # where there is nothing
    await soon(lambda: p1 in aside.lost)
    back = await aside.read_from(p1, 3)
    await heard.until((p1, back), [3, 4])
    assert not aside.lost

    aside.renew("the test wants it")
    await soon(lambda: aside.lost == {p0, p1})
    last = await aside.read_from(p0, 5)
    await heard.until((p0, last), [5, 6])
    assert aside.lost == {p1}
    await aside.close()


def test_partitions_are_read_from_where_they_are_told(topics: Settings) -> None:
    one_by_one(topics, 0, 5)
    one_by_one(topics, 1, 3)
    asyncio.run(reads(topics))
