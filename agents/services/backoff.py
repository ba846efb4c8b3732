"""How long to wait for a store that is away: doubling, with jitter, up to a limit."""

import random
import time
from collections.abc import Callable

FIRST_S = 0.1
LONGEST_S = 5.0


class Backoff:
    """One outage at a time; `due` says whether the store may be asked (again)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._since = 0.0
        self._next = 0.0

    @property
    def down(self) -> bool:
        """Whether the last answer was a failure."""
        return self._failures > 0

    @property
    def due(self) -> bool:
        """Whether it is time to ask."""
        return self._clock() >= self._next

    @property
    def left(self) -> float:
        """Seconds until it is due."""
        return max(0.0, self._next - self._clock())

    def wait(self, seconds: float) -> None:
        """Not due for so many seconds."""
        self._next = self._clock() + seconds

    def failed(self) -> bool:
        """Note a failure; returns whether it is the first of an outage."""
        self._failures += 1
        if self._failures == 1:
            self._since = self._clock()
        longest = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures - 1, 16))
        # Jitter, so that many workers don't all ask a store that has just come back.
        self.wait(longest * random.uniform(0.5, 1.0))
        return self._failures == 1

    def answered(self) -> float:
        """Note an answer; returns how many seconds the outage before it took, 0.0 if none was."""
        seconds = self._clock() - self._since if self.down else 0.0
        self._failures = 0
        return seconds
