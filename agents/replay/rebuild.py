"""The mode `rebuild`: a processor's state folded anew beside the live one, partition by partition.

A fold runs in a thread, pays the budget for what it has read, and ends where the job is to rest. A
job whose worker dies goes on with the partition that it was at. Outputs go into a shadow where one
is named (handover.py).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

from agents.engine.errors import Stopped
from agents.engine.plan import Plan
from agents.engine.position import lost
from agents.engine.registry import processor_names, processors
from agents.history.errors import HistoryError
from agents.history.plans import plan_of
from agents.history.rows import Digest
from agents.history.states import Past
from agents.history.stored import stored
from agents.replay import modes
from agents.replay.bounds import EVERY
from agents.replay.command import Command, said_of
from agents.replay.compiling import compiled_first
from agents.replay.handover import NOTHING_SENT
from agents.replay.modes import CantReplayError, JobFailedError, Step, Take
from agents.replay.partition import NAMED_MAX, Partition, failing, newest_of
from agents.replay.republish import counted, spans_of
from agents.replay.rivals import own_row, said_by
from agents.replay.shadows import check_same, targets_of
from agents.replay.switch import Switch
from agents.settings import Settings
from topics.partition import partition_of


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
            newest = newest_of(command)
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
        with failing():
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
            with _placed_before(results):
                async with aclosing(work.steps(take)) as steps:
                    async for step in steps:
                        yield step
            results[text] = work.result
            yield _finished(results, {partition: end}, work)

    def _check_targets(self, of: Plan, plan: Mapping[str, Any]) -> None:
        """JobFailedError where what was sent is gone, or what is to come would be other bytes;
        BrokerError where it isn't taken just now.
        """
        writes = {one["topic"]: one["topic_id"] for one in plan["targets"].values()}
        check_same(self._settings, writes, writes)
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


def _finished(results: dict[str, Any], position: Mapping[int, int], work: Partition) -> Step:
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
    told += _otherwise(results)
    if work.sent is not None:
        told += f"; {work.sent.total():,} outputs are sent"
    return Step(
        position, work.left, said={"partitions": dict(results), "differ": unlike, "told": told},
        digests=(live.hex, anew.hex),
    )  # fmt: skip


def _otherwise(results: Mapping[str, Any]) -> str:
    """How many outputs would be others, where the law was another."""
    found = Counter[str]()
    for one in results.values():
        for topic, (wanted, there) in one.get("outputs", {}).items():
            found[topic] += wanted - there
            found[""] += wanted
    wanted = found.pop("", 0)
    topics = ", ".join(f"{n:,} of {topic}" for topic, n in sorted(found.items()) if n)
    if not wanted:
        return ""
    return f"; under the law of today {found.total():,} of {wanted:,} outputs differ" + (
        f" ({topics})" if topics else ""
    )


@contextmanager
def _placed_before(results: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Where a partition fails: which of those before it have their rows in place, and keep them."""
    try:
        yield
    except JobFailedError as error:
        placed = [text for text, one in results.items() if one["applied"]]
        if not placed:
            raise
        raise JobFailedError(
            f"{error}; what was put in place before stays: partition{'s' * (len(placed) > 1)} "
            f"{', '.join(placed)}"
        ) from error


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
