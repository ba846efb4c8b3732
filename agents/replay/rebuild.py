"""The mode `rebuild`: a processor's state folded anew beside the live one, partition by partition.

A fold runs in a thread, pays the budget for what it has read, and ends where the job is to rest. A
job whose worker dies goes on with the partition that it was at.
"""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from agents.engine.connection import heard
from agents.engine.errors import Stopped
from agents.engine.plan import Plan
from agents.engine.registry import processor_names, processors
from agents.history.beside import Beside, Compared
from agents.history.errors import HistoryError
from agents.history.plans import plan_of
from agents.history.rows import Differing, Digest
from agents.history.states import Past
from agents.history.stored import stored
from agents.replay import modes
from agents.replay.command import Command
from agents.replay.modes import CantReplayError, JobFailedError, Step, Take
from agents.replay.rivals import own_row
from agents.settings import Settings
from topics.partition import partition_of

TELL_S = 0.4  # between two steps of a fold
STOP_S = 2.0  # for a fold to hear that it is to end; then it ends by itself
NAMED_MAX = 20  # rows that differ, in what is said of a job
NAMED_BYTES_MAX = 2_000  # of one of them; one that is larger is named without its fields
LIVE, ANEW = "live", "anew"


class StoppedFoldError(Exception):
    """Nobody wants this fold any more."""


class Rebuild:
    """One run of one job."""

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings, self._job = settings, job

    async def plan(self, command: Command, take: Take) -> modes.Plan:
        """What there is to do. CantReplayError; those of clients and BrokerError pass."""
        return await asyncio.to_thread(self._plan, command)

    def _plan(self, command: Command) -> modes.Plan:
        with _refused():
            plan = _plan_named(self._settings, command.target)
            row = own_row(self._settings, self._job, "rebuild", command.target)
            homes = {partition_of(one, plan.partitions) for one in command.tenants}
            spans: dict[str, list[int]] = {}
            missing: list[str] = []
            for p in sorted(homes) if homes else range(plan.partitions):
                spans[str(p)] = self._span(plan, p, command, missing)
        said = {
            "source": plan.source, "target": command.target, "actor": row.actor, "ranges": spans,
            "missing": missing, "apply": command.apply, "dry_run": command.dry_run,
            "partitions": {},
        }  # fmt: skip
        total = sum(end - begin for begin, end in spans.values())
        return modes.Plan(total, said, "; ".join(missing))

    def _span(self, plan: Plan, partition: int, command: Command, missing: list[str]) -> list[int]:
        """From where to where a partition is folded. HistoryError, but for a dry run."""
        position = stored(self._settings, plan, partition).position
        if position is None:
            return [0, 0]
        end = position.next_offset
        try:
            return [Past(self._settings, plan, partition).outlook(end), end]
        except HistoryError as error:
            if not command.dry_run:
                raise
            missing.append(str(error))
            return [end, end]

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Fold, and compare."""
        if command.dry_run:
            return
        with _failing():
            of = await asyncio.to_thread(_plan_named, self._settings, command.target)
        results: dict[str, Any] = dict(plan["partitions"])
        for text, (begin, end) in plan["ranges"].items():
            partition = int(text)
            if text in results:
                continue
            if (at := position.get(partition, begin)) > begin:  # who was at it before is gone
                yield Step({partition: begin}, begin - at)
            work = Partition(self._settings, of, partition, (begin, end), command)
            async with aclosing(work.steps(take)) as steps:
                async for step in steps:
                    yield step
            results[text] = work.result
            yield _finished(results, {partition: end}, work)


def _finished(results: dict[str, Any], position: Mapping[int, int], work: "Partition") -> Step:
    """The step behind a partition: what was found in all until now."""
    live, anew, unlike, named = Digest(), Digest(), 0, 0
    for one in results.values():
        live.join(Digest.told(one["rows"], one["digest"]))
        anew.join(Digest.told(one["rows_anew"], one["digest_anew"]))
        unlike += one["differ"]
        one["differing"] = one["differing"][: NAMED_MAX - named]
        named += len(one["differing"])
    said = f"{unlike:,} of {max(live.rows, anew.rows):,} rows differ"
    told = said if unlike else f"all {live.rows:,} rows are equal"
    return Step(
        position, work.left, said={"partitions": dict(results), "differ": unlike, "told": told},
        digests=(live.hex, anew.hex),
    )  # fmt: skip


class Partition:
    """A partition of the work."""

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, span: tuple[int, int],
        command: Command,
    ) -> None:  # fmt: skip
        self._settings, self._plan, self._partition = settings, plan, partition
        self._command = command
        self._at, self._end = span
        self._read = 0
        self._stop = threading.Event()
        self._beside: Beside | None = None
        self._compared = Compared(Digest(), Digest(), [])
        self._notes: list[str] = []

    @property
    def left(self) -> int:
        """Offsets of its range that no step has told yet."""
        return self._end - self._at

    async def steps(self, take: Take) -> AsyncGenerator[Step, None]:
        """Fold it, and compare. JobFailedError; those of clients pass."""
        paying = Paying(take, self._stop, asyncio.get_running_loop())
        with _failing():
            async with aclosing(self._thread(lambda: self._fold(paying))) as going:
                async for _ in going:
                    yield self._step()
        if lacking := self._compared.lacking:
            raise JobFailedError(
                f"tenants: nothing of {', '.join(lacking)}, neither live nor made anew"
            )
        yield self._step()

    def _fold(self, told: Callable[[Past], None]) -> None:
        """In a thread."""
        beside = Beside(
            self._settings, self._plan, self._partition, self._command.tenants, told
        )  # fmt: skip
        if beside.begin():
            self._beside = beside
            beside.fold()
            self._compared = beside.compare()
        else:
            self._compared = Compared(Digest(), Digest(), [], sorted(self._command.tenants))

    async def _thread(self, work: Callable[[], None]) -> AsyncGenerator[None, None]:
        """Do something in a thread; yields now and then while it goes on."""
        task = asyncio.ensure_future(asyncio.to_thread(work))
        task.add_done_callback(heard)
        try:
            while not (await asyncio.wait({task}, timeout=TELL_S))[0]:
                yield
            task.result()
        finally:
            if not task.done():
                self._stop.set()
                await asyncio.wait({task}, timeout=STOP_S)

    def _step(self) -> Step:
        """How far it has got on since the last one."""
        if self._beside is None:
            return Step({})
        past = self._beside.past
        read, self._read = past.records - self._read, past.records
        at = min(max(past.at, self._at), self._end)
        done, self._at = at - self._at, at
        return Step({self._partition: at}, done, read)

    @property
    def result(self) -> dict[str, Any]:
        """What was found, as JSON data."""
        found, beside = self._compared, self._beside
        past = beside.past if beside is not None else None
        notes = [] if past is None else [*past.notes, *(past.asides if found.differing else ())]
        return {
            "from": beside.of if beside is not None else "nothing, for nothing is folded yet",
            "to": past.at if past is not None else 0,
            "rows": found.live.rows, "digest": found.live.hex,
            "rows_anew": found.anew.rows, "digest_anew": found.anew.hex,
            "differ": len(found.differing),
            "differing": [_named(one) for one in found.differing[:NAMED_MAX]],
            "notes": notes,
        }  # fmt: skip


class Paying:
    """Called from the thread of a fold: asks for the budget, and ends what nobody wants."""

    def __init__(self, take: Take, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        self._take, self._stop, self._loop = take, stop, loop
        self._paid = 0

    def __call__(self, past: Past) -> None:
        """StoppedFoldError."""
        while not self._stop.is_set() and past.records > self._paid:
            wanted = past.records - self._paid
            asked = asyncio.run_coroutine_threadsafe(_taken(self._take, wanted), self._loop)
            self._paid += asked.result()
        if self._stop.is_set():
            raise StoppedFoldError


async def _taken(take: Take, wanted: int) -> int:
    return await take(wanted)


def _named(one: Differing) -> dict[str, Any]:
    """A row that differs, as JSON data; without its fields where they are large."""
    data = one.data(LIVE, ANEW)
    return data if len(json.dumps(data)) <= NAMED_BYTES_MAX else {"key": one.key}


def _plan_named(settings: Settings, name: str) -> Plan:
    """A processor's plan. HistoryError, BrokerError, KafkaException."""
    if name not in processor_names():
        listed = ", ".join(processor_names())
        raise HistoryError(f"there is no processor {name!r}; there are {listed}")
    return plan_of(settings, processors([name])[name])


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except (HistoryError, Stopped) as error:
        raise CantReplayError(str(error)) from error


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except (HistoryError, Stopped) as error:
        raise JobFailedError(str(error)) from error
