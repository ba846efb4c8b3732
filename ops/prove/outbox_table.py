"""What the drivers ask of the outbox's tables from outside, one connection each time."""

import asyncio
from typing import Any

import asyncpg

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


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

    def _value(self, text: str) -> Any:
        try:
            return asyncio.run(self._fetch(text))[0][0]
        except AWAY:
            return None

    def rows(self, text: str) -> list[dict[str, Any]]:
        """A statement's rows."""
        return [dict(row) for row in asyncio.run(self._fetch(text))]

    async def _fetch(self, text: str) -> list[Any]:
        settings = {"search_path": f'"{self._schema}"'}
        connection = await asyncpg.connect(self._dsn, timeout=5.0, server_settings=settings)
        try:
            found: list[Any] = await connection.fetch(text, timeout=30.0)
            return found
        finally:
            connection.terminate()
