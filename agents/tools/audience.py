"""Watches the committed frames and boundaries: who leads, how fast they come, how late."""

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import Message

from agents.tools.reader import TopicReader
from topics import codec

if TYPE_CHECKING:
    from agents.settings import Settings

TOPIC = "cog.global.frame"
BOUNDARIES = "cog.segments"
BOUNDARIES_MAX = 200  # the latest ones
TENANTS_MAX = 1_000  # shown and counted apart; frames of others count in the sum
DELAYS_MAX = 2_000  # the last few seconds of a demo
WINDOW_S = 5.0


@dataclass
class Rate:
    """How fast a count grows, over the last WINDOW_S seconds."""

    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def per_second(self, count: int) -> float:
        """Note the count as it is now; returns its growth per second."""
        now = time.monotonic()
        self._marks.append((now, count))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()
        since, before = self._marks[0]
        return (count - before) / (now - since) if now - since > 0.2 else 0.0


class Watcher(ABC):
    """Reads one topic in a thread; the attributes may be read from any other."""

    def __init__(self, settings: "Settings", topic: str, schema: str) -> None:
        self.unreadable = 0
        self.error: str | None = None
        self._topic = topic
        self._schema = schema
        self._reader = TopicReader(settings, topic, "end")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        """Start reading, from what is committed from now on."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stop reading."""
        self._ended.set()
        self._thread.join(seconds)

    @abstractmethod
    def take(self, record: dict[str, Any], log_ms: int) -> None:
        """One record, and when it reached the log."""

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                for message in self._reader.read():
                    self._take(message)
        except Exception as error:  # the demo shows it and ends
            self.error = f"{self._topic} can't be read: {error}"
        finally:
            self._reader.close()

    def _take(self, message: Message) -> None:
        value = message.value() or b""
        if value[: codec.HEADER] in codec.control_headers():
            return  # a setting: it is for the processor that reads this topic, at its place
        try:
            name, record = codec.decode(value)
        except codec.BadRecord:
            name, record = "", {}
        if name == self._schema:
            self.take(record, message.timestamp()[1])
        else:
            self.unreadable += 1


class Audience(Watcher):
    """Of the frames."""

    def __init__(self, settings: "Settings") -> None:
        super().__init__(settings, TOPIC, "global_frame")
        self.frames = 0
        self.last: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self._delays_ms: deque[float] = deque(maxlen=DELAYS_MAX)

    def delays_ms(self) -> tuple[float, float] | None:
        """Median and 99th percentile from observation to frame in the log; None before any."""
        delays = sorted(self._delays_ms.copy())
        if not delays:
            return None
        return delays[len(delays) // 2], delays[min(len(delays) - 1, len(delays) * 99 // 100)]

    def take(self, record: dict[str, Any], log_ms: int) -> None:
        self.frames += 1
        self._delays_ms.append(log_ms - record["ts"] / 1000)
        tenant = record["tenant"]
        if tenant in self.last or len(self.last) < TENANTS_MAX:
            self.last[tenant] = record
            self.counts[tenant] += 1


class Boundaries(Watcher):
    """Of the segments' boundaries."""

    def __init__(self, settings: "Settings") -> None:
        super().__init__(settings, BOUNDARIES, "segment_boundary")
        self.count = 0
        self.tenants: Counter[str] = Counter()
        self._latest: deque[dict[str, Any]] = deque(maxlen=BOUNDARIES_MAX)

    def latest(self) -> list[dict[str, Any]]:
        """The last ones, in the order they came."""
        return list(self._latest.copy())

    def take(self, record: dict[str, Any], log_ms: int) -> None:
        self.count += 1
        tenant = record["tenant"]
        if tenant in self.tenants or len(self.tenants) < TENANTS_MAX:
            self.tenants[tenant] += 1
        self._latest.append(record)
