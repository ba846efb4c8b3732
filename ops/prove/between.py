"""What proxies on loopback share: they listen in a thread, and carry each connection both ways."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, Self

WAIT_S = 10.0

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Way = Coroutine[Any, Any, None]


class Between(ABC):
    """Runs in a thread of its own between `with` and its end, before one server."""

    def __init__(self, host: str, port: int, at: int = 0) -> None:
        """`at`: a port to listen on, as after a proxy that was closed; 0: any."""
        self.port = at
        self.server = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: set[asyncio.Task[None]] = set()

    @abstractmethod
    def ways(self, client: Ends, server: Ends) -> tuple[Way, Way]:
        """From the client to the server, and back: the first that ends ends the connection."""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def ended(link: "asyncio.Task[None]") -> None:
            self._links.discard(link)
            writer.close()  # also of one that was cancelled before it began

        link = asyncio.create_task(self._serve(reader, writer))
        self._links.add(link)
        link.add_done_callback(ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up, down = await asyncio.open_connection(*self.server)
            both = [asyncio.create_task(way) for way in self.ways((reader, writer), (up, down))]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                down.close()  # before what may be cancelled once more, when all are to end
                for one in both:
                    one.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except OSError:
            pass  # the server is away: so is this connection

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._accept, "127.0.0.1", self.port)
        served = asyncio.run_coroutine_threadsafe(listening, self._loop).result(WAIT_S)
        self._listener = served
        self.port = int(served.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _close(self) -> None:
        self._listener.close()
        # Those that are being accepted become links meanwhile: they have their turn, too.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for link in self._links:
                link.cancel()
            await asyncio.wait(others)
