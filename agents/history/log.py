"""The record batches of a partition's range, for who folds them.

They are read in an event loop and thread of its own, which fetch on while the caller folds.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from aiokafka.errors import KafkaError
from confluent_kafka import Consumer

from agents.engine.transport import Fetched
from agents.history.errors import HistoryError
from agents.history.reading import START_S, Came, Fetching, RangeReader
from agents.settings import Settings
from topics.reading import SILENCE_S, TopicAndPartition, offsets_at

# Large answers, for nobody waits for the first record.
HOW = Fetching("soma-history", bytes=8 << 20, wait_ms=100, poll_ms=200)
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
    client = _Client(settings, place, (first, end))
    try:
        at, heard = first, time.monotonic()
        while at < end:
            came = client.fetch()
            for _, batches, at in came:
                yield Fetched(0, batches, at, at)
            if came:
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
        return offsets_at(consumer, [place], ms, settings.answer_timeout_s)[place]
    finally:
        consumer.close()


class _Client:
    """A reader of one partition, in a thread of its own."""

    def __init__(self, settings: Settings, place: TopicAndPartition, span: tuple[int, int]) -> None:
        self._place, self._answer_s = place, settings.answer_timeout_s
        self._reader = RangeReader(settings, place[0], {place[1]: span}, HOW)
        self._loop = asyncio.new_event_loop()
        name = f"history/{place[0]}/{place[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        try:
            self._do(self._reader.start(), START_S)
        except BaseException:
            self.close()
            raise

    def fetch(self) -> list[Came]:
        """What has come. HistoryError."""
        return self._do(self._reader.poll(), HOW.poll_ms / 1000 + self._answer_s)

    def close(self) -> None:
        """Let everything go."""
        with contextlib.suppress(HistoryError):  # then its connections end with the process
            self._do(self._stop(), CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _do(self, work: Coroutine[Any, Any, _Answer], seconds: float) -> _Answer:
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(seconds)
        except (KafkaError, OSError) as error:
            asked.cancel()
            why = "no answer in time" if isinstance(error, TimeoutError) else error
            where = f"{self._place[0]}/{self._place[1]}"
            raise HistoryError(f"{where} can't be read: {why}") from error

    async def _stop(self) -> None:
        self._reader.close()
