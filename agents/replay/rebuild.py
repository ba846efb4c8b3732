"""The mode `rebuild`: a processor's state folded anew beside the live one, partition by partition.

A fold runs in a thread, pays the budget for what it has read, and ends where the job is to rest. A
job whose worker dies goes on with the partition that it was at. Outputs go into a shadow where one
is named (handover.py).
"""

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from agents.engine.errors import Fenced, Stopped
from agents.engine.plan import Plan
from agents.engine.position import lost
from agents.engine.rebuilds import Rebuild, rebuilds_since
from agents.engine.registry import processor_names, processors
from agents.history.beside import NOTHING, Beside, Compared
from agents.history.errors import HistoryError
from agents.history.plans import plan_of
from agents.history.rows import Differing, Digest
from agents.history.states import Lost, Past
from agents.history.stored import stored
from agents.replay import modes
from agents.replay.bounds import EVERY
from agents.replay.budget import slice_of
from agents.replay.command import Command, said_of
from agents.replay.compiling import compiled_first
from agents.replay.handover import NOTHING_SENT, Handover
from agents.replay.modes import CantReplayError, JobFailedError, Step, Take
from agents.replay.paying import Paying
from agents.replay.republish import counted, spans_of
from agents.replay.rivals import own_row, said_by
from agents.replay.shadows import check_same, targets_of
from agents.replay.switch import Sends, Switch
from agents.settings import Settings
from topics.connection import heard
from topics.partition import partition_of

TELL_S = 0.4  # between two steps of a fold
STOP_S = 0.5  # for a fold to hear that it is to end; then it ends by itself, and sends nothing
ATTEMPTS = 4  # to put rows in their place, while owners change
CATCH_UPS = 10
NEAR = 2_000  # offsets that are left for when the partition's owner waits
NAMED_MAX = 20  # rows that differ, in what is said of a job
NAMED_BYTES_MAX = 2_000  # of one of them; one that is larger is named without its fields
LIVE, ANEW = "live", "anew"
SNAPSHOT = "snapshot"  # as what a fold may begin with

log = logging.getLogger(__name__)


class Rebuilding:
    """One run of one job."""

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings, self._job = settings, job

    async def plan(self, command: Command, take: Take) -> modes.Plan:
        """What there is to do. CantReplayError; those of clients and BrokerError pass."""
        return await asyncio.to_thread(self._plan, command)

    def _plan(self, command: Command) -> modes.Plan:
        with _refused():
            plan = _plan_named(self._settings, command.target)
            row = own_row(self._settings, self._job, command)
            homes = {partition_of(one, plan.partitions) for one in command.tenants}
            chosen = sorted(homes) if homes else list(range(plan.partitions))
            _check_losses(command, chosen)
            spans: dict[str, list[int]] = {}
            missing: list[str] = []
            begins: dict[str, str] = {}  # with what
            for p in chosen:
                spans[str(p)], begins[str(p)] = self._span(plan, p, command, missing)
            targets = self._targets(plan, command)
        said = {
            "source": plan.source, "target": command.target, "actor": said_by(row),
            "accepted": row.accepted, "ranges": spans, "begins": begins, "missing": missing,
            "apply": command.apply, "dry_run": command.dry_run, "partitions": {},
            "shadow": command.shadow, "targets": targets, "law": plan.processor.law,
        }  # fmt: skip
        total = sum(end - begin for begin, end in spans.values())
        return modes.Plan(total, said, "; ".join(missing))

    def _targets(self, plan: Plan, command: Command) -> dict[str, dict[str, Any]]:
        """Where outputs go, if they do."""
        if not command.shadow:
            return {}
        return targets_of(self._settings, command.shadow, plan, command.dry_run)

    def _span(
        self, plan: Plan, partition: int, command: Command, missing: list[str]
    ) -> tuple[list[int], str]:
        """From where to where a partition is folded, and with what it begins. HistoryError, but
        for a dry run.
        """
        at = stored(self._settings, plan, partition).position
        past = Past(self._settings, plan, partition)
        low, high = past.source.low, past.source.high
        if at is None and not past.epochs:
            return [0, 0], "nothing, for nothing is folded yet"
        end = at.next_offset if at is not None else high
        gone = at is None or lost(at, past.source)
        try:
            newest = _newest(command)
            begin, of = past.outlook(end, newest=gone if newest is None else newest)
            return [begin, end], of
        except HistoryError as error:
            whole = at is not None and not gone and low <= at.seen
            if command.dry_run:
                missing.append(str(error))
            elif whole or end > high:
                raise
            begin = max(low, end)
            return [begin, begin], "what there is"  # what is missing is looked at with the rows

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Fold, compare, and where it is wanted put what differs in its place."""
        if command.dry_run:
            left, tenants = spans_of(plan, position), command.tenants
            async with aclosing(
                counted(self._settings, plan["source"], left, tenants, take)
            ) as counts:
                async for step in counts:
                    yield step
            return
        with _failing():
            of = await asyncio.to_thread(_plan_named, self._settings, command.target)
        async with aclosing(compiled_first(command.target)) as words:
            async for word in words:
                yield Step({}, said={"told": word or "; ".join(plan["missing"])})
        if command.shadow:
            await asyncio.to_thread(self._check_targets, of, plan)
        results, sent = dict(plan["partitions"]), Counter[str](plan.get("sent", {}))
        for text, (begin, end) in plan["ranges"].items():
            partition = int(text)
            if text in results:
                continue
            at = position.get(partition, begin)
            if at > begin and not command.shadow:  # who was at it before is gone
                yield Step({partition: begin}, begin - at)
                at = begin
            switch = Switch(self._settings, of, partition, self._job, plan)
            work = Partition(self._settings, of, partition, (min(at, end), end), command, switch)
            if command.shadow:
                work.send(plan["targets"], position.get(partition, NOTHING_SENT), sent)
            async with aclosing(work.steps(take)) as steps:
                async for step in steps:
                    yield step
            results[text] = work.result
            yield _finished(results, {partition: end}, work)

    def _check_targets(self, of: Plan, plan: Mapping[str, Any]) -> None:
        """JobFailedError where what was sent is gone, or what is to come would be other bytes."""
        check_same(
            self._settings, {one["topic"]: one["topic_id"] for one in plan["targets"].values()}
        )
        if plan["law"] != of.processor.law:
            raise JobFailedError(
                f"it began with law {plan['law']} of {of.processor.name}, which is "
                f"{of.processor.law} here: start another, into another shadow"
            )


def _check_losses(command: Command, chosen: Collection[int]) -> None:
    """CantReplayError: what may be missing, or was folded, is said of no partition, or another."""
    for one in command.bounds:
        if one is None:
            continue
        if EVERY in one.offsets and len(chosen) > 1:
            raise CantReplayError("what may be missing: say of which partition, PARTITION:FROM..TO")
        if others := sorted(one.partitions.difference(chosen)):
            raise CantReplayError(f"what may be missing: partition {others[0]} isn't rebuilt")
    if others := sorted(said_of(command.folded_to).keys() - set(chosen)):
        raise CantReplayError(f"folded_to: partition {others[0]} isn't rebuilt")


def _newest(command: Command) -> bool | None:
    """Whether it is to begin with the newest snapshot; None: as is best."""
    return command.begin == SNAPSHOT if command.begin else None


def _accepted(command: Command, partition: int) -> Lost:
    """What may be missing of a partition."""
    first, end = (
        one.offsets.get(partition, one.offsets.get(EVERY)) if one is not None else None
        for one in command.bounds
    )
    return NOTHING if first is None or end is None else Lost(first, end)


def _finished(results: dict[str, Any], position: Mapping[int, int], work: "Partition") -> Step:
    """The step behind a partition: what was found in all until now."""
    live, anew, unlike, named, written = Digest(), Digest(), 0, 0, 0
    for one in results.values():
        live.join(Digest.told(one["rows"], one["digest"]))
        anew.join(Digest.told(one["rows_anew"], one["digest_anew"]))
        unlike += one["differ"]
        written += one["applied"]["written"] if one["applied"] else 0
        one["differing"] = one["differing"][: NAMED_MAX - named]
        named += len(one["differing"])
    said = f"{unlike:,} of {max(live.rows, anew.rows):,} rows differ"
    told = said if unlike else f"all {live.rows:,} rows are equal"
    if work.applying:
        told += f"; {written:,} are written"
    if work.sent is not None:
        told += f"; {work.sent.total():,} outputs are sent"
    return Step(
        position, work.left, said={"partitions": dict(results), "differ": unlike, "told": told},
        digests=(live.hex, anew.hex),
    )  # fmt: skip


class Partition:
    """A partition of the work."""

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, span: tuple[int, int],
        command: Command, switch: Switch,
    ) -> None:  # fmt: skip
        self._settings, self._plan, self._partition = settings, plan, partition
        self._command, self._switch = command, switch
        self._accepted = _accepted(command, partition)
        self._said = said_of(command.folded_to).get(partition)
        self._word: Rebuild | None = None  # of what is being committed
        self._applied: Rebuild | None = None  # and of what is
        self._at, self._end = span
        self._read = 0
        self._stop = threading.Event()
        self._slice = slice_of(settings.replay_rate, command.rate_limit)
        self._beside: Beside | None = None
        self._compared = Compared(Digest(), Digest(), [])
        self.sent: Counter[str] | None = None  # outputs of the whole job, where they are sent
        self._handover: Handover | None = None

    def send(
        self, targets: Mapping[str, Mapping[str, Any]], sent_to: int, sent: Counter[str]
    ) -> None:
        """Send what the fold gives there, behind an offset; `sent` goes on counting."""
        tenants = self._command.tenants
        self.sent = sent
        self._handover = Handover(self._plan, targets, tenants, sent_to, self._stop)

    @property
    def left(self) -> int:
        """Offsets of its range that no step has told yet."""
        return self._end - self._at

    @property
    def applying(self) -> bool:
        """Whether rows that differ are written."""
        return self._command.apply

    async def steps(self, take: Take) -> AsyncGenerator[Step, None]:
        """Fold it, compare, and apply. JobFailedError; those of clients pass."""
        paying = Paying(take, self._stop, asyncio.get_running_loop())
        with _failing():
            if self.applying and await asyncio.to_thread(self._was_applied):
                return
            async with aclosing(self._thread(lambda: self._fold(paying))) as going:
                async for _ in going:
                    yield self._step()
        if lacking := self._compared.lacking:
            raise JobFailedError(
                f"tenants: nothing of {', '.join(lacking)}, neither live nor made anew"
            )
        yield self._step()
        beside = self._beside
        if self.applying and beside is not None and (beside.changes or beside.why):
            async with aclosing(self._apply(beside, paying)) as switching:
                async for step in switching:
                    yield step

    def _was_applied(self) -> bool:
        """Whether this job, before its worker died, has done it already. In a thread."""
        found, _ = rebuilds_since(self._settings, self._plan, self._partition, 0)
        mine = [one for one in found if self._switch.was_it(one)]
        self._applied = mine[-1] if mine else None
        return bool(mine)

    def _fold(self, paying: Paying) -> None:
        """In a thread."""

        def told(past: Past) -> None:
            if self._handover is not None:
                self._handover.hear(past)
            paying(past)

        tenants, said = self._command.tenants, self._said
        newest = _newest(self._command)
        beside = Beside(self._settings, self._plan, self._partition, tenants, told, said, newest)
        beside.past.folding.most = self._slice
        if beside.begin(self._accepted):
            self._beside = beside
            if self._handover is not None:
                self._handover.begin(beside)
            beside.fold()
            self._compared = beside.compare()
        else:
            self._compared = Compared(Digest(), Digest(), [], sorted(self._command.tenants))

    async def _apply(self, beside: Beside, paying: Paying) -> AsyncGenerator[Step, None]:
        """Put the rows in the place of the live ones. JobFailedError; those of clients pass."""
        for attempt in range(ATTEMPTS):
            with _failing():
                await self._do(lambda: _catch_up(beside))
                owned = False  # by another owner, who came and needn't wait
                try:
                    announcement = self._switch.announcement(beside, attempt)
                    yield Step({}, sends=announcement, settles=True)
                    await self._do(self._switch.announced)
                    # The partition's owner waits.
                    paying.free, beside.past.folding.most = True, 0
                    await self._put(beside)
                    return
                except Fenced as error:
                    owned = True
                    log.warning("%s: another owner came: %s", beside.past.where, error)
                finally:
                    paying.free, beside.past.folding.most = False, self._slice
                    await self._switch.close()
                    if not owned:
                        await self._switch.withdraw()
            await asyncio.sleep(attempt + 1.0)
        raise JobFailedError(
            f"{beside.past.where}: others took the partition {ATTEMPTS} times while its rows were "
            "to be put in their place: the live state is as it was"
        )

    async def _put(self, beside: Beside) -> None:
        """Fence the owner, fold to where it was, and commit. Fenced, KafkaError, HistoryError."""
        await self._switch.fence()
        sends: Sends = []

        def last() -> None:
            beside.read_on()
            beside.fold()
            self._compared = beside.compare()
            self._word, found = self._switch.sends(beside, self._compared)
            sends.extend(found)

        await self._do(last)
        await self._switch.commit(sends)
        self._applied = self._word

    async def _do(self, work: Callable[[], None]) -> None:
        """Something in a thread, of which nothing is told meanwhile."""
        async with aclosing(self._thread(work)) as going:
            async for _ in going:
                pass

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
        step = Step({self._partition: past.at})
        if self._handover is not None and self.sent is not None:
            step = self._handover.step(self._partition, self.sent)
        # What is sent may lie behind what the job began with; its range stays as it was.
        at = min(max(step.position.get(self._partition, 0), self._at), self._end)
        step.done, step.read, self._at = at - self._at, read, at
        if self._handover is None:
            step.position = {self._partition: at}
        return step

    @property
    def result(self) -> dict[str, Any]:
        """What was found, as JSON data."""
        found, beside, word = self._compared, self._beside, self._applied
        applied = None if word is None else {
            "written": word.rows, "offset": word.next_offset, "lost": word.lost
        }  # fmt: skip
        if word is not None and beside is None:  # before the worker died
            of = "what a worker did that is gone"
            return _result(of, word.next_offset, word.rows, [], []) | {
                "digest": word.digest_before, "digest_anew": word.digest_after, "applied": applied,
            }  # fmt: skip
        if beside is None:
            return _result("nothing, for nothing is folded yet", 0, 0, [], [])
        unlike, past = found.differing, beside.past
        notes = [*past.notes, *(past.asides if unlike else ())]
        notes += [f"{beside.why}"] if beside.why else []
        named = [_named(one) for one in unlike[:NAMED_MAX]]
        return _result(beside.of, beside.until, len(unlike), named, notes) | {
            "rows": found.live.rows, "digest": found.live.hex,
            "rows_anew": found.anew.rows, "digest_anew": found.anew.hex, "applied": applied,
            "begun": past.begun,
        }  # fmt: skip


def _result(
    of: str, to: int, differ: int, named: list[dict[str, Any]], notes: list[str]
) -> dict[str, Any]:
    none = Digest().hex
    return {
        "from": of, "to": to, "rows": 0, "digest": none, "rows_anew": 0, "digest_anew": none,
        "differ": differ, "differing": named, "notes": notes, "applied": None, "begun": None,
    }  # fmt: skip


def _catch_up(beside: Beside) -> None:
    """Fold what came meanwhile, so that little is left for when the owner waits. In a thread."""
    for _ in range(CATCH_UPS):
        before = beside.until
        beside.read_on()
        beside.fold()
        if beside.until - before < NEAR:
            return


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
