"""The dead letters of a job's ranges, some at a time, from where the job is."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from agents.dlq.letters import Letter
from agents.dlq.reading import LetterReader
from agents.dlq.redrive import PART_BYTES
from agents.replay.command import Command
from agents.replay.modes import JobFailedError
from agents.settings import Settings


class Letters:
    """`read` and `close` may be called by any thread: they wait for one another."""

    def __init__(
        self, settings: Settings, command: Command, plan: Mapping[str, Any],
        position: Mapping[int, int],
    ) -> None:  # fmt: skip
        self.done = 0  # offsets passed
        self.position: dict[int, int] = {}  # of the partitions that were read
        self._settings, self._topic, self._partial = settings, command.source, command.partial
        self._topic_id = plan["source_id"]
        self._left = {
            int(p): (position.get(int(p), first), end) for p, (first, end) in plan["ranges"].items()
        }
        self._lock = threading.Lock()
        self._reader: LetterReader | None = None
        self._under_way: Iterator[Letter] | None = None

    @property
    def left(self) -> int:
        """Offsets that are left of a partition; 0: all are read."""
        return next((end - at for at, end in self._left.values() if at < end), 0)

    def read(self, most: int) -> list[Letter]:
        """The next letters of one partition. DlqError; JobFailedError where they are gone."""
        with self._lock:
            partition, (at, end) = next(
                (p, span) for p, span in self._left.items() if span[0] < span[1]
            )
            if self._under_way is None:
                self._under_way = self._from(partition, at, end)
            found: list[Letter] = []
            size = 0
            for letter in self._under_way:
                found.append(letter)
                size += len(letter.value or b"")
                if len(found) >= most or size >= PART_BYTES:
                    behind = letter.place.offset + 1
                    break
            else:
                behind = end
            if behind == end:
                self._under_way = None
            self.done += behind - at
            self._left[partition] = behind, end
            self.position[partition] = behind
            return found

    def _from(self, partition: int, at: int, end: int) -> Iterator[Letter]:
        if self._reader is None:
            self._reader = LetterReader(self._settings, [self._topic])
        if self._reader.topic_ids[self._topic] != self._topic_id:
            raise JobFailedError(
                f"the dead letters' topic of {self._topic} was made anew meanwhile"
            )
        low, _ = self._reader.ends[self._topic, partition]
        if at < low and not self._partial:
            raise JobFailedError(f"partition {partition}: letters {at} to {low - 1} are gone")
        if low >= end:
            return iter(())
        return self._reader.between(self._topic, partition, max(at, low), end)

    def close(self) -> None:
        """Let the broker go."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
