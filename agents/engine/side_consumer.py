"""A consumer for a processor whose partitions the group's consumer reads for another one.

Each processor of a source reads by itself: one that is slow, stopped, or days behind holds up no
other. What is read is told by the group's assignment; where from, by the processor's state.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import TopicPartition
from faust.types import TP

from agents.engine.transport import FETCH_WAIT_MS, POLL_S, Fetched, fetched_of
from agents.settings import Settings
from topics.connection import abandon, ended

log = logging.getLogger(__name__)

START_S = 20.0
RETRY_S = 1.0


class SideConsumer:
    """Reads partitions from where it is told to; `offer` gets what comes. For one event loop."""

    def __init__(
        self, settings: Settings, security: dict[str, Any], name: str,
        offer: Callable[[TP, Fetched], None], failed: Callable[[BaseException], None],
    ) -> None:  # fmt: skip
        """`failed` hears of a defect: nothing would be read any more, in silence."""
        self.held: set[TP] = set()
        self.lost: set[TP] = set()  # whose position the log doesn't have, or the client lost
        self.ends: dict[TP, tuple[int, int]] = {}  # last stable offset and high watermark
        self._settings, self._security, self._name = settings, security, name
        self._offer, self._failed = offer, failed
        self._tags: dict[TP, int] = defaultdict(int)
        self._told: dict[TP, float] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._wanted = ""  # why another client than this one is

    async def read_from(self, tp: TP, offset: int) -> int:
        """Deliver a partition from offset on; returns the tag of what comes from there."""
        consumer = await self._started()
        self._assign(consumer, {**self._positions(), tp: offset})
        self._tags[tp] += 1
        self.lost.discard(tp)
        self.held.discard(tp)
        return self._tags[tp]

    def drop(self, tps: Iterable[TP]) -> None:
        """Read these no more."""
        gone = set(tps)
        if self._consumer is not None and gone & self._places().keys():
            left = {tp: at for tp, at in self._positions().items() if tp not in gone}
            self._assign(self._consumer, left)

    def renew(self, why: str) -> None:
        """Give the client up for another one, soon."""
        self._wanted = why

    async def close(self) -> None:
        """Let everything go."""
        if self._task is not None:
            self._task.cancel()
        if self._consumer is not None:
            abandon(self._consumer)

    async def _started(self) -> AIOKafkaConsumer:
        """The client, which is made when it is first needed. Raises KafkaError, OSError."""
        async with self._starting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(
                    bootstrap_servers=self._settings.bootstrap(),
                    client_id=self._settings.prefix(f"soma-{self._name}"),
                    group_id=None, enable_auto_commit=False, auto_offset_reset="none",
                    isolation_level="read_committed", fetch_max_wait_ms=FETCH_WAIT_MS,
                    max_partition_fetch_bytes=self._settings.fetch_bytes,
                    metadata_max_age_ms=10_000,
                    request_timeout_ms=int(self._settings.answer_timeout_s * 1000),
                    **self._security,
                )  # fmt: skip
                try:
                    await asyncio.wait_for(consumer.start(), START_S)
                except TimeoutError as error:
                    abandon(consumer)
                    text = f"the consumer of {self._name} didn't start within {START_S:g} s"
                    raise KafkaTimeoutError(text) from error
                except BaseException:  # also of one that lets its partition go meanwhile
                    abandon(consumer)
                    raise
                self._consumer = consumer
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name=f"side_consumer/{self._name}")
                self._task.add_done_callback(self._ended)
            return self._consumer

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _places(self) -> dict[TP, Any]:
        """What is read now, with the client's state of it."""
        consumer: Any = self._consumer
        subscribed = consumer._subscription.subscription if consumer is not None else None
        if subscribed is None:
            return {}
        states = {tp: subscribed.assignment.state_value(tp) for tp in subscribed.assignment.tps}
        return {TP(tp.topic, tp.partition): one for tp, one in states.items()}

    def _positions(self) -> dict[TP, int]:
        """Where each goes on. One without a position is lost, and is told anew where to begin."""
        found = self._places().items()
        return {tp: int(place.position) for tp, place in found if place.has_valid_position}

    @staticmethod
    def _assign(consumer: AIOKafkaConsumer, starts: dict[TP, int]) -> None:
        """Read these and no others. Nothing may be awaited here: no position is lost."""
        consumer.assign([TopicPartition(*tp) for tp in starts])
        for tp, offset in starts.items():
            consumer.seek(TopicPartition(*tp), offset)

    async def _run(self) -> None:
        """Fetch, until it is closed."""
        while True:
            why = self._wanted or (ended(self._consumer) if self._consumer is not None else "")
            if why:
                self._give_up(why)
            wanted = [tp for tp in self._places() if tp not in self.held]
            if not wanted:
                await asyncio.sleep(POLL_S)
                continue
            try:
                await self._fetch([TopicPartition(*tp) for tp in wanted])
            except (KafkaError, OSError) as error:
                log.warning("%s reads nothing just now: %r", self._name, error)
                await asyncio.sleep(RETRY_S)

    async def _fetch(self, wanted: list[TopicPartition]) -> None:
        consumer = self._consumer
        assert consumer is not None
        try:
            records = await consumer.getmany(*wanted, timeout_ms=int(POLL_S * 1000))
        except OffsetOutOfRangeError as error:
            self.lost.update(TP(tp.topic, tp.partition) for tp in error.args[0])
            return
        except NoOffsetForPartitionError:
            return
        found = fetched_of(consumer, wanted, records, self._tags, self._told, self.ends)
        for tp, fetched in found.items():
            self._offer(tp, fetched)
        if not records:
            await asyncio.sleep(0)

    def _give_up(self, why: str) -> None:
        """Whoever reads here is taken anew, and the next client is made then."""
        log.error("the consumer of %s is given up for a new one: %s", self._name, why)
        self._wanted = ""
        self.lost.update(self._places())
        if self._consumer is not None:
            abandon(self._consumer)
        self._consumer = None
