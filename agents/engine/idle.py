"""Batches of which nothing is kept: alone they would write a position, so they wait for others.

Where nobody learns, say, the processor `lessons` reads every frame and writes nothing. A commit for
each batch would cost the broker as much as one that has something to say. So it is noted here, and
committed with the next that has, or after IDLE_S: whoever takes the partition over meanwhile folds
it once more, to the same end.
"""

import time
from collections import Counter

from agents.engine.workspace import Outcome

IDLE_S = 1.0  # that a position waits


class Idle:
    """What is folded, has nothing but its position to commit, and waits."""

    def __init__(self) -> None:
        self._waits: Outcome | None = None
        self._since = 0.0  # monotonic

    def __bool__(self) -> bool:
        return self._waits is not None

    @property
    def due(self) -> bool:
        """Whether something has waited for long enough."""
        return self._waits is not None and time.monotonic() - self._since >= IDLE_S

    def left_s(self, most: float) -> float:
        """For how long a partition may wait for records, `most` where nothing waits here."""
        if self._waits is None:
            return most
        return min(most, max(0.0, self._since + IDLE_S - time.monotonic()))

    def keeps(self, outcome: Outcome) -> bool:
        """Take an outcome in that may wait; False if it may not."""
        if not empty(outcome):
            return False
        self._since = time.monotonic() if self._waits is None else self._since
        self._waits = self.joined(outcome)
        self._waits.newest_ts = 0  # nothing came of it, so nothing was late
        return True

    def joined(self, outcome: Outcome) -> Outcome:
        """An outcome with the counts of what waited, which waits no more: its position is behind
        theirs.
        """
        if (before := self._waits) is not None:
            outcome.results.update(before.results)
            counted = Counter(before.counted)
            counted.update(outcome.counted)
            outcome.counted, self._waits = counted, None
        return outcome

    def take(self) -> Outcome:
        """What waits, which waits no more; there is something."""
        assert self._waits is not None
        outcome = self._waits
        self.clear()
        return outcome

    def clear(self) -> None:
        """Forget it."""
        self._waits = None


def empty(outcome: Outcome) -> bool:
    """Whether a transaction would write a position and nothing else.

    Whoever obeyed a control record, asks a policy, or waits for a tick is in no such case.
    """
    asks = outcome.questions or outcome.deadline is not None or outcome.results["control"]
    return not asks and not outcome.rows and len(outcome.sends) == 1
