"""POSTs by HTTP from several threads: each has a deadline as a whole, and so many bytes of answer.

httpx' own times are those of a single read: a server that sends a byte now and then would hold a
thread for ever. So calls run in an event loop, in a thread of its own, where all of a call ends.
"""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress

DONE = 200
GRACE_S = 5.0  # of the loop, to end a call
_PLAIN = {"Accept-Encoding": "identity", "Content-Type": "application/json"}  # no bomb of gzip


class TooLongError(Exception):
    """The answer has more bytes than it may."""


class Posts:
    """To one URL. `close` it."""

    def __init__(self, url: str, headers: Mapping[str, str], within_s: float) -> None:
        import httpx

        self._url, self._within_s = url, within_s
        # No times of its own: a call has one deadline, that of `_ask`.
        self._client = httpx.AsyncClient(
            headers={**headers, **_PLAIN}, timeout=None, trust_env=False
        )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # with the first call
        self._closed = False

    def ask(self, body: bytes, most: int) -> tuple[int, bytes]:
        """The status, and up to `most` bytes of an answer where that is DONE.

        TimeoutError, TooLongError, httpx.HTTPError; RuntimeError behind `close`.
        """
        loop = self._begun()
        asked = asyncio.run_coroutine_threadsafe(self._ask(body, most), loop)
        try:
            return asked.result(self._within_s + GRACE_S)
        finally:
            asked.cancel()

    async def _ask(self, body: bytes, most: int) -> tuple[int, bytes]:
        async with (
            asyncio.timeout(self._within_s),
            self._client.stream("POST", self._url, content=body) as answer,
        ):
            whole = bytearray()
            if answer.status_code == DONE:
                async for part in answer.aiter_raw():
                    whole += part
                    if len(whole) > most:
                        raise TooLongError(f"more than {most} bytes")
            return answer.status_code, bytes(whole)

    def close(self) -> None:
        """End its calls and connections."""
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is None:
            return
        ending = asyncio.run_coroutine_threadsafe(self._end(), loop)
        with suppress(TimeoutError):
            ending.result(GRACE_S)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(GRACE_S)
        if not self._thread.is_alive():
            loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError("it is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="embedding-http", daemon=True
                )
                self._thread.start()
            return self._loop
