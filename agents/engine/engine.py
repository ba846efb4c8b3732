"""The engine: owns the partitions that Faust's group assigns, and what they share.

Shared are the threads, the workspaces (one per thread and processor, whatever the number of
partitions) and a watch over the broker's topics. A fold whose policy takes long gives its turn on:
it keeps a thread and a workspace more, until it is done.
"""

import asyncio
import logging
import queue
import time
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException, TopicPartition
from faust.types import TP

from agents.engine import metrics
from agents.engine.dealing import ProcessorAssignor, name_keepers
from agents.engine.ending import end_now
from agents.engine.errors import Fenced
from agents.engine.held_up import HeldUp
from agents.engine.host import Part
from agents.engine.late import LONG_S, Late
from agents.engine.logs import end_of, ids_of, inspect
from agents.engine.partition import Partition
from agents.engine.plan import EPOCHS, Plan, defaults_of
from agents.engine.position import Input, Recovered, recreated
from agents.engine.processor import LocalPolicy, Place, Processor, RemotePolicy
from agents.engine.producer import Transactions
from agents.engine.progress import Progress
from agents.engine.rebuilds import Rebuild, rebuilds_since
from agents.engine.rebuilt import Rebuilt
from agents.engine.recovery import Loader, begun, recover
from agents.engine.security import security
from agents.engine.side_consumer import SideConsumer
from agents.engine.standby import Standby
from agents.engine.transport import BatchConsumer, Fetched
from agents.engine.turns import Turn
from agents.engine.watchdog import Watchdog
from agents.engine.workspace import Outcome, Workspace
from agents.policy.bundle import BUNDLES
from agents.settings import Settings
from topics.broker import BrokerError
from topics.catalogue import CATALOGUE, keeper_of
from topics.missed import Admin
from topics.schemas import schemas

log = logging.getLogger(__name__)

WATCH_S = 1.0
HINT_S = 5.0
MEET_S = 0.1  # between two looks whether the group has met
FENCED_S = 10.0  # a rebalance that took our partition away has reached us by then
RENEW_S = 1.0  # for a partition that stands still to hear that it is over
CLOSE_S = 3.0  # a partition's time to finish its transaction: SIGTERM must end within 5 s
# A fold gives the GIL up at every kernel. In a thread it waits each time for the loop to give it
# back, 5 ms at the worst, which takes longer than to fold so few records.
SMALL_RECORDS, SMALL_BYTES = 256, 64 << 10
EXIT_FAILURE = 70  # EX_SOFTWARE


def _patient(plan: Plan) -> bool:
    """Whether its folds may take their time, and then mustn't keep others waiting."""
    in_band = plan.processor.policy is not None and bool(BUNDLES)
    return isinstance(plan.policy, LocalPolicy) or in_band or not plan.processor.in_loop


class Engine:
    """Runs the chosen processors on the partitions that this worker owns."""

    def __init__(
        self, settings: Settings, processors: Mapping[str, Processor], partitions: int
    ) -> None:
        self.settings = settings
        self.schema_digest = schemas().digest()
        metrics.declare(processors.values())
        self.plans = {
            p.name: Plan(p, settings, partitions, keeper_of(p.source) == p.name)
            for p in processors.values()
        }
        # Topic -> who reads it here; what the group's consumer reads is the first's.
        self.reading: dict[str, list[str]] = {}
        for name, plan in self.plans.items():
            self.reading.setdefault(plan.source, []).append(name)
        ProcessorAssignor.runs = self.reading
        ProcessorAssignor.keepers = {
            settings.topic(name): keeper for name in CATALOGUE if (keeper := keeper_of(name))
        }
        self.partitions: dict[Part, Partition] = {}
        self.consumer: BatchConsumer | None = None
        self._joined = self._closed = False
        self._leaving: set[asyncio.Task[None]] = set()
        # Whoever has a turn may fold; what takes long may hold up one thread for each partition.
        self._turns = asyncio.Semaphore(settings.threads)
        patient = sum(map(_patient, self.plans.values()))
        self._pool = ThreadPoolExecutor(settings.threads + patient * partitions, "fold")
        self._blocking = ThreadPoolExecutor(max(4, 2 * settings.threads), "broker")
        self._spaces: dict[str, queue.LifoQueue[Workspace]] = {}
        for plan in self.plans.values():
            self._spaces[plan.processor.name] = queue.LifoQueue()
            for _ in range(settings.threads):
                self._spaces[plan.processor.name].put(Workspace(plan))
        self._admin = Admin(settings.librdkafka())
        epochs = settings.topic(EPOCHS)
        self._standby = None
        if settings.standby:
            self._standby = Standby(settings, self._ids, self.defaults_of)
        self._rebuilt = Rebuilt(settings, self._admin, self._blocking, epochs)
        self._hinted: dict[TP, int] = {}
        self._others: dict[str, SideConsumer] = {}  # of the processors but the first of a source
        self._late = Late(settings.policy_dir)
        self._rejoin_at = 0.0
        self._security = security(settings)
        self.held_up = HeldUp()
        self._changing = asyncio.Lock()  # of who owns what
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watching: asyncio.Task[None] | None = None
        self._watchdog = Watchdog(settings, lambda: list(self.partitions.values()), self._stands)

    # --- assignment -----------------------------------------------------------------------

    async def assign(self, consumer: BatchConsumer, tps: Iterable[TP]) -> None:
        """Own these partitions, and no others: what stays goes on where it is.

        The consumer has forgotten where it reads, so each is to say it again. Nothing of one that
        is new is read before its state is back. Those that go finish the transaction at hand, if
        their new owner lets them.
        """
        self.consumer = consumer
        self._joined = True
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._watchdog.start()
            if self._standby is not None:
                self._standby.start()
            name_keepers(self.plans)
        async with self._changing:
            consumer.meeting = 0.0
            if self._closed:
                return
            consumer.held.update(tps)  # until it is known from where
            every = (Part(*tp, name) for tp in tps for name in self.reading.get(tp.topic, ()))
            wanted = {part for part in every if ProcessorAssignor.ours(*part)}
            stay = {part for part, one in self.partitions.items() if not one.resting} & wanted
            rest = {part for part, one in self.partitions.items() if one.resting} & wanted
            gone = self.partitions.keys() - wanted
            for part in stay:
                unread = self._reader(part) is consumer
                self.partitions[part].stay(unread, ProcessorAssignor.missed)
            # Before one that is new asks for what was followed of it.
            self._stand_by(wanted)
            for part in wanted - self.partitions.keys():
                self._own(part)
            # Not waited for: nobody tells the group that we are alive until this is over.
            self._leaving.add(task := asyncio.create_task(self._let_go(gone), name="leaving"))
            task.add_done_callback(self._leaving.discard)
            await self._let_go(rest)
            for part in rest:  # another try
                self._own(part)

    def _stand_by(self, ours: Container[Part]) -> None:
        """Follow the states of all partitions that are others' now."""
        if self._standby is not None:
            self._standby.follow({
                (name, number): plan
                for name, plan in self.plans.items() for number in range(plan.partitions)
                if Part(plan.source, number, name) not in ours
            })  # fmt: skip

    def _own(self, part: Part, progress: Progress | None = None) -> None:
        self.hold(part)
        plan = self.plans[part.processor]
        self.partitions[part] = Partition(self, plan, part.partition, progress)

    def _reader(self, part: Part) -> BatchConsumer | SideConsumer | None:
        """What reads a partition for a processor."""
        name = part.processor
        if self.reading[part.topic][0] == name:
            return self.consumer
        if name not in self._others:
            offer = partial(self._offer, name)
            self._others[name] = SideConsumer(self.settings, self._security, name, offer, self.end)
        return self._others[name]

    async def _let_go(self, parts: Iterable[Part]) -> None:
        """Each after the transaction at hand. Nothing is awaited before they are forgotten."""
        gone = {part: self.partitions.pop(part) for part in list(parts)}
        for name, consumer in self._others.items():
            consumer.drop(part.tp for part in gone if part.processor == name)
        await asyncio.gather(*(partition.close(CLOSE_S) for partition in gone.values()))

    async def close(self) -> None:
        """Let everything go."""
        self._watchdog.stop()
        if self._watching is not None:
            self._watching.cancel()  # it asks by threads that end here
        if self._standby is not None:
            self._standby.end()
        async with self._changing:
            self._closed = True
            await self._let_go(self.partitions)
        await asyncio.gather(*self._leaving)
        for consumer in self._others.values():
            await consumer.close()
        for plan in self.plans.values():
            if isinstance(plan.policy, RemotePolicy):
                await plan.policy.close()
        self._pool.shutdown(wait=False)
        self._blocking.shutdown(wait=False)

    def offer(self, tp: TP, fetched: Fetched) -> None:
        """What the group's consumer fetched."""
        self._offer(self.reading[tp.topic][0], tp, fetched)

    def _offer(self, processor: str, tp: TP, fetched: Fetched) -> None:
        """Hand a fetch to the partition it belongs to; what isn't ours any more is dropped."""
        if (partition := self.partitions.get(Part(*tp, processor))) is not None:
            partition.offer(fetched)

    # --- what partitions need (Host) ------------------------------------------------------

    def defaults_of(self, plan: Plan) -> dict[str, str]:
        """The deployment's values that folds of this processor depend on."""
        return defaults_of(plan.processor, self.settings)

    def producer(self, transactional_id: str) -> Transactions:
        """A transactional producer, not started yet."""
        settings = self.settings
        return Transactions(
            settings.bootstrap(), transactional_id, self._security,
            settings.answer_timeout_s, settings.commit_timeout_s,
        )  # fmt: skip

    async def inspect(self, plan: Plan, tp: TP) -> Input:
        """The topics' ids and the partition's offsets, from the broker."""
        return await asyncio.get_running_loop().run_in_executor(
            self._blocking, inspect, self.settings, self._admin, tp, plan.state
        )

    def _ids(self, plan: Plan) -> Mapping[str, str]:
        return ids_of(self._admin, [plan.source, plan.state], self.settings.answer_timeout_s)

    @property
    def assigned(self) -> bool:
        """Whether the group has said what is ours, and isn't late with saying it anew."""
        since = self.consumer.meeting if self.consumer is not None else 0.0
        late = since and time.monotonic() - since > self.settings.rebalance_timeout_s
        return self._joined and not late

    async def met(self) -> None:
        """Wait while the group meets: until then what we have may be another's."""
        while self.consumer is not None and self.consumer.meeting:  # noqa: ASYNC110
            await asyncio.sleep(MEET_S)  # the word comes in the thread of the consumer

    async def loader(self, plan: Plan, place: Place, state_id: str) -> Loader:
        """What reads a partition's state, as far as our standby has followed it."""

        def found() -> Loader:
            ahead = self._standby.take(plan, place, state_id) if self._standby is not None else None
            return ahead or begun(plan, place, self.defaults_of(plan))

        return await asyncio.get_running_loop().run_in_executor(self._blocking, found)

    async def recover(self, loader: Loader, advanced: Callable[[], None]) -> Recovered:
        """Read a partition's state back, in a thread; `advanced` is called there as it comes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._blocking, recover, self.settings, loader, advanced)

    async def epochs_end(self, plan: Plan, partition: int) -> int:
        """Where a partition of the epochs log ends now, for who reads what is committed."""
        return await self.end_of(TopicPartition(plan.epochs, partition))

    async def end_of(self, place: TopicPartition) -> int:
        """Where a partition ends now, for who reads what is committed."""
        loop, answer_s = asyncio.get_running_loop(), self.settings.answer_timeout_s
        return await loop.run_in_executor(self._blocking, end_of, self._admin, place, answer_s)

    async def rebuilds(self, plan: Plan, partition: int, since: int) -> tuple[list[Rebuild], int]:
        """What the epochs log says of states made anew from an offset on, and where it ends."""
        return await asyncio.get_running_loop().run_in_executor(
            self._blocking, rebuilds_since, self.settings, plan, partition, since
        )

    async def work(
        self, plan: Plan, job: Callable[[Workspace], Outcome], records: int, size: int
    ) -> Outcome:
        """Run a job of so many records and bytes, with a workspace of its own.

        In a thread, unless it is small; and always where a law or a policy may take its time.
        """
        quick = plan.policy is None and not _patient(plan)
        if records <= SMALL_RECORDS and size <= SMALL_BYTES and quick:
            return self._with_space(plan, job)
        loop = asyncio.get_running_loop()
        async with Turn(self._turns) as turn:
            if _patient(plan):
                turn.give_after(LONG_S)
            return await loop.run_in_executor(self._pool, self._with_space, plan, job)

    def _with_space(self, plan: Plan, job: Callable[[Workspace], Outcome]) -> Outcome:
        spaces = self._spaces[plan.processor.name]
        try:
            space = spaces.get_nowait()
        except queue.Empty:  # with those who gave their turn on, or the loop folds beside them all
            space = Workspace(plan)
        try:
            return job(space)
        finally:
            if spaces.qsize() < self.settings.threads:
                spaces.put(space)

    async def read_from(self, part: Part, offset: int) -> int:
        """Start delivering a partition from this offset; returns the tag of what comes."""
        reader = self._reader(part)
        assert reader is not None
        return await reader.read_from(part.tp, offset)

    def hold(self, part: Part) -> None:
        """Deliver nothing of a partition for now."""
        if (reader := self._reader(part)) is not None:
            reader.held.add(part.tp)

    def release(self, part: Part) -> None:
        """Deliver a held partition again, from where it was."""
        if (reader := self._reader(part)) is not None:
            reader.held.discard(part.tp)

    def fail(self, where: str, error: BaseException) -> None:
        """A defect: say so and end the process. A restart resumes where the state says."""
        text = "%s met a defect; the worker ends, nothing uncommitted counts"
        log.critical(text, where, exc_info=error)
        self.end(error)

    @staticmethod
    def end(error: BaseException) -> None:
        """End the process at once, with a status that tells a supervisor to start it again."""
        end_now(repr(error), EXIT_FAILURE)

    # --- watching -------------------------------------------------------------------------

    def _stands(self, part: Part, why: str, consumer: bool) -> None:
        """The watchdog, from its thread: this partition is to be taken anew."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._renew(part, why, consumer), self._loop)

    async def _renew(self, part: Part, why: str, consumer: bool) -> None:
        """End a partition's life and begin another."""
        async with self._changing:
            old = self.partitions.get(part)
            if old is None or old.resting:
                return
            await old.close(RENEW_S, at_once=True)
            self._own(part, old.progress)
            if consumer and (reader := self._reader(part)) is not None:
                reader.renew(f"{part.topic}/{part.partition}: {why}, though taken anew")

    async def watch(self) -> None:
        """Look around once a second until the engine is closed. A defect there is raised here."""
        self._watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({self._watching})
        finally:
            self._watching.cancel()
        if not self._watching.cancelled():
            self._watching.result()

    async def _watch(self) -> None:
        """Were topics recreated, did a log move under us? And hint our offsets."""
        hinted = 0.0
        while True:
            await asyncio.sleep(WATCH_S)
            self._watch_lost()
            await self._watch_ids()
            await self._watch_fenced()
            await self._rebuilt.look(self.partitions)
            self._late.decisions([p.policy for p in self.plans.values()], time.monotonic())
            self._watch_held()
            self._late.folds(self.partitions, time.monotonic())
            running = [p for p in self.partitions.values() if p.phase == "running"]
            metrics.RECOVERY.set(len(running) / len(self.partitions) if self.partitions else 1.0)
            if time.monotonic() - hinted > HINT_S:
                hinted = time.monotonic()
                await self._hint()

    def _watch_lost(self) -> None:
        """Positions that aren't in the log."""
        for part, partition in self.partitions.items():
            reader = self._reader(part)
            if reader is not None and part.tp in reader.lost:
                reader.lost.discard(part.tp)
                if partition.phase == "running":
                    partition.take_anew("its offset isn't in the log, or its client is gone")

    async def _watch_ids(self) -> None:
        names = sorted({name for one in self.partitions.values() for name in one.ids})
        if not names:
            return
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._blocking, ids_of, self._admin, names, self.settings.answer_timeout_s
            )
        except (BrokerError, KafkaException) as error:
            log.info("the broker doesn't say its topics' ids just now: %r", error)
            return
        for partition in list(self.partitions.values()):
            if partition.phase == "running" and (other := recreated(partition.ids, found)):
                partition.take_anew(f"{other} was recreated")

    async def _watch_fenced(self) -> None:
        """Fenced, and yet ours still: the broker ended a transaction that took too long.

        A partition is taken again after a new assignment only, so ask for one. Where another worker
        is the owner, the group has taken the partition from us long before.
        """
        now = time.monotonic()
        if not any(isinstance(p.stopped, Fenced) for p in self.partitions.values()):
            self._rejoin_at = now + FENCED_S
        elif now >= self._rejoin_at and self.consumer is not None:
            self._rejoin_at = now + 3 * FENCED_S
            log.warning("fenced without a new owner: asking the group for a new assignment")
            try:
                await self.consumer.rejoin()
            except TimeoutError:
                log.warning("the consumer's thread doesn't answer: asked again later")

    def _watch_held(self) -> None:
        """Show what nobody can read: behind a transaction that stays open."""
        ends: dict[TP, tuple[int, int]] = {}
        for part in self.partitions:
            if (reader := self._reader(part)) is not None and part.tp in reader.ends:
                ends[part.tp] = reader.ends[part.tp]
        owners = {part.tp: part.processor for part in reversed(self.partitions)}
        long = self.held_up.look(ends, owners, time.time())
        for part, partition in self.partitions.items():
            partition.unreadable = long.get(part.tp, 0)

    async def _hint(self) -> None:
        """Commit offsets to the group for lag tools. Nothing relies on them: errors only show."""
        current: dict[TP, int] = {}
        for part, one in self.partitions.items():
            if one.committed >= 0 and ProcessorAssignor.hints(*part.tp):  # the furthest behind
                current[part.tp] = min(one.done, current.get(part.tp, one.done))
        news = {tp: offset for tp, offset in current.items() if self._hinted.get(tp) != offset}
        if not news or self.consumer is None:
            return
        try:
            await self.consumer.hint(news)
            self._hinted = current
        except (KafkaError, TimeoutError) as error:
            log.info("offsets weren't noted in the group: %r", error)

    @property
    def stalled(self) -> Mapping[Part, float]:
        """Partitions that stand still, and for how many seconds."""
        return self._watchdog.stalled
