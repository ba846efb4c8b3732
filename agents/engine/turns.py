"""Whose turn it is to fold: threads are few, and what takes long gives its turn on."""

import asyncio
from typing import Self


class Turn:
    """One of the places that folds share; given back at the end, or sooner."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._held = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._turns.acquire()
        self._held = True
        return self

    def give_after(self, seconds: float) -> None:
        """Give it back after so long, whether the fold is done or not."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self._give)

    def _give(self) -> None:
        if self._held:
            self._held = False
            self._turns.release()

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._give()
