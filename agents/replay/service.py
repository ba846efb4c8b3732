"""The service `replay` beside a worker's processors: it runs the jobs of its partitions."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import uvloop
from confluent_kafka import KafkaException
from prometheus_client import REGISTRY, CollectorRegistry

from agents.engine.errors import UnknownVersion
from agents.history import pick
from agents.replay import jobs, republish
from agents.replay.agent import COMMANDS, JOBS, PROCESSOR, STATUS
from agents.replay.budget import Budget
from agents.replay.metrics import ReplayMetrics, metrics_of
from agents.replay.owner import Owner
from agents.services.base import Service
from agents.services.read_ahead import ReadAhead
from agents.services.stream import Stream
from agents.settings import Settings

NAME = "replay"
READ_MAX = 10_000  # rows a turn
READ_S = 0.2  # how long a turn lasts: a pause is heard in it

A = TypeVar("A")
log = logging.getLogger(__name__)


class ReplayService(Service):
    """Runs jobs from `start` to `stop`; whoever takes their partitions goes on with them."""

    topics = (COMMANDS, STATUS, JOBS, PROCESSOR.state_topic)

    def __init__(self, settings: Settings, registry: CollectorRegistry = REGISTRY) -> None:
        super().__init__(NAME)
        self._settings, self._metrics = settings, metrics_of(registry)
        self._stopped: dict[str, str] = {}  # replaced whole, never changed
        self._held_up: dict[str, dict[str, Any]] = {}  # the same
        self._waits = ""

    def warm(self) -> None:
        republish.warm()
        pick.warm()

    def stopped(self) -> dict[str, str]:
        return self._stopped

    def held_up(self) -> dict[str, dict[str, Any]]:
        return self._held_up

    def waits(self) -> str:
        return self._waits

    def work(self) -> None:
        uvloop.run(self._work())

    async def _work(self) -> None:
        thread = ThreadPoolExecutor(1, NAME)
        running = Running(self._settings, self._metrics, thread)
        try:
            while not self.stopping.is_set():
                await running.turn()
                self._stopped, self._waits = running.stopped, running.waits
                self._held_up = running.held_up
        finally:
            await running.close()
            thread.shutdown()


class Running:
    """What lives as long as the event loop."""

    def __init__(
        self, settings: Settings, metrics: ReplayMetrics, thread: ThreadPoolExecutor
    ) -> None:
        self._settings, self._metrics, self._thread = settings, metrics, thread
        self._budget = Budget(settings.replay_rate)
        self._waiting = ReadAhead()
        self._stream = Stream(settings, NAME, PROCESSOR.state_topic, self._waiting)
        self._owners: dict[int, Owner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._unread: dict[int, str] = {}  # partitions that can't be read: the error's name

    async def turn(self) -> None:
        """Hear what is wanted, for a moment. Raises what is a defect of a partition's."""
        await self._in_thread(lambda: self._stream.read(READ_MAX, READ_S))
        for partition in self._waiting.gone():
            await self._drop(partition)
        for partition in set(self._stream.unplaced) if self._stream.topic_id else ():
            await self._own(partition)
        for message in self._waiting.messages():
            if (owner := self._owners.get(message.partition() or 0)) is not None:
                owner.offer(message)
        for task in self._tasks.values():
            if task.done():
                task.result()

    async def _own(self, partition: int) -> None:
        """Read a partition that is new here, and go on with its jobs."""
        try:
            found = await self._in_thread(lambda: jobs.load(self._settings, partition))
        except KafkaException as error:
            log.warning("the jobs of partition %d can't be read yet: %s", partition, error)
            return  # asked again with the next turn
        except UnknownVersion as error:
            log.error("replay/%d is stopped: %s", partition, error)
            self._unread[partition] = error.name
            found = jobs.Jobs()
        placed = await self._in_thread(lambda: self._stream.place(partition, found.end, clamp=True))
        if placed is None or partition in self._unread:
            return
        owner = Owner(self._settings, partition, found, self._budget, self._metrics)
        self._owners[partition] = owner
        self._tasks[partition] = asyncio.create_task(owner.run(), name=f"{NAME}/{partition}")

    async def _drop(self, partition: int) -> None:
        self._unread.pop(partition, None)
        self._owners.pop(partition, None)
        if (task := self._tasks.pop(partition, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def stopped(self) -> dict[str, str]:
        """Partitions that stand still until somebody has looked."""
        found = {f"{NAME}/{p}": one.stopped for p, one in self._owners.items() if one.stopped}
        unread = {f"{NAME}/{p}": name for p, name in self._unread.items()}
        return found | unread | self._stream.stopped

    @property
    def held_up(self) -> dict[str, dict[str, Any]]:
        """Partitions that another's open transaction holds up."""
        return self._stream.held_up

    @property
    def waits(self) -> str:
        """Why jobs don't get on just now."""
        found = next((one.waits for one in self._owners.values() if one.waits), "")
        return found or self._stream.troubles

    async def close(self) -> None:
        """Let the partitions go."""
        for partition in list(self._tasks):
            await self._drop(partition)
        await self._in_thread(self._stream.close)

    async def _in_thread(self, work: Callable[[], A]) -> A:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def services(settings: Settings) -> list[Service]:
    """The one that runs jobs."""
    return [ReplayService(settings)]
