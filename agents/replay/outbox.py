"""The mode `outbox`: events of the outbox put back into its queue, as `soma outbox replay` does it.

The relay sends them. Each part is a transaction of PostgreSQL's, with its audit; the job's place
(the last id) follows in Kafka. A worker that dies between the two leaves events that are in the
queue already, where whoever goes on finds no event of the status that he looks for.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

from agents.replay.bounds import Bound
from agents.replay.command import Command
from agents.replay.modes import CantReplayError, Plan, Step, Take
from agents.replay.republish import TENANTS_TOLD
from agents.replay.rivals import row_of, said_by
from agents.settings import Settings, SettingsError
from stores.errors import StoreDown
from stores.outbox_checks import ACTOR_MAX, IDS_MAX
from stores.outbox_jobs import Choice, Events, OutboxJobs
from stores.outbox_types import BadQuestion

LAST, PASSED = 0, 1  # what stands in a position: an id, and how many events are behind it
POOL_MAX = 1


class PutBack:
    """One run of one job."""

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings, self._job = settings, job

    async def plan(self, command: Command, take: Take) -> Plan:
        """What there is to do. CantReplayError; OSError while PostgreSQL is away."""
        with _told():
            async with self._outbox() as outbox:
                found = await outbox.count(_choice(command))
        if lacking := sorted(set(command.tenants) - set(found.tenants)):
            status = command.status or "failed"
            raise CantReplayError(f"tenants: nothing of {', '.join(lacking)} is {status} there")
        row = await asyncio.to_thread(row_of, self._settings, self._job)
        said = {
            "status": command.status or "failed", "top": found.top, "actor": said_by(row),
            "dry_run": command.dry_run, "events": found.count, "bytes": found.bytes,
            "of": dict(found.tenants.most_common(TENANTS_TOLD)), "added": _ms(found),
        }  # fmt: skip
        return Plan(found.count, said)

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Put them back, part by part."""
        last, passed, total = position.get(LAST, 0), position.get(PASSED, 0), plan["events"]
        if command.dry_run:
            if passed < total:
                yield _rehearsed(plan)
            return
        choice = _choice(command)
        actor = f"{plan['actor']}, replay job {self._job}"[:ACTOR_MAX]
        async with self._outbox() as outbox:
            while passed < total:
                granted = await take(min(IDS_MAX, total - passed))
                with _told():
                    looked, last, done = await outbox.replay_next(
                        choice, actor, last, plan["top"], granted
                    )
                if not looked:
                    break
                passed += looked
                position = {LAST: last, PASSED: passed}
                yield Step(
                    position, looked, looked, done.count, done.bytes, _ms(done), done.tenants
                )
        if passed < total:  # somebody else put them back
            yield Step({PASSED: total}, total - passed)

    @asynccontextmanager
    async def _outbox(self) -> AsyncIterator[OutboxJobs]:
        with _told():
            dsn, namespace = self._settings.postgres(), self._settings.namespace
            outbox = await OutboxJobs.open(dsn, namespace, "soma replay", POOL_MAX)
        try:
            yield outbox
        finally:
            await outbox.close()


def _choice(command: Command) -> Choice:
    since, until = (_moment(one) for one in command.bounds)
    return Choice(command.status or "failed", command.tenants, command.source, since, until)


def _moment(one: Bound | None) -> datetime | None:
    return None if one is None or one.time is None else datetime.fromtimestamp(one.time / 1e6, UTC)


def _ms(events: Events) -> tuple[int, int] | None:
    """When the first and the last of them were added, milliseconds."""
    if events.times is None:
        return None
    first, last = (round(one.timestamp() * 1000) for one in events.times)
    return first, last


def _rehearsed(plan: Mapping[str, Any]) -> Step:
    """All of it, of which nothing was done."""
    total = plan["events"]
    first, last = plan["added"]
    return Step(
        {PASSED: total}, total, total, total, plan["bytes"], (first, last), Counter(plan["of"])
    )


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with the outbox, as replay says it."""
    try:
        yield
    except (BadQuestion, SettingsError) as error:
        raise CantReplayError(str(error)) from error
    except StoreDown as error:
        raise OSError(str(error)) from error
