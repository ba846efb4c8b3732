"""Who may do what in the outbox's schema, and that a definer's functions can't be led astray."""

from typing import Any

import asyncpg
import pytest

from agents.settings import Settings
from stores.names import quoted, schema_of
from stores.outbox_relay import Keeper, MovedError, RelayConnections, Statements
from stores.postgres import connect
from tests.live.stores.outbox import TOPIC, add, as_role, run


async def session_of(settings: Settings, owner: Any, purpose: str) -> Any:
    """A session of a new role with the grants for `purpose`."""
    session = await connect(await as_role(settings, owner, purpose), "test")
    await session.execute(f"SET search_path TO {quoted(schema_of(settings.namespace))}")
    return session


def test_a_writer_adds_and_can_do_nothing_else(settings: Settings) -> None:
    async def test(owner: Any) -> None:
        writer = await session_of(settings, owner, "writer")
        try:
            added = f"SELECT soma_outbox_add('{TOPIC}', 'a', '{{}}', 'k')"
            assert await writer.fetchval(added) == 1
            avro = f"SELECT soma_outbox_add_avro('{TOPIC}', 'a', '\\x00', 'k2')"
            assert await writer.fetchval(avro) == 2
            for refused in ("SELECT * FROM outbox", "SELECT * FROM outbox_events",
                            "SELECT * FROM outbox_debezium", "DELETE FROM outbox_queue",
                            "UPDATE outbox_events SET topic = 'x'", "TRUNCATE outbox_events",
                            "INSERT INTO outbox_limits VALUES ('a', 1)", "SELECT * FROM audit",
                            "SELECT outbox_recount('a')", "SELECT outbox_forget(now(), 0, 1)",
                            "SELECT outbox_admit('a')",
                            "SELECT outbox_admit_many('a', 1, '{}', '{}', '{1}')",
                            "SELECT outbox_said('{}')", "SELECT outbox_wake(1)",
                            "SELECT outbox_insert('t', 'a', '{}', null, 'k', 'k', null)",
                            "SELECT nextval('outbox_events_id_seq')",
                            "DROP TABLE outbox_events", "CREATE TABLE x ()"):  # fmt: skip
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await writer.execute(refused)
        finally:
            writer.terminate()

    run(settings, 1, test)


def test_without_a_grant_nobody_adds(settings: Settings) -> None:
    async def test(owner: Any) -> None:
        nobody = await session_of(settings, owner, "nothing")
        try:
            await owner.execute(f"GRANT USAGE ON SCHEMA {quoted(schema_of(settings.namespace))} "
                                f"TO {quoted('nothing_' + settings.namespace)}")  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await nobody.execute(f"SELECT soma_outbox_add('{TOPIC}', 'a', '{{}}', 'k')")
        finally:
            nobody.terminate()

    run(settings, 1, test)


def test_a_temporary_table_of_the_same_name_changes_nothing(settings: Settings) -> None:
    async def test(owner: Any) -> None:
        writer = await session_of(settings, owner, "writer")
        try:
            await writer.execute(
                "CREATE TEMPORARY TABLE outbox_queue (shard int, id bigint, tenant_id text,"
                " key_hash bigint, created_at timestamptz, status text);"
                "CREATE TEMPORARY TABLE outbox_limits (tenant_id text, max_pending bigint);"
                "INSERT INTO outbox_limits VALUES ('a', 1000000000)"
            )
            await writer.fetchval(f"SELECT soma_outbox_add('{TOPIC}', 'a', '{{}}', 'k')")
            assert await writer.fetchval("SELECT count(*) FROM pg_temp.outbox_queue") == 0
            assert await owner.fetchval("SELECT count(*) FROM outbox_queue") == 1
        finally:
            writer.terminate()

    run(settings, 1, test)


def test_every_definers_function_has_its_own_path_and_no_public_right(settings: Settings) -> None:
    async def test(owner: Any) -> None:
        schema = schema_of(settings.namespace)
        rows = await owner.fetch(
            "SELECT proname, proconfig, coalesce(array_to_string(proacl, ' '), '=X/') AS acl"
            " FROM pg_proc WHERE pronamespace = to_regnamespace($1) AND prosecdef", quoted(schema)
        )  # fmt: skip
        assert {row["proname"] for row in rows} >= {"soma_outbox_add", "frame_history_day"}
        for row in rows:
            paths = [one for one in row["proconfig"] if one.startswith("search_path=")]
            assert paths == [f'search_path="{schema}", pg_temp'] or paths == [
                f"search_path={schema}, pg_temp"
            ], row["proname"]
            assert not any(one.startswith("=") for one in row["acl"].split()), row["proname"]

    run(settings, 1, test)


def test_a_relays_role_can_do_all_that_a_relay_does(settings: Settings) -> None:
    async def test(owner: Any) -> None:
        ids = [await add(owner, f"k{n}") for n in range(3)]
        shard = await owner.fetchval("SELECT outbox_shard('a', 'a')")
        dsn = await as_role(settings, owner, "relay")
        counted, schema = Statements(), schema_of(settings.namespace)
        keeper = await Keeper.open(dsn, schema, counted, lambda _: None, lambda: None)
        connections = RelayConnections(dsn, schema, 1, counted)
        try:
            assert await keeper.take(shard) and await keeper.doze(shard)
            async with connections.one() as connection:
                assert (await connection.pick(shard, "", 10, 10, [])).ids == {"a": ids}
                assert await connection.fetch(ids, 10**6)
                assert await connection.reserve({"a": 3}, 1000) == {"a": 3}
                assert (await connection.standing()).top == ids[2] and await connection.names(ids)
                why = {ids[1]: (True, "no")}
                assert await connection.refused(shard, ids[:1], (0, 1), why, (5, 1, 9)) == {
                    ids[1]: "failed"
                }
                with pytest.raises(MovedError):
                    await connection.sent(shard, ids[2:], 0, 1)
                await connection.sent(shard, ids[2:], 1, 2)
                assert await connection.waiting([shard], 9.0) == []
                await connection.recount()
                assert (await connection.state([shard])).blocked == 1
                assert await connection.forget(-0.1, 0, 10) == (2, 3, ids[2])
        finally:
            keeper.close()
            await connections.close()

    run(settings, 1, test)
