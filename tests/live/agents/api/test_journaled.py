"""An outbox with a journal before it, on a real PostgreSQL that comes and goes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from agents.api.journal_sink import OutboxSink
from agents.api.journaled import JournaledOutbox, open_journal
from agents.settings import Settings
from stores.journal import Journal, JournalEvent
from stores.names import schema_of
from stores.outbox import BadEvent, Event, TooManyPending
from stores.outbox_tenants import TenantOutbox
from stores.postgres import connected
from tests.live.agents.api.conftest import OwnPostgres
from tests.live.agents.projections.compare import migrated
from tests.live.helpers import eventually

TOPIC = "memory.events"


@pytest.fixture
def ready(settings: Settings) -> Settings:
    """The run's PostgreSQL, migrated."""
    return migrated(settings)


def event(n: int, tenant: str = "a", key: str = "k", payload: str | None = None) -> Event:
    return Event(TOPIC, tenant, payload or json.dumps({"n": n}), f"{key}-{n}", key)


def row(n: int, tenant: str = "a", payload: str | None = None) -> JournalEvent:
    return JournalEvent(TOPIC, tenant, "k", payload or json.dumps({"n": n}), f"k-{n}")


async def stored(settings: Settings) -> list[tuple[str, str, int]]:
    """(tenant, key, n) of the outbox in the order of ids."""
    async with connected(settings.postgres(), "test") as connection:
        rows = await connection.fetch(
            f'SELECT tenant_id, key, payload FROM "{schema_of(settings.namespace)}".outbox_events'
            " ORDER BY id"
        )
    return [(r["tenant_id"], r["key"], json.loads(r["payload"])["n"]) for r in rows]


@asynccontextmanager
async def outbox_of(settings: Settings) -> AsyncIterator[TenantOutbox]:
    outbox = await TenantOutbox.open(settings.postgres(), settings.namespace)
    try:
        yield outbox
    finally:
        await outbox.close()


@asynccontextmanager
async def journaled_of(
    settings: Settings, patience_s: float = 3.0
) -> AsyncIterator[tuple[JournaledOutbox, Journal]]:
    """An outbox with its journal, the drainer running."""
    journal = await asyncio.to_thread(open_journal, settings)
    try:
        async with outbox_of(settings) as outbox:
            journaled = JournaledOutbox(outbox, journal, patience_s=patience_s)
            task = asyncio.create_task(journaled.run())
            yield journaled, journal
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        await asyncio.to_thread(journal.close)


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    await asyncio.to_thread(eventually, condition, seconds)


async def empty(journal: Journal) -> None:
    await until(lambda: not journal.pending())


def test_no_key_is_overtaken_across_the_switch_and_back(postgres: OwnPostgres) -> None:
    """Writers that wait for each answer, before, during and after an outage."""

    async def writer(
        journaled: JournaledOutbox, tenant: str, stop: asyncio.Event, ways: set[str]
    ) -> int:
        n = 0
        while not stop.is_set():
            taken = await journaled.add_many([event(n, tenant, tenant)])
            ways.add("journal" if taken.seqs else "outbox")
            n += 1
            await asyncio.sleep(0.002)
        return n

    async def run() -> tuple[dict[str, int], list[tuple[str, str, int]]]:
        tenants = [f"t{k}" for k in range(8)] + ["t0", "t1"]
        async with journaled_of(postgres.settings) as (journaled, journal):
            ways: set[str] = set()
            stop = asyncio.Event()
            keys = dict.fromkeys(tenants)
            jobs = [asyncio.create_task(writer(journaled, t, stop, ways)) for t in keys]
            await until(lambda: ways == {"outbox"})
            await asyncio.to_thread(postgres.kill)
            await until(lambda: "journal" in ways)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(postgres.start)

            def switched_back() -> bool:
                seen = set(ways)  # since the last look: the writers never pause
                ways.clear()
                return seen == {"outbox"}

            await until(switched_back)
            stop.set()
            counts = await asyncio.gather(*jobs)
            await empty(journal)
            return dict(zip(keys, counts, strict=True)), await stored(postgres.settings)

    counts, found = asyncio.run(run())
    for tenant, count in counts.items():
        assert [n for t, _, n in found if t == tenant] == list(range(count)), tenant


def test_a_database_that_says_nothing_is_away_too(postgres: OwnPostgres) -> None:
    """Frozen, not gone: connections stay open and nothing comes."""

    async def run() -> None:
        async with journaled_of(postgres.settings, patience_s=0.3) as (journaled, journal):
            assert (await journaled.add_many([event(0)])).added
            await asyncio.to_thread(postgres.freeze)
            try:
                taken = await asyncio.gather(*(journaled.add_many([event(n)]) for n in (1, 2)))
                assert all(one.seqs for one in taken)
                begun = time.monotonic()
                assert (await journaled.add_many([event(3)])).seqs
                assert time.monotonic() - begun < 0.3, "the next one doesn't ask any more"
            finally:
                postgres.thaw()
            await empty(journal)
        found = [n for _, _, n in await stored(postgres.settings)]
        assert sorted(found) == [0, 1, 2, 3]

    asyncio.run(run())


def test_at_the_start_without_postgres_events_wait_and_arrive(postgres: OwnPostgres) -> None:
    async def run() -> None:
        await asyncio.to_thread(postgres.stop)
        async with journaled_of(postgres.settings) as (journaled, journal):
            taken = await journaled.add_many([event(1), event(2)])
            assert len(taken.seqs) == 2
            with pytest.raises(BadEvent, match="topic"):
                await journaled.add_many([Event("NO", "a", "{}", "d")])
        await asyncio.to_thread(postgres.start)
        async with journaled_of(postgres.settings) as (journaled, journal):
            await empty(journal)
        assert [n for _, _, n in await stored(postgres.settings)] == [1, 2]

    asyncio.run(run())


def test_refused_rows_and_full_tenants_hold_up_nobody_else(ready: Settings) -> None:
    async def run() -> None:
        settings = ready
        async with outbox_of(settings) as outbox:
            await outbox.limit("full", 2, "test")
            for n in range(3):
                with suppress(TooManyPending):
                    await outbox.add_many([event(n, "full")])
            sink = OutboxSink(outbox)
            await outbox.add_many([event(7, "b")])
            found = await sink([
                row(1), row(10, "full"), row(2, payload='"\\u0000"'), row(3, payload="1e999999"),
                row(4), row(11, "full"), row(7, "b"), row(7, "b", '{"n":8}'),
                JournalEvent("BAD TOPIC", "a", "k", "{}", "x"),
            ])  # fmt: skip
            states = [one.state for one in found]
            assert states == [
                "drained", "later", "failed", "failed", "drained", "later", "drained", "failed",
                "failed",
            ]  # fmt: skip
            assert "says something else" in (found[7].error or "")
            assert all(one.error for one in found if one.state == "failed")
        mine = [n for t, _, n in await stored(settings) if t == "a"]
        assert mine == [1, 4]

    asyncio.run(run())


def test_a_batch_beyond_twice_the_limit_goes_in_parts(ready: Settings) -> None:
    async def run() -> None:
        async with outbox_of(ready) as outbox:
            await outbox.limit("full", 5, "test")
            given = [row(n, tenant) for n in range(40) for tenant in ("full", "b")]
            found = await OutboxSink(outbox)(given)
        states = [one.state for one, event in zip(found, given, strict=True) if event.tenant == "b"]
        assert states == ["drained"] * 40
        here = [n for tenant, _, n in await stored(ready) if tenant == "full"]
        assert 5 <= len(here) <= 10 and here == list(range(len(here)))
        states = [v.state for v, event in zip(found, given, strict=True) if event.tenant == "full"]
        assert states == ["drained"] * len(here) + ["later"] * (40 - len(here))

    asyncio.run(run())


def test_a_tenant_at_its_limit_is_refused_and_its_rows_arrive_later(ready: Settings) -> None:
    async def run() -> None:
        settings = ready
        async with outbox_of(settings) as outbox:
            await outbox.limit("full", 1, "test")
            with suppress(TooManyPending):
                for n in range(5):
                    await outbox.add_many([event(100 + n, "full")])
            journal = await asyncio.to_thread(open_journal, settings)
            await journal.append_many([row(1, "full"), row(2, "a")])
            journal.close()
            async with journaled_of(settings) as (journaled, journal):
                await until(lambda: journaled.full)
                assert journal.pending("full") == 1
                with pytest.raises(TooManyPending):
                    await journaled.add_many([event(9, "full")])
                assert (await journaled.add_many([event(3)])).added
                await outbox.limit("full", 1000, "test")
                await empty(journal)
                await until(lambda: not journaled.full)
                assert (await journaled.add_many([event(9, "full")])).added

    asyncio.run(run())


BAD = ["nonsense", "NaN", '"\\ud800"', '["\\u0000"]', '{"\\u0000":1}', "[1,]", '"\x01"']
TOO_FINE = ["1e99999", "1" * 5000]  # PostgreSQL may keep them; the journal doesn't


def test_what_postgres_would_refuse_isnt_accepted_while_it_is_away(ready: Settings) -> None:
    """Otherwise it would be acknowledged, and never arrive."""

    async def run() -> None:
        async with journaled_of(ready) as (journaled, journal):
            for payload in BAD:
                with pytest.raises(BadEvent):
                    await journaled.add_many([event(1, payload=payload)])
            journaled.away = True
            for payload in [*BAD, *TOO_FINE]:
                with pytest.raises(BadEvent):
                    await journaled.add_many([event(1, payload=payload)])
            assert journal.pending() == 0

    asyncio.run(run())
