"""A projection made anew by a job: readers see the old rows until they see all of the new."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, TopicPartition

from agents.replay.command import Command
from agents.replay.filling import PART_BYTES
from agents.replay.modes import CantReplayError, JobFailedError
from agents.replay.projection import Remaking, leave
from agents.settings import ProjectionSettings, Settings
from stores import projection_admin
from stores.names import quoted, schema_of
from stores.postgres import connected
from tests.live.agents.projections.compare import migrated, records, rows, same, sql
from tests.live.agents.projections.test_memories import memory, write
from tests.live.agents.projections.test_postgres import TOPIC, Running, all_there, frames
from tests.live.agents.replay.helpers import await_state, say, statuses
from tests.live.conftest import WorkerFactory
from tests.live.helpers import ended, environment, eventually, produce, soma
from topics.broker import connect

FIRST = 300  # frames of each of 20 tenants, before anything is made anew
RATE = 1_000  # records a second of the jobs: the rebuild takes some seconds
WRONG = "UPDATE SCHEMA.{} SET rationale = 'wrong' WHERE tenant IN ('t1', 't2')"
LOOK = (
    "SELECT count(*), count(*) FILTER (WHERE rationale = 'wrong' AND dwell_ms < $1), "
    "(SELECT count(*) FROM SCHEMA.frames) FROM SCHEMA.frame_history"
)


@pytest.fixture
def ready(topics: Settings) -> Settings:
    """The history keeps every frame."""
    return migrated(topics.model_copy(update={"projections": ProjectionSettings(history="all")}))


@pytest.fixture
def run() -> Iterator[Running]:
    running = Running()
    with ended(running.all):
        yield running


class Reader:
    """Looks at the tables all the time: rows of the history, wrong ones among them, of frames."""

    def __init__(self, settings: Settings) -> None:
        self.seen: list[tuple[int, int, int]] = []
        self._settings = settings

    def look(self, stop: threading.Event) -> None:
        asyncio.run(self._look(stop))

    async def _look(self, stop: threading.Event) -> None:
        schema = quoted(schema_of(self._settings.namespace))
        async with connected(self._settings.postgres(), "test reader") as connection:
            while not stop.is_set():
                row = await connection.fetchrow(LOOK.replace("SCHEMA.", f"{schema}."), FIRST)
                self.seen.append(tuple(row))
                await asyncio.sleep(0.01)


@contextmanager
def beside(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    """Works that go on, each in a thread, until the block is left."""
    stop, failed = threading.Event(), list[BaseException]()

    def work(one: Callable[[threading.Event], None]) -> None:
        try:
            one(stop)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30.0)
    assert failed == []


def anew(settings: Settings, job: str, target: str, **more: object) -> None:
    say(settings, job, mode="projection", source="", target=target, **more)


def tables(settings: Settings) -> int:
    found = sql(
        settings,
        "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1) "
        "AND relname LIKE '%\\_anew%'",
        quoted(schema_of(settings.namespace)),
    )
    return int(found[0][0])


def generation(settings: Settings, name: str) -> int:
    found = sql(settings, "SELECT generation FROM SCHEMA.projections WHERE name = $1", name)
    return int(found[0][0])


def test_readers_see_the_old_rows_until_all_of_the_new_are_there(
    ready: Settings, run: Running, worker: WorkerFactory
) -> None:
    produce(ready, TOPIC, frames(range(FIRST)))
    run(ready, "frames", "frame_history")
    eventually(all_there(ready), 60.0)
    for name in ("frames", "frame_history"):
        sql(ready, WRONG.format(name))
    env = {"SOMA_AGENTS": "replay", "SOMA_PROJECTIONS__HISTORY": "all",
           "SOMA_REPLAY_RATE": str(RATE)}  # fmt: skip
    one, reader = worker(ready, **env), Reader(ready)

    def traffic(stop: threading.Event) -> None:
        for number in count(FIRST):
            if stop.wait(0.05):
                return
            produce(ready, TOPIC, frames(range(number, number + 1)))

    with beside(reader.look, traffic):
        anew(ready, "dry", "frame_history", dry_run=True)
        anew(ready, "days", "frame_history")
        eventually(lambda: tables(ready), 60.0, "the job fills its tables")
        anew(ready, "rival", "frame_history")
        assert "made anew by days" in await_state(ready, "rival", "refused")["message"]
        one.kill()
        assert statuses(ready)["days"][-1]["done"] < FIRST * 20
        one = worker(ready, **env)
        say(ready, "days", "pause")
        await_state(ready, "days", "paused")
        assert tables(ready) and generation(ready, "frame_history") == 1
        say(ready, "days", "resume")
        eventually(lambda: statuses(ready)["days"][-1]["state"] == "running", 60.0)
        # PostgreSQL ends every connection of the live projection and of the job.
        sql(ready, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                   "WHERE application_name = 'soma projection frame_history'")  # fmt: skip
        days = await_state(ready, "days", "done", 120.0)
        dry = await_state(ready, "dry", "done", 120.0)
        anew(ready, "stopped", "frames", rate_limit=100)
        eventually(lambda: tables(ready), 60.0, "another job fills its tables")
        say(ready, "stopped", "stop")
        await_state(ready, "stopped", "stopped")
        eventually(lambda: tables(ready) == 0, 60.0, "what it left is dropped")
        assert generation(ready, "frames") == 1
        done = soma("projection", "rebuild", "frames", "--yes", "--json", env=environment(ready))
        assert done.returncode == 0, done.stderr
    eventually(all_there(ready), 60.0, "the tables are the topic, record by record")
    assert [generation(ready, name) for name in ("frames", "frame_history")] == [2, 2]
    assert tables(ready) == 0
    for job in (days, dry, json.loads(done.stdout)):
        assert job["done"] == job["total"] and job["read"] >= FIRST * 20
    assert "is in place" in days["message"] and dry["sent"] == dry["read"]

    counts, wrong, last = zip(*reader.seen, strict=True)
    assert all(after >= before for before, after in pairwise(counts)), "no reader misses a row"
    assert set(wrong) == {2 * FIRST, 0}, "all of the old, or all of the new"
    assert set(last) == {20}
    assert len(set(counts)) > 10, "while traffic went on"
    check_refused(ready)


def test_rows_without_records_a_reader_in_the_way_and_a_topic_made_anew(
    ready: Settings, run: Running
) -> None:
    """The steps of a job, without a worker; of partition 0 all records are gone from the log."""
    produce(ready, TOPIC, frames(range(20)))
    for one in run(ready, "frames", "frame_history"):
        eventually(all_there(ready), 60.0)
        one.stop()
    topic = ready.topic(TOPIC)
    held = sql(ready, "SELECT count(*) FROM SCHEMA.frame_history WHERE kafka_partition = 0")[0][0]
    assert held
    gone = [TopicPartition(topic, 0, OFFSET_END)]
    admin = connect(ready.librdkafka())  # while it is kept, it asks
    low = admin.delete_records(gone)[gone[0]].result(30.0).low_watermark
    job, command = Remaking(ready, "one"), Command(mode="projection", target="frame_history")
    with pytest.raises(CantReplayError, match=f"no longer has: {held}. They can't be made anew"):
        asyncio.run(job.plan(command, few))
    partial = replace(command, partial=True)
    plan = asyncio.run(job.plan(partial, few))
    assert plan.warning == f"partition 0: what was before offset {low} is gone from the log"
    other = {**plan.said, "source_id": "another"}
    with pytest.raises(JobFailedError, match="was made anew meanwhile"):
        asyncio.run(told(ready, partial, other))
    assert tables(ready)
    asyncio.run(leave(ready, other))
    assert tables(ready) == 0

    async def beside_a_reader() -> list[str]:
        async with connected(ready.postgres(), "test reader") as connection:
            reading = connection.transaction()
            await reading.start()
            schema = quoted(schema_of(ready.namespace))
            await connection.fetchval(f"SELECT count(*) FROM {schema}.frame_history")

            async def waits(said: str) -> None:
                if "it waits for who uses" in said and connection.is_in_transaction():
                    await reading.rollback()

            return await told(ready, partial, plan.said, waits)

    found = asyncio.run(beside_a_reader())
    assert any("it waits for who uses the table: canceling" in one for one in found)
    assert found[-1] == "frame_history is in place, all of its days"
    kept = [record for record, _ in records(ready, TOPIC)]
    assert len(kept) == 400 - held and same(rows(ready, "frame_history"), kept)
    at = sql(ready, "SELECT next_offset FROM SCHEMA.projection_positions "
                    "WHERE projection = 'frame_history' AND kafka_partition = 0")  # fmt: skip
    assert at[0][0] == low, "nothing of what is gone will be looked for"
    again = asyncio.run(told(ready, partial, plan.said))
    assert again == ["it is in place: a worker put it there that is gone"]


def test_large_memories_are_filled_in_by_parts_that_fit_into_memory(topics: Settings) -> None:
    """45 MB of payloads, fewer records than one part may have."""
    migrated(topics)
    payload, ids = json.dumps({"text": "x" * 750_000}), [str(k) for k in range(60)]
    write(topics, [memory("t0", id_, 1, payload) for id_ in ids])
    command, job = Command(mode="projection", target="memories"), Remaking(topics, "large")
    plan = asyncio.run(job.plan(command, few))

    async def sizes() -> list[int]:
        async with aclosing(job.steps(command, plan.said, {}, many)) as steps:
            return [step.size async for step in steps]

    found = asyncio.run(sizes())
    assert sum(found) > 45_000_000 and max(found) < PART_BYTES + 1_000_000
    rows = sql(topics, "SELECT id FROM SCHEMA.memories WHERE length(payload->>'text') = 750000")
    assert sorted(one["id"] for one in rows) == sorted(ids)


def test_a_job_that_is_ahead_of_the_log_fails_and_names_it(topics: Settings) -> None:
    """Kafka went back in time: what it has filled may be of records that aren't there any more."""
    migrated(topics)
    write(topics, [memory("t0", str(k), 1, '{"text": "kept"}') for k in range(30)])
    command, job = Command(mode="projection", target="memories"), Remaking(topics, "one")
    plan = asyncio.run(job.plan(command, few)).said

    async def half() -> None:
        async with aclosing(job.steps(command, plan, {}, few)) as steps:
            async for step in steps:
                if step.read:
                    return

    asyncio.run(half())
    sql(topics, "UPDATE SCHEMA.projection_rebuild_positions SET next_offset = next_offset + 1000")
    with pytest.raises(
        JobFailedError, match=r"reaches to offset 10\d\d, and the log ends at \d+: K"
    ):
        asyncio.run(told(topics, command, plan))
    assert sql(topics, "SELECT count(*) FROM SCHEMA.memories")[0][0] == 0


async def told(
    settings: Settings,
    command: Command,
    plan: Mapping[str, Any],
    hears: Callable[[str], Awaitable[None]] | None = None,
) -> list[str]:
    """Do a job's steps to its end; what was told of them."""
    found: list[str] = []
    async with aclosing(Remaking(settings, "one").steps(command, plan, {}, few)) as steps:
        async for step in steps:
            found.append(step.said.get("told", ""))
            if hears is not None:
                await hears(found[-1])
    return found


async def many(wanted: int) -> int:
    return wanted


async def few(wanted: int) -> int:
    return min(wanted, 100)


def check_refused(ready: Settings) -> None:
    async def drop() -> None:
        async with connected(ready.postgres(), "test") as connection:
            await projection_admin.reset(connection, schema_of(ready.namespace), "segments", True)

    asyncio.run(drop())
    bad: dict[str, tuple[str, dict[str, object], str]] = {
        "unknown": ("nothing", {}, "there is no projection 'nothing'; there are frames,"),
        "ranged": ("frames", {"since": "0:5"}, "since: not of a projection"),
        "dropped": ("segments", {}, "`soma projection rebuild segments` fills it"),
    }
    for job, (target, more, _) in bad.items():
        anew(ready, job, target, **more)
    for job, (_, _, said) in bad.items():
        assert said in await_state(ready, job, "refused")["message"]
    filled = soma("projection", "rebuild", "segments", "--yes", env=environment(ready))
    assert "workers fill it again" in filled.stdout
    sql(ready, "UPDATE SCHEMA.frames SET topic_id = 'former' WHERE tenant = 't1'")
    anew(ready, "lost", "frames")
    said = "whose records its topic no longer has: 1. They can't be made anew"
    assert said in await_state(ready, "lost", "refused")["message"]
    sql(ready, "DELETE FROM SCHEMA.migrations WHERE number = 7")
    anew(ready, "unmigrated", "frames")
    assert "run `soma migrate up`" in await_state(ready, "unmigrated", "refused")["message"]
