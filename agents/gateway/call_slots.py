"""How many calls there are at a time, so that slow ones never take the places of quick ones."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

A = TypeVar("A")
QUICK_S = 0.25  # after so long a call leaves its place to another


class CallSlots:
    """`quick` calls at a time, and beside them `slow` ones that take long, or are likely to.

    A call that takes longer than `QUICK_S` moves over to the slow ones if there is room. So what
    hangs for some tenants delays the others by at most that, until `slow` calls hang at once.
    """

    def __init__(self, quick: int, slow: int) -> None:
        self._quick = asyncio.Semaphore(quick)
        self._slow = asyncio.Semaphore(slow)

    async def run(self, call: Callable[[], Coroutine[Any, Any, A]], suspect: bool) -> A:
        """The call's answer, once there is a place; a suspect (it failed before) takes a slow one.

        Cancelled, it ends the call too.
        """
        held = self._slow if suspect else self._quick
        await held.acquire()
        task = asyncio.ensure_future(call())
        try:
            done, _ = await asyncio.wait({task}, timeout=None if suspect else QUICK_S)
            if not done and not self._slow.locked():
                await self._slow.acquire()  # at once: there is room
                held.release()
                held = self._slow
            return await task
        finally:
            task.cancel()
            held.release()
