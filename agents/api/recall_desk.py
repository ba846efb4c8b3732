"""What the routes of recall ask: this process' replica, its searches in threads, its waits."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry, Gauge, Histogram

from agents.api.problems import Problem
from agents.api.projected import Projected
from agents.recall.embedding import ProviderDown, UnfitText, Vector
from agents.recall.memories import Memories
from agents.recall.replica import Replica
from agents.settings import Settings
from stores.memory_keywords import MemoryKeywords
from topics.partition import partition_of

POLL_S = 0.01  # of a wait
ASK_S = 0.25  # of a wait: Kafka is asked about events that wrote no row
ASKERS = 8  # questions in words at a time that a provider afar makes vectors of
PART_OF_TIME = 0.7  # of a request's time: the answer is to be written, too
RETRY = {"Retry-After": "2"}
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
T = TypeVar("T")


class RecallDesk:
    """Searches of one process. `start` it, and `close`."""

    def __init__(self, settings: Settings, registry: CollectorRegistry) -> None:
        self._settings = settings
        self.replica = Replica(settings)
        self.keywords: MemoryKeywords  # from start to end
        self.projected: Projected
        # As many as there are cores: a product uses one core or all of them, and more would queue.
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "recall")
        # Apart from these, which compute: those only wait for a provider.
        self._askers = ThreadPoolExecutor(ASKERS, "recall-embedding")
        self.seconds = Histogram(
            "soma_recall_seconds", "One search, without its way here.", buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("soma_memories", "Memories held for recall.", lambda: self._total(len)),
            ("soma_recall_array_bytes", "Bytes of their vectors and columns.",
             lambda: self._total(lambda one: one.nbytes)),
            ("soma_recall_lag_records", "Records of memory.latest not taken in yet.",
             lambda: sum(self.replica.lag().values())),
            ("soma_recall_waiting", "Memories that wait for their vectors.",
             lambda: self._total(lambda one: len(one.waiting))),
            ("soma_recall_up", "1 while memory.latest is read.", lambda: not self.replica.why),
        )  # fmt: skip
        for name, about, value in gauges:
            Gauge(name, about, registry=registry).set_function(value)

    def _total(self, measure: Callable[[Memories], int]) -> int:
        return self.replica.rows.total(measure)

    async def start(self) -> None:
        """Begin to read."""
        own = self._settings
        self.keywords = await MemoryKeywords.open(
            own.postgres(), own.namespace, "soma recall", own.api.connections
        )
        self.projected = Projected(self.keywords.reached)
        self.replica.start()

    async def close(self) -> None:
        """End the reading, with a snapshot."""
        await self.projected.close()
        await self.keywords.close()
        for pool in (self._threads, self._askers):
            pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.replica.stop)

    def ready(self) -> bool:
        """Whether all that was there when it began, or began anew, is read. What comes later may
        lag.
        """
        return self.replica.whole

    def of(self, tenant: str) -> Memories:
        """A tenant's memories. `Problem` 503 until they are read."""
        if not self.ready():
            why = self.replica.why
            raise Problem(503, f"Memories are still being read here: {why}.", RETRY)
        return self.replica.rows.of(tenant)

    async def search(self, work: Callable[[], T]) -> T:
        """What `work` finds, in a thread. `Problem` as `query_of`, where it makes vectors."""

        def timed() -> T:
            with self.seconds.time():
                return work()

        return await _told(self._threads, timed)

    async def query_of(self, memories: Memories, text: str) -> Vector:
        """A text's vector of a provider afar: no search waits for it.

        `Problem` 503, 422 where no vector comes of it. DimensionError.
        """
        return await _told(self._askers, lambda: memories.query_of(text))

    def deadline(self, asked_s: float | None) -> float:
        """Until when a request may wait; time.monotonic()."""
        most = PART_OF_TIME * self._settings.api.timeout_s
        return time.monotonic() + (most if asked_s is None else min(asked_s, most))

    async def until_event(self, tenant: str, event: int, until: float) -> None:
        """Wait until an event of the tenant's partition of memory.events is in what is known here.

        `Problem` 504, 503.
        """
        partition = partition_of(tenant, max(1, len(self.replica.reached)))
        end: int | None = None
        ask_at = time.monotonic() + ASK_S
        while not self.replica.has(partition, event):
            if end is not None and self.replica.reached.get(partition, 0) >= end:
                return
            if time.monotonic() >= until:
                what = f"The event at offset {event} of partition {partition}"
                raise Problem(504, f"{what} isn't known here in time.", RETRY)
            if end is None and time.monotonic() >= ask_at:
                end = await self._folded_at(partition, event)
                ask_at = time.monotonic() + ASK_S
            await asyncio.sleep(POLL_S)

    async def until_version(self, tenant: str, id_: str, version: int, until: float) -> None:
        """Wait until a memory is known at a version or a later one. `Problem` 504."""
        while not self.of(tenant).at_least(id_, version):
            if time.monotonic() >= until:
                what = f"The memory isn't at version {version} here in time"
                raise Problem(504, f"{what}: it may be refused, see memory.audit.", RETRY)
            await asyncio.sleep(POLL_S)

    async def _folded_at(self, partition: int, event: int) -> int | None:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._threads, self.replica.folded_at, partition, event
            )
        except KafkaException as error:
            raise Problem(503, f"Kafka doesn't answer: {error.args[0].str()}", RETRY) from None


async def _told(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """What comes of it. `Problem` 503, 422 where no vector comes of a text."""
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
    except ProviderDown as error:
        down = f"No vector can be made of a text now ({error}); a vector can be asked with."
        raise Problem(503, down, RETRY) from None
    except UnfitText as error:
        raise Problem(422, f"The provider makes no vector of this text: {error}.") from None
