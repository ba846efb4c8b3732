"""The life of one owned partition: fence, recover, fold and commit, let go.

Batches wait here until the task takes all of them into one transaction (group commit): high load
makes large transactions, low load quick ones. While one commits, the next is folded.
"""

import asyncio
import logging
import random
import time
from functools import partial

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from faust.types import TP

from agents.engine import metrics
from agents.engine.asker import Asker
from agents.engine.batches import RawBatch
from agents.engine.builder import RawBuilder
from agents.engine.epochs import Epoch
from agents.engine.errors import Fenced, LawFailed, PartitionAdded, Stopped, UnknownVersion
from agents.engine.host import Host, Part
from agents.engine.idle import Idle
from agents.engine.inbox import Inbox
from agents.engine.lookups import Lookups
from agents.engine.mending import Mending
from agents.engine.plan import Plan
from agents.engine.position import Position, added, start_at
from agents.engine.processor import Asking, Place, Question, RemotePolicy
from agents.engine.producer import Transactions
from agents.engine.progress import FETCH, Progress
from agents.engine.records import frame_one
from agents.engine.settling import settled
from agents.engine.transport import Fetched
from agents.engine.work import UnknownSchema, Worker
from agents.engine.workspace import Outcome, Workspace
from topics import codec
from topics.broker import BrokerError

log = logging.getLogger(__name__)

OVERLAP_RECORDS = 5_000  # from here on the next transaction is folded while the last one commits
WAITING_BYTES_MAX = 8 << 20  # as fetched; beyond, the partition isn't fetched until half is folded
RETRY_S_MAX = 5.0
TICK_S = 1.0
SLOW_S = 10.0  # a fold that takes longer is named


class Partition:
    """One partition of one processor, owned by this worker until it is closed."""

    def __init__(
        self, host: Host, plan: Plan, partition: int, progress: Progress | None = None
    ) -> None:
        """`progress` of the life before, where this one begins anew."""
        self.host = host
        self.plan = plan
        self.tp = TP(plan.source, partition)
        self.part = Part(plan.source, partition, plan.processor.name)
        self.where = f"{plan.processor.name} at {plan.source}/{partition}"  # for logs
        self.phase = "recovering"  # recovering, running, stopped, closed
        self.stopped: Stopped | None = None
        self.committed = -1  # next offset, as committed
        self.ids: dict[str, str] = {}  # of the source and the state topic
        self.progress = progress or Progress(plan, partition)
        self.progress.show()
        self._inbox = Inbox()
        self._idle = Idle()
        self._saved_seen = 0
        self.unreadable = 0  # offsets behind the stable end that stay so
        self._tag = -1
        self._next = 0  # first offset not folded yet
        self._wake = asyncio.Event()
        self.lookups = Lookups(self._wake.set)
        self._closing = False
        self._anew = False
        self._read_on = False  # the consumer is to be told again from where it reads
        self._kept = False  # though another may have had it, and nothing committed since
        self._until: int | None = None  # offset of a record to be folded alone: it may be a bad one
        self.epochs_end = 0  # as it was when our epochs and skips were read
        self._failures = 0  # in a row: a commit ends it, a recovery alone doesn't
        self._producer: Transactions | None = None
        self._asker: Asker | None = None
        self._ticked = self._asked = 0.0
        self._task = asyncio.create_task(self._run(), name=f"{plan.processor.name}/{partition}")
        self._task.add_done_callback(self._ended)

    # --- called by the engine -------------------------------------------------------------

    def offer(self, fetched: Fetched) -> None:
        """Take in what a fetch brought; ignored if it was fetched before the last recovery."""
        if fetched.tag != self._tag or self._closing:
            return
        self._inbox.take_in(fetched)
        self._show_lag()
        if self._inbox.bytes > WAITING_BYTES_MAX:
            self.host.hold(self.part)
        self._wake.set()

    @property
    def done(self) -> int:
        """Next offset for lag tools: markers of transactions count as done where all before is."""
        return self._inbox.done(self.committed)

    def take_anew(self, why: str) -> None:
        """The log under us changed: recover and look again."""
        log.warning("%s is taken anew: %s", self.where, why)
        self._anew = True
        self._wake.set()

    def stay(self, unread: bool, missed: bool) -> None:
        """The group met and this is ours still: go on; where its reader forgot its place, anew.

        It may have met without us before (`missed`). Did another have it then, our producer is
        fenced, and the next commit says so.
        """
        self._kept, self._read_on = self._kept or missed, self._read_on or unread
        self._wake.set()

    def slow(self, now: float) -> str:
        """What its fold has been at for long, if so; `now` is monotonic."""
        seconds = now - self.progress.began
        if not self.progress.folding or seconds < SLOW_S:
            return ""
        offset = self._worker.under_way()
        return f"{self.plan.processor.name} has been folding for {seconds:.0f} s" + (
            f" at offset {offset}" if offset >= 0 else ""
        )

    @property
    def resting(self) -> bool:
        """Stopped by a named error, or let go."""
        return self.phase in ("stopped", "closed")

    async def close(self, patience_s: float, at_once: bool = False) -> None:
        """Finish the transaction at hand, or not even that, and let go; within `patience_s`."""
        self._closing = True
        self._wake.set()
        if at_once or self.phase != "running":
            self._task.cancel()
        _, late = await asyncio.wait([self._task], timeout=patience_s)
        for task in late:
            log.warning(
                "%s didn't finish in %.1f s: its transaction is left to the next owner",
                self.where, patience_s,
            )  # fmt: skip
            task.cancel()
        await self._drop()
        self.phase = "closed"
        self.progress.hide()
        if self.stopped is not None:
            metrics.STOPPED.remove(*self.progress.labels, self.stopped.name)

    # --- the task -------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._closing:
            try:
                while self.stopped is not None:
                    if not await self._mended(self.stopped):
                        return
                await self._take()
                await self._process()
            except LawFailed as error:
                if error.alone:
                    await self._stop(error)
                else:  # what it did is spoilt: without that record first
                    self._until = error.offset
                    text = "%s is taken anew up to a record that may be the one: %s"
                    log.warning(text, self.where, error.text)
            except Fenced as error:
                if self._kept:
                    log.warning("%s is taken anew: another had it meanwhile", self.where)
                else:
                    await self._stop(error)
            except Stopped as error:
                await self._stop(error)
            except UnknownSchema as error:
                text = f"unknown schema at {error}: a newer version wrote it? Update this worker"
                await self._stop(UnknownVersion(text))
            except (KafkaError, KafkaException, BrokerError, TimeoutError, OSError) as error:
                self._failures += 1
                self.phase = "recovering" if self.stopped is None else self.phase
                metrics.RETRIES.labels(self.plan.processor.name).inc()
                longest = min(RETRY_S_MAX, 0.2 * 2 ** min(self._failures, 10))
                pause = longest * random.uniform(0.5, 1.0)
                log.warning(
                    "%s: %r, when it waited for %s; taken anew in %.1f s",
                    self.where, error, self.progress.doing, pause,
                )  # fmt: skip
                self.progress.does("another attempt")
                await self._drop()
                await asyncio.sleep(pause)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Whatever else ends the task is a defect: a partition never stands still in silence."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.host.fail(self.where, error)

    async def _stop(self, error: Stopped) -> None:
        self.phase, self.stopped = "stopped", error
        metrics.STOPPED.labels(*self.progress.labels, error.name).set(1)
        cause = error.__cause__ if isinstance(error, LawFailed) else None
        # That another has it is how a partition goes to another worker.
        level = logging.INFO if isinstance(error, Fenced) else logging.ERROR
        log.log(level, "%s stopped: %s: %s", self.where, error.name, error, exc_info=cause)
        await self._drop()

    async def _mended(self, error: Stopped) -> bool:
        """Wait for word that it is over what stopped it; False where none will come."""
        other = await Mending(self.host, self.plan, self.tp.partition, self.epochs_end).of(error)
        if other is error:
            return False
        metrics.STOPPED.remove(*self.progress.labels, error.name)
        self.stopped = None
        if other is not None:
            await self._stop(other)
        return True

    async def _drop(self) -> None:
        """Forget everything that isn't in Kafka."""
        self.host.hold(self.part)
        self.lookups.refuse("its worker lets it go, or takes it anew")
        self._tag = -1
        self._inbox.clear()
        self._idle.clear()
        if self._asker is not None:
            self._asker.stop()
            self._asker = None
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _take(self) -> None:
        """Fence, recover, compare with the log, and start reading at the position."""
        self.phase, self._anew, self._kept = "recovering", False, False
        plan, partition, does = self.plan, self.tp.partition, self.progress.does
        await self._drop()
        if partition >= plan.partitions:
            raise PartitionAdded(added(self.tp, plan.partitions))
        does("the group to meet")
        await self.host.met()  # who takes a partition that may be another's fences its owner
        producer = self.host.producer(f"{plan.transactional_id}-{partition}")
        self._producer = producer
        does("its last owner to be fenced")
        await producer.start()
        does("the broker to say what the topic is")
        found = await self.host.inspect(plan, self.tp)
        self.ids = {plan.source: found.topic_id, plan.state: found.state_id}
        place = Place(found.topic_id[:8], partition)
        loader = await self.host.loader(plan, place, found.state_id)
        fold = loader.fold
        does("its state to be read back")
        self.progress.queued = True  # until the first sign that its turn has come
        try:
            recovered = await self.host.recover(loader, self.progress.advances)
        finally:
            self.progress.queued = False
        self.epochs_end = recovered.epochs_end
        position = start_at(self.tp, found, recovered)
        skips = {
            one.offset: one.detail for one in recovered.skips if one.topic_id == found.topic_id
        }
        self._worker = Worker(plan, place, fold, skips)
        self._next, self._saved_seen = position.next_offset, position.seen
        values = {
            "law": plan.processor.law, "settings": self.host.defaults_of(plan),
            "policy": plan.policy_digest, "schemas": self.host.schema_digest,
            "topic_id": found.topic_id,
        }  # fmt: skip
        self._epoch = Epoch(plan, partition, recovered.epoch, values, position.next_offset)
        self.committed = position.next_offset
        self._inbox.begin(position.next_offset, position.seen)
        does("the consumer to begin at its position")
        self._tag = await self.host.read_from(self.part, position.next_offset)
        self.progress.recovered(recovered, fold, self._next)
        self.phase = "running"
        if isinstance(plan.policy, RemotePolicy):
            self._asker = Asker(plan.processor.name, plan.policy, self._wake.set, self._ended)
            self._ask(fold.questions() if isinstance(fold, Asking) else [])

    async def _process(self) -> None:
        commit: asyncio.Task[None] | None = None
        try:
            while True:
                few = self._inbox.records < OVERLAP_RECORDS
                asked = self._closing or bool(self.lookups)
                due = self._idle.due or (bool(self._idle) and asked)
                if commit is not None and (few or asked or due):
                    await commit
                    commit = None
                if due:
                    await self._commit(self._idle.take(), time.monotonic())
                if self._closing or self._anew:
                    return
                if self._read_on:
                    await self._tell_where()
                if self.lookups:
                    await self.lookups.answer(self._worker.fold, self.committed)
                if not await self._arrival():
                    await self._tell()
                    continue
                await self._gather()
                outcome, began = await self._fold()
                if commit is not None:
                    await commit
                    commit = None
                if not self._epoch.sends() and self._idle.keeps(outcome):
                    self.progress.advances()
                else:
                    whole = self._idle.joined(outcome)
                    commit = asyncio.create_task(self._commit(whole, began))
        finally:
            if commit is not None and not commit.done():
                commit.cancel()
                await asyncio.gather(commit, return_exceptions=True)

    async def _tell_where(self) -> None:
        """Have the consumer go on behind what it has brought."""
        self._read_on, self._tag = False, -1
        self._tag = await self.host.read_from(self.part, max(self._inbox.end, self._inbox.seen))
        if self._inbox.bytes > WAITING_BYTES_MAX:
            self.host.hold(self.part)

    async def _arrival(self) -> bool:
        """Wait for something to fold, or to note; False when it is time to look around instead."""
        self.progress.doing = FETCH
        if not self._inbox.batches and not self._wake.is_set():
            try:
                await asyncio.wait_for(self._wake.wait(), self._idle.left_s(TICK_S))
            except TimeoutError:
                await self._maybe_tick()
                return False
        self._wake.clear()
        return bool(self._inbox.batches) or self._inbox.seen > max(self._saved_seen, self._next)

    async def _gather(self) -> None:
        """What comes just behind a commit is folded when it can be sent, with what comes by then.

        Folded sooner it would be sent at the same time, and what comes meanwhile a round later.
        """
        assert self._producer is not None
        pause = self._producer.unready_s()
        if self._inbox.records < OVERLAP_RECORDS and pause > 0.0:
            await asyncio.sleep(pause)

    async def _fold(self) -> tuple[Outcome, float]:
        """Fold what waits, up to a workspace's size."""
        batches = self._inbox.take(self.plan.batch_max)
        count = sum(batch.count for batch in batches)
        drained, seen = not self._inbox.batches, self._inbox.seen
        began = time.monotonic()

        def position(next_offset: int) -> bytes:
            known = (
                seen
                if drained and (not batches or next_offset >= batches[-1].next_offset)
                else next_offset
            )
            self._saved_seen = max(known, next_offset)
            source, state = self.ids.values()
            number = self._epoch.number
            return Position(next_offset, self._saved_seen, source, number, state).encode()

        first, progress = self._next, self.progress
        progress.began = began
        # In the thread of the fold, and not each time: it may look through the whole state.
        asked = began - self._asked >= TICK_S
        self._asked = began if asked else self._asked

        def job(space: Workspace) -> Outcome:
            outcome = self._worker.run(space, batches, first, position, self._until)
            outcome.deadline = self._worker.fold.deadline() if asked else None
            return outcome

        progress.doing, progress.folding = "its fold", True
        try:
            size = sum(len(batch.data) for batch in batches)
            work = partial(self.host.work, self.plan, job, count, size)
            outcome = await settled(self.where, progress, work)
        finally:
            progress.folding = False
        progress.doing = "a commit"
        self._next = outcome.next_offset
        if self._until is not None and self._next > self._until:
            self._until = None
        self._put_back(batches)
        return outcome, began

    def _put_back(self, batches: list[RawBatch]) -> None:
        """What didn't fit into the workspace waits on; what did makes room for more."""
        self._inbox.put_back(batches, self._next)
        if self._inbox.batches:
            self._wake.set()
        if self._inbox.bytes <= WAITING_BYTES_MAX // 2:
            self.host.release(self.part)

    async def _commit(self, outcome: Outcome, began: float) -> None:
        assert self._producer is not None
        sends = [*outcome.sends, *self._epoch.sends()]
        await self._producer.commit([*sends, *self._answers(), *self._tick(outcome.deadline)])
        self._epoch.committed()
        self.committed = outcome.next_offset
        self._failures, self._kept = 0, False
        self._ask(outcome.questions)
        self._show_lag()
        tenants = self._worker.fold.tenants()
        self.progress.committed(outcome, time.monotonic() - began, tenants)

    def _show_lag(self) -> None:
        """At each fetch and each commit: what is fetched, or just being folded, isn't done."""
        behind = self._inbox.behind(self.committed)
        self.progress.lag(behind + self.unreadable)

    def _ask(self, questions: list[Question]) -> None:
        """Ask the remote policy: only what is committed, for nothing else needs an answer."""
        if self._asker is not None:
            self._asker.want(questions)

    def _answers(self) -> list[tuple[str, int, RawBuilder]]:
        """The remote policy's answers, for this very input."""
        builder = self._asker.take() if self._asker is not None else None
        return [] if builder is None else [(self.plan.source, self.tp.partition, builder)]

    async def _tell(self) -> None:
        """Append answers while nothing else is to be committed; else they travel with that."""
        if sends := self._answers():
            assert self._producer is not None
            await self._producer.commit(sends)

    async def _maybe_tick(self) -> None:
        """Append the wall time to the input when some state has a deadline."""
        assert self._producer is not None
        if sends := self._tick(self._worker.fold.deadline()):
            await self._producer.commit(sends)

    def _tick(self, deadline: int | None) -> list[tuple[str, int, RawBuilder]]:
        """A tick, when one is due: with a transaction if there is one, or none comes under load."""
        now = time.time_ns() // 1000
        if deadline is None or deadline > now or time.monotonic() - self._ticked < TICK_S:
            return []
        self._ticked = time.monotonic()
        tick = frame_one(0, None, codec.encode("control_tick", {"ts": now}), [])
        return [(self.plan.source, self.tp.partition, RawBuilder(tick, 1))]
