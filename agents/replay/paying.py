"""How a fold in a thread of its own gets turns of the budget, which lives in an event loop."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError, wait
from typing import Protocol

from agents.replay.modes import Take

TURN_S = 300.0  # for a turn of the budget: many jobs may share a record a second
LOOK_S = 0.5  # between two looks whether it is still wanted


class StoppedFoldError(Exception):
    """Nobody wants this fold any more."""


class Read(Protocol):
    """A fold that goes on."""

    @property
    def records(self) -> int:
        """How many have been read."""


class Paying:
    """Called from the thread of a fold: asks for the budget, and ends what nobody wants."""

    def __init__(self, take: Take, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        self._take, self._stop, self._loop = take, stop, loop
        self._paid = 0
        self.free = False

    def __call__(self, past: Read) -> None:
        """StoppedFoldError; TimeoutError where no turn comes."""
        if self.free:
            self._paid = past.records
        while not self._stop.is_set() and past.records > self._paid:
            self._paid += self._turn(past.records - self._paid)
        if self._stop.is_set():
            raise StoppedFoldError

    def _turn(self, wanted: int) -> int:
        """How many of the records wanted may be read. StoppedFoldError, TimeoutError."""
        what = f"a turn to read {wanted:,} records"
        gone = StoppedFoldError(f"the event loop ended before it gave {what}")
        taking, until = _taken(self._take, wanted), time.monotonic() + TURN_S
        try:
            asked = asyncio.run_coroutine_threadsafe(taking, self._loop)
        except RuntimeError as error:  # it is closed
            taking.close()
            raise gone from error
        while not wait({asked}, LOOK_S).done:
            if self._loop.is_closed():
                taking.close()  # it never began
                raise gone
            if self._stop.is_set():
                asked.cancel()
                raise StoppedFoldError
            if time.monotonic() > until:
                asked.cancel()
                raise TimeoutError(f"{what} didn't come within {TURN_S:g} s")
        try:
            return asked.result(0)
        except CancelledError as error:  # with all that the event loop was at
            raise gone from error


async def _taken(take: Take, wanted: int) -> int:
    return await take(wanted)
