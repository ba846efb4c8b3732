"""A topic into a store: what all projections share.

While the store is away the partitions are paused and the membership of the group is kept: one line
in the log says so, another when it is over, and everything else of the process goes on. Memory is
bounded: at most one batch waits, and the client holds 8 MiB.
"""

import logging
import time
from abc import abstractmethod
from typing import Any

from prometheus_client import CollectorRegistry

from agents.projections.metrics import metrics_of
from agents.services.backoff import Backoff
from agents.services.base import Service
from agents.services.stream import LogBehindError, ReadBuffer, Stream
from agents.settings import Settings
from stores.errors import StoreDown

READ_MAX = 5_000  # records per call of the consumer
READ_S = 0.1
LOOK_S = 2.0  # how soon an outage, a drop or a rebuild is noticed while no records come

logger = logging.getLogger(__name__)


class Projection(Service):
    """Reads `topic` into `waiting` and brings it to a store; a thread, a group, a connection."""

    whose: str  # the store's name for people

    def __init__(
        self, settings: Settings, name: str, topic: str, waiting: ReadBuffer,
        registry: CollectorRegistry,
    ) -> None:  # fmt: skip
        """`name` is that of the group, the thread and in metrics."""
        super().__init__(name)
        self.metrics = metrics_of(registry)
        self.settings = settings
        self.backoff = Backoff()
        self._of = topic, waiting
        self._lag: dict[int, int] = {}  # replaced whole by the thread, never changed
        self._stopped: dict[str, str] = {}  # the same
        self._held_up: dict[str, dict[str, Any]] = {}  # the same
        self._look_at = 0.0
        self._why: type[StoreDown] | None = None
        self._waits = self._troubles = ""

    @abstractmethod
    def offsets(self) -> dict[int, int]:
        """Partition -> the next offset that the store lacks, as we wrote or found it."""

    @abstractmethod
    def place(self, stream: Stream) -> None:
        """Say from where the partitions are read that `stream` has `unplaced`. `StoreDown`."""

    @abstractmethod
    def put(self, stream: Stream) -> None:
        """Give the store what waits. `StoreDown`: nothing of it is known to be there."""

    @abstractmethod
    def look(self, stream: Stream) -> None:
        """Ask the store how it is, and note ends that were reached. `StoreDown`."""

    @abstractmethod
    def close(self) -> None:
        """Leave the store."""

    def full(self, stream: Stream) -> bool:
        """Whether so much waits that the store is asked at once."""
        return False

    def back(self, stream: Stream) -> None:
        """The store is there again: read on."""
        stream.resume()

    def hint(self, error: StoreDown) -> str:
        """What to do about an error, behind its text in the log."""
        return ""

    @property
    def down(self) -> bool:
        """Whether the store is away."""
        return self.backoff.down

    def lag(self) -> dict[int, int]:
        return dict(self._lag)

    def stopped(self) -> dict[str, str]:
        return self._stopped

    def held_up(self) -> dict[str, dict[str, Any]]:
        return self._held_up

    def waits(self) -> str:
        return self._waits or self._troubles

    def count(self, counts: dict[str, int]) -> None:
        """Records that are done with, by what became of them."""
        for result, number in counts.items():
            if number:
                self.metrics.records.labels(self.name, result).inc(number)

    def work(self) -> None:
        try:
            stream = Stream(self.settings, self.name, *self._of)
            try:
                self.metrics.up.labels(self.name).set(1)
                while not self.stopping.is_set():
                    stream.read(READ_MAX, READ_S)
                    if self.backoff.due or (self.full(stream) and not self.down):
                        self._turn(stream)
                    self._note_lag(stream)
                    self._stopped, self._troubles = stream.stopped, stream.troubles
                    self._held_up = stream.held_up
                if not self.down:
                    self._turn(stream)
            finally:
                self._lag = {}
                stream.close()
        finally:
            self.close()

    def _turn(self, stream: Stream) -> None:
        """Ask the store where to read, and give it what waits; if it is away, come back later."""
        try:
            self.place(stream)
            self.put(stream)
            # While it is away, only what it says itself is an answer: there may be nothing to put.
            if self.down or time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + LOOK_S
                self.look(stream)
        except StoreDown as error:
            self._away(stream, error)
            return
        if away := self.backoff.answered():
            said = "%s is back after %.1f s, the projection %s goes on"
            logger.info(said, self._whose(), away, self.name)
            self.metrics.up.labels(self.name).set(1)
            self._why, self._waits = None, ""
            self.back(stream)

    def _away(self, stream: Stream, error: StoreDown) -> None:
        if self.backoff.failed():
            stream.pause()
            self.metrics.up.labels(self.name).set(0)
        if self._why is type(error):
            return
        self._why = type(error)
        said = f"{error}{self.hint(error)}"
        self._waits = f"{self._whose()}: {said}"
        logger.warning("%s: the projection %s waits: %s", self._whose(), self.name, said)

    def _whose(self) -> str:
        """On whom it waits."""
        return "Kafka" if self._why is LogBehindError else self.whose

    def _note_lag(self, stream: Stream) -> None:
        before, self._lag = self._lag, stream.lag(self.offsets())
        for partition in before.keys() - self._lag.keys():
            self.metrics.lag.remove(self.name, str(partition))
        for partition, lag in self._lag.items():
            self.metrics.lag.labels(self.name, str(partition)).set(lag)
