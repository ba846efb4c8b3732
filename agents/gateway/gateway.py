"""The service `gateway`: memory.events to the remote memory service, in a thread of its own.

In that thread runs an event loop; the two consumers' calls, which block, have a thread each. All
bookkeeping is the loop's. A position counts only what the remote has answered.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaException, Message
from prometheus_client import REGISTRY, CollectorRegistry

from agents.gateway import state
from agents.gateway.backlog import Backlog
from agents.gateway.breakers import Breakers
from agents.gateway.call_slots import CallSlots
from agents.gateway.catch_up import CatchUp
from agents.gateway.circuits import Circuits
from agents.gateway.deliveries import Deliveries
from agents.gateway.events import is_control, size_of, tenant_of
from agents.gateway.metrics import metrics_of
from agents.gateway.partition import GatewayPartition, MemoryBudget
from agents.gateway.sleepers import Sleepers, Wish
from agents.gateway.writer import REQUESTS, SOURCE, STATE, GatewayWriter
from agents.services.base import Service
from agents.services.read_ahead import ReadAhead
from agents.services.stream import Stream
from agents.settings import Settings
from stores.memory_remote import MemoryRemote
from topics.catalogue import dlq_of

NAME = "gateway"
TOPICS = (SOURCE, dlq_of(SOURCE), STATE, REQUESTS)
READ_MAX = 1_000  # records a turn
READ_S = 0.02
COMMIT_EVERY_S = 0.2
UNDELIVERED_MAX = 5_000  # tenants per partition: a state row must fit into a record
LAST_CALLS_S = 1.0  # for calls that are out when the gateway stops

A = TypeVar("A")
logger = logging.getLogger(__name__)


class Gateway(Service):
    """Delivers from `start` to `stop`; then it lets the calls that are out end."""

    topics = TOPICS

    def __init__(self, settings: Settings, registry: CollectorRegistry = REGISTRY) -> None:
        super().__init__(NAME)
        own = settings.gateway
        self.circuits = Circuits(Breakers(own.failures, own.open_s))
        registry.register(self.circuits)
        self._registry = registry
        self._settings = settings
        self._running: Running | None = None

    def stopped(self) -> dict[str, str]:
        return self._running.stopped if self._running is not None else {}

    def held_up(self) -> dict[str, dict[str, Any]]:
        return self._running.held_up if self._running is not None else {}

    def waits(self) -> str:
        if self.circuits.down:
            return "the remote memory service is away"
        return self._running.troubles if self._running is not None else ""

    def work(self) -> None:
        try:
            asyncio.run(self._work())
        finally:
            self._registry.unregister(self.circuits)

    async def _work(self) -> None:
        own = self._settings.gateway
        remote = MemoryRemote(
            self._settings.memory_http_endpoint,
            own.timeout_s,
            own.concurrency + own.slow_concurrency,
            self._settings.memory_http_token.get_secret_value(),
        )
        try:
            self._running = Running(self._settings, self.circuits, remote, self._registry)
            await self._running.run(self.stopping)
        finally:
            await remote.close()


class Running:
    """What lives as long as the event loop."""

    def __init__(
        self,
        settings: Settings,
        circuits: Circuits,
        remote: MemoryRemote,
        registry: CollectorRegistry,
    ) -> None:
        own = settings.gateway
        self._settings = settings
        self._circuits = circuits
        self._remote = remote
        self._metrics = metrics_of(registry)
        self._writer = GatewayWriter(settings)
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        slots = CallSlots(own.concurrency, own.slow_concurrency)
        self._deliveries = Deliveries(
            remote, circuits, slots, self._writer, self._metrics, self._ended
        )
        self._budget = MemoryBudget(own.queued_events, own.queued_mib << 20)
        self._read_ahead = ReadAhead()
        self._stream = Stream(settings, NAME, SOURCE, self._read_ahead)
        self._catch_up = CatchUp(
            settings, self._stream.topic, circuits, self._deliveries, self._budget
        )
        self._parts: dict[int, GatewayPartition] = {}
        self._claims: dict[int, asyncio.Future[int]] = {}  # of partitions to be placed
        self._thread = ThreadPoolExecutor(1, NAME)
        self._commit_at = 0.0
        self._full = False
        self._noted: set[int] = set()  # partitions with a lag in the metrics
        self.stopped: dict[str, str] = {}  # replaced whole, never changed

    @property
    def troubles(self) -> str:
        """Why it doesn't have its partitions, in words."""
        return self._stream.troubles

    @property
    def held_up(self) -> dict[str, dict[str, Any]]:
        """Partitions that another's open transaction holds up."""
        return self._stream.held_up

    async def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Raises what broke."""
        beside = [
            asyncio.create_task(self._catch_up.run(lambda: list(self._parts.values()))),
            asyncio.create_task(self._watch_health()),
        ]
        for task in beside:
            task.add_done_callback(self._task_ended)
        try:
            while not stop.is_set() and not self._broken.done():
                await self._turn()
        finally:
            await self._close(beside)
        if self._broken.done():
            self._broken.result()

    async def _turn(self) -> None:
        await self._in_thread(lambda: self._stream.read(READ_MAX, READ_S))
        for partition in self._read_ahead.gone():
            if part := self._parts.pop(partition, None):
                part.leave()
            if claim := self._claims.pop(partition, None):
                claim.cancel()
        if self._stream.unplaced and self._stream.topic_id:
            await self._place(set(self._stream.unplaced), self._stream.topic_id)
        parts = list(self._parts.values())
        for message in self._read_ahead.messages():
            self._take(message, self._budget.share(parts) < 1.0)
        self.stopped = self._stream.stopped | self._writer.stopped
        self._writer.poll()
        if time.monotonic() >= self._commit_at:
            self._commit()
            await self._brake()

    async def _place(self, partitions: set[int], topic_id: str) -> None:
        """Read the state of partitions that are new here, and go on from it."""
        for partition in partitions - self._claims.keys():
            self._claims[partition] = self._writer.claim(partition)
        owners = {one: self._claims[one].result() for one in partitions if self._claims[one].done()}
        if len(owners) < len(partitions):
            return  # asked again with the next turn
        try:
            saved = await self._in_thread(lambda: state.load(self._settings, partitions, topic_id))
        except KafkaException as error:
            logger.warning("The gateway's state can't be read yet: %s", error)
            return  # asked again with the next turn
        for partition, found in saved.items():
            # Whatever else Kafka forgot was delivered.
            place = partial(self._stream.place, partition, found.next_offset, clamp=True)
            if (at := await self._in_thread(place)) is None:
                continue  # asked again with the next turn
            del self._claims[partition]
            behind = {tenant: first for tenant, first in found.behind.items() if first < at}
            lane_max = self._settings.gateway.lane_events
            backlog: Backlog[Message] = Backlog(at, behind, lane_max, size_of)
            backlog.changed = False
            sleepers = Sleepers(found.asleep, found.end)
            self._parts[partition] = GatewayPartition(
                partition, topic_id, backlog, sleepers, owners[partition]
            )
            if self._settings.gateway.sleep == "on":
                for tenant in found.asleep & behind.keys():
                    self._circuits.restore(tenant)

    def _take(self, message: Message, room: bool) -> None:
        part = self._parts.get(message.partition() or 0)
        offset = message.offset() or 0
        if part is None or offset < part.backlog.next_offset:
            return
        if is_control(message):
            part.backlog.pass_over(offset)
            return
        tenant = tenant_of(message)
        if part.backlog.offer(tenant, offset, message, room):
            self._deliveries.wake(part, tenant)

    def _commit(self) -> None:
        """Write what is delivered, and what others are to see of it."""
        self._commit_at = time.monotonic() + COMMIT_EVERY_S
        backlogs = {number: part.backlog for number, part in self._parts.items()}
        self._settle()
        for part in self._parts.values():
            backlog, wishes = part.backlog, part.sleepers.take()
            if backlog.changed or wishes:
                asleep = part.sleepers.names()
                # Who is woken and has nothing undelivered is named all the same.
                behind = dict.fromkeys(asleep, backlog.next_offset) | backlog.undelivered()
                self._writer.state(
                    part.partition, part.topic_id, backlog.next_offset, behind, asleep,
                    part.owner, partial(self._ask, part, wishes),
                )  # fmt: skip
                backlog.changed = False
        self._stream.done({number: backlog.next_offset for number, backlog in backlogs.items()})
        self._note(backlogs)

    def _settle(self) -> None:
        """Let circuits put tenants to sleep, and wake those whose circuits are closed, or have
        nothing to deliver any more (what they lacked is gone from the log).
        """
        on = self._settings.gateway.sleep == "on"
        for tenant, came in self._circuits.changes():
            part = next((one for one in self._parts.values() if one.has(tenant)), None)
            if on and part is not None:
                part.sleepers.change(tenant, came)
        for part in self._parts.values():
            if asleep := part.sleepers.asleep():
                broken, left = self._circuits.broken(), part.backlog.undelivered()
                for tenant in asleep:
                    if not on or tenant not in broken or tenant not in left:
                        part.sleepers.change(tenant, "closed")

    def _ask(self, part: GatewayPartition, wishes: list[Wish], offset: int, log_ms: int) -> None:
        """The row that names these is written: ask. (Who has let go of the partition leaves it to
        its new owner; and who finds that another has written takes it anew, if it is its own.)"""
        if not part.sleepers.follows(offset) and part.live:
            logger.warning("%s/%d: another has written there: taken anew", STATE, part.partition)
            part.leave()
            self._parts.pop(part.partition, None)
            self._stream.unplace([part.partition])

        def written(tenant: str) -> None:
            part.backlog.changed |= part.sleepers.written(tenant)

        for tenant, target in wishes if part.live else ():
            self._writer.request(tenant, target, log_ms, partial(written, tenant))

    def _note(self, backlogs: dict[int, Backlog[Message]]) -> None:
        unread = self._stream.lag(
            {number: backlog.next_offset for number, backlog in backlogs.items()}
        )
        for number in self._noted - unread.keys():
            self._metrics.unread.remove(str(number))
            self._metrics.lag.remove(str(number))
        self._noted = set(unread)
        for number, lag in unread.items():
            backlog = backlogs[number]
            first = min(backlog.undelivered().values(), default=backlog.next_offset)
            self._metrics.unread.labels(str(number)).set(lag)
            self._metrics.lag.labels(str(number)).set(lag + backlog.next_offset - first)
        self._metrics.behind.set(sum(len(backlog.behind) for backlog in backlogs.values()))
        self._metrics.queued.set(sum(backlog.queued for backlog in backlogs.values()))

    async def _brake(self) -> None:
        """Stop reading while more tenants are behind than a state row holds."""
        most = max((part.named() for part in self._parts.values()), default=0)
        if most >= UNDELIVERED_MAX and not self._full:
            logger.error("%d tenants have undelivered events: the gateway reads no more", most)
            self._full = True
            await self._in_thread(self._stream.pause)
        elif self._full and most < 0.9 * UNDELIVERED_MAX:
            self._full = False
            await self._in_thread(self._stream.resume)

    async def _watch_health(self) -> None:
        while True:
            well = await self._remote.health()
            if self._circuits.health(well):
                logger.warning("The remote memory service is %s", "back" if well else "away")
            await asyncio.sleep(self._settings.gateway.health_every_s)

    async def _close(self, beside: list[asyncio.Task[None]]) -> None:
        self._deliveries.closing = True
        for task in beside:
            task.cancel()
        lanes = [task for part in self._parts.values() for task in part.lanes.values()]
        if lanes:
            await asyncio.wait(lanes, timeout=LAST_CALLS_S)
        for part in self._parts.values():
            part.leave()
        await asyncio.gather(*beside, *lanes, return_exceptions=True)
        self._catch_up.close()
        self._commit()
        await self._in_thread(lambda: self._writer.close(1.0))
        await self._in_thread(self._stream.close)
        self._thread.shutdown()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ended(error)

    def _ended(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)

    async def _in_thread(self, work: Callable[[], A]) -> A:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
