"""Adding events for those who don't write to the database themselves: API, journal, shell."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import asyncpg

from stores import outbox_checks as checks
from stores import outbox_statements as sql
from stores import sqlstates
from stores.errors import StoreDown
from stores.names import quoted, schema_of
from stores.outbox_types import Added, BadEvent, Event
from stores.postgres import CONNECT_S, LOCK_S, said

STATEMENT_S = 10.0  # no question of a person may keep the server busy for longer
POOL_MAX = 8
TRIES = 4  # of adding, when the server ends one of two transactions that wait for each other
AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
ERRORS = (
    asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError,
    TimeoutError,
)  # fmt: skip


class OutboxWriter:
    """Adds events to the outbox of an installation, over a pool of connections.

    Every method raises `StoreDown` when PostgreSQL doesn't answer, and `BadQuestion` for limits,
    filters and ids out of range.
    """

    def __init__(self, pool: Any, namespace: str) -> None:
        self._pool = pool
        self.schema = schema_of(namespace)

    @classmethod
    async def open(
        cls, dsn: str, namespace: str, name: str = "soma outbox", pool_max: int = POOL_MAX,
        lock_s: float = LOCK_S,
    ) -> Self:  # fmt: skip
        """Make the pool. No connection is made yet, so that a service starts without PostgreSQL.

        `lock_s`: how long to wait for another's transaction before it is `Locked`.
        """
        limits = {
            "application_name": name,
            "statement_timeout": str(int(STATEMENT_S * 1000)),
            "lock_timeout": str(int(lock_s * 1000)),
            "idle_in_transaction_session_timeout": str(int(STATEMENT_S * 1000)),
            "timezone": "UTC",
        }
        try:
            pool = await asyncpg.create_pool(
                dsn, min_size=0, max_size=pool_max, timeout=CONNECT_S,
                command_timeout=STATEMENT_S + 2.0, server_settings=limits, reset=_as_it_is,
            )  # fmt: skip
        except Exception as error:
            # From None: what is wrong in a DSN, asyncpg and urllib say by quoting from it.
            raise StoreDown(said(error)) from None
        return cls(pool, namespace)

    async def close(self) -> None:
        """Give the connections back; those that don't end in time are cut."""
        try:
            await asyncio.wait_for(self._pool.close(), CONNECT_S)
        except (TimeoutError, *ERRORS):
            self._pool.terminate()

    async def ready(self) -> None:
        """`StoreDown`, or `NotMigrated`, unless events can be added now.

        `Locked`: somebody has the tables to himself.
        """
        async with self._connection() as connection:
            await connection.fetch(self._sql(sql.ADD), [], [], [], [], [], [])

    async def add(
        self,
        topic: str,
        tenant: str,
        payload: str,
        dedupe_key: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Added:
        """Add one event; `payload` is JSON text. As `add_many`."""
        (one,) = await self.add_many([Event(topic, tenant, payload, dedupe_key, key, headers)])
        return one

    async def add_many(self, events: Sequence[Event]) -> list[Added]:
        """Add up to 10,000 events in their order, all or none; in one transaction and round trip.

        A dedupe key that is there already, or twice in the batch, adds nothing: `duplicate`.
        `BadEvent` names the first bad one's index, `TooManyPending` the tenant.
        """
        columns = checks.batch(events)
        if not events:
            return []
        for left in reversed(range(TRIES)):
            async with self._connection(columns[1]) as connection:
                try:
                    rows = await connection.fetch(self._sql(sql.ADD), *columns)
                except AGAIN:
                    if not left:
                        raise
                    await asyncio.sleep(random.uniform(0.001, 0.02))
                    continue
                except asyncpg.PostgresError as error:
                    await self._point_out(connection, columns[2], error)
                    raise
                return [Added(row["id"], row["duplicate"], row["differs"]) for row in rows]
        raise AssertionError("the last try returns or raises")

    async def _point_out(self, connection: Any, payloads: Sequence[str], error: Exception) -> None:
        """`BadEvent` with the index of the payload that the server doesn't read as JSON."""
        if not sqlstates.may_be_the_row(error):
            return
        for index, payload in enumerate(payloads):
            try:
                if await connection.fetchval(sql.VALID, payload):
                    continue
                why = error.args[0]
            except asyncpg.StatementTooComplexError as deep:
                why = deep.args[0]  # nested so deep that the server can't even look
            raise BadEvent(f"the payload isn't JSON that PostgreSQL keeps: {why}", index)

    def _sql(self, text: str) -> str:
        return text.replace("SCHEMA", quoted(self.schema))

    @asynccontextmanager
    async def _connection(self, tenants: Sequence[str] = ()) -> AsyncIterator[Any]:
        try:
            connection = await self._pool.acquire(timeout=CONNECT_S)
        except (ValueError, *ERRORS) as error:
            # From None: what is wrong in a DSN, asyncpg and urllib say by quoting from it.
            raise checks.raised(error, tenants) from None
        try:
            yield connection
        except ERRORS as error:
            await self._give_up(connection, error)
            raise checks.raised(error, tenants) from error
        finally:
            await self._pool.release(connection)

    async def _give_up(self, connection: Any, error: BaseException) -> None:
        """End a session that may be to blame for the error; and those that may be as it is."""
        if sqlstates.keeps_session(error):
            return
        with suppress(asyncpg.InterfaceError):  # it broke, and has left the pool by itself
            connection.terminate()
        if sqlstates.speaks_for_all(error):
            await self.renew()

    async def renew(self) -> None:
        """Take new sessions from now on: these don't see what the server was set to since."""
        await self._pool.expire_connections()


async def _as_it_is(connection: Any) -> None:
    """What asyncpg would do to a connection given back: a round trip, for a state that none has."""
