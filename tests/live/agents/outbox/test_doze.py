"""A writer that keeps its transaction open isn't asked for: the relay waits, and others notify."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import asyncpg
import pytest

from agents.outbox import SHARDS, doze, relay
from agents.settings import Settings
from stores.names import quoted, schema_of
from tests.live.agents.outbox.outbox import Running, add, asked, made, sequences
from tests.live.helpers import eventually, topics_of

MADE = (*topics_of("relay"), "cog.observations")

KEYS = "SELECT DISTINCT ON (outbox_shard($1, k::text)) k::text AS key FROM generate_series(1, 99) k"
LOCKS = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = $1 AND mode = $2
    AND classid = outbox_lock_class()::oid AND objid BETWEEN 100 AND 103
"""


@pytest.fixture
def ready(topics: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Nothing is found by looking into the queue every now and then."""
    monkeypatch.setattr(relay, "BEAT_S", 600.0)
    monkeypatch.setattr(doze, "IN_FLIGHT_S", 0.001)
    return made(topics)


def locks(settings: Settings, granted: bool) -> int:
    """Shards whose relay waits for its lock, or has it."""
    return asked(settings, lambda c: c.fetchval(LOCKS, granted, "ExclusiveLock"))


def added(settings: Settings, tenant: str) -> None:
    """An event of this tenant in each shard, each in a transaction of its own."""

    async def add_each(connection: Any) -> None:
        for number, row in enumerate(await connection.fetch(KEYS, tenant)):
            await add(connection, tenant, number, row["key"])

    asked(settings, add_each)


@contextmanager
def kept_open(settings: Settings, tenant: str) -> Iterator[None]:
    """A transaction that adds an event in each shard, and commits when the block ends."""
    runner = asyncio.Runner()
    with runner:
        connection = runner.run(asyncpg.connect(settings.postgres(), timeout=5.0))

        async def begin() -> None:
            await connection.execute(f"SET search_path = {quoted(schema_of(settings.namespace))}")
            await connection.execute("BEGIN")
            for number, row in enumerate(await connection.fetch(KEYS, tenant)):
                await add(connection, tenant, number, row["key"])

        runner.run(begin())
        try:
            yield
            runner.run(connection.execute("COMMIT"))
        finally:
            runner.run(connection.close(timeout=5.0))


def test_nothing_is_asked_while_a_writer_keeps_its_transaction_open(ready: Settings) -> None:
    with kept_open(ready, "slow"):
        with Running(ready) as running:
            running.await_shards(SHARDS)
            eventually(lambda: locks(ready, False) == SHARDS, what="relays that wait for it")
            time.sleep(0.5)  # the looks after that
            before = running.statements()
            time.sleep(2.0)
            assert running.statements() == before
            added(ready, "quick")
            eventually(lambda: running.count("sent") == SHARDS, what="another writer's events")
            time.sleep(0.5)
            # Of each shard: what may go, its content, off the queue, and whether there is more.
            assert running.statements() - before == 4 * SHARDS
        eventually(lambda: locks(ready, False) == 0, what="an end of the waiting")
    assert {tenant for tenant, _ in sequences(ready)} == {"quick"}


def test_a_writers_commit_wakes_those_that_waited_for_it(ready: Settings) -> None:
    with ExitStack() as stack:
        with kept_open(ready, "slow"):
            running = stack.enter_context(Running(ready))
            running.await_shards(SHARDS)
            eventually(lambda: locks(ready, False) == SHARDS, what="relays that wait for it")
        eventually(lambda: running.count("sent") == SHARDS, what="the writer's events")
        eventually(lambda: locks(ready, True) == SHARDS, what="relays that sleep")
    assert {tenant for tenant, _ in sequences(ready)} == {"slow"}
