"""The work on large bodies: in a thread, in turns, so that everybody else is answered."""

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

LARGE_BYTES = 64 * 1024

T = TypeVar("T")


class Offload:
    """One thread: more would only take turns with the loop more often, and it has to be answered.

    Of each tenant one piece of work is in the queue: whoever sends many large bodies waits behind
    himself, others behind one piece of his.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "large")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def do(self, whose: str, size: int, work: Callable[[], T]) -> T:
        """What `work` returns, on a body of `size` bytes; a small one's is done at once."""
        if size <= LARGE_BYTES:
            return work()
        turn = self._turns.setdefault(whose, asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self._thread, _quietly, work)

    def close(self) -> None:
        """What waits isn't begun any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _quietly(work: Callable[[], T]) -> T:
    """Without the collector of cycles: JSON has none, and it holds all threads up while it looks
    through a million lists, again and again while they become more."""
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()
