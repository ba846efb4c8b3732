"""What the drivers ask of the outbox's tables from outside, one connection each time."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)

# Sessions of relays that wait for a lock, ended for good before the next statement.
CUT_OFF = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE application_name = 'soma relay' AND wait_event_type = 'Lock'
"""
# {0} is the database.
FORGET = 'DROP DATABASE IF EXISTS "{0}_kept"'
ALONE = """
    ALTER DATABASE "{0}" ALLOW_CONNECTIONS false;
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{0}'
"""
KEEP = 'CREATE DATABASE "{0}_kept" TEMPLATE "{0}"'
OPEN = 'ALTER DATABASE "{0}" ALLOW_CONNECTIONS true'
AS_KEPT = 'DROP DATABASE "{0}" WITH (FORCE)', 'CREATE DATABASE "{0}" TEMPLATE "{0}_kept"'


class Table:
    """The outbox of one namespace."""

    def __init__(self, dsn: str, namespace: str) -> None:
        self._dsn = dsn
        self._schema = f"soma_{namespace}" if namespace else "soma"

    def begun(self) -> bool:
        """Whether something was sent."""
        return bool(self._value("SELECT EXISTS (SELECT FROM outbox WHERE status = 'sent')"))

    def queued(self) -> int:
        """Rows that wait or failed; -1 while the database is away."""
        found = self._value("SELECT count(*) FROM outbox_queue")
        return -1 if found is None else int(found)

    def batches(self) -> dict[int, int]:
        """How many batches each shard has counted; nothing while the database is away."""
        try:
            return {
                row["shard"]: row["n"] for row in self.rows("SELECT shard, n FROM outbox_batches")
            }
        except AWAY:
            return {}

    def back_up(self) -> None:
        """Keep the whole database as it is now; whoever is connected is cut off."""
        asyncio.run(self._as_server(FORGET, ALONE, KEEP, OPEN))

    def restore(self) -> None:
        """The whole database as it was kept."""
        asyncio.run(self._as_server(ALONE, *AS_KEPT))

    async def _as_server(self, *texts: str) -> None:
        """Statements about the database ({0}), from beside it."""
        server, _, name = self._dsn.rpartition("/")
        connection = await asyncpg.connect(f"{server}/postgres", timeout=5.0)
        try:
            for text in texts:
                for one in text.format(name).split(";"):
                    await connection.execute(one, timeout=60.0)
        finally:
            connection.terminate()

    def between(self, strike: Callable[[], None], seconds: float) -> int:
        """Hold the relays up for so long where they are to take off the queue what Kafka has
        committed, strike, and end their sessions there. How many were caught."""
        try:
            return asyncio.run(self._between(strike, seconds))
        except AWAY:
            return 0

    async def _between(self, strike: Callable[[], None], seconds: float) -> int:
        connection = await self._connect()
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE outbox_queue IN SHARE MODE", timeout=30.0)
                await asyncio.sleep(seconds)
                strike()
                return len(await connection.fetch(CUT_OFF, timeout=30.0))
        finally:
            connection.terminate()

    def _value(self, text: str) -> Any:
        try:
            return asyncio.run(self._fetch(text))[0][0]
        except AWAY:
            return None

    def rows(self, text: str) -> list[dict[str, Any]]:
        """A statement's rows."""
        return [dict(row) for row in asyncio.run(self._fetch(text))]

    async def _fetch(self, text: str) -> list[Any]:
        connection = await self._connect()
        try:
            found: list[Any] = await connection.fetch(text, timeout=30.0)
            return found
        finally:
            connection.terminate()

    async def _connect(self) -> Any:
        settings = {"search_path": f'"{self._schema}"'}
        return await asyncpg.connect(self._dsn, timeout=5.0, server_settings=settings)
