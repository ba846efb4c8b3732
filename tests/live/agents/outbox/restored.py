"""A database of a test's own, which can go back to where it was."""

import asyncio
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr

from agents.settings import Settings
from tests.live.agents.outbox.outbox import made


class Database:
    """A fresh database with the outbox in it; `settings` are for it."""

    def __init__(self, settings: Settings) -> None:
        self._server = settings.postgres()
        self.name = f"restore_{settings.namespace}"
        self._fresh()
        place = urlsplit(self._server)._replace(path=f"/{self.name}")
        dsn = SecretStr(urlunsplit(place))
        self.settings = made(settings.model_copy(update={"postgres_dsn": dsn}), retry_first_s=0.05)

    def _fresh(self) -> None:
        self._run(f"CREATE DATABASE {self.name}")

    def back_up(self) -> None:
        """Keep it as it is now. Nobody may be connected."""
        self._run(f"CREATE DATABASE {self.name}_kept TEMPLATE {self.name}")

    def restore(self) -> None:
        """As it was kept; whoever is connected is cut off."""
        self._run(f"DROP DATABASE {self.name} WITH (FORCE)")
        self._run(f"CREATE DATABASE {self.name} TEMPLATE {self.name}_kept")

    def make_anew(self) -> None:
        """As on a fresh server."""
        self._run(f"DROP DATABASE {self.name} WITH (FORCE)")
        self._fresh()
        made(self.settings)

    def drop(self) -> None:
        """End it."""
        self._run(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        self._run(f"DROP DATABASE IF EXISTS {self.name}_kept WITH (FORCE)")

    def _run(self, text: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self._server, timeout=5.0)
            try:
                await connection.execute(text)
            finally:
                await connection.close()

        asyncio.run(run())
