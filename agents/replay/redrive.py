"""The mode `redrive`: a topic's dead letters back to it, by the law and the ledger of `soma dlq`.

Records and their marks are one transaction, under the transactional id of whoever redrives that
topic: of two of them, the second ends the first. The job's own place follows in a transaction of
its own. A worker that dies between the two leaves marks that name the job: who goes on counts those
letters, and sends none of them again.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from agents.dlq.changes import changed_fields
from agents.dlq.choosing import choice
from agents.dlq.law import whose
from agents.dlq.letters import (
    LEFT,
    MOST,
    BadChoiceError,
    BusyError,
    DlqError,
    Letter,
    TargetError,
)
from agents.dlq.redrive import PART, Redriver, Tally, Terms
from agents.engine.recovery import reader
from agents.history.errors import HistoryError
from agents.replay.command import Command
from agents.replay.letters import Letters
from agents.replay.modes import CantReplayError, JobFailedError, Plan, Step, Take
from agents.replay.ranges import log_of, range_of
from agents.replay.rivals import NOBODY, own_row, said_by
from agents.replay.shadows import check_same
from agents.settings import Settings
from topics.broker import BrokerError, connect, look
from topics.catalogue import dlq_of

STOP_S = 2.0  # for a part under way, when the job is to rest; then it ends by itself
WAITS_S = 5.0  # for a broker that is away, before the job says that it waits
NAMED_MAX = 20  # letters that aren't sent, in what is said of a job


class Redrive:
    """One run of one job."""

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings, self._job = settings, job

    async def plan(self, command: Command, take: Take) -> Plan:
        """What there is to do. CantReplayError; KafkaException and BrokerError pass."""
        with _told():
            choice(reasons=command.reasons, tenants=command.tenants)
            said = await asyncio.to_thread(self._found, command)
            if lacking := await self._lacking(command, said, take):
                raise CantReplayError(f"tenants: no letter of {lacking} lies in the range")
        total = sum(end - first for first, end in said["ranges"].values())
        return Plan(total, said, "; ".join(said["missing"]))

    def _found(self, command: Command) -> dict[str, Any]:
        """The range of letters, as it is now, and who wants them sent."""
        name = self._settings.topic(dlq_of(command.source))
        topics = look(connect(self._settings.librdkafka()), [name])
        if name not in topics:
            raise CantReplayError(f"source: there is no topic {name}")
        row = NOBODY if command.dry_run else own_row(self._settings, self._job, command)
        consumer = reader(self._settings, "soma-replay", [])
        try:
            log = log_of(consumer, name, topics[name].topic_id, range(topics[name].partitions))
            partial = command.partial or command.dry_run  # which says what is missing
            spans, missing = range_of(consumer, log, *command.bounds, partial)
        finally:
            consumer.close()
        return {
            "source": name, "source_id": log.topic_id,
            "target": self._settings.topic(command.source), "actor": said_by(row),
            "ranges": {str(p): list(span) for p, span in spans.items()},
            "missing": missing, "dry_run": command.dry_run,
        }  # fmt: skip

    async def _lacking(self, command: Command, plan: Mapping[str, Any], take: Take) -> str:
        """The tenants of whom there is no letter in the range; reads until each was met."""
        lacking = set(command.tenants)
        letters = Letters(self._settings, command, plan, {})
        try:
            while lacking and (left := letters.left):
                found = await asyncio.to_thread(letters.read, await take(min(PART, left)))
                lacking -= {whose(letter) for letter in found}
        finally:
            await _ended(letters.close)
        return ", ".join(sorted(lacking))

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Judge the letters, part by part, and send what may go."""
        if not command.dry_run:
            await asyncio.to_thread(check_same, self._settings, {}, [plan["target"]])
        letters = Letters(self._settings, command, plan, position)
        work = Work(self._settings, command, plan, letters, self._job)
        try:
            while left := letters.left:
                granted = await take(min(PART, left))
                with _told():
                    step = await asyncio.to_thread(work.step, granted)
                yield step
        finally:
            work.stopping = True
            await _ended(work.close)


class Work:
    """What a run does with letters. `step` and `close` wait for one another."""

    def __init__(
        self, settings: Settings, command: Command, plan: Mapping[str, Any], letters: Letters,
        job: str,
    ) -> None:  # fmt: skip
        self.stopping = False
        self._actor = f"{plan['actor']}, replay job {job}"
        most = command.max_attempts or MOST
        changes = changed_fields(command.settings)
        terms = Terms(self._actor, most, changes, dry=command.dry_run, waits_s=WAITS_S)
        self._changes = changes
        self._letters, self._lock = letters, threading.Lock()
        self._choice = choice(
            [command.source], command.reasons, command.tenants, statuses=LEFT
        )  # fmt: skip
        self._make: Callable[[], Redriver] = lambda: Redriver(
            settings, command.source, terms, Tally()
        )
        self._redriver: Redriver | None = None
        self._refused = Counter[str](plan.get("refused", {}))
        self._parked: int = plan.get("parked", 0)
        self._mended: int = plan.get("mended", 0)
        self._named: list[Mapping[str, str]] = list(plan.get("named", []))

    def step(self, most: int) -> Step:
        """Judge some letters; what is decided is committed. DlqError, JobFailedError."""
        with self._lock:
            if self._redriver is None:
                self._redriver = self._make()
                self._redriver.open()
            tally = self._redriver.tally = Tally()
            before = self._letters.done
            found = self._letters.read(most)
            for letter in found:
                if self.stopping:  # nobody hears of this step: nothing of it is to be done
                    break
                self._take(self._redriver, letter)
            else:
                self._redriver.commit()
            return self._told(tally, len(found), self._letters.done - before)

    def _take(self, redriver: Redriver, letter: Letter) -> None:
        mark = redriver.marks.get(letter.identity)
        if mark is None or (mark.actor, mark.letter) != (self._actor, str(letter.place)):
            if self._choice.takes(letter, redriver.marks):
                redriver.take(letter)
            return
        if mark.what == "redriven":  # by this job, whose worker died before it noted that
            redriver.tally.sent += 1
            redriver.tally.mended += bool(self._changes)
            size = len(letter.key or b"") + len(letter.value or b"")
            redriver.tally.took(letter, whose(letter), size)
        else:
            redriver.tally.parked += 1

    def _told(self, tally: Tally, read: int, done: int) -> Step:
        self._refused.update(tally.refused)
        self._parked += tally.parked
        self._mended += tally.mended
        self._named += tally.named[: NAMED_MAX - len(self._named)]
        times = tally.first_ms, tally.last_ms
        return Step(
            dict(self._letters.position), done, read, tally.sent, tally.bytes,
            times=(times[0], times[1]) if times[0] is not None and times[1] is not None else None,
            tenants=tally.tenants,
            said={
                "refused": dict(self._refused), "parked": self._parked, "named": self._named,
                "mended": self._mended,
            },
        )  # fmt: skip

    def close(self) -> None:
        """Let the broker go; what isn't committed never was."""
        with self._lock:
            self._letters.close()
            if self._redriver is not None:
                self._redriver.close()


async def _ended(close: Callable[[], None]) -> None:
    """Wait for a thread to end what it is at, but not for long."""
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.to_thread(close)), STOP_S)


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with letters, as replay says it."""
    try:
        yield
    except (BadChoiceError, HistoryError) as error:
        raise CantReplayError(str(error)) from error
    except BusyError as error:
        raise JobFailedError(f"{error}; what was sent is marked: start another job") from error
    except TargetError as error:
        raise JobFailedError(f"what it writes is refused: {error}") from error
    except DlqError as error:
        raise BrokerError(str(error)) from error
