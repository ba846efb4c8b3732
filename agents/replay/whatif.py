"""The mode `what-if`: a stretch of tenants' past under other settings, beside how it was.

It writes nothing but its result, which is in the job's last status: one entry a tenant, as
`agents/history/trial.py` gives it, or one for all tenants, folded partition by partition. What it
has folded is in memory alone, so a job that was paused, or whose worker died, begins anew.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from confluent_kafka import Consumer

from agents.engine.plan import Plan as ProcessorPlan
from agents.engine.registry import processors
from agents.engine.transport import Fetched
from agents.history.errors import Gone, HistoryError
from agents.history.plans import plan_of
from agents.history.reading import Fetching, RangeReader
from agents.history.states import Past
from agents.history.trial import Together, Trial
from agents.replay.bounds import refusal
from agents.replay.command import Command
from agents.replay.compiling import compiled_first
from agents.replay.ids import located
from agents.replay.modes import CantReplayError, JobFailedError, Plan, Step, Take
from agents.replay.places import check_still
from agents.replay.ranges import log_of, range_of
from agents.replay.republish import counted
from agents.replay.trying import tried
from agents.settings import Settings
from topics.broker import connect, topic_ids
from topics.partition import partition_of

HOW = Fetching("soma-replay", bytes=8 << 20, wait_ms=100)
TURN_S = 0.2  # of folding at a time: a pause is heard in between
TURN_MIN, TURN_MAX = 500, 500_000  # offsets
LOOKING = "folded; looking for what was published"
STEP_S = 0.3  # between two transactions, which only say how far it is

A = TypeVar("A")


class WhatIf:
    """One run of one job."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = TURN_MIN
        self._said_at = 0.0

    async def plan(self, command: Command, take: Take) -> Plan:
        """Which stretches there are. CantReplayError; those of clients and BrokerError pass."""
        said = await asyncio.to_thread(self._found, command)
        total = sum(one["to"] - one["begin"] for one in said["stretches"])
        return Plan(total, said, "; ".join(said["missing"]))

    def _found(self, command: Command) -> dict[str, Any]:
        try:
            name, plan, changes = tried(self._settings, command)
            source_id, spans, missing = self._spans(command, plan)
            stretches = [
                self._stretch(command, plan, changes, tenant, spans)
                for tenant in dict.fromkeys(command.tenants)
            ] or self._whole(command, plan, spans)
        except HistoryError as error:
            raise CantReplayError(str(error)) from error
        except ValueError as error:
            raise CantReplayError(f"settings: {name}: {error}") from error
        return {
            "processor": name, "settings": changes, "source": plan.source, "source_id": source_id,
            "stretches": stretches, "missing": missing, "dry_run": command.dry_run,
        }  # fmt: skip

    def _spans(
        self, command: Command, plan: ProcessorPlan
    ) -> tuple[str, dict[int, tuple[int, int]], list[str]]:
        """The source's id, its spans by partition, and what of those is gone."""
        admin = connect(self._settings.librdkafka())
        topic_id = topic_ids(admin, [plan.source])[plan.source]
        consumer = Consumer(
            self._settings.librdkafka(
                group_id=self._settings.prefix("soma-replay"), isolation_level="read_committed",
                enable_auto_commit=False,
            )
        )  # fmt: skip
        try:
            log = log_of(consumer, plan.source, topic_id, range(plan.partitions))
            since, until = (
                located(self._settings, log, name, one)
                for name, one in zip(("since", "until"), command.bounds, strict=True)
            )
            if why := refusal(since, until, time.time_ns() // 1000):
                raise CantReplayError(why)
            return topic_id, *range_of(consumer, log, since, until, command.partial)
        finally:
            consumer.close()

    def _stretch(
        self, command: Command, plan: ProcessorPlan, changes: Mapping[str, str], tenant: str,
        spans: Mapping[int, tuple[int, int]],
    ) -> dict[str, Any]:  # fmt: skip
        """One tenant's. CantReplayError, HistoryError."""
        home = partition_of(tenant, plan.partitions)
        first, end = spans.get(home, (0, 0))
        if first >= end:
            raise CantReplayError(
                f"tenants: {tenant} lives in partition {home}, of which nothing is in the range"
            )
        trial = Trial(self._settings, plan, home, tenant, changes)
        trial.begin(first, command.partial)
        return {"tenant": tenant, "partition": home, "begin": trial.at, "from": first, "to": end}

    def _whole(
        self, command: Command, plan: ProcessorPlan, spans: Mapping[int, tuple[int, int]]
    ) -> list[dict[str, Any]]:
        """Everybody's, by partition. CantReplayError, HistoryError."""
        found: list[dict[str, Any]] = []
        for partition, (first, end) in spans.items():
            if first >= end:
                continue
            past = Past(self._settings, plan, partition)
            try:
                begin, _ = past.outlook(first, newest=True)
            except Gone:
                if not command.partial:
                    raise
                begin = first
            found.append(
                {"tenant": "", "partition": partition, "begin": begin, "from": first, "to": end}
            )
        if not found:
            raise CantReplayError("nothing lies in the range")
        return found

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Fold one tenant's stretch after the other. `position` is by their number."""
        stretches, missing = plan["stretches"], "; ".join(plan["missing"])
        if plan["dry_run"]:
            async with aclosing(self._counted(plan, position, take)) as counts:
                async for step in counts:
                    yield step
            return
        if done := sum(at - stretches[k]["begin"] for k, at in position.items()):
            yield Step({k: stretches[k]["begin"] for k in position}, done=-done)
        await asyncio.to_thread(check_still, self._settings, {**plan, "dry_run": True})
        async with aclosing(compiled_first(plan["processor"])) as words:
            async for word in words:
                yield Step({}, said={"told": word or missing})
        processor = processors([plan["processor"]])[plan["processor"]]
        folds = await _done(plan_of, self._settings, processor)
        results: list[Mapping[str, Any]] = []
        together = Together()
        for k, one in enumerate(stretches):
            home, tenant = one["partition"], one["tenant"]
            given = self._settings, folds, home, tenant, plan["settings"], together.sides
            trial = await _done(Trial, *given)
            await _done(trial.begin, one["from"], command.partial)
            at = one["begin"]
            async with aclosing(self._through(trial, folds.source, one, take)) as turns:
                async for read in turns:
                    told = LOOKING if trial.at == one["to"] else missing
                    step = Step({k: trial.at}, done=trial.at - at, read=read, said={"told": told})
                    at = trial.at
                    yield step
            if not tenant:
                await asyncio.to_thread(together.add, trial)
            elif not trial.records:
                raise JobFailedError(f"tenants: nothing of {tenant} lies in the range")
            else:
                results.append(await asyncio.to_thread(trial.data))
            del trial  # before the next: a partition is kept in memory twice, not four times
        if not command.tenants:
            results.append(await asyncio.to_thread(together.data))
        yield Step({}, said={"result": results, "told": missing})

    async def _counted(
        self, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """What would be folded, one stretch after the other; a pause loses none of it."""
        for k, one in enumerate(plan["stretches"]):
            home, at = one["partition"], position.get(k, one["begin"])
            spans, whose = {home: (at, one["to"])}, [one["tenant"]] if one["tenant"] else []
            async with aclosing(
                counted(self._settings, plan["source"], spans, whose, take)
            ) as counts:
                async for step in counts:
                    step.position = {k: step.position[home]}
                    yield step

    async def _through(
        self, trial: Trial, source: str, one: Mapping[str, Any], take: Take
    ) -> AsyncGenerator[int, None]:
        """Take a stretch, what lies before it, and what was published then; gives the records
        (or gaps between them) read since the last time, now and then.
        """
        read = 0
        for end in (one["from"], one["to"]):
            if end == one["to"]:
                await _done(trial.split, end)
            reader = RangeReader(self._settings, source, {one["partition"]: (trial.at, end)}, HOW)
            try:
                while (got := await reader.read()) is not None:
                    trial.take_in(Fetched(0, got[1], got[2], got[2]))
                    while trial.at < min(got[2], end):
                        read += await self._fold(trial, min(got[2], end), take)
                        if self._due():
                            yield read
                            read = 0
            finally:
                reader.close()
        looking = trial.published()
        while (count := await asyncio.to_thread(next, looking, None)) is not None:
            read, left = read + count, count
            while left > 0:
                left -= await take(left)
            if self._due():
                yield read
                read = 0
        yield read

    async def _fold(self, trial: Trial, end: int, take: Take) -> int:
        """Fold what may be folded in one turn; returns how many offsets."""
        count = await take(min(end - trial.at, self._turn))
        began = time.monotonic()
        await _done(trial.go_on, trial.at + count)
        seconds = time.monotonic() - began
        if seconds > TURN_S:
            self._turn = max(TURN_MIN, self._turn // 2)
        elif seconds < TURN_S / 2:
            self._turn = min(TURN_MAX, self._turn * 2)
        return count

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._said_at < STEP_S:
            return False
        self._said_at = now
        return True


async def _done(work: Callable[..., A], *args: Any) -> A:
    """Do it in a thread. JobFailedError says what of the past isn't as it must be."""
    try:
        return await asyncio.to_thread(work, *args)
    except HistoryError as error:
        raise JobFailedError(str(error)) from error
