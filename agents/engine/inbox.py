"""What was fetched of a partition, and waits to be folded."""

from collections import deque
from collections.abc import Sequence

from agents.engine.batches import RawBatch
from agents.engine.transport import Fetched


class Inbox:
    """Record batches in the order of the log. `seen`: all before is here, folded, or a marker."""

    def __init__(self) -> None:
        self.batches: deque[RawBatch] = deque()
        self.records = self.bytes = 0
        self.seen = 0
        self.stable = 0  # the end of what can be read, as fetched last
        self.end = 0  # behind the last record that came

    def begin(self, offset: int, seen: int) -> None:
        """What comes next begins at this offset."""
        self.clear()
        self.end, self.seen = offset, seen

    def clear(self) -> None:
        """Forget what waits."""
        self.batches.clear()
        self.records = self.bytes = 0

    def take_in(self, fetched: Fetched) -> None:
        """What a fetch brought."""
        self.batches.extend(fetched.batches)
        self.records += sum(batch.count for batch in fetched.batches)
        self.bytes += sum(len(batch.data) for batch in fetched.batches)
        self.seen = max(self.seen, fetched.seen)
        self.stable = fetched.stable
        if fetched.batches:
            self.end = fetched.batches[-1].next_offset

    def take(self, most: int) -> list[RawBatch]:
        """Batches with at most so many records, or one; the rest waits on."""
        taken: list[RawBatch] = []
        count = 0
        while self.batches and (not taken or count + self.batches[0].count <= most):
            taken.append(self.batches.popleft())
            count += taken[-1].count
        return taken

    def put_back(self, taken: Sequence[RawBatch], next_offset: int) -> None:
        """Those that weren't done up to this offset wait on, before the others."""
        for batch in reversed(taken):
            if batch.next_offset > next_offset:
                self.batches.appendleft(batch)
        self.records = sum(batch.count for batch in self.batches)
        self.bytes = sum(len(batch.data) for batch in self.batches)

    def done(self, committed: int) -> int:
        """Next offset, if so much is committed: markers of transactions behind it count as done."""
        return max(committed, self.seen) if committed >= self.end else committed

    def behind(self, committed: int) -> int:
        """Offsets that can be read, and aren't committed; markers don't count."""
        done = committed >= self.end and self.seen >= self.stable
        return 0 if done else max(0, self.stable - committed)
