"""How many records may be read a second: one budget for all jobs of a worker, in fair turns."""

import asyncio
import time
from collections.abc import Callable

SLICE_S = 0.2  # of the budget, at a time: how coarse it is, and how long a turn lasts


def slice_of(*rates: int) -> int:
    """What may be read at a time under all these rates; 0: as much as comes."""
    return min((max(1, int(rate * SLICE_S)) for rate in rates if rate), default=0)


class Budget:
    """A token bucket that holds one slice. For one event loop."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: records a second; 0: as many as come."""
        self.rate = rate
        self._clock = clock
        self._slice = slice_of(rate)
        self._tokens, self._at = 0.0, clock()
        self._turn = asyncio.Lock()  # those who wait get it in the order in which they came

    async def take(self, wanted: int) -> int:
        """Wait for a turn; how many of the records wanted may be read in it, 1 at least."""
        if not self.rate:
            return wanted
        granted = min(wanted, self._slice)
        async with self._turn:
            await asyncio.sleep(max(0.0, granted - self._fill()) / self.rate)
            self._tokens = self._fill() - granted
        return granted

    def _fill(self) -> float:
        now = self._clock()
        self._tokens = min(float(self._slice), self._tokens + (now - self._at) * self.rate)
        self._at = now
        return self._tokens
