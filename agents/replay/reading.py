"""Raw record batches of a range of a topic, as the worker fetches them; belongs to no group."""

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from agents.engine.batches import RawBatch, install
from agents.engine.connection import abandon, ended
from agents.engine.security import security
from agents.replay.modes import JobFailedError
from agents.settings import Settings

START_S = 20.0
POLL_MS = 500
FETCH_WAIT_MS = 250
METADATA_MS = 10_000  # how soon another leader is known
SILENCE_S = 20.0  # without any step forward: the broker is gone, or the topic

Span = tuple[int, int]  # from an offset to before another


class RangeReader:
    """Reads spans of some partitions of a topic, each in its order; committed records only."""

    def __init__(self, settings: Settings, topic: str, spans: Mapping[int, Span]) -> None:
        """`topic`: as on the broker."""
        self._settings, self._topic = settings, topic
        self._left = {p: end for p, (at, end) in spans.items() if at < end}
        self._at = {p: spans[p][0] for p in self._left}
        self._consumer: AIOKafkaConsumer | None = None
        self._ready: list[tuple[int, list[RawBatch], int]] = []
        self._heard = time.monotonic()

    async def read(self) -> tuple[int, list[RawBatch], int] | None:
        """What came of one partition: its number, record batches, before which offset all of it has
        come; None: all is read. A batch may begin before the span, and reach beyond it.

        JobFailedError: it is gone from the log. KafkaError, OSError: the broker doesn't answer.
        """
        while not self._ready:
            if not self._left:
                return None
            await self._fetch(self._consumer or await self._start())
        return self._ready.pop(0)

    async def _start(self) -> AIOKafkaConsumer:
        install()
        own = self._settings
        consumer = self._consumer = AIOKafkaConsumer(
            bootstrap_servers=own.bootstrap(), client_id=own.prefix("soma-replay"),
            group_id=None, enable_auto_commit=False, auto_offset_reset="none",
            isolation_level="read_committed", fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=own.fetch_bytes, metadata_max_age_ms=METADATA_MS,
            request_timeout_ms=int(own.answer_timeout_s * 1000), **security(own),
        )  # fmt: skip
        try:
            await asyncio.wait_for(consumer.start(), START_S)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"no client of Kafka started in {START_S:g} s") from error
        consumer.assign([TopicPartition(self._topic, p) for p in self._left])
        for p in self._left:
            consumer.seek(TopicPartition(self._topic, p), self._at[p])
        self._heard = time.monotonic()
        return consumer

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        if why := ended(consumer):
            raise KafkaTimeoutError(f"the client that reads {self._topic}: {why}")
        places = [TopicPartition(self._topic, p) for p in self._left]
        try:
            found = await consumer.getmany(*places, timeout_ms=POLL_MS)
        except OffsetOutOfRangeError as error:
            gone = ", ".join(f"{tp.partition} from {at}" for tp, at in error.args[0].items())
            raise JobFailedError(
                f"what comes next is gone from the log: {self._topic}, partition {gone}"
            ) from error
        moved = False
        for place in places:
            p = place.partition
            seen = int(await asyncio.wait_for(consumer.position(place), SILENCE_S))
            if seen <= self._at[p]:
                continue
            moved, self._at[p] = True, seen
            self._ready.append((p, found.get(place, []), min(seen, self._left[p])))
            if seen >= self._left[p]:
                del self._left[p]
                consumer.pause(place)
        if moved:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > SILENCE_S:
            raise KafkaTimeoutError(f"nothing came of {self._standing()} for {SILENCE_S:g} s")

    def _standing(self) -> str:
        where = ", ".join(f"{p} from {self._at[p]} to {end}" for p, end in self._left.items())
        return f"{self._topic}, partition {where}"

    def close(self) -> None:
        """Let the broker go, whatever the client is at."""
        if self._consumer is not None:
            abandon(self._consumer)
