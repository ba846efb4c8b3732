"""Raw record batches of a range of a topic, as the worker fetches them; belongs to no group.

Only committed records; the positions, not the records, say when an end is reached, for markers of
transactions and aborted records take offsets too.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from agents.engine.batches import RawBatch, install
from agents.engine.security import security
from agents.history.errors import Gone
from agents.settings import Settings
from topics.connection import abandon, ended

START_S = 20.0
METADATA_MS = 10_000  # how soon another leader is known
SILENCE_S = 20.0  # without any step forward: the broker is gone, or the topic

Span = tuple[int, int]  # from an offset to before another
Came = tuple[int, list[RawBatch], int]  # partition, batches, before which offset all has come


@dataclass(frozen=True, slots=True)
class Fetching:
    """How a range is asked for."""

    client: str = "soma-replay"  # the client's name, without namespace
    bytes: int = 0  # of one answer and partition at least; the settings may say more
    wait_ms: int = 250  # for the broker to have something
    poll_ms: int = 500


class RangeReader:
    """Reads spans of some partitions of a topic, each in its order; committed records only."""

    def __init__(
        self, settings: Settings, topic: str, spans: Mapping[int, Span], how: Fetching = Fetching()
    ) -> None:
        """`topic`: as on the broker."""
        self._settings, self._topic, self._how = settings, topic, how
        self._left = {p: end for p, (at, end) in spans.items() if at < end}
        self._at = {p: spans[p][0] for p in self._left}
        self._consumer: AIOKafkaConsumer | None = None
        self._ready: list[Came] = []
        self._heard = time.monotonic()

    async def read(self) -> Came | None:
        """What came of one partition; None: all is read. A batch may begin before the span, and
        reach beyond it; so may the offset.

        Gone: it is no longer in the log. KafkaError, OSError: the broker doesn't answer.
        """
        while not self._ready:
            if not self._left:
                return None
            if self._consumer is None:
                try:
                    await asyncio.wait_for(self.start(), START_S)
                except TimeoutError as error:
                    why = f"no client of Kafka started in {START_S:g} s"
                    raise KafkaTimeoutError(why) from error
                self._heard = time.monotonic()
            self._ready = await self.poll()
            if self._ready:
                self._heard = time.monotonic()
            elif time.monotonic() - self._heard > SILENCE_S:
                raise KafkaTimeoutError(f"nothing came of {self._standing()} for {SILENCE_S:g} s")
        return self._ready.pop(0)

    async def start(self) -> None:
        """Find the broker. KafkaError, OSError."""
        install()
        own, how = self._settings, self._how
        consumer = self._consumer = AIOKafkaConsumer(
            bootstrap_servers=own.bootstrap(), client_id=own.prefix(how.client),
            group_id=None, enable_auto_commit=False, auto_offset_reset="none",
            isolation_level="read_committed", fetch_max_wait_ms=how.wait_ms,
            max_partition_fetch_bytes=max(how.bytes, own.fetch_bytes),
            metadata_max_age_ms=METADATA_MS,
            request_timeout_ms=int(own.answer_timeout_s * 1000), **security(own),
        )  # fmt: skip
        await consumer.start()
        consumer.assign([TopicPartition(self._topic, p) for p in self._left])
        for p in self._left:
            consumer.seek(TopicPartition(self._topic, p), self._at[p])

    async def poll(self) -> list[Came]:
        """What has come of the partitions that got on since the last time, maybe over markers of
        transactions only. As `read`, once started.
        """
        consumer = self._consumer
        assert consumer is not None
        if why := ended(consumer):
            raise KafkaTimeoutError(f"the client that reads {self._topic}: {why}")
        places = [TopicPartition(self._topic, p) for p in self._left]
        try:
            found = await consumer.getmany(*places, timeout_ms=self._how.poll_ms)
        except OffsetOutOfRangeError as error:
            place, at = next(iter(error.args[0].items()))
            raise Gone(
                f"{place.topic}/{place.partition}: the log has no offset {at}: it was deleted, or "
                "the log is shorter than it was (a restored Kafka?)"
            ) from error
        came: list[Came] = []
        for place in places:
            p = place.partition
            # Nothing is awaited in between that could let the position move on: it is known.
            seen = int(await asyncio.wait_for(consumer.position(place), SILENCE_S))
            if seen <= self._at[p]:
                continue
            self._at[p] = seen
            came.append((p, found.get(place, []), seen))
            if seen >= self._left[p]:
                del self._left[p]
                consumer.pause(place)
        return came

    def _standing(self) -> str:
        where = ", ".join(f"{p} from {self._at[p]} to {end}" for p, end in self._left.items())
        return f"{self._topic}, partition {where}"

    def close(self) -> None:
        """Let the broker go, whatever the client is at."""
        if self._consumer is not None:
            abandon(self._consumer)
