"""What feeds the demo: this machine as it is, and a recorded one, faster than life."""

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agents.tools import series
from agents.tools.machine import Machine, Observation
from agents.tools.publisher import Publisher
from topics import codec

if TYPE_CHECKING:
    from agents.settings import Settings

TOPIC = "cog.observations"


def send(publisher: Publisher, seen: Sequence[Observation]) -> None:
    """Publish observations, keyed by tenant."""
    for one in seen:
        value = codec.encode("observation", codec.from_json("observation", one.record()))
        publisher.send(one.tenant.encode(), value)


class Feed(ABC):
    """Publishes in a thread until it is stopped. `error` says why it ended by itself."""

    def __init__(self, settings: "Settings") -> None:
        self.error: str | None = None
        self._publisher = Publisher(settings, TOPIC, self._failed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    @property
    def delivered(self) -> int:
        """Observations that Kafka has confirmed."""
        return self._publisher.delivered

    def start(self) -> None:
        """Start publishing."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stop, and await what is under way."""
        self._ended.set()
        self._thread.join(seconds)
        if unanswered := self._publisher.close(seconds):
            self.error = self.error or f"{unanswered} observations without an answer in time"

    @abstractmethod
    def observations(self, step: int) -> tuple[float, Sequence[Observation]]:
        """Seconds to wait from the start of this step, and what to publish then."""

    def _failed(self, _: int, why: str) -> None:
        self.error = self.error or f"an observation was {why}"

    def _run(self) -> None:
        try:
            for step in itertools.count():
                start = time.monotonic()
                wait, seen = self.observations(step)
                send(self._publisher, seen)
                self._publisher.poll(0)
                if self._ended.wait(max(0.0, start + wait - time.monotonic())):
                    return
        except Exception as error:  # the demo shows it and ends
            self.error = f"{type(self).__name__}: {error}"


class MachineFeed(Feed):
    """This machine, sampled every `interval` seconds."""

    def __init__(self, settings: "Settings", tenants: Sequence[str], interval: float) -> None:
        super().__init__(settings)
        self._machine = Machine(tenants)
        self._interval = interval

    def observations(self, step: int) -> tuple[float, Sequence[Observation]]:
        return self._interval, self._machine.sample()


class SeriesFeed(Feed):
    """The recorded series again and again, `speed` times as fast as it was.

    An observation's event time is the moment it is played: the demo can be run again at once, and
    its tenants go on where they were instead of being late.
    """

    def __init__(self, settings: "Settings", tenants: Sequence[str], speed: float) -> None:
        super().__init__(settings)
        self._steps = [
            (second, [row for row in rows if row.tenant in tenants])
            for second, rows in series.steps(series.recorded())
        ]
        self._speed = speed

    def observations(self, step: int) -> tuple[float, Sequence[Observation]]:
        k = step % len(self._steps)
        second, rows = self._steps[k]
        following = self._steps[(k + 1) % len(self._steps)][0]
        now = time.time_ns() // 1000
        played = [
            Observation(series.PREFIX + row.tenant, row.domain, now, row.vector) for row in rows
        ]
        return max(0.0, following - second) / self._speed, played
