"""Frames into Redis: the last one of each tenant, never older over newer (stores/frame_cache.py).

Frames older than the cache keeps them are skipped, not read, so after an outage of hours it has
caught up within seconds. Where the store loses its memory each tenant's next frame repairs it, and
older than two minutes nothing is shown anyway.
"""

import logging
import time

from confluent_kafka import KafkaException, Message
from prometheus_client import REGISTRY, CollectorRegistry

from agents.projections.projection import Projection
from agents.services.stream import Stream
from agents.settings import Settings
from agents.tables.batch import Waiting
from stores.frame_cache import TTL_MS, Frame, FrameCache, FramePosition
from topics import codec

NAME = "frames"
TOPIC = "cog.global.frame"
SCHEMA = "global_frame"
STORE_EVERY_S = 0.1  # at most one write per tenant in so long, whatever the rate
TENANTS_MAX = 20_000  # with so many waiting, the store is asked at once
CLOCKS_MS = 60_000  # our clock may differ from the broker's by so much

logger = logging.getLogger(__name__)


class FramesToRedis(Projection):
    """The group's position says where to read: what is written again does no harm."""

    whose = "Redis"

    def __init__(self, settings: Settings, registry: CollectorRegistry = REGISTRY) -> None:
        self._waiting = Waiting(codec.headers(SCHEMA))
        super().__init__(settings, NAME, TOPIC, self._waiting, registry)
        self._cache = FrameCache(settings.redis(), settings.redis_key)
        self._done: dict[int, int] = {}  # partition -> next offset that the store lacks
        self._topic_id = ""  # of which these are

    def offsets(self) -> dict[int, int]:
        return self._done

    def place(self, stream: Stream) -> None:
        if not stream.unplaced or not stream.topic_id:
            return
        if self._topic_id != stream.topic_id:
            self._topic_id, self._done = stream.topic_id, {}
        since = int(time.time() * 1000) - TTL_MS - CLOCKS_MS
        for partition in list(stream.unplaced):
            try:
                known, first, end = stream.known(partition, since)
            except KafkaException as error:
                logger.debug("%s: it isn't known yet where to read: %s", stream.topic, error)
                return  # asked again with the next turn
            known = max(known, self._done.get(partition, known))
            start = known if first <= known <= end else first
            if (at := stream.place(partition, start, clamp=True)) is not None:
                self._done[partition] = at

    def put(self, stream: Stream) -> None:
        waiting = self._waiting
        if not waiting or not stream.topic_id:
            return
        frames, unreadable = _frames(waiting.records(), stream)
        results = self._cache.put(frames)
        counts: dict[str, int] = {result: results.count(result) for result in set(results)}
        counts |= {"replaced": waiting.replaced, "control": waiting.control}
        counts["unreadable"] = unreadable
        self._are_done(stream, waiting.take())
        self.count(counts)
        self.backoff.wait(STORE_EVERY_S)

    def look(self, stream: Stream) -> None:
        self._cache.ping()
        self._are_done(stream, stream.passed(self._done))

    def full(self, stream: Stream) -> bool:
        return len(self._waiting.last) >= TENANTS_MAX

    def back(self, stream: Stream) -> None:
        stream.unplace(self._done)  # to go on where it still matters
        stream.resume()

    def close(self) -> None:
        self._cache.close()

    def _are_done(self, stream: Stream, upto: dict[int, int]) -> None:
        stream.done(upto)
        self._done |= upto


def _frames(messages: list[Message], stream: Stream) -> tuple[list[Frame], int]:
    """What can be shown; and how many records aren't frames (each is named in the log)."""
    frames: list[Frame] = []
    for message in messages:
        try:
            frames.append(frame_of(message, stream.topic_id))
        except codec.BadRecord as error:
            place = f"{stream.topic} partition {message.partition()} offset {message.offset()}"
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
    place = FramePosition(
        topic_id,
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
    )
    return Frame(record["tenant"], codec.to_json(name, record), place)
