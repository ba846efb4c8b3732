"""The record batches of a partition's range, as a worker fetches them.

Read by a consumer without a group, in an event loop and thread of its own: it fetches on while
its caller folds. Only committed records; the positions, not the records, say when an end is
reached, for markers of transactions and aborted records take offsets too.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Place

from agents.engine.batches import install
from agents.engine.connection import abandon
from agents.engine.security import security
from agents.engine.transport import Fetched
from agents.history.errors import Gone, HistoryError
from agents.settings import Settings
from topics.reading import SILENCE_S, TopicAndPartition

START_S = 20.0  # for the broker to answer first
FETCH_BYTES = 8 << 20  # of one answer: large ones, for nobody waits for the first record
FETCH_WAIT_MS = 100
POLL_MS = 200
CLOSE_S = 3.0

_Answer = TypeVar("_Answer")


def read(
    settings: Settings, place: TopicAndPartition, first: int, end: int, silence_s: float = SILENCE_S
) -> Generator[Fetched, None, None]:
    """What lies from offset `first` to `end`, as it comes; the last may reach beyond `end`.

    `end` is at most the last stable offset. Raises Gone where records are deleted meanwhile, and
    HistoryError where nothing comes for `silence_s`, or the broker refuses.
    """
    if first >= end:
        return
    client = _Client(settings, place, first)
    try:
        at, heard = first, time.monotonic()
        while at < end:
            fetched = client.fetch()
            if fetched.seen > at:
                at, heard = fetched.seen, time.monotonic()
                yield fetched
                heard = time.monotonic()
            elif time.monotonic() - heard > silence_s:
                where = f"{place[0]}/{place[1]} at offset {at} of {end}"
                raise HistoryError(f"nothing came for {silence_s:g} s on the way through {where}")
    finally:
        client.close()


def offset_at(settings: Settings, place: TopicAndPartition, ms: int) -> int | None:
    """The first offset with this log time (milliseconds) or a later one; None: there is none.

    KafkaException.
    """
    group = settings.prefix("soma-history")
    consumer = Consumer(settings.librdkafka(**{"group.id": group}))
    try:
        (found,) = consumer.offsets_for_times([Place(*place, ms)], settings.answer_timeout_s)
    finally:
        consumer.close()
    if found.error is not None:
        raise KafkaException(found.error)
    return found.offset if found.offset >= 0 else None


class _Client:
    """A consumer of one partition, in a thread of its own."""

    def __init__(self, settings: Settings, place: TopicAndPartition, first: int) -> None:
        self._place, self._answer_s = place, settings.answer_timeout_s
        self._tp = TopicPartition(*place)
        self._consumer: AIOKafkaConsumer | None = None
        self._loop = asyncio.new_event_loop()
        name = f"history/{place[0]}/{place[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        try:
            self._do(self._start(settings, first), START_S)
        except BaseException:
            self.close()
            raise

    def fetch(self) -> Fetched:
        """What has come: maybe nothing but a new position. HistoryError."""
        return self._do(self._fetch(), POLL_MS / 1000 + self._answer_s)

    def close(self) -> None:
        """Let everything go."""
        with contextlib.suppress(HistoryError):  # then its connections end with the process
            self._do(self._stop(), CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _do(self, work: Coroutine[Any, Any, _Answer], seconds: float) -> _Answer:
        where = f"{self._place[0]}/{self._place[1]}"
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(seconds)
        except OffsetOutOfRangeError as error:
            at = next(iter(error.args[0].values()))
            text = f"{where}: the log has no offset {at}: it was deleted, or the log is shorter"
            raise Gone(f"{text} than it was (a restored Kafka?)") from error
        except (KafkaError, OSError) as error:
            asked.cancel()
            why = "no answer in time" if isinstance(error, TimeoutError) else error
            raise HistoryError(f"{where} can't be read: {why}") from error

    async def _start(self, settings: Settings, first: int) -> None:
        install()
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap(),
            client_id=settings.prefix("soma-history"),
            group_id=None, enable_auto_commit=False, auto_offset_reset="none",
            isolation_level="read_committed", fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=max(FETCH_BYTES, settings.fetch_bytes),
            request_timeout_ms=int(self._answer_s * 1000), **security(settings),
        )  # fmt: skip
        await consumer.start()
        consumer.assign([self._tp])
        consumer.seek(self._tp, first)

    async def _fetch(self) -> Fetched:
        consumer = self._consumer
        assert consumer is not None
        found: Any = await consumer.getmany(self._tp, timeout_ms=POLL_MS)
        # Nothing is awaited in between that could let the position move on: it is known.
        seen = await consumer.position(self._tp)
        return Fetched(0, found.get(self._tp, []), seen, seen)

    async def _stop(self) -> None:
        if self._consumer is not None:
            abandon(self._consumer)
