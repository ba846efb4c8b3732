"""Many wait for PostgreSQL: it is asked once for all of them, and ever more seldom."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from agents.api.projected import Positions, Projected
from agents.settings import Settings
from stores.errors import StoreDown
from stores.memory_keywords import MemoryKeywords
from tests.live.agents.projections.compare import migrated, sql

MOVE = (
    "INSERT INTO SCHEMA.projection_positions "
    "(projection, kafka_partition, generation, topic_id, next_offset) "
    "VALUES ('memories', $1, 1, 'aa', $2) ON CONFLICT (projection, kafka_partition) "
    "DO UPDATE SET next_offset = excluded.next_offset"
)
WAITERS, WAIT_S = 200, 2.0
STATEMENTS_MAX = 20  # 11 to half a second, 4 a second behind


class Counting:
    """The store, and how often it was asked."""

    def __init__(self, store: MemoryKeywords) -> None:
        self.count, self._store = 0, store

    async def ask(self) -> Positions:
        self.count += 1
        return await self._store.reached()


def on(
    dsn: str, settings: Settings, work: Callable[[Projected, Counting], Awaitable[None]]
) -> None:
    async def run() -> None:
        store = await MemoryKeywords.open(dsn, settings.namespace, "test")
        asked = Counting(store)
        projected = Projected(asked.ask)
        try:
            await work(projected, asked)
        finally:
            await projected.close()
            await store.close()

    asyncio.run(run())


def at(partition: int, offset: int) -> Callable[[Positions], bool]:
    return lambda found: found.get(partition, ("", 0))[1] >= offset


def test_statements_dont_grow_with_who_waits_and_each_is_told_in_time(settings: Settings) -> None:
    migrated(settings)
    sql(settings, MOVE, 0, 5)

    async def work(projected: Projected, asked: Counting) -> None:
        assert await projected.until(at(0, 5), time.monotonic() + WAIT_S)
        assert asked.count == 1
        deadline = time.monotonic() + WAIT_S
        late = [asyncio.create_task(projected.until(at(0, 7), deadline)) for _ in range(WAITERS)]
        soon = asyncio.create_task(projected.until(at(1, 1), deadline + 60.0))
        await asyncio.sleep(WAIT_S / 2)
        await asyncio.to_thread(sql, settings, MOVE, 1, 1)
        assert await soon and time.monotonic() < deadline
        assert await asyncio.gather(*late) == [False] * WAITERS
        assert asked.count <= STATEMENTS_MAX
        before = asked.count
        await asyncio.sleep(0.6)
        assert asked.count <= before + 1, "nobody waits"

    on(settings.postgres(), settings, work)


def test_all_who_wait_are_told_that_postgres_is_away(settings: Settings) -> None:
    async def work(projected: Projected, asked: Counting) -> None:
        deadline = time.monotonic() + 60.0
        waits = [projected.until(at(0, 1), deadline) for _ in range(5)]
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert all(isinstance(one, StoreDown) for one in found) and asked.count == 1
        with pytest.raises(StoreDown):
            await projected.until(at(0, 1), deadline)

    on("postgresql://127.0.0.1:1/nobody", settings, work)
