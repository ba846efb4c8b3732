"""Catching up: a second reader looks through the log again for tenants that are behind.

One pass at a time, each over a stretch of one partition, for all those behind whose circuits let
them go on. A pass is cut off after a while and the next one begins at the first that is missing, so
neither a long backlog nor a far one keeps the others waiting.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from agents.engine.recovery import reader
from agents.gateway.circuits import Circuits
from agents.gateway.deliveries import Deliveries
from agents.gateway.events import is_control, tenant_of
from agents.gateway.partition import GatewayPartition, MemoryBudget
from agents.settings import Settings
from topics.missed import let_go

CHUNK = 500  # records a turn
READ_S = 0.02
PASS_RECORDS = 50_000
PASS_S = 2.0
SKIP = 5_000  # records that are quicker read over than sought past
IDLE_S = 0.05

logger = logging.getLogger(__name__)


class CatchUp:
    """`run` it in the gateway's event loop."""

    def __init__(
        self,
        settings: Settings,
        topic: str,
        circuits: Circuits,
        deliveries: Deliveries,
        budget: MemoryBudget,
    ) -> None:
        self._topic = topic
        self._circuits = circuits
        self._deliveries = deliveries
        self._budget = budget
        self._lane_max = settings.gateway.lane_events
        self._settings = settings
        self._consumer = reader(settings, "gateway.again", [])
        self._heard = 0.0  # when it came to something last, monotonic
        self._fetching = False
        self._thread = ThreadPoolExecutor(1, "gateway.again")

    async def run(self, parts: Callable[[], list[GatewayPartition]]) -> None:
        """Passes for ever, over the partitions that `parts` gives."""
        while True:
            ran = False
            for part in parts():
                if (members := self._members(part, parts())) and part.live:
                    await self._pass(part, members, parts)
                    ran = True
            if not ran:
                await self._rest()
                await asyncio.sleep(IDLE_S)

    def close(self) -> None:
        """After `run` was cancelled."""
        self._thread.shutdown(wait=True)
        self._consumer.close()

    def _members(self, part: GatewayPartition, parts: list[GatewayPartition]) -> list[str]:
        """Those behind who may go on and have room for more."""
        backlog = part.backlog
        if not backlog.behind or self._budget.share(parts) >= 0.9:
            return []
        few = self._lane_max // 2
        return [
            tenant
            for tenant in backlog.behind
            if len(backlog.lanes.get(tenant, ())) <= few and self._circuits.may(tenant)
        ]

    async def _pass(
        self,
        part: GatewayPartition,
        members: list[str],
        parts: Callable[[], list[GatewayPartition]],
    ) -> None:
        backlog = part.backlog
        backlog.begin(members)
        at, until, looked = -1, time.monotonic() + PASS_S, 0
        while part.live and looked < PASS_RECORDS and time.monotonic() < until:
            start = backlog.scan_from()
            if not backlog.scanning or start >= backlog.next_offset:
                break
            if at < 0 or start > at + SKIP:
                at = start
                await self._seek(part.partition, at)
            messages, end = await self._read(part.partition)
            looked += len(messages)
            at = self._take(part, messages, at)
            if not messages and end >= backlog.next_offset:
                at = backlog.next_offset  # what the main reader saw last is gone from the log
            backlog.scanned(at)
            if self._budget.share(parts()) >= 1.0:
                break
        backlog.scanned(backlog.scan_from())  # who is there already joins
        backlog.begin(())

    def _take(self, part: GatewayPartition, messages: list[Message], at: int) -> int:
        """Queue what members lack; returns the offset behind the last one looked at."""
        backlog = part.backlog
        for message in messages:
            offset = message.offset() or 0
            if message.partition() != part.partition or offset < at:
                continue  # fetched before the last seek
            if offset >= backlog.next_offset:
                return backlog.next_offset
            at = offset + 1
            tenant = tenant_of(message)
            if tenant not in backlog.scanning or is_control(message):
                continue
            # Before a probe is answered, one event is enough.
            most = 1 if self._circuits.suspect(tenant) else self._lane_max
            if backlog.again(tenant, offset, message, most):
                self._deliveries.wake(part, tenant)
        return at

    async def _seek(self, partition: int, offset: int) -> None:
        at = TopicPartition(self._topic, partition, offset)
        if not self._fetching:
            self._fetching, self._heard = True, time.monotonic()
        elif time.monotonic() - self._heard > self._settings.stalled_after_s:
            # What it looks for was read already: it is there, or the broker is away, or the client
            # has lost it (topics/missed.py).
            logger.error(
                "%s/%d from %d: nothing came for %g s on the way through it again, by a client "
                "that is replaced",
                *(self._topic, partition, offset, time.monotonic() - self._heard),
            )
            lost, self._heard = self._consumer, time.monotonic()
            self._consumer = reader(self._settings, "gateway.again", [])
            await self._in_thread(lambda: let_go(lost))
        await self._in_thread(lambda: self._consumer.assign([at]))

    async def _rest(self) -> None:
        """Fetch nothing while nobody is behind."""
        if self._fetching:
            self._fetching = False
            await self._in_thread(lambda: self._consumer.assign([]))

    async def _read(self, partition: int) -> tuple[list[Message], int]:
        """Some records, and the partition's end where it is reached (-1: not)."""
        found: list[Message] = []
        end = -1
        for message in await self._in_thread(lambda: self._consumer.consume(CHUNK, READ_S)):
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                end = (message.offset() or 0) if message.partition() == partition else end
            elif error.fatal():
                raise KafkaException(error)
            else:
                logger.info("%s: %s", self._topic, error.str())
        if found or end >= 0:
            self._heard = time.monotonic()
        return found, end

    async def _in_thread(self, work: Callable[[], list[Message] | None]) -> list[Message]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work) or []
