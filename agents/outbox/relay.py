"""The relay of a process: which shards are its own, and what is to be done around them.

Relays share the shards out by themselves: each counts the living (a shared lock each), holds an
equal part and lets go of what is more. One that dies loses its session, and its locks with it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from confluent_kafka import KafkaException
from prometheus_client import REGISTRY, CollectorRegistry

from agents.outbox import RECEIPTS, SHARDS
from agents.outbox.metrics import metrics_of
from agents.outbox.out_of_step import OutOfStepError
from agents.outbox.relay_resources import RelayResources
from agents.outbox.shard import Shard
from agents.outbox.warm import warm
from agents.services.backoff import Backoff
from agents.settings import Settings
from stores.errors import NotMigrated, StoreDown
from stores.outbox_relay import Keeper, RelayConnection, State
from topics.broker import BrokerError, connect, look
from topics.catalogue import CATALOGUE
from topics.chosen_ids import insist

BEAT_S = 2.0  # how soon a relay that came or went is noticed; and the poll that NOTIFY spares us
STATE_S = 15.0  # how old the gauges of the queue may be; where rows move, a beat,
STATE_SHARE = 30.0  # or so many times as long as looking takes
FORGET_S = 60.0
FORGET_ROWS = 2_000  # of one statement
FORGET_STATEMENTS = 500  # of one minute
AGAIN_S = 10.0  # how soon a shard that was stopped is looked at again,
SAY_S = 600.0  # and how often it is said that it is
TOPICS_S = 30.0  # how soon a topic that was lacking is found
STOP_S = 3.5

log = logging.getLogger(__name__)


def relayed_topics() -> list[str]:
    """The topics that events of the outbox are for, without namespace."""
    return [name for name, topic in CATALOGUE.items() if topic.relayed]


def topics_there(settings: Settings) -> dict[str, int]:
    """Topic -> partitions, of the receipts and those that events are for and are there.

    `BrokerError` where no broker answers, or without receipts; `RegistryError` where ids of ours
    aren't this installation's.
    """
    insist(settings)
    names = {settings.topic(name): name for name in [*relayed_topics(), RECEIPTS]}
    admin = connect(settings.librdkafka())
    found = {names[name]: one.partitions for name, one in look(admin, names).items()}
    if RECEIPTS not in found:
        topic = settings.topic(RECEIPTS)
        raise BrokerError(f"there is no topic {topic}: `soma topics apply` makes it")
    return found


def shards_text(numbers: Sequence[int]) -> str:
    """Which shards of the outbox a relay has, for people."""
    if not numbers:
        return f"relaying none of the {SHARDS} shards now"
    return f"relaying shards {', '.join(map(str, numbers))} of {SHARDS}"


class Relay:
    """`run` until `stop`, both in one event loop."""

    def __init__(
        self,
        settings: Settings,
        registry: CollectorRegistry = REGISTRY,
        told: Callable[[str], None] = log.info,
    ) -> None:
        """`told` hears which shards are ours, whenever they are others."""
        self.shards: dict[int, Shard] = {}
        self.resources: RelayResources | None = None
        self.waits = ""  # for which store, and why
        self._settings = settings
        self._metrics = metrics_of(registry)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._lost = asyncio.Event()
        self._backoff = Backoff()
        self._due = {"state": 0.0, "soon": 0.0, "forget": 0.0, "topics": 0.0}
        self._told = told
        self._ours: list[int] | None = None  # those last told of
        self._forgotten = 0  # the last id that `forget` looked at
        self._why: type[Exception] | None = None
        self._stopped: dict[int, OutOfStepError] = {}  # shards that nobody may relay now
        self._again: dict[int, float] = {}  # when to look at them again
        self._said: dict[int, float] = {}  # when that was said last
        self._elsewhere: dict[int, float] = {}  # since when another relay has them

    def stop(self) -> None:
        """Finish the batches at hand and end."""
        self._stopping.set()
        for shard in self.shards.values():
            shard.stop()

    def stopped(self) -> dict[int, str]:
        """Shards that are stopped until an operator has looked, and the name of the error."""
        return {number: error.name for number, error in sorted(self._stopped.items())}

    async def run(self) -> None:
        """Relay until `stop`. While a store is away, wait for it; defects are raised."""
        await asyncio.to_thread(warm)
        try:
            while not self._stopping.is_set():
                try:
                    await self._session()
                except (StoreDown, BrokerError, KafkaException) as error:
                    await self._wait(error)
        finally:
            if self.resources is not None:
                await self.resources.close()

    async def _wait(self, error: Exception) -> None:
        """Say once that a store is away, and come back later."""
        first = self._backoff.failed()
        self._metrics.up.set(0)
        if first or self._why is not type(error):
            hint = "; run `soma migrate up`" if isinstance(error, NotMigrated) else ""
            where = "PostgreSQL: " if isinstance(error, StoreDown) else ""
            self.waits = f"{where}{error}{hint}"
            log.warning("the outbox waits: %s", self.waits)
        self._why = type(error)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), self._backoff.left)

    async def _session(self) -> None:
        """As long as the keeper's connection holds."""
        resources = await self._open()
        self._lost.clear()
        keeper = await Keeper.open(
            self._settings.postgres(), resources.schema, resources.statements, self._heard,
            self._lost.set,
        )  # fmt: skip
        try:
            if away := self._backoff.answered():
                log.info("the outbox goes on after %.1f s", away)
            self._why, self.waits = None, ""
            self._metrics.up.set(1)
            while not self._stopping.is_set():
                await self._share(keeper)
                await self._keep_house(resources)
                await self._pause()
        finally:
            # Also when the session is lost: a batch at hand does no harm, for the next owner
            # fences and goes by the receipt. (Cancelled in the middle, clients leak connections.)
            await self._end(self._tasks, STOP_S)
            keeper.close()

    async def _open(self) -> RelayResources:
        """Look at the topics; the resources are made once and kept."""
        found = await asyncio.to_thread(topics_there, self._settings)
        if self.resources is None:
            receipts = found.pop(RECEIPTS)
            self.resources = RelayResources(self._settings, found, receipts, self._metrics)
        return self.resources

    def _heard(self, payload: str) -> None:
        shard = self.shards.get(int(payload)) if payload.isdecimal() else None
        if shard is not None:
            shard.bell.set()

    async def _share(self, keeper: Keeper) -> None:
        """Take or leave shards until we have our part, and see to those that ended."""
        for number in [number for number, task in self._tasks.items() if task.done()]:
            self._tasks.pop(number).result()  # a defect is raised here
            self._stand(number, self.shards.pop(number).out_of_step)
            await keeper.leave(number)
        alive, owned = await keeper.locks()
        part = -(-SHARDS // max(1, alive))
        staying = [shard for shard in self.shards.values() if not shard.stopping]
        for shard in staying[part:]:
            shard.stop()
        for number in range(SHARDS):
            if len(self.shards) >= part:
                break
            if self._again.get(number, 0.0) > time.monotonic() or number in owned:
                continue
            if number not in self.shards and await keeper.take(number):
                self._begin(number, keeper)
        self._see_who_goes_on(owned)
        self._tell(sorted(self.shards))

    def _stand(self, number: int, error: OutOfStepError | None) -> None:
        """Say why a shard is stopped; it is left for a while, also to those who mend it.

        The others are taken anew: what went back is all of the database, or of Kafka.
        """
        if error is None:
            return
        for shard in self.shards.values():
            shard.stop()
        now = time.monotonic()
        self._stopped[number], self._again[number] = error, now + AGAIN_S
        if now - self._said.get(number, -SAY_S) >= SAY_S:
            self._said[number] = now
            log.error("shard %d of the outbox is stopped: %s", number, error)

    def _see_who_goes_on(self, owned: set[int]) -> None:
        """A shard is stopped until it works here, or another relay keeps it."""
        now = time.monotonic()
        for number in list(self._stopped):
            ours = self.shards.get(number)
            if ours is not None or number not in owned:
                self._elsewhere.pop(number, None)
                if ours is None or not ours.running:
                    continue
                log.warning("shard %d of the outbox goes on", number)
            elif now - self._elsewhere.setdefault(number, now) < 2 * AGAIN_S:
                continue  # that one may look and stop
            for of in (self._stopped, self._again, self._said, self._elsewhere):
                of.pop(number, None)
        self._metrics.stop(self._stopped.values())

    def _begin(self, number: int, keeper: Keeper) -> None:
        assert self.resources is not None
        shard = Shard(number, self.resources, keeper)
        self.shards[number] = shard
        self._tasks[number] = asyncio.create_task(shard.run(), name=f"outbox-{number}")

    async def _pause(self) -> None:
        """Until the next beat; `StoreDown` at once when the keeper's connection is lost."""
        ends = [asyncio.create_task(self._lost.wait()), asyncio.create_task(self._stopping.wait())]
        try:
            leaving = [self._tasks[n] for n, shard in self.shards.items() if shard.stopping]
            await asyncio.wait(
                [*ends, *leaving], timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in ends:
                task.cancel()
        if self._lost.is_set():
            raise StoreDown("the connection that holds the shards is lost")

    async def _end(self, tasks: dict[int, asyncio.Task[None]], seconds: float) -> None:
        """End the shards' tasks: by themselves if they do so in time."""
        for shard in self.shards.values():
            shard.stop()
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds)
        for task in tasks.values():
            task.cancel()
        ended = await asyncio.gather(*tasks.values(), return_exceptions=True)
        tasks.clear()
        self.shards.clear()
        self._metrics.shards.set(0)
        self._metrics.queue.state = self._ours = None
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, StoreDown):
                raise error

    # --- what is done beside --------------------------------------------------------------

    async def _keep_house(self, resources: RelayResources) -> None:
        """Wake what slept through something; recount; now and then: gauges, old events, topics."""
        ours = sorted(self.shards)
        if not ours:
            return
        async with resources.connections.one() as connection:
            for number in await connection.waiting(ours, self._settings.outbox.retry_longest_s):
                if number in self.shards:
                    self.shards[number].bell.set()
            await self._look(resources, connection, ours)
            await connection.recount()
        if ours[0] == 0 and self._is_due("forget", FORGET_S):
            await self._forget(resources)
        if len(resources.topics) < len(relayed_topics()) and self._is_due("topics", TOPICS_S):
            found = await asyncio.to_thread(topics_there, self._settings)
            found.pop(RECEIPTS)
            if found != resources.topics:
                resources.serve(found)

    async def _look(
        self, resources: RelayResources, connection: RelayConnection, ours: Sequence[int]
    ) -> None:
        """See how the queue stands, if that is due; counting is dear where much waits."""
        began, due = time.monotonic(), self._due["state"]
        if began < (min(due, self._due["soon"]) if resources.touched else due):
            return
        resources.touched = False
        self._metrics.queue.state = await connection.state(ours)
        now = time.monotonic()
        self._due["state"], self._due["soon"] = now + STATE_S, now + STATE_SHARE * (now - began)

    def _tell(self, ours: list[int]) -> None:
        """Say which shards are ours, if they are others than before, and look at these soon."""
        self._metrics.shards.set(len(ours))
        if ours == self._ours:
            return
        self._ours = ours
        self._due["state"] = 0.0
        if not ours:
            self._metrics.queue.state = State(0, 0.0, 0)
        self._told(shards_text(ours))

    async def _forget(self, resources: RelayResources) -> None:
        """Delete what was sent long ago, in small statements; the next minute goes on."""
        days = self._settings.outbox.retention_days
        for _ in range(FORGET_STATEMENTS):
            if self._stopping.is_set() or self._lost.is_set():
                return
            async with resources.connections.one() as connection:
                gone, looked, last = await connection.forget(days, self._forgotten, FORGET_ROWS)
            self._metrics.forgotten.inc(gone)
            if looked < FORGET_ROWS:
                self._forgotten = 0
                return
            self._forgotten = last

    def _is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every
        return True
