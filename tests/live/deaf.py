"""A proxy on loopback before a server: it can go deaf, and keeps its connections open then."""

import asyncio
import threading
from typing import Self


class Deaf:
    """Runs in a thread of its own between `with` and its end, on `port`."""

    def __init__(self, host: str, port: int, at: int = 0) -> None:
        """`at`: a port to listen on, as after a proxy that was closed; 0: any."""
        self.deaf = False  # what the server says doesn't arrive; nothing is closed
        self.port = at
        self._server = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            up, down = await asyncio.open_connection(*self._server)
            ways = [
                asyncio.create_task(self._carry(reader, down, False)),
                asyncio.create_task(self._carry(up, writer, True)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                down.close()
        except OSError:
            pass  # the server is away: so is this connection
        finally:
            writer.close()
            self._links.discard(task)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        while data := await reader.read(1 << 16):
            if not (answers and self.deaf):
                writer.write(data)
                await writer.drain()

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._listener = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10.0)
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            self._listener.close()
            links = list(self._links)
            for link in links:
                link.cancel()
            await asyncio.gather(*links, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()
