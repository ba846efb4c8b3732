"""Fair turns, allowances, held keys: what PostgreSQL chooses beside the pure law."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from agents.outbox import SHARDS
from agents.settings import Settings
from stores.names import schema_of
from stores.outbox_relay import Picked, RelayConnection, RelayConnections, Statements
from tests.live.agents.outbox.outbox import (
    TOPIC,
    Running,
    add,
    add_all,
    asked,
    header,
    made,
    queued,
)
from tests.live.helpers import eventually, read, topics_of
from tests.turns import share

MADE = (*topics_of("relay"), "cog.observations")

T = TypeVar("T")


@pytest.fixture
def ready(settings: Settings) -> Settings:
    return made(settings)


def over_a_connection(
    settings: Settings, work: Callable[[RelayConnection], Coroutine[Any, Any, T]]
) -> T:
    async def sit() -> T:
        connections = RelayConnections(
            settings.postgres(), schema_of(settings.namespace), 1, Statements()
        )
        try:
            async with connections.one() as connection:
                return await work(connection)
        finally:
            await connections.close()

    return asyncio.run(sit())


def queue_up(settings: Settings, backlogs: dict[str, int], failed: int = 0) -> None:
    """Queue rows of shard 0; of each tenant the first `failed` have failed, each of another key."""

    async def fill(connection: Any) -> None:
        await connection.execute("TRUNCATE outbox_queue")
        await connection.executemany(
            "INSERT INTO outbox_queue (shard, id, tenant_id, key_hash, created_at, status)"
            " SELECT 0, nextval('outbox_events_id_seq'), $1, g, now(),"
            " CASE WHEN g <= $3 THEN 'failed' ELSE 'pending' END FROM generate_series(1, $2) AS g",
            [(tenant, count, failed) for tenant, count in backlogs.items()],
        )

    asked(settings, fill)


def test_a_batch_is_shared_as_the_law_says(ready: Settings) -> None:
    rng = random.Random(5)
    for _ in range(12):
        tenants = [f"t{k:02}" for k in range(rng.randint(1, 30))]
        backlogs = {t: rng.choice([1, 2, 7, 40, 300]) for t in tenants}
        queue_up(ready, backlogs)
        after, places, most = rng.choice(["", "t05", "t99"]), rng.randint(30, 400), 150
        turns = sorted(backlogs, key=lambda t: (t <= after, t))

        def pick(connection: RelayConnection) -> Coroutine[Any, Any, Picked]:
            return connection.pick(0, after, places, most, [])  # noqa: B023 - called at once

        picked = over_a_connection(ready, pick)
        want = share([backlogs[t] for t in turns], places, most)
        assert {t: len(ids) for t, ids in picked.ids.items()} == dict(zip(turns, want, strict=True))
        assert (picked.last, picked.more) == (turns[-1], len(turns) == places)
        assert all(list(ids) == sorted(ids) for ids in picked.ids.values())


def test_tenants_without_allowance_have_no_turn(ready: Settings) -> None:
    queue_up(ready, {"a": 500, "b": 500, "c": 3})
    picked = over_a_connection(
        ready, lambda connection: connection.pick(0, "", 100, 100, ["a", "nobody"])
    )
    assert {t: len(ids) for t, ids in picked.ids.items()} == {"b": 97, "c": 3}
    picked = over_a_connection(ready, lambda connection: connection.pick(0, "", 2, 2, ["a", "b"]))
    assert (picked.ids, picked.last, picked.more) == ({}, "b", True)


def test_failed_rows_hold_back_later_rows_of_their_keys(ready: Settings) -> None:
    async def fill(connection: Any) -> None:
        rows = [
            (1, 7, "failed", None), (2, 7, "pending", None), (3, 8, "pending", "1 hour"),
            (4, 8, "pending", None), (5, 9, "pending", "-1 hour"), (6, 9, "pending", None),
            (0, 8, "pending", None), (7, 10, "pending", None),
        ]  # fmt: skip
        await connection.executemany(
            "INSERT INTO outbox_queue (shard, id, tenant_id, key_hash, created_at, status,"
            " next_attempt_at) VALUES (3, $1, 'a', $2, now(), $3, now() + $4::text::interval)",
            rows,
        )

    asked(ready, fill)
    picked = over_a_connection(ready, lambda connection: connection.pick(3, "", 100, 100, []))
    # 0 came late: it is before the one that waits. 5 is due, and so is 6 behind it.
    assert picked.ids == {"a": [0, 5, 6, 7]} and picked.held == []
    asked(ready, lambda c: c.execute("DELETE FROM outbox_queue WHERE id IN (0, 5, 6, 7)"))
    picked = over_a_connection(ready, lambda connection: connection.pick(3, "", 100, 100, []))
    assert picked.ids == {} and picked.held == ["a"]


def test_an_allowance_is_a_bucket_that_fills_with_time(ready: Settings) -> None:
    async def ask(connection: RelayConnection, **wanted: int) -> dict[str, int]:
        return await connection.reserve(wanted, 60)

    async def earlier(connection: Any) -> None:
        await connection.execute(
            "UPDATE outbox_buckets SET refilled_at = refilled_at - interval '30 s'"
        )

    assert over_a_connection(ready, lambda d: ask(d, a=50, b=100)) == {"a": 50, "b": 60}
    assert over_a_connection(ready, lambda d: ask(d, a=50, b=100, c=1)) == {"a": 10, "b": 0, "c": 1}
    asked(ready, earlier)
    got = over_a_connection(ready, lambda d: ask(d, a=50, b=10))
    assert 30 <= got["a"] <= 35 and got["b"] == 10


def test_relays_that_ask_at_once_dont_give_more_than_there_is(ready: Settings) -> None:
    async def all_at_once() -> int:
        connections = RelayConnections(
            ready.postgres(), schema_of(ready.namespace), 4, Statements()
        )

        async def one(k: int) -> int:
            async with connections.one() as connection:
                names = [f"t{n}" for n in range(20)]
                random.Random(k).shuffle(names)
                return sum((await connection.reserve(dict.fromkeys(names, 7), 30)).values())

        try:
            return sum(await asyncio.gather(*(one(k) for k in range(12))))
        finally:
            await connections.close()

    # 20 tenants, 30 each, and what a few seconds bring.
    assert 20 * 28 <= asyncio.run(all_at_once()) <= 20 * 30 + 20 * 5


def test_a_quota_holds_across_a_restart(topics: Settings) -> None:
    ready = made(topics, quota_per_minute=60)

    async def write(connection: Any) -> None:
        for key in "abcdefgh":  # several shards
            await add_all(connection, "acme", range(30), key)
        await add(connection, "other", 0)

    asked(ready, write)
    began = time.monotonic()
    for _ in range(2):
        with Running(ready) as running:
            eventually(lambda: queued(ready) <= 180)
            running.await_shards(SHARDS)
    sent = [message.key() for message in read(ready, TOPIC)]
    assert sent.count(b"other") == 1
    assert 60 <= sent.count(b"acme") <= 61 + (time.monotonic() - began)


def test_a_tenant_with_very_many_rows_delays_a_quiet_one_by_one_batch(topics: Settings) -> None:
    batch = 100
    ready = made(topics, batch=batch, batch_per_tenant=batch)

    async def write(connection: Any) -> None:
        shard = await connection.fetchval("SELECT outbox_shard('quiet', 'quiet')")
        key = await connection.fetchval(
            "SELECT k::text FROM generate_series(0, 999) AS k"
            " WHERE outbox_shard('big', k::text) = $1 LIMIT 1", shard,
        )  # fmt: skip
        await add_all(connection, "big", range(2000), key)
        await add(connection, "quiet", 0)

    asked(ready, write)
    with Running(ready):
        eventually(lambda: queued(ready) == 0)
    ids = sorted(
        (int(header(message, "ce_id") or 0), message.key(), message.timestamp()[1])
        for message in read(ready, TOPIC)
    )
    quiet = next(at for _, key, at in ids if key == b"quiet")
    before = sum(1 for _, key, at in ids if key == b"big" and at < quiet)
    assert len(ids) == 2001 and before <= batch
