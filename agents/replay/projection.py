"""The mode `projection`: a table of PostgreSQL made anew from its topic, beside the live one.

Readers see the old rows until the new ones take their place, in one transaction
(stores/projection_rebuild.py). Where a rebuild is, its own positions in PostgreSQL say, which move
with its rows; the job's place in Kafka is for people. So a worker that dies at any point repeats
nothing. What a job leaves that is stopped, or fails, is dropped.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from agents.engine.recovery import reader
from agents.history.errors import HistoryError
from agents.replay.command import Command
from agents.replay.filling import PART, Filling
from agents.replay.modes import CantReplayError, JobFailedError, Plan, Step, Take
from agents.replay.ranges import log_of
from agents.replay.rivals import NOBODY, own_row
from agents.services.backoff import Backoff
from agents.settings import Settings, SettingsError
from agents.tables.declared import Declared, declared
from stores import projection_admin
from stores.errors import Locked, NotMigrated, StoreDown
from stores.names import schema_of
from stores.postgres import connected
from stores.projection_admin import NoProjectionError, Outlook
from stores.projection_rebuild import OvertakenError
from topics.broker import connect, look

PLAN_S = 600.0  # for PostgreSQL to read the table once
STOP_S = 2.0  # for a part under way, when the job is to rest; then it ends by itself
LEAVE_TRIES, LEAVE_S = 5, 3.0  # to drop what a job leaves, and between two of them

T = TypeVar("T")
log = logging.getLogger(__name__)


class Remaking:
    """One run of one job."""

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings, self._job = settings, job

    async def plan(self, command: Command, take: Take) -> Plan:
        """What there is to do. CantReplayError; KafkaException, BrokerError, OSError pass."""
        with _told():
            what = _declared(self._settings, command.target)
            said = await asyncio.to_thread(self._found, command, what)
            try:
                outlook = await self._outlook(what, said)
            except NotMigrated as error:
                raise CantReplayError(f"{error}: run `soma migrate up` first") from error
        said |= {"generation": outlook.generation, "lost": outlook.lost}
        if why := _refusal(command, outlook):
            raise CantReplayError(why)
        total = sum(end - first for first, end in said["ranges"].values())
        return Plan(total, said, "; ".join(said["missing"]))

    def _found(self, command: Command, what: Declared) -> dict[str, Any]:
        """The topic as it is now, and when the job was accepted. In a thread."""
        name = self._settings.topic(what.topic)
        row = NOBODY if command.dry_run else own_row(self._settings, self._job, command)
        topics = look(connect(self._settings.librdkafka()), [name])
        if name not in topics:
            raise CantReplayError(f"there is no topic {name}: `soma topics apply` makes it")
        consumer = reader(self._settings, "soma-replay", [])
        try:
            found = log_of(consumer, name, topics[name].topic_id, range(topics[name].partitions))
        finally:
            consumer.close()
        return {
            "projection": command.target, "source": name, "source_id": found.topic_id,
            "key": projection_admin.job_key(self._job, row.accepted),
            "ranges": {str(p): list(span) for p, span in found.spans.items()},
            "missing": [
                f"partition {p}: what was before offset {low} is gone from the log"
                for p, (low, _) in found.spans.items() if low
            ],
            "dry_run": command.dry_run, "partial": command.partial or command.dry_run,
        }  # fmt: skip

    async def _outlook(self, what: Declared, said: Mapping[str, Any]) -> Outlook:
        schema = schema_of(self._settings.namespace)
        begins = {int(p): first for p, (first, _) in said["ranges"].items()}
        async with connected(self._settings.postgres(), "soma replay", PLAN_S) as connection:
            return await projection_admin.outlook(
                connection, schema, what.target, said["source_id"], begins
            )

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Fill it, part by part, until it has all of the topic; then put it in its place."""
        with _told():
            what = _declared(self._settings, command.target)
        filling = Filling(self._settings, what, plan, position)
        thread = ThreadPoolExecutor(1, "soma-replay-projection")
        pause = Backoff()
        try:
            with _told():
                yield await _done(thread, filling.begin)
            while not filling.over:
                granted = await take(min(PART, max(1, filling.left)))
                try:
                    with _told():
                        step = await _done(thread, partial(filling.step, granted))
                except Locked as error:
                    pause.failed()
                    step = Step({}, said={"told": f"it waits for who uses the table: {error}"})
                yield step
                await asyncio.sleep(pause.left)
        finally:
            filling.abort()
            ending = asyncio.ensure_future(_done(thread, filling.close))
            ending.add_done_callback(_heard)
            await asyncio.wait({ending}, timeout=STOP_S)
            thread.shutdown(wait=False)


async def leave(settings: Settings, plan: Mapping[str, Any]) -> None:
    """Drop what a job has filled that ended before it was in place.

    Tried for a while; whatever stays is dropped by the projection's worker, or by the next job.
    """
    if plan.get("dry_run", True):
        return
    name, schema = plan["projection"], schema_of(settings.namespace)
    for left in reversed(range(LEAVE_TRIES)):
        try:
            async with connected(settings.postgres(), "soma replay") as connection:
                await projection_admin.discard(connection, schema, name, plan["key"])
            return
        except StoreDown as error:
            log.warning("what %s filled of %s isn't dropped yet: %s", plan["key"], name, error)
        if left:
            await asyncio.sleep(LEAVE_S)


def _declared(settings: Settings, name: str) -> Declared:
    found = {one.name: one for one in declared(settings)}
    if name in found:
        return found[name]
    which = {"memories": "MEMORIES"}.get(name, "HISTORY")
    raise CantReplayError(f"target: {name} is off in this worker: SOMA_PROJECTIONS__{which}")


def _refusal(command: Command, found: Outlook) -> str | None:
    name = command.target
    if found.dropped:
        return f"{name} is dropped, and nobody reads it: `soma projection rebuild {name}` fills it"
    if not found.allowed:
        return (
            f"PostgreSQL's role {found.role} may not make projections anew: `soma migrate grants "
            f"{found.role}` prints what the schema's owner is to run"
        )
    if found.lost and not (command.partial or command.dry_run):
        return (
            f"rows of {name} whose records its topic no longer has: {found.lost:,}. They can't be "
            "made anew; --partial lets them go"
        )
    return None


async def _done(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)


def _heard(ending: "asyncio.Future[None]") -> None:
    """What goes wrong when all is over changes nothing, but is said."""
    if not ending.cancelled() and (error := ending.exception()) is not None:
        log.warning("a rebuild's clients didn't end well: %s", error)


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with the store, as replay says it."""
    try:
        yield
    except (HistoryError, NoProjectionError, SettingsError) as error:
        raise CantReplayError(str(error)) from error
    except OvertakenError as error:
        raise JobFailedError(str(error)) from error
    except Locked:
        raise
    except StoreDown as error:
        raise OSError(str(error)) from error
