"""Frames into Redis: the last one of each tenant, never older over newer (stores/frame_cache.py).

Frames older than the cache keeps them are skipped, not read, so after an outage of hours it has
caught up within seconds. While the store is away its partitions are paused and the membership kept;
one line in the log says so, another when it is over. Where the store loses its memory each tenant's
next frame repairs it, and older than two minutes nothing is shown anyway.
"""

import logging
import threading
import time
from collections.abc import Callable

from confluent_kafka import Message
from prometheus_client import REGISTRY, CollectorRegistry

from agents.projections.backoff import Backoff
from agents.projections.log import Log
from agents.projections.metrics import metrics_of
from agents.settings import Settings
from stores.errors import StoreDown
from stores.frame_cache import TTL_MS, Frame, FrameCache, Place
from topics import codec

NAME = "frames"
TOPIC = "cog.global.frame"
SCHEMA = "global_frame"
LOOK_S = 2.0  # how soon an outage is noticed while no frames come
STORE_EVERY_S = 0.1  # at most one write per tenant in so long, whatever the rate
READ_MAX = 5_000  # records per call of the consumer
TENANTS_MAX = 20_000  # with so many waiting, the store is asked at once

logger = logging.getLogger(__name__)


class FramesToRedis:
    """Runs in a thread of its own from `start` to `stop`; `error` says why it ended by itself."""

    def __init__(
        self,
        settings: Settings,
        registry: CollectorRegistry = REGISTRY,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """`failed` hears, in that thread, the error that ended it: the worker should end too."""
        self.metrics = metrics_of(registry)
        self.error: Exception | None = None
        self._settings = settings
        self._failed = failed
        self._cache = FrameCache(settings.redis(), settings.redis_key)
        self._log: Log | None = None
        self._backoff = Backoff()
        self._lag: dict[int, int] = {}  # replaced whole by the thread, never changed
        self._look_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projection.frames", daemon=True)

    def start(self) -> None:
        """Join the group and start reading."""
        self._log = Log(self._settings, NAME, TOPIC, SCHEMA, TTL_MS)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Store what waits if the store answers, commit, leave the group."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def lag(self) -> dict[int, int]:
        """Partition -> records that the store hasn't taken, of the partitions held."""
        return dict(self._lag)

    @property
    def down(self) -> bool:
        """Whether the store is away."""
        return self._backoff.down

    def _run(self) -> None:
        log = self._log
        assert log is not None  # `start` made it
        try:
            self.metrics.up.labels(NAME).set(1)
            while not self._stop.is_set():
                log.read(READ_MAX, STORE_EVERY_S)
                if self._backoff.due or (len(log.waiting.last) >= TENANTS_MAX and not self.down):
                    self._turn(log)
                self._note_lag(log)
            if not self.down:
                self._turn(log)
        except Exception as error:
            self.error = error
            logger.exception("The projection of frames has ended")
            if self._failed is not None:
                self._failed(error)
        finally:
            self._lag = {}
            log.close()
            self._cache.close()

    def _note_lag(self, log: Log) -> None:
        before, self._lag = self._lag, log.lag()
        for partition in before.keys() - self._lag.keys():
            self.metrics.lag.remove(NAME, str(partition))
        for partition, lag in self._lag.items():
            self.metrics.lag.labels(NAME, str(partition)).set(lag)

    def _turn(self, log: Log) -> None:
        """Give the store what waits; if it is away, keep all and come back later."""
        try:
            # While it is away, only what it says itself is an answer: there may be nothing to put.
            if self.down or time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + LOOK_S
                self._cache.ping()
            self._put(log)
        except StoreDown as error:
            if self._backoff.failed():
                logger.warning("Redis is away, frames wait: %s", error)
                self.metrics.up.labels(NAME).set(0)
                log.pause()
            return
        if away := self._backoff.answered():
            logger.info("Redis is back after %.1f s, frames go on", away)
            self.metrics.up.labels(NAME).set(1)
            log.resume()

    def _put(self, log: Log) -> None:
        waiting = log.waiting
        if not waiting or not log.topic_id:
            return
        frames, unreadable = _frames(waiting.records(), log)
        results = self._cache.put(frames)
        counts: dict[str, int] = {result: results.count(result) for result in set(results)}
        counts |= {"replaced": waiting.replaced, "control": waiting.control}
        counts |= {"unreadable": unreadable}
        log.done(waiting.take())
        for result, count in counts.items():
            self.metrics.records.labels(NAME, result).inc(count)
        self._backoff.wait(STORE_EVERY_S)


def _frames(messages: list[Message], log: Log) -> tuple[list[Frame], int]:
    """What can be shown; and how many records aren't frames (each is named in the log)."""
    frames: list[Frame] = []
    for message in messages:
        try:
            frames.append(frame_of(message, log.topic_id))
        except codec.BadRecord as error:
            place = f"{log.topic} partition {message.partition()} offset {message.offset()}"
            logger.error("%s is no frame and isn't shown: %s", place, error)
    return frames, len(messages) - len(frames)


def frame_of(message: Message, topic_id: str) -> Frame:
    """The frame that a record holds; `BadRecord` if it holds none."""
    value = message.value()
    if not isinstance(value, bytes):
        raise codec.BadRecord("null_value", "no value")
    name, record = codec.decode_ours(value)
    if name != SCHEMA:
        raise codec.BadRecord("unknown_schema", f"a {name}, not a {SCHEMA}")
    place = Place(
        topic_id,
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
    )
    return Frame(record["tenant"], codec.to_json(name, record), place)
