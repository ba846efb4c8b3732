"""Watches the committed frames: who leads, how fast they come, how late."""

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message

from agents.settings import Settings
from agents.tools.reader import Reader
from topics import codec

TOPIC = "cog.global.frame"
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


class Audience:
    """Reads frames in a thread; the attributes may be read from any other."""

    def __init__(self, settings: Settings) -> None:
        self.frames = 0
        self.unreadable = 0
        self.error: str | None = None
        self.last: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self._delays_ms: deque[float] = deque(maxlen=DELAYS_MAX)
        self._reader = Reader(settings, TOPIC, "end")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="Audience", daemon=True)

    def start(self) -> None:
        """Start reading, from the frames committed from now on."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stop reading."""
        self._ended.set()
        self._thread.join(seconds)

    def delays_ms(self) -> tuple[float, float] | None:
        """Median and 99th percentile from observation to frame in the log; None before any."""
        delays = sorted(self._delays_ms.copy())
        if not delays:
            return None
        return delays[len(delays) // 2], delays[min(len(delays) - 1, len(delays) * 99 // 100)]

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._take(self._reader.read())
        except Exception as error:  # the demo shows it and ends
            self.error = f"{TOPIC} can't be read: {error}"
        finally:
            self._reader.close()

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            try:
                name, record = codec.decode(message.value() or b"")
            except codec.BadRecord:
                name, record = "", {}
            if name != "global_frame":
                self.unreadable += 1
                continue
            self.frames += 1
            self._delays_ms.append(message.timestamp()[1] - record["ts"] / 1000)
            tenant = record["tenant"]
            if tenant in self.last or len(self.last) < TENANTS_MAX:
                self.last[tenant] = record
                self.counts[tenant] += 1
