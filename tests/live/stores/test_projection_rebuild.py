"""A table made anew beside the live one: what takes its place, what stays, and who may do it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from agents.settings import ProjectionSettings, Settings
from agents.tables.declared import declared
from stores import projection_admin
from stores.errors import Locked, StoreDown
from stores.grants import grants_to
from stores.names import quoted, schema_of
from stores.postgres import connected
from stores.projection_rebuild import OvertakenError, Placed, ProjectionRebuild
from stores.projection_sql import Target
from stores.projection_store import Move, ProjectionStore, Row
from tests.live.agents.projections.compare import migrated, sql
from tests.live.stores.test_projection_store import row

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
Make = Callable[..., ProjectionRebuild]


@pytest.fixture
def ready(settings: Settings) -> Settings:
    return migrated(settings.model_copy(update={"projections": ProjectionSettings(history="all")}))


@pytest.fixture
def make(ready: Settings) -> Iterator[Make]:
    made: list[ProjectionStore] = []

    def one(
        name: str, job: str = "one@1", generation: int = 1, own: Settings = ready
    ) -> ProjectionRebuild:
        schema = schema_of(ready.namespace)
        found = ProjectionRebuild(own.postgres(), schema, target(ready, name), job, generation)
        made.append(found)
        return found

    yield one
    for each in made:
        each.close()


def target(settings: Settings, name: str) -> Target:
    return next(one.target for one in declared(settings) if one.name == name)


@contextmanager
def live(settings: Settings, name: str) -> Iterator[ProjectionStore]:
    store = ProjectionStore(
        settings.postgres(), schema_of(settings.namespace), target(settings, name)
    )
    try:
        yield store
    finally:
        store.close()


def fill(
    store: ProjectionStore, rows: Sequence[Row], upto: int, days: Sequence[date] = ()
) -> dict[int, Move]:
    """Rows of partition 0 and its position behind them."""
    store.ensure_days(days)
    moves = {0: Move(store.positions([0], "aa")[0], "aa", upto)}
    assert not store.write(rows, moves).overtaken
    return moves


def dwells(settings: Settings, table: str = "frames") -> dict[str, int]:
    found = sql(settings, f"SELECT tenant, dwell_ms FROM SCHEMA.{table}")
    return {one["tenant"]: one["dwell_ms"] for one in found}


def tables(settings: Settings) -> list[str]:
    """Tables and indexes of rebuilds that are there."""
    found = sql(
        settings,
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1) "
        "AND relname LIKE '%\\_anew%'",
        quoted(schema_of(settings.namespace)),
    )
    return [one["relname"] for one in found]


def worker_of(settings: Settings) -> Settings:
    """The settings with a role that has a worker's grants alone."""
    role = f"worker_{settings.namespace}"
    sql(settings, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    for statement in grants_to(role, schema_of(settings.namespace)).split(";\n"):
        sql(settings, statement)
    head, at = settings.postgres().split("@", 1)
    dsn = SecretStr(f"{head.split('://')[0]}://{role}:x@{at}")
    return settings.model_copy(update={"postgres_dsn": dsn})


def test_a_table_in_one_piece_changes_row_by_row_and_stays_what_it_is(
    ready: Settings, make: Make
) -> None:
    """Its view, index, trigger and grants are a reader's own; the role is a worker's."""
    with live(ready, "frames") as old:
        fill(old, [row("a", 0, 1), row("b", 1, 2), row("gone", 2, 3)], 3)
        sql(ready, "CREATE VIEW SCHEMA.mine AS SELECT tenant, dwell_ms FROM SCHEMA.frames")
        sql(ready, "CREATE INDEX mine_too ON SCHEMA.frames (leader)")
        before = sql(ready, "SELECT 'SCHEMA.frames'::regclass::oid, xmin FROM SCHEMA.frames "
                            "WHERE tenant = 'a'")[0]  # fmt: skip
        one = make("frames", own=worker_of(ready))
        assert not one.begin()
        assert dwells(ready, "frames_anew") == {}
        held = fill(one, [row("a", 0, 1), row("b", 1, 7), row("c", 3, 4)], 4)[0].after()
        assert dwells(ready) == {"a": 1, "b": 2, "gone": 3}

        assert one.hold({0: held})[0].next_offset == 3
        with pytest.raises(StoreDown, match="lock timeout"):
            old.write([], {0: Move(old.look([0])[0], "aa", 9)})
        assert one.place() == Placed(removed=1, changed=1, added=1)
        assert dwells(ready) == dwells(ready, "mine") == {"a": 1, "b": 7, "c": 4}
        assert sql(ready, "SELECT 'SCHEMA.frames'::regclass::oid, xmin FROM SCHEMA.frames "
                          "WHERE tenant = 'a'")[0] == before  # fmt: skip
        assert tables(ready) == []
        at = old.look([0])[0]
        assert (at.generation, at.next_offset) == (2, 4), "it goes on where the new one is"
        assert one.begin() and make("frames").begin(), "whoever goes on hears that it is done"
        with pytest.raises(OvertakenError):
            make("frames", "two@2").begin()  # planned before


def test_days_are_replaced_and_one_who_reads_is_waited_for(ready: Settings, make: Make) -> None:
    days = [NOW.date() - timedelta(days=k) for k in range(3)]

    def frame(day: int, offset: int) -> Row:
        return (*row("a", offset, offset), NOW - timedelta(days=day), offset)

    with live(ready, "frame_history") as old:
        fill(old, [frame(0, 2), frame(1, 1), frame(2, 0)], 3, days)
        one = make("frame_history", own=worker_of(ready))
        held = fill(one, [frame(0, 2), frame(1, 1)], 3, days[:2])[0].after()

        async def while_one_reads() -> None:
            async with connected(ready.postgres(), "test") as reader, reader.transaction():
                table = f"{quoted(schema_of(ready.namespace))}.frame_history"
                assert await reader.fetchval(f"SELECT count(*) FROM {table}") == 3

                def late() -> None:
                    one.hold({0: held})
                    with pytest.raises(Locked):
                        one.place()

                await asyncio.to_thread(late)
                assert await reader.fetchval(f"SELECT count(*) FROM {table}") == 3

        asyncio.run(while_one_reads())
        one.hold({0: held})
        assert one.place() == Placed(None, None, None)
        kept = sql(ready, "SELECT tableoid::regclass::text AS day, kafka_offset "
                          "FROM SCHEMA.frame_history ORDER BY 2")  # fmt: skip
        assert [int(one["kafka_offset"]) for one in kept] == [1, 2]
        names = [one["day"].rpartition(".")[2].strip('"') for one in kept]
        assert names == [f"frame_history_{day:%Y%m%d}" for day in (days[1], days[0])]
        assert tables(ready) == []
        # The day that has no rows is there, for whoever believes it to be.
        move = {0: Move(old.look([0])[0], "aa", 4)}
        assert old.write([frame(2, 3)], move).rows == 1
        assert len(old.drop_before(days[0])) == 2


def test_a_later_job_a_migration_a_drop_and_a_stop(ready: Settings, make: Make) -> None:
    with live(ready, "frames") as old:
        fill(old, [row("a", 0, 1)], 1)
    first = make("frames")
    move = fill(first, [row("a", 0, 5)], 1)
    second = make("frames", "two@2")
    assert not second.begin()
    late = {0: Move(move[0].after(), "aa", 2)}
    assert first.write([row("x", 1)], late).overtaken == {0}, "of the former nobody fills on"
    with pytest.raises(StoreDown, match="another worker"):
        first.hold({0: move[0].after()})
    again = make("frames", "two@2")  # the worker died
    held = fill(again, [row("a", 0, 5)], 1)[0].after()
    assert fill(second, [], 1)[0].held == held, "it goes on where the other was"

    sql(ready, "ALTER TABLE SCHEMA.frames ADD COLUMN mood text")
    again.hold({0: held})
    with pytest.raises(StoreDown, match="have other columns"):
        again.place()
    assert dwells(ready) == {"a": 1}
    assert again.positions([0], "aa")[0].next_offset == 0, "it begins anew, with the column"
    held = fill(again, [row("a", 0, 6)], 1)[0].after()

    async def asked(job: str | None, untouched_s: float) -> str | None:
        async with connected(ready.postgres(), "test") as connection:
            schema = schema_of(ready.namespace)
            return await projection_admin.discard(connection, schema, "frames", job, untouched_s)

    assert asyncio.run(asked("one@1", 0.0)) is None, "it is another's now"
    assert asyncio.run(asked(None, 3600.0)) is None, "somebody has just touched it"
    assert tables(ready) != []
    assert asyncio.run(asked("two@2", 0.0)) == "two" and tables(ready) == []

    third = make("frames", "three@3")
    held = fill(third, [row("a", 0, 7)], 1)[0].after()

    async def dropped() -> None:
        async with connected(ready.postgres(), "test") as connection:
            await projection_admin.reset(connection, schema_of(ready.namespace), "frames", True)

    asyncio.run(dropped())
    assert tables(ready) == [] and dwells(ready) == {}
    with pytest.raises(OvertakenError, match="dropped"):
        third.hold({0: held})


def test_who_has_not_the_rights_is_told_and_projects_on(ready: Settings, make: Make) -> None:
    least = worker_of(ready)
    role = f"worker_{ready.namespace}"
    for name in ("begin(text, text, bigint)", "discard(text, text, interval)"):
        sql(ready, f"REVOKE EXECUTE ON FUNCTION SCHEMA.projection_rebuild_{name} FROM {role}")

    async def outlook() -> projection_admin.Outlook:
        async with connected(least.postgres(), "test") as connection:
            return await projection_admin.outlook(
                connection, schema_of(ready.namespace), target(ready, "frames"), "aa", {0: 2}
            )

    with live(least, "frames") as old:
        fill(old, [row("a", 0), row("b", 1), row("c", 2), row("d", 3, topic_id="former")], 4)
        assert old.forget_rebuild(0.0) is None
    found = asyncio.run(outlook())
    assert (found.role, found.allowed, found.lost, found.dropped) == (role, False, 3, False)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        sql(least, "SELECT SCHEMA.projection_rebuild_clear('frames')")
