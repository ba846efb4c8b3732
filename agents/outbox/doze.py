"""How a shard's relay sleeps while nothing waits, so that no event is missed and nobody is asked.

Who adds an event takes the shard's lock with others, and notifies where that fails. Two things make
it fail: a sleeper, who holds the lock alone, and one who waits for that (PostgreSQL lets nobody
past him). So while somebody keeps a transaction open who won't notify, the relay waits for the
lock: everybody else notifies from then on, and when it is free, that one's events are there.
"""

import asyncio
import logging
import random
from contextlib import suppress

from stores.errors import StoreDown
from stores.outbox_relay import Keeper

IN_FLIGHT_S = 0.01  # writers are in the middle of a transaction and won't notify
LOOKS = 4  # so many times one looks whether they are through; then one waits for the lock
# When that wait has begun isn't known, and who came before it won't notify: so many looks more,
# each after twice as long.
MORE_LOOKS = 6

log = logging.getLogger(__name__)


class Doze:
    """Of one shard. `bell` rings when something may wait."""

    def __init__(self, shard: int, keeper: Keeper) -> None:
        self.bell = asyncio.Event()
        self._shard = shard
        self._keeper = keeper
        self._asleep = False
        self._looks = 0  # that found nothing, while somebody won't notify
        self._wait: asyncio.Task[None] | None = None

    async def rest(self, limit: float | None) -> None:
        """Nothing waits: return when to look again, after `limit` seconds at the latest."""
        if self._wait is not None and self._wait.done():
            self._wait.result()  # a defect is raised here
            self._wait = None
        if not self._asleep and self._wait is None:
            self._asleep = await self._keeper.doze(self._shard)
            if self._asleep:
                self._looks = 0
                return  # nobody notified of what came until now
        pause = None if self._asleep else self._pause()
        if pause is not None:
            limit = pause if limit is None else min(limit, pause)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.bell.wait(), limit)

    def _pause(self) -> float | None:
        """Until the next look, in seconds; None: not before the bell rings."""
        self._looks += 1
        if self._looks > LOOKS and self._wait is None:
            self._wait = asyncio.create_task(self._alone())
        more = self._looks - LOOKS
        if more > MORE_LOOKS:
            return None
        return IN_FLIGHT_S * 2.0 ** max(0, more) * random.uniform(0.5, 1.5)

    async def _alone(self) -> None:
        """Wait for the lock, then ring; where that can't be, look now and then."""
        try:
            await self._keeper.alone(self._shard)
        except StoreDown as error:
            log.info("shard %d can't wait for a writer: %s", self._shard, error)
            self._looks = LOOKS + MORE_LOOKS - 1
            return
        self._looks = LOOKS
        self.bell.set()

    async def busy(self) -> None:
        """Much comes: nobody needs to notify."""
        await self.end()
        if self._asleep:
            self._asleep = False
            await self._keeper.rouse(self._shard)

    async def end(self) -> None:
        """Wait for nobody any more."""
        wait, self._wait = self._wait, None
        self._looks = 0
        if wait is not None:
            wait.cancel()
            await asyncio.wait([wait])
