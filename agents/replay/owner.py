"""A partition of jobs that this worker owns: what is wanted of them is done, in transactions.

Each step of a job, and where it goes on behind that, are one transaction under the partition's
transactional id: whoever takes the partition over fences, reads where each job is, and goes on.
While there is nothing to do there is no producer.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import errors as kafka
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException, Message

from agents.engine.builder import RawBuilder
from agents.engine.errors import Fenced, Refused, Stopped
from agents.engine.producer import Transactions, refused
from agents.engine.security import security
from agents.history.errors import Gone
from agents.replay.agent import PAUSE, STOP
from agents.replay.budget import Budget
from agents.replay.command import Command
from agents.replay.jobs import Jobs, Status, load, sends_of, tombstones
from agents.replay.metrics import ReplayMetrics
from agents.replay.modes import CantReplayError, JobFailedError, Step
from agents.replay.run import LEAVES, Run
from agents.replay.unsaid import unsaid
from agents.replay.words import line_of, printable
from agents.services.backoff import Backoff
from agents.settings import Settings
from topics.broker import BrokerError
from topics.messages import as_bytes

RUNS_MAX = 4  # jobs of a partition at a time; the others wait, the oldest first
SETTLED_MAX = 1_000  # jobs in one transaction that only says how they are
TELL_S = 0.5  # between two statuses of a job while it gets on
LATE_S = 0.8  # and while it doesn't: one a second is promised
IDLE_S = 30.0  # after which a producer without work is closed

# Of a target that takes no more, beside what producer.py knows as final; Unknown is also what
# aiokafka makes of a record without a key for a compacted topic.
REFUSING = (
    kafka.InvalidRequestError, kafka.KafkaStorageError, kafka.PolicyViolationError,
    kafka.RecordListTooLargeError, kafka.UnknownError,
)  # fmt: skip
AWAY = (KafkaError, KafkaException, BrokerError, OSError, TimeoutError)

log = logging.getLogger(__name__)


class Owner:
    """From the assignment of a partition until it is let go. For one event loop."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        found: Jobs,
        budget: Budget,
        metrics: ReplayMetrics,
    ) -> None:
        """`found`: the jobs as they were read when the partition was assigned."""
        self.partition = partition
        self.stopped = ""  # the name of the error that ended it
        self.waits = ""  # why nothing goes on just now
        self._settings, self._budget, self._metrics = settings, budget, metrics
        self._jobs = found
        self._runs: dict[str, Run] = {}
        self._starts: dict[str, None] = {}  # jobs that wait for a turn, in their order
        self._look: deque[str] = deque(found.unsettled())
        self._failed: dict[str, str] = {}  # what the broker refused of a job for good
        self._inbox: list[Message] = []
        self._changed = asyncio.Event()
        self._transactions: Transactions | None = None
        self._backoff = Backoff()
        self._anew = False  # what is committed is to be read again
        self._leaving: set[asyncio.Task[None]] = set()
        self._resume()

    def _resume(self) -> None:
        """Jobs that were running, or had no turn yet, get one."""
        self._look.extend(
            name for name, one in self._jobs.status.items()
            if one.state in ("running", "accepted") and name not in self._look
        )  # fmt: skip

    def offer(self, message: Message) -> None:
        """A row of the processor."""
        self._inbox.append(message)
        self._changed.set()

    async def run(self) -> None:
        """Do what is wanted, until it is cancelled, or another worker has the partition."""
        try:
            while True:
                try:
                    await self._turn()
                    self._came()
                except AWAY as error:
                    await self._went(error)
        except Stopped as error:
            self.stopped = error.name
            log.error("replay/%d is stopped: %s", self.partition, error)
        finally:
            for task in self._leaving:
                task.cancel()
            await self._let_go()

    async def _turn(self) -> None:
        if not (self._runs or self._look or self._inbox or self._anew):
            await self._idle()
            return
        if self._transactions is None:
            await self._activate()
        self._open_inbox()
        await self._settle()
        self._begin()
        for run in await self._moved():
            await self._advance(run)
        await self._tell_late()

    async def _idle(self) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), IDLE_S)
        except TimeoutError:
            await self._stop_producer()

    async def _activate(self) -> None:
        """Fence who had the partition before, and see where it left its jobs."""
        own = self._settings
        self._transactions = Transactions(
            own.bootstrap(), own.prefix(f"replay-jobs-{self.partition}"), security(own),
            own.answer_timeout_s, own.commit_timeout_s,
        )  # fmt: skip
        await self._transactions.start()
        self._jobs = await asyncio.to_thread(load, own, self.partition)
        self._anew = False
        self._starts.clear()
        self._look = deque(self._jobs.unsettled())
        self._look.extend(self._failed)
        self._resume()

    def _open_inbox(self) -> None:
        """Take in the rows that came."""
        inbox, self._inbox = self._inbox, []
        self._changed.clear()
        for message in inbox:
            if (message.offset() or 0) < self._jobs.end:
                continue  # read with all others already
            key, value = as_bytes(message.key()) or b"", as_bytes(message.value())
            name = self._jobs.take(key, value)
            if name is not None:
                self._look.append(name)

    # --- what is wanted ------------------------------------------------------------------

    async def _settle(self) -> None:
        """Bring jobs to what is wanted of them, and answer who asks."""
        while self._look:
            changed: dict[str, Status] = {}
            gone: dict[str, Status] = {}
            over: set[str] = set()  # before
            while self._look and len(changed) + len(gone) < SETTLED_MAX:
                name = self._look.popleft()
                if name in self._jobs.status and self._jobs.status[name].over:
                    over.add(name)
                if name not in self._jobs.wanted:
                    await self._forget(name, gone)
                elif await self._settled(name):
                    changed[name] = self._jobs.status[name]
            told = [*changed.values(), *gone.values()]
            ended = [one for one in told if one.over and one.id not in over]
            sends = sends_of(self._settings, self.partition, changed.values(), told)
            await self._commit(sends + tombstones(self._settings, self.partition, list(gone)))
            for one in ended:
                self._metrics.jobs.labels(one.state).inc()
                self._leave(one)

    async def _forget(self, name: str, gone: dict[str, Status]) -> None:
        """The processor keeps it no more, whatever it was at: no command came for long."""
        await self._end(name)
        self._starts.pop(name, None)
        if (status := self._jobs.status.pop(name, None)) is not None:
            gone[name] = status
            if not status.over:
                status.became("stopped", "it is forgotten: no command came for long")

    async def _settled(self, name: str) -> bool:
        """Bring one job to what is wanted of it; whether there is something to say."""
        row = self._jobs.wanted[name]
        fresh = name not in self._jobs.status
        status = self._jobs.status.setdefault(name, Status(name))
        asked, status.answers = row.asked > status.answers, row.asked
        if status.over:
            return asked
        before = status.state
        if (why := self._failed.pop(name, None)) is not None:
            await self._end(name)
            status.became("failed", why)
        elif row.wanted == STOP:
            await self._end(name)
            status.became("stopped", await self._unsaid(status))
        elif row.wanted == PAUSE:
            await self._end(name)
            status.became("paused")
        elif name not in self._runs:
            self._starts[name] = None
            if before == "paused":
                status.became("accepted")
        if row.wanted in (STOP, PAUSE) or status.over:
            self._starts.pop(name, None)
        status.mode = status.mode or _mode(row.body)
        return asked or status.state != before or (fresh and status.state != "accepted")

    async def _unsaid(self, status: Status) -> str:
        """What a job has done that none of its steps could say any more."""
        said = status.said()
        return await asyncio.to_thread(unsaid, self._settings, status.id, said) if said else ""

    def _begin(self) -> None:
        """Give turns to the jobs that wait, the oldest first."""
        while self._starts and len(self._runs) < RUNS_MAX:
            name = next(iter(self._starts))
            del self._starts[name]
            status = self._jobs.status[name]
            try:
                command = Command.read(self._jobs.wanted[name].body)
            except ValueError as error:
                self._failed[name] = str(error)
                self._look.append(name)
                continue
            run = self._runs[name] = Run(self._settings, command, status, self._budget)
            run.begin()

    async def _end(self, name: str) -> None:
        if (run := self._runs.pop(name, None)) is not None:
            await run.close()
            with suppress(KeyError):
                self._metrics.progress.remove(name)

    # --- the work ------------------------------------------------------------------------

    async def _moved(self) -> list[Run]:
        """Wait until runs have got on, something is wanted, or people are to be told."""
        if not self._runs or self._look or self._inbox:
            return []
        changed = asyncio.ensure_future(self._changed.wait())
        due = min(run.told_at for run in self._runs.values()) + LATE_S - time.monotonic()
        tasks = {run.task: run for run in self._runs.values() if run.task is not None}
        try:
            done, _ = await asyncio.wait(
                {changed, *tasks}, timeout=max(0.0, due), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            changed.cancel()
        return [run for task, run in tasks.items() if task in done]

    async def _advance(self, run: Run) -> None:
        """Commit what a run has done, and let it go on meanwhile."""
        assert run.task is not None
        status, step = run.status, None
        try:
            event = run.task.result()
            if event is None:
                status.became("done", status.message)
            else:
                run.apply(event)
                step = event if isinstance(event, Step) else None
                if step is None or not step.settles:
                    run.next()
        except CantReplayError as error:
            status.became("refused", str(error))
        except (JobFailedError, Gone) as error:
            status.became("failed", str(error))
        except AWAY as error:
            status.message = f"it waits: {line_of(error)}"
            log.warning("replay job %s waits: %s", status.id, line_of(error))
            run.again()
            return
        except Exception as error:
            log.exception("replay job %s met a defect", status.id)
            status.became("failed", f"a defect: {type(error).__name__}: {line_of(error)}")
        await self._commit_run(run, step)
        if step is not None and step.settles:
            run.next()

    async def _commit_run(self, run: Run, step: Step | None) -> None:
        status, now = run.status, time.monotonic()
        tell = status.over or now - run.told_at >= TELL_S
        sends = list(step.sends) if step is not None else []
        try:
            await self._commit(
                sends + sends_of(self._settings, self.partition, [status], [status] if tell else [])
            )
        except (Refused, *REFUSING) as error:
            place = self._transactions.place if self._transactions is not None else ""
            why = " ".join(refused(error.__cause__ or error, place).split())
            self._failed[status.id] = f"what it writes is refused: {printable(why)}"
            raise KafkaError(f"what replay job {status.id} writes is refused: {error}") from error
        run.told_at = now if tell else run.told_at
        self._count(run, step)
        if status.over:
            await self._end(status.id)
            self._leave(status)

    def _leave(self, status: Status) -> None:
        """Let a mode clear up behind a job that didn't come to its end, beside all else."""
        leave = LEAVES.get(status.mode)
        if leave is not None and status.state in ("stopped", "failed"):
            task = asyncio.create_task(leave(self._settings, status.said()))
            self._leaving.add(task)
            task.add_done_callback(self._left)

    def _left(self, task: "asyncio.Task[None]") -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what a job has left isn't cleared up: %s", line_of(error))

    def _count(self, run: Run, step: Step | None) -> None:
        if step is not None:
            self._metrics.records.labels("sent").inc(step.sent)
            self._metrics.records.labels("passed").inc(max(0, step.read - step.sent))
        self._metrics.progress.labels(run.status.id).set(run.ratio)
        if run.status.over:
            self._metrics.jobs.labels(run.status.state).inc()
            log.info("replay job %s: %s %s", run.status.id, run.status.state, run.status.message)

    async def _tell_late(self) -> None:
        """Say how those are that haven't got on for a second."""
        now = time.monotonic()
        late = [run for run in self._runs.values() if now - run.told_at >= LATE_S]
        for run in late:
            run.measure()
            run.told_at = now
        await self._commit(
            sends_of(self._settings, self.partition, [], [run.status for run in late])
        )

    async def _commit(self, sends: Sequence[tuple[str, int, RawBuilder]]) -> None:
        if sends:
            assert self._transactions is not None
            await self._transactions.commit(sends)

    # --- the broker ----------------------------------------------------------------------

    def _came(self) -> None:
        if self._backoff.down:
            log.info("replay/%d goes on after %.1f s", self.partition, self._backoff.answered())
        self.waits = ""

    async def _went(self, error: BaseException) -> None:
        """Nothing is known of what was under way: begin anew from what is committed."""
        if isinstance(error, Fenced):
            raise error
        if self._backoff.failed():
            log.warning("replay/%d waits: %s", self.partition, line_of(error))
        self.waits = line_of(error)
        await self._let_go()
        self._anew = True
        await asyncio.sleep(self._backoff.left)

    async def _let_go(self) -> None:
        """Stop all runs, and the producer."""
        for name in list(self._runs):
            await self._end(name)
        await self._stop_producer()

    async def _stop_producer(self) -> None:
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            await transactions.stop()


def _mode(body: str) -> str:
    try:
        return Command.read(body).mode
    except ValueError:
        return ""
