"""The outbox's limits on pending events, and how a sleeping relay is woken."""

import asyncio
from typing import Any

import asyncpg
import pytest

from agents.settings import Settings
from stores.names import schema_of
from stores.outbox_relay import RelayConnections, Statements
from stores.outbox_sql import RECOUNT
from stores.outbox_tenants import TenantOutbox
from tests.live.stores.outbox import TOPIC, add, many, refused, run

LIMIT = "INSERT INTO outbox_limits VALUES ($1, $2)"
SLEEP = "SELECT pg_try_advisory_lock(outbox_lock_class(), 100 + $1)"
WAKE = "SELECT pg_advisory_unlock(outbox_lock_class(), 100 + $1)"
PENDING = "SELECT count(*) FROM outbox_queue WHERE tenant_id = $1 AND status = 'pending'"


def test_many_sessions_stop_near_the_limit(settings: Settings) -> None:
    async def test(*sessions: Any) -> None:
        limit = 2000
        await sessions[0].execute(LIMIT, "a", limit)

        async def fill(session: Any, name: int) -> int:
            for n in range(2 * limit):
                if await refused(session, "a", f"{name}-{n}"):
                    return n
            raise AssertionError("never refused")

        added = await asyncio.gather(*(fill(s, k) for k, s in enumerate(sessions)))
        pending = await sessions[0].fetchval(PENDING, "a")
        assert pending == sum(added)
        # One add in 31 counts when it is near: beyond 15 % once in ten thousand runs, and never
        # beyond twice the limit.
        assert limit <= pending <= 1.15 * limit
        assert not await refused(sessions[0], "b", "k"), "others go on"

    run(settings, 4, test)


def test_a_batch_counts_too(settings: Settings) -> None:
    async def test(one: Any) -> None:
        await one.execute(LIMIT, "a", 1000)
        with pytest.raises(asyncpg.PostgresError) as error:
            for k in range(100):
                await many(one, "a", [f"{k}-{n}" for n in range(100)])
        assert error.value.sqlstate == "SO001"
        assert 1000 <= await one.fetchval(PENDING, "a") <= 1400

    run(settings, 1, test)


def test_no_batch_goes_beyond_twice_the_limit(settings: Settings) -> None:
    async def test(one: Any) -> None:
        await one.execute(LIMIT, "a", 5)
        await one.execute(LIMIT, "b", 1000)
        for tenant, size, end in (("a", 100, 0), ("a", 8, 8), ("a", 1, 8), ("b", 8000, 0),
                                  ("b", 700, 700), ("b", 1301, 700), ("b", 1300, 2000),
                                  ("b", 1, 2000)):  # fmt: skip
            fits = end - await one.fetchval(PENDING, tenant) == size
            try:
                await many(one, tenant, [f"{size}-{n}" for n in range(size)])
            except asyncpg.PostgresError as error:
                assert error.sqlstate == "SO001" and f" tenant {tenant} " in str(error)
                assert not fits, (tenant, size, error)
            assert await one.fetchval(PENDING, tenant) == end, (tenant, size)

    run(settings, 1, test)


def test_batches_of_other_tenants_dont_use_up_ones_room(settings: Settings) -> None:
    async def test(one: Any) -> None:
        await one.execute(LIMIT, "a", 10)
        for k in range(5):
            await many(one, "b", [f"{k}-{n}" for n in range(100)])
            await many(one, "a", [f"{k}"])
        assert await one.fetchval(PENDING, "a") == 5

    run(settings, 1, test)


def test_a_repetition_is_answered_at_the_limit_too(settings: Settings) -> None:
    async def test(one: Any) -> None:
        said: list[Any] = []
        one.add_log_listener(lambda _, message: said.append(message.sqlstate))
        await one.execute(LIMIT, "a", 2)
        first, second = await add(one, "k1"), await add(one, "k2")
        assert await refused(one, "a", "k3")
        assert await add(one, "k1") == first and not said
        assert await add(one, "k2", payload='{"x": 1}') == second and said == ["SO002"]
        rows = await many(one, "a", ["k2", "k1", "k2"])
        assert [(row["id"], row["duplicate"]) for row in rows] == [
            (second, True), (first, True), (second, True)
        ]  # fmt: skip
        with pytest.raises(asyncpg.PostgresError, match="its limit"):
            await many(one, "a", ["k1", "k3"])
        assert await one.fetchval(PENDING, "a") == 2

    run(settings, 1, test)


def test_one_that_counted_and_stays_open_holds_up_nobody(settings: Settings) -> None:
    async def test(one: Any, two: Any, relay: Any) -> None:
        await one.execute(LIMIT, "a", 10)
        await one.execute("BEGIN")
        await add(one, "open")  # counts, as each of so few does
        await two.execute("SET lock_timeout = '300ms'")
        n = 0
        while not await refused(two, "a", f"k{n}"):
            n += 1
            assert n <= 12, "the limit holds although a count is in the air"
        await one.execute("ROLLBACK")
        assert await refused(two, "a", "more")
        await relay.execute("DELETE FROM outbox_queue WHERE id % 2 = 0")
        await relay.execute(
            "SELECT count(outbox_recount(tenant_id)) FROM outbox_counts WHERE refused"
        )
        assert not await refused(two, "a", "again")

    run(settings, 3, test)


def test_a_count_that_is_rolled_back_is_made_again(settings: Settings) -> None:
    async def test(one: Any, two: Any) -> None:
        await one.execute(LIMIT, "a", 3)
        for n in range(3):
            await one.execute("BEGIN")
            await add(one, f"lost{n}")
            await one.execute("ROLLBACK")
            assert not await refused(two, "a", f"k{n}")
        assert await refused(two, "a", "k3") and await refused(one, "a", "k4")

    run(settings, 2, test)


def test_without_a_relay_a_writer_finds_out_that_there_is_room(settings: Settings) -> None:
    async def test(one: Any) -> None:
        await one.execute(LIMIT, "a", 2)
        assert [await refused(one, "a", f"k{n}") for n in range(3)] == [False, False, True]
        await one.execute("DELETE FROM outbox_queue")
        assert await refused(one, "a", "soon"), "the count is young: a relay may be at it"
        await one.execute("UPDATE outbox_counts SET counted_at = now() - interval '11 seconds'")
        tries = 0
        while await refused(one, "a", "later"):
            tries += 1
            assert tries < 400, "one in 16 looks again"

    run(settings, 1, test)


def test_one_transaction_for_thousands_of_tenants_takes_few_locks(settings: Settings) -> None:
    async def test(one: Any) -> None:
        async with one.transaction():
            await one.execute(f"SELECT soma_outbox_add('{TOPIC}', 't' || n, '{{}}', 'k')"
                              " FROM generate_series(1, 3000) n")  # fmt: skip
            held = await one.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                                      " AND pid = pg_backend_pid()")  # fmt: skip
            assert held <= 16
        assert await one.fetchval("SELECT count(*) FROM outbox_counts") == 3000

    run(settings, 1, test)


def test_old_counts_are_cleared(settings: Settings) -> None:
    async def test(*sessions: Any) -> None:
        await sessions[0].execute(LIMIT, "a", 500)

        async def some(session: Any, name: int) -> None:
            for n in range(100):
                await add(session, f"{name}-{n}")

        await asyncio.gather(*(some(s, k) for k, s in enumerate(sessions)))
        assert await sessions[0].fetchval("SELECT count(*) FROM outbox_counts") <= 5

    run(settings, 4, test)


def test_only_a_sleeper_is_woken_and_nobody_falls_asleep_in_between(settings: Settings) -> None:
    async def test(writer: Any, relay: Any) -> None:
        heard: list[str] = []
        await relay.add_listener(
            f"{schema_of(settings.namespace)}.outbox", lambda *said: heard.append(said[3])
        )
        shard = await relay.fetchval("SELECT outbox_shard('a', 'a')")
        await writer.execute("BEGIN")
        await add(writer, "k1")
        assert not await relay.fetchval(SLEEP, shard), "somebody is adding who won't notify"
        await writer.execute("COMMIT")
        assert await relay.fetchval(SLEEP, shard)
        await writer.execute("BEGIN")
        await add(writer, "k2")
        await writer.execute("ROLLBACK")
        await writer.execute("BEGIN; SAVEPOINT s")
        await add(writer, "k3")
        await writer.execute("ROLLBACK TO s; COMMIT")
        await relay.execute("SELECT 1")
        assert not heard, "nothing came of these"
        await add(writer, "k4")
        await relay.execute("SELECT 1")
        assert heard == [str(shard)]
        await relay.execute(WAKE, shard)
        await add(writer, "k5")
        await relay.execute("SELECT 1")
        assert heard == [str(shard)], "awake, it finds the row by itself"

    run(settings, 2, test)


def test_a_relay_that_sleeps_by_the_rules_misses_nothing(settings: Settings) -> None:
    async def test(relay: Any, *writers: Any) -> None:
        shard = await relay.fetchval("SELECT outbox_shard('a', 'a')")
        told = asyncio.Event()
        await relay.add_listener(
            f"{schema_of(settings.namespace)}.outbox", lambda *said: told.set()
        )
        taken = 0

        async def take() -> int:
            rows = await relay.fetch(
                "DELETE FROM outbox_queue WHERE shard = $1 RETURNING id", shard
            )
            return len(rows)

        async def write(session: Any, name: int) -> None:
            for n in range(40):
                async with session.transaction():
                    await add(session, f"{name}-{n}")
                    await asyncio.sleep(0.001 * (n % 5))

        writing = [asyncio.create_task(write(w, k)) for k, w in enumerate(writers)]
        while taken < 40 * len(writers):
            if got := await take():
                taken += got
            elif await relay.fetchval(SLEEP, shard):
                told.clear()
                if not (got := await take()):
                    await asyncio.wait_for(told.wait(), 20)  # no poll: a lost wake-up fails here
                taken += got
                await relay.execute(WAKE, shard)
            else:
                await asyncio.sleep(0.005)
        await asyncio.gather(*writing)

    run(settings, 5, test)


def test_a_count_from_the_future_refuses_nobody(settings: Settings) -> None:
    """The database's clock went back: what was counted before is no younger than anything."""

    async def test(one: Any, relay: Any) -> None:
        ahead = "UPDATE outbox_counts SET counted_at = clock_timestamp() + interval '1 hour'"
        await one.execute(LIMIT, "a", 2)
        assert [await refused(one, "a", f"k{n}") for n in range(3)] == [False, False, True]
        await one.execute(ahead)
        assert await refused(one, "a", "still"), "as many pend as may, whatever the clock says"
        await one.execute("DELETE FROM outbox_queue")
        await one.execute(ahead)
        assert not await refused(one, "a", "now")
        assert not await refused(one, "a", "and now")
        assert await refused(one, "a", "full again")
        await one.execute("DELETE FROM outbox_queue")
        await one.execute(ahead)
        await relay.execute(RECOUNT)
        assert await one.fetchval("SELECT bool_or(refused) FROM outbox_counts") is False

    run(settings, 2, test)


def test_an_allowance_from_the_future_is_refilled_from_now_on(settings: Settings) -> None:
    async def test(one: Any) -> None:
        schema, counted = schema_of(settings.namespace), Statements()
        connections = RelayConnections(settings.postgres(), schema, 1, counted)
        try:
            async with connections.one() as connection:
                assert await connection.reserve({"a": 60_000}, 60_000) == {"a": 60_000}
                await one.execute("UPDATE outbox_buckets SET refilled_at = now() + '1 hour'")
                assert await connection.reserve({"a": 1}, 60_000) == {"a": 0}
                await asyncio.sleep(0.1)
                assert (await connection.reserve({"a": 1000}, 60_000))["a"] >= 50
        finally:
            await connections.close()

    run(settings, 1, test)


def test_nothing_waits_longer_than_the_longest_wait(settings: Settings) -> None:
    """An attempt that is due in an hour, by a clock that was an hour ahead."""

    async def test(one: Any) -> None:
        number = await add(one, "k")
        shard = await one.fetchval("SELECT outbox_shard('a', 'a')")
        connections = RelayConnections(
            settings.postgres(), schema_of(settings.namespace), 1, Statements()
        )
        wait = "UPDATE outbox_queue SET next_attempt_at = now() + make_interval(secs => $1)"
        try:
            async with connections.one() as connection:
                await one.execute(wait, 290.0)
                assert await connection.waiting([shard], 300.0) == []
                assert (await connection.pick(shard, "", 10, 10, [])).ids == {}
                await one.execute(wait, 3600.0)
                assert await connection.waiting([shard], 300.0) == [shard]
                assert (await connection.pick(shard, "", 10, 10, [])).ids == {"a": [number]}
        finally:
            await connections.close()

    run(settings, 1, test)


def test_two_first_adds_at_once_leave_two_counts_that_nobody_stumbles_over(
    settings: Settings,
) -> None:
    async def test(one: Any, two: Any) -> None:
        for session, key in ((one, "k1"), (two, "k2")):
            await session.execute("BEGIN")
            await add(session, key)
        for session in (one, two):
            await session.execute("COMMIT")
        assert await one.fetchval("SELECT count(*) FROM outbox_counts WHERE tenant_id = 'a'") == 2
        outbox = await TenantOutbox.open(settings.postgres(), settings.namespace)
        try:
            for found in (await outbox.summary_of(["a"]), (await outbox.summary()).top):
                assert [(each.tenant, each.pending, each.refused) for each in found] == [
                    ("a", 2, False)
                ]
        finally:
            await outbox.close()

    run(settings, 2, test)
