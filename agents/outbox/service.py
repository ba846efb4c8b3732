"""The relay beside a worker's processors: an event loop of its own."""

import asyncio
import logging

import uvloop

from agents.outbox.relay import Relay
from agents.outbox.warm import warm
from agents.services.base import Service
from agents.settings import Settings

NAME = "outbox"

log = logging.getLogger(__name__)


class RelayService(Service):
    """Relays from `start` to `stop`; then it finishes the batches at hand."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(NAME)
        self._relay = Relay(settings)
        self._loop: asyncio.AbstractEventLoop | None = None

    def warm(self) -> None:
        warm()

    def wake(self) -> None:
        if (loop := self._loop) is not None:
            loop.call_soon_threadsafe(self._relay.stop)

    def stopped(self) -> dict[str, str]:
        return {f"{NAME}/{number}": name for number, name in self._relay.stopped().items()}

    def waits(self) -> str:
        shards = list(self._relay.shards.values())
        each = (f"shard {one.number}: {one.waits}" for one in shards if one.waits)
        return self._relay.waits or "; ".join(each)

    def work(self) -> None:
        uvloop.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            if not self.stopping.is_set():
                await self._relay.run()
        finally:
            self._loop = None


def services(settings: Settings) -> list[Service]:
    """The relay, where there is a PostgreSQL."""
    if settings.postgres_dsn.get_secret_value():
        return [RelayService(settings)]
    if NAME in settings.agents:
        log.warning("SOMA_POSTGRES_DSN isn't set: there is no outbox to relay from")
    return []
