"""The relay beside a worker's processors: a thread with an event loop of its own."""

import asyncio
import logging
import threading
from collections.abc import Callable

import uvloop

from agents.outbox.relay import Relay
from agents.settings import Settings

log = logging.getLogger(__name__)


class RelayService:
    """Runs from `start` to `stop`; `error` says why it ended by itself."""

    def __init__(
        self, settings: Settings, failed: Callable[[Exception], None] | None = None
    ) -> None:
        """`failed` hears, in that thread, the error that ended it: the worker should end too."""
        self.error: Exception | None = None
        self._relay = Relay(settings)
        self._failed = failed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin to relay."""
        self._thread.start()

    def stop(self, seconds: float = 4.0) -> None:
        """Finish the batches at hand and end."""
        self._stopped = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._relay.stop)
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def ready(self) -> bool:
        """Whether the shards that are ours were taken."""
        return self._relay.ready()

    def stopped(self) -> dict[str, str]:
        """Shards that are stopped, by their names, and why: one word each."""
        return {f"outbox/{number}": name for number, name in self._relay.stopped().items()}

    def _run(self) -> None:
        try:
            uvloop.run(self._main())
        except Exception as error:
            self.error = error
            log.exception("The outbox's relay has ended")
            if self._failed is not None:
                self._failed(error)
        finally:
            self._loop = None

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        if not self._stopped:
            await self._relay.run()
