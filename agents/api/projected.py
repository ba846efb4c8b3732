"""Waiting until PostgreSQL's projection of memories has something: asked in one place for all.

However many wait, there is one statement at a time, POLL_S apart at least, and the later the longer
the youngest of them waits: of a wait of t seconds about 8 in its first half second, and 4 t behind.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from stores.errors import StoreDown

POLL_S, SLOWEST_S = 0.01, 0.25  # between statements
GROWTH = 0.5  # of the time that the youngest has waited

Positions = Mapping[int, tuple[str, int]]  # partition -> topic id, next offset


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    there: Callable[[Positions], bool]
    told: "asyncio.Future[None]"
    began: float


class Projected:
    """Of one event loop; `ask` raises StoreDown."""

    def __init__(self, ask: Callable[[], Awaitable[Positions]]) -> None:
        self._ask = ask
        self._waiters: list[_Waiter] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def until(self, there: Callable[[Positions], bool], deadline: float) -> bool:
        """Wait until `there`; False: not before the deadline (time.monotonic()). StoreDown."""
        now = time.monotonic()
        mine = _Waiter(there, asyncio.get_running_loop().create_future(), now)
        self._waiters.append(mine)
        self._more.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="projected")
        try:
            async with asyncio.timeout(max(0.0, deadline - now)):
                await mine.told
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(mine)
        return True

    async def close(self) -> None:
        """Ask no more; whoever waits then does so to his deadline."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiters:
            self._more.clear()
            await self._tell()
            await asyncio.sleep(POLL_S)  # those who were told leave meanwhile
            youngest = max((one.began for one in self._waiters), default=0.0)
            pause = min(SLOWEST_S, GROWTH * (time.monotonic() - youngest)) - POLL_S
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause)):
                    await self._more.wait()

    async def _tell(self) -> None:
        """Ask once, and tell those for whom it is there, or all why there is no answer."""
        try:
            found = await self._ask()
        except StoreDown as error:
            for one in self._waiters:
                if not one.told.done():
                    one.told.set_exception(error)
            return
        for one in self._waiters:
            if not one.told.done() and one.there(found):
                one.told.set_result(None)
