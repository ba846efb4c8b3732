"""The mode `shadow`: a what-if that goes on. A sample of tenants is folded twice, beside the live
processor, as their records come: as they are, and under candidate settings.

It writes nothing but its result, as `agents/history/live_trial.py` gives it, which is in the job's
status while it runs. It begins with the live rows as they are then; what it
has folded is in memory alone, so where its worker dies whoever goes on begins with the live rows
of that moment, and counts that (`began_anew`).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from agents.engine.registry import processors
from agents.engine.transport import Fetched
from agents.history.errors import HistoryError
from agents.history.live_trial import LiveSides, LiveTrial
from agents.history.plans import plan_of
from agents.history.reading import Fetching, RangeReader
from agents.replay.command import Command, changes_of
from agents.replay.compiling import compiled_first
from agents.replay.modes import CantReplayError, JobFailedError, Plan, Step, Take
from agents.replay.places import check_still
from agents.replay.trying import tried
from agents.settings import Settings
from topics.broker import connect, topic_ids
from topics.partition import partition_of

HOW = Fetching("soma-shadow", wait_ms=500, poll_ms=500)
ENDLESS = 1 << 62  # an offset that no log comes to
TURN = 5_000  # offsets folded at a time: a stop is heard in between
STEP_S = 2.0  # between two results
WINDOW_S = 30.0  # that figures are of at a time

A = TypeVar("A")


class Live:
    """One run of one job."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def plan(self, command: Command, take: Take) -> Plan:
        """Which tenants live where. CantReplayError; those of clients and BrokerError pass."""
        said = await asyncio.to_thread(self._found, command)
        return Plan(0, said)

    def _found(self, command: Command) -> dict[str, Any]:
        try:
            name, plan, changes = tried(self._settings, command)
        except HistoryError as error:
            name, _ = changes_of(command.settings)
            raise CantReplayError(f"settings: {name}: {error}") from error
        homes: dict[str, list[str]] = {}
        for tenant in sorted(set(command.tenants)):
            homes.setdefault(str(partition_of(tenant, plan.partitions)), []).append(tenant)
        topic_id = topic_ids(connect(self._settings.librdkafka()), [plan.source])[plan.source]
        return {
            "processor": name, "settings": changes, "source": plan.source, "source_id": topic_id,
            "homes": homes, "began_anew": 0, "result": {},
        }  # fmt: skip

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Fold what comes, until somebody stops it. `position` says only that it was begun."""
        await asyncio.to_thread(check_still, self._settings, {**plan, "dry_run": True})
        async with aclosing(compiled_first(plan["processor"])) as words:
            async for word in words:
                yield Step({}, said={"told": word})
        processor = processors([plan["processor"]])[plan["processor"]]
        folds = await _done(plan_of, self._settings, processor)
        trials = {
            int(home): await _done(
                LiveTrial, self._settings, folds, int(home), frozenset(names), plan["settings"]
            )
            for home, names in plan["homes"].items()
        }
        for trial in trials.values():
            await _done(trial.begin)
        pair = Pair(trials, LiveSides(folds, next(iter(trials.values())).alpha))
        anew = plan["began_anew"] + bool(position)
        yield pair.step({"began_anew": anew, "told": ""})
        async with aclosing(self._followed(folds.source, pair, take)) as steps:
            async for step in steps:
                yield step

    async def _followed(self, source: str, pair: "Pair", take: Take) -> AsyncGenerator[Step, None]:
        """Fold what comes, and tell now and then."""
        reader = RangeReader(
            self._settings, source, {home: (one.at, ENDLESS) for home, one in pair.trials.items()},
            HOW,
        )  # fmt: skip
        told = cut = time.monotonic()
        try:
            await reader.start()
            while True:
                for home, batches, seen in await reader.poll():
                    trial = pair.trials[home]
                    await _done(trial.take_in, Fetched(0, batches, seen, seen))
                    while trial.at < seen:
                        count = await take(min(seen - trial.at, TURN))
                        await _done(trial.go_on, trial.at + count, pair.sides)
                now = time.monotonic()
                if now - cut >= WINDOW_S:
                    await _done(pair.sides.cut)
                    cut = now
                if now - told >= STEP_S and pair.moved:
                    yield await _done(pair.step, {})
                    told = now
        finally:
            reader.close()


class Pair:
    """Both sides of all partitions."""

    def __init__(self, trials: Mapping[int, LiveTrial], sides: LiveSides) -> None:
        self.trials, self.sides = trials, sides
        self._told = {home: trial.at for home, trial in trials.items()}

    @property
    def moved(self) -> bool:
        """Whether there is something new to tell."""
        return any(trial.at > self._told[home] for home, trial in self.trials.items())

    def step(self, more: Mapping[str, Any]) -> Step:
        """The result so far, and where each partition is."""
        position = {home: trial.at for home, trial in self.trials.items()}
        read = sum(at - self._told[home] for home, at in position.items())
        self._told = position
        records = sum(trial.records for trial in self.trials.values())
        said = {"result": {"records": records, **self.sides.data()}, **more}
        return Step(position, done=read, read=read, said=said)


async def _done(work: Callable[..., A], *args: Any) -> A:
    """Do it in a thread. JobFailedError says what isn't as it must be."""
    try:
        return await asyncio.to_thread(work, *args)
    except HistoryError as error:
        raise JobFailedError(str(error)) from error
