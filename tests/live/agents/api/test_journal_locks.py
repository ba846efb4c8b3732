"""A transaction that stays open holds up its own dedupe key, and is no outage."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agents.api.journal_sink import LOCK_S as ASIDE_LOCK_S
from agents.api.journaled import LOCK_S, PATIENCE_S, JournaledOutbox, open_journal
from agents.settings import Settings
from stores.errors import Locked
from stores.journal import Journal
from stores.names import quoted, schema_of
from stores.outbox_tenants import TenantOutbox
from stores.outbox_writer import POOL_MAX
from stores.postgres import connect
from tests.live.agents.api.conftest import api_settings
from tests.live.agents.api.helpers import bearer, events_of, observation
from tests.live.agents.api.inside import Client
from tests.live.agents.api.test_journaled import empty, event, row, stored, until

PATH = "/events/cog.observations"
QUIET = [f"quiet{k}" for k in range(5)]
ADD = "SELECT soma_outbox_add('cog.observations', 'slow', '{}', $1)"


@pytest.fixture
def journaled(database: Settings) -> Iterator[Client]:
    """A client of the HTTP API with a journal."""
    with Client(database.model_copy(update={"api": api_settings(journal="on")})) as one:
        yield one


@asynccontextmanager
async def session(settings: Settings) -> AsyncIterator[Any]:
    """A service's session; what it leaves open is rolled back."""
    one = await connect(settings.postgres(), "test")
    try:
        await one.execute(f"SET search_path TO {quoted(schema_of(settings.namespace))}")
        yield one
    finally:
        await one.close()


def headers(tenant: str, key: str) -> dict[str, str]:
    return bearer((tenant,)) | {"x-soma-tenant": tenant, "x-idempotency-key": key}


def test_one_held_key_is_refused_and_everybody_else_goes_straight(
    journaled: Client, database: Settings
) -> None:
    one = {"payload": observation()}

    def post(tenant: str, key: str) -> Any:
        return journaled.post(PATH, json=one, headers=headers(tenant, key))

    async def run() -> None:
        async with session(database) as open_one:
            await open_one.execute("BEGIN")
            await open_one.fetchval(ADD, "shared")
            with ThreadPoolExecutor(40) as pool:
                held = [pool.submit(post, "slow", "shared") for _ in range(30)]
                quiet = [pool.submit(post, name, f"k{n}") for n in range(4) for name in QUIET]
                for answer in [one.result() for one in quiet]:
                    assert (answer.status_code, answer.json()["journaled"]) == (202, False)
                for answer in [one.result() for one in held]:
                    assert answer.status_code == 503, answer.text
                    assert int(answer.headers["retry-after"]) >= 1
                    assert "open transaction" in answer.json()["detail"]
            assert "soma_http_store_up 1.0" in journaled.get("/metrics").text
            assert journaled.get("/readyz").json()["status"] == "ready"
            assert journaled.app.state.resources.journal.pending() == 0

    asyncio.run(run())
    assert post("slow", "shared").status_code == 202
    assert len(events_of(database)) == 4 * len(QUIET) + 1


@asynccontextmanager
async def journaled_of(
    settings: Settings, connections: int = POOL_MAX, lock_s: float = LOCK_S,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[tuple[JournaledOutbox, Journal]]:  # fmt: skip
    """An outbox with a journal as the API has it, its drainer running."""
    dsn, namespace = settings.postgres(), settings.namespace
    outbox = await TenantOutbox.open(dsn, namespace, pool_max=connections, lock_s=lock_s)
    aside = await TenantOutbox.open(dsn, namespace, lock_s=ASIDE_LOCK_S)
    journal = await asyncio.to_thread(open_journal, settings)
    journaled = JournaledOutbox(outbox, journal, aside=aside, patience_s=patience_s)
    task = asyncio.create_task(journaled.run())
    try:
        yield journaled, journal
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(journal.close)
        await asyncio.gather(outbox.close(), aside.close())


def test_who_waits_long_behind_others_goes_straight_all_the_same(database: Settings) -> None:
    """One connection, which waits for a lock: longer than one has patience without asking."""

    async def run() -> None:
        async with (
            session(database) as open_one,
            journaled_of(database, connections=1, lock_s=4.0, patience_s=1.5) as (outbox, journal),
        ):
            await open_one.execute("BEGIN")
            await open_one.fetchval(ADD, "k-1")
            held = asyncio.create_task(outbox.add_many([event(1, "slow")]))
            await until(lambda: outbox._outbox._running)
            assert (await outbox.add_many([event(2, "quiet1")])).added
            with pytest.raises(Locked):
                await held
            assert not outbox.away and not journal.pending()
        assert [tenant for tenant, _, _ in await stored(database)] == ["quiet1"]

    asyncio.run(run())


def test_the_drainer_sets_the_held_tenant_aside_and_brings_the_others(database: Settings) -> None:
    tenants = ["a", "slow", *QUIET]

    async def run() -> None:
        async with session(database) as open_one:
            await open_one.execute("BEGIN")
            await open_one.fetchval(ADD, "k-1")
            journal = await asyncio.to_thread(open_journal, database)
            await journal.append_many([row(n, tenant) for n in range(4) for tenant in tenants])
            await asyncio.to_thread(journal.close)
            async with journaled_of(database) as (journaled, journal):
                others = [one for one in tenants if one != "slow"]
                await until(lambda: not any(journal.pending(one) for one in others))
                assert journal.pending("slow") >= 3 and not journaled.away and not journaled.full
                assert (await journaled.add_many([event(4, "quiet1")])).added
                assert (await journaled.add_many([event(4, "slow")])).seqs, "behind its others"
                with pytest.raises(Locked):
                    await journaled._outbox.add_many([event(1, "slow")])
                await open_one.execute("ROLLBACK")
                await empty(journal)
                assert not journaled.away
        found = await stored(database)
        assert [n for tenant, _, n in found if tenant == "slow"] == [0, 1, 2, 3, 4]
        assert [n for tenant, _, n in found if tenant == "quiet1"] == [0, 1, 2, 3, 4]

    asyncio.run(run())


def test_a_table_that_somebody_has_to_himself_is_an_outage(database: Settings) -> None:
    """Nobody's events can be added: then the journal takes them."""

    async def run() -> None:
        async with session(database) as open_one, journaled_of(database) as (journaled, journal):
            await open_one.execute("BEGIN; LOCK TABLE outbox_events")
            assert (await journaled.add_many([event(1)])).seqs
            assert journaled.away
            await open_one.execute("ROLLBACK")
            await empty(journal)
            await until(lambda: not journaled.away)
        assert [n for _, _, n in await stored(database)] == [1]

    asyncio.run(run())
