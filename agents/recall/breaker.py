"""A circuit breaker (Nygard, Release It!, 2007): a service that fails isn't asked for a while.

Closed, it lets every call through; FAILURES in a row open it for OPEN_S; then it is half open and
lets a single call through, which closes it or opens it again, for twice as long each time. How a
call from before the circuit opened or closed went is no news.
"""

import threading
from collections.abc import Callable

FAILURES, OPEN_S, LONGEST_S = 3, 1.0, 60.0


class Breaker:
    """Of one service; asked by several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._open_s = OPEN_S
        self._probing = False
        self._round = 0  # another each time that it opens or closes

    def enter(self) -> int | None:
        """A ticket of a call that may go, which says `done` once; None: it may not."""
        with self._lock:
            if self._failures < FAILURES:
                return self._round
            if self._probing or self._clock() < self._until:
                return None
            self._probing = True
            return self._round

    def done(self, ticket: int, well: bool) -> None:
        """How the ticket's call went."""
        with self._lock:
            if ticket != self._round:
                return
            was_probe, self._probing = self._probing, False
            if well:
                self._round += was_probe
                self._failures, self._open_s = 0, OPEN_S
                return
            self._failures += 1
            if self._failures >= FAILURES:
                if was_probe:
                    self._open_s = min(2 * self._open_s, LONGEST_S)
                self._until = self._clock() + self._open_s
                self._round += 1

    def rest_s(self) -> float:
        """For how long no call goes."""
        with self._lock:
            if self._failures < FAILURES:
                return 0.0
            return max(0.0, self._until - self._clock())
