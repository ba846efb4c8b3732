"""The outbox's SQL by itself: deduplication, what is refused, batches, retention."""

import asyncio
import json
import re
import subprocess
import sys
from typing import Any

import asyncpg
import pytest

from agents.settings import Settings
from stores import migrations
from stores.names import quoted, schema_of
from stores.postgres import connected
from tests.live.helpers import REPO
from tests.live.stores.outbox import TOPIC, add, many, run, waits

PUBLIC = """
import json
from agents.outbox.relay import relayed_topics
print(json.dumps(sorted(relayed_topics())))
"""
PATIENT_UPTO = 7  # later ones add columns: they wait for who uses a table, for 5 s at most
LIMIT = "INSERT INTO outbox_limits VALUES ($1, $2)"
PENDING = "SELECT count(*) FROM outbox_queue WHERE tenant_id = $1 AND status = 'pending'"


def test_an_event_stands_in_both_tables_and_the_view(settings: Settings) -> None:
    async def test(one: Any) -> None:
        first = await add(one, "k1", payload='{"x": 1}', key="z")
        row = await one.fetchrow("SELECT *, outbox_shard('a', 'z') AS place FROM outbox")
        assert (row["id"], row["topic"], row["tenant_id"], row["key"]) == (first, TOPIC, "a", "z")
        assert (row["status"], row["payload"], row["shard"]) == (
            "pending",
            '{"x": 1}',
            row["place"],
        )
        queued = await one.fetchrow("SELECT *, outbox_key_hash('a', 'z') AS h FROM outbox_queue")
        assert (queued["key_hash"], queued["shard"]) == (queued["h"], row["shard"])
        await one.execute("DELETE FROM outbox_queue")
        assert await one.fetchval("SELECT status FROM outbox") == "sent"
        value = b"\x00\x00\x00\x00\x07abc"
        await one.fetchval("SELECT soma_outbox_add_avro($1, 'a', $2, 'k2')", TOPIC, value)
        row = await one.fetchrow("SELECT * FROM outbox WHERE dedupe_key = 'k2'")
        assert (row["value"], row["payload"], row["key"]) == (value, None, "a")

    run(settings, 1, test)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_the_same_key_in_two_transactions_is_one_event(settings: Settings, end: str) -> None:
    async def test(one: Any, two: Any) -> None:
        await one.execute("BEGIN")
        first = await add(one, "k")
        second = asyncio.create_task(add(two, "k"))
        assert await waits(second), "whether it is a duplicate depends on the first"
        await one.execute(end)
        assert (await second == first) == (end == "COMMIT")
        assert await one.fetchval("SELECT count(*) FROM outbox_events") == 1
        assert await one.fetchval("SELECT count(*) FROM outbox_queue") == 1

    run(settings, 2, test)


def test_repeatable_read_is_told_to_try_again_not_lied_to(settings: Settings) -> None:
    async def test(one: Any, two: Any) -> None:
        await two.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await two.fetchval("SELECT 1 FROM outbox_events")  # its snapshot
        first = await add(one, "k")
        with pytest.raises(asyncpg.SerializationError):
            await add(two, "k")
        await two.execute("ROLLBACK")
        async with two.transaction(isolation="repeatable_read"):
            assert await add(two, "k") == first
            await add(two, "another")  # and others don't get in its way

    run(settings, 2, test)


def test_counting_is_no_conflict_for_repeatable_read(settings: Settings) -> None:
    async def test(one: Any, two: Any) -> None:
        await one.execute(LIMIT, "a", 5)  # so few: every add counts
        await add(one, "k0")
        await two.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await two.fetchval("SELECT 1 FROM outbox_events")
        await add(one, "k1")
        await add(two, "k2")
        await two.execute("COMMIT")
        assert await one.fetchval(PENDING, "a") == 3

    run(settings, 2, test)


def test_other_content_under_a_known_key_is_kept_out_and_told(settings: Settings) -> None:
    async def test(one: Any) -> None:
        said: list[Any] = []
        one.add_log_listener(lambda _, message: said.append(message))
        first = await add(one, "k", payload='{"x": 1}')
        assert await add(one, "k", payload='{"x":   1}') == first and not said, "the same JSON"
        for differs in ({"payload": '{"x": 2}'}, {"payload": '{"x": 1}', "key": "z"}):
            assert await add(one, "k", **differs) == first
            assert said[-1].sqlstate == "SO002" and f"event {first}" in said.pop().message
        assert await one.fetchval("SELECT payload FROM outbox_events") == '{"x": 1}'
        assert await add(one, "k", tenant="b") != first, "keys are a tenant's own"

    run(settings, 1, test)


def test_other_headers_are_another_content_but_for_the_trace(settings: Settings) -> None:
    trace, other = '{"traceparent": "00-1"}', '{"traceparent": "00-2", "tracestate": "x=1"}'

    async def test(one: Any) -> None:
        said: list[Any] = []
        one.add_log_listener(lambda _, message: said.append(message.sqlstate))
        first = await add(one, "k", headers=trace)
        for same in (trace, other, "{}", None):
            assert await add(one, "k", headers=same) == first
            assert not (await many(one, "a", ["k"], headers=[same]))[0]["differs"]
        assert not said
        assert await add(one, "k", headers='{"h": "1", "traceparent": "00-1"}') == first
        assert said == ["SO002"]
        (told,) = await many(one, "a", ["k"], headers=['{"h": "1"}'])
        assert (told["id"], told["duplicate"], told["differs"]) == (first, True, True)
        rows = await many(one, "a", ["b", "b"], headers=['{"h": "1"}', '{"h": "2"}'])
        assert [row["differs"] for row in rows] == [False, True]

    run(settings, 1, test)


def test_a_key_that_leaves_just_now_is_never_an_event_without_id(settings: Settings) -> None:
    async def test(one: Any, two: Any) -> None:
        async def forget() -> None:
            for _ in range(300):
                await two.execute("DELETE FROM outbox_queue")
                await two.fetch("SELECT * FROM outbox_forget(now() + '1 h', 0, 100)")

        forgetting = asyncio.create_task(forget())
        while not forgetting.done():
            assert await add(one, "k") > 0
        await forgetting

    run(settings, 2, test)


@pytest.mark.parametrize(
    ("topic", "tenant", "dedupe", "key", "payload", "headers", "says"),
    [
        ("", "a", "k", None, "{}", None, "topic"),
        ("Upper", "a", "k", None, "{}", None, "topic"),
        ("t\n", "a", "k", None, "{}", None, "topic"),
        ("t" * 201, "a", "k", None, "{}", None, "topic"),
        (None, "a", "k", None, "{}", None, "topic"),
        ("t", "", "k", None, "{}", None, "tenant"),
        ("t", None, "k", None, "{}", None, "tenant"),
        ("t", "a b", "k", None, "{}", None, "tenant"),
        ("t", "ä", "k", None, "{}", None, "tenant"),
        ("t", "a" * 129, "k", None, "{}", None, "tenant"),
        ("t", "a", "", None, "{}", None, "dedupe key has 0 bytes"),
        ("t", "a", None, None, "{}", None, "dedupe key has 0 bytes"),
        ("t", "a", "ä" * 129, None, "{}", None, "dedupe key has 258 bytes"),
        ("t", "a", "k", "", "{}", None, "key has 0 bytes"),
        ("t", "a", "k", "x" * 257, "{}", None, "key has 257 bytes"),
        ("t", "a", "k", None, '"' + "x" * 1_000_000 + '"', None, "this one 1000002"),
        ("t", "a", "k", None, "{}", "[]", "headers"),
        ("t", "a", "k", None, "{}", '{"h": "' + "x" * 16_400 + '"}', "headers"),
    ],
)
def test_what_cant_be_taken_is_named(
    settings: Settings, topic: str | None, tenant: str | None, dedupe: str | None,
    key: str | None, payload: str, headers: str | None, says: str,
) -> None:  # fmt: skip
    async def test(one: Any) -> None:
        given = (topic, tenant, payload, dedupe, key, headers)
        with pytest.raises(asyncpg.InvalidParameterValueError, match=says):
            await one.fetchval(
                "SELECT soma_outbox_add($1, $2, $3::text::jsonb, $4, $5, $6::text::jsonb)", *given
            )
        with pytest.raises(asyncpg.InvalidParameterValueError, match=says):
            await one.fetch(
                "SELECT * FROM soma_outbox_add_many(array['ok', $1], array['a', $2],"
                " array['{}', $3]::jsonb[], array['q', $4], array[null, $5],"
                " array[null, $6]::jsonb[])", *given
            )  # fmt: skip
        assert await one.fetchval("SELECT count(*) FROM outbox_events") == 0, "all or none"

    run(settings, 1, test)


def test_a_compressed_payload_is_measured_as_what_it_is(settings: Settings) -> None:
    async def test(one: Any) -> None:
        await one.execute("CREATE TEMPORARY TABLE mine AS SELECT "
                          "jsonb_build_object('x', repeat('x', 3000000)) AS payload")  # fmt: skip
        assert await one.fetchval("SELECT pg_column_size(payload) FROM mine") < 100_000
        with pytest.raises(asyncpg.InvalidParameterValueError, match="this one 3000009"):
            await one.execute(f"SELECT soma_outbox_add('{TOPIC}', 'a', payload, 'k') FROM mine")

    run(settings, 1, test)


def test_a_batch_keeps_its_order_and_tells_duplicates(settings: Settings) -> None:
    async def test(one: Any) -> None:
        before = await add(one, "z", payload='{"n": 0}')
        keys = ["m", "z", "b", "m", "z", "a"]
        payloads = ['{"n": 1}', '{"n": 0}', "null", '{"n": 9}', '{"n": 8}', '{"n": 5}']
        rows = await one.fetch(
            "SELECT * FROM soma_outbox_add_many($1, $2, $3::text[]::jsonb[], $4, $5, $6)",
            [TOPIC] * 6, ["a"] * 6, payloads, keys, [None] * 6, [None] * 6,
        )  # fmt: skip
        told = [(row["n"], row["duplicate"], row["differs"]) for row in rows]
        assert told == [(1, False, False), (2, True, False), (3, False, False), (4, True, True),
                        (5, True, True), (6, False, False)]  # fmt: skip
        ids = [row["id"] for row in rows]
        assert ids[1] == ids[4] == before and ids[3] == ids[0] < ids[2] < ids[5]
        assert await one.fetchval("SELECT count(*) FROM outbox_queue") == 4
        assert await one.fetchval("SELECT payload FROM outbox WHERE id = $1", ids[0]) == '{"n": 1}'

    run(settings, 1, test)


def test_batches_with_the_same_keys_in_opposite_order_dont_deadlock(settings: Settings) -> None:
    async def test(*sessions: Any) -> None:
        keys = [f"k{n}" for n in range(400)]

        async def some(session: Any, mine: list[str]) -> None:
            for _ in range(5):
                await session.fetch(
                    "SELECT * FROM soma_outbox_add_many($1, $2, $3::text[]::jsonb[], $4, $5, $6)",
                    [TOPIC] * 400, ["a"] * 400, ["{}"] * 400, mine, [None] * 400, [None] * 400,
                )  # fmt: skip

        await asyncio.gather(*(some(s, keys[:: 1 if k % 2 else -1])
                               for k, s in enumerate(sessions)))  # fmt: skip
        assert await sessions[0].fetchval("SELECT count(*) FROM outbox_queue") == 400

    run(settings, 4, test)


def test_the_locks_dont_depend_on_the_callers_search_path(settings: Settings) -> None:
    async def test(one: Any) -> None:
        schema = schema_of(settings.namespace)
        inside = await one.fetchval("SELECT outbox_lock_class()")
        await one.execute("SET search_path TO public")
        assert await one.fetchval(f'SELECT "{schema}".outbox_lock_class()') == inside
        added = f"""SELECT "{schema}".soma_outbox_add('{TOPIC}', 'a', '{{}}', 'k')"""
        assert await one.fetchval(added) == 1

    run(settings, 1, test)


def test_what_is_old_and_sent_leaves_and_nothing_else(settings: Settings) -> None:
    async def test(one: Any, two: Any) -> None:
        ids = [await add(one, f"k{n}") for n in range(6)]
        await one.execute("UPDATE outbox_events SET created_at = now() - interval '8 days' "
                          "WHERE id <= $1", ids[3])  # fmt: skip
        await one.execute("DELETE FROM outbox_queue WHERE id = ANY ($1)", [*ids[:2], ids[4]])
        await one.execute("UPDATE outbox_queue SET status = 'failed' WHERE id = $1", ids[2])
        forget = "SELECT * FROM outbox_forget(now() - interval '7 days', $1, 3)"
        assert tuple(await one.fetchrow(forget, 0)) == (2, 3, ids[2])
        assert tuple(await one.fetchrow(forget, ids[2])) == (0, 1, ids[5])
        assert tuple(await one.fetchrow(forget, ids[5])) == (0, 0, ids[5])
        assert await one.fetchval("SELECT array_agg(id ORDER BY id) FROM outbox") == ids[2:]
        assert await add(one, "k0") > ids[5], "its key is free again"
        async with two.transaction():
            await two.execute("SELECT pg_advisory_xact_lock(outbox_lock_class(), 201)")
            forgetting = asyncio.create_task(one.fetchrow(forget, 0))
            assert await waits(forgetting), "not while people put events back"
        await forgetting

    run(settings, 2, test)


def test_debeziums_router_finds_its_columns(settings: Settings) -> None:
    text = (REPO / "ops/outbox/DEBEZIUM.md").read_text()
    router = json.loads(text.split("```json")[1].split("```")[0])
    named = {value for name, value in router.items() if ".table.field.event." in name}
    named.add(router["transforms.outbox.route.by.field"])
    placed = router["transforms.outbox.table.fields.additional.placement"]
    named |= {one.split(":")[0] for one in placed.split(",")}
    assert router["table.include.list"] == "soma.outbox_events"
    schema = schema_of(settings.namespace)
    name = f"{schema}_outbox"
    # (Names of publications are the database's.)
    made = "CREATE PUBLICATION" + text.split("CREATE PUBLICATION")[1].split(";")[0]
    made = made.replace("soma_outbox", quoted(name)).replace("soma.", f"{quoted(schema)}.")
    topics = sorted(re.findall(r"'([a-z.]+)'", made.split("WITH")[0]))
    # In a process of its own: other tests bring topics of their own into this one.
    alone = subprocess.run(
        [sys.executable, "-c", PUBLIC], cwd=REPO, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert topics == json.loads(alone.stdout), "those that events are for"

    async def test(one: Any) -> None:
        await add(one, "k", payload='{"x": 1}', key="z")
        await one.execute(made)
        try:
            sees = "SELECT attnames::text[] FROM pg_publication_tables WHERE pubname = $1"
            assert named <= set(await one.fetchval(sees, name))
            again = "UPDATE outbox_events SET id = nextval('outbox_events_id_seq')"
            assert await one.execute(again) == "UPDATE 1", "`replay --again` still may"
            assert await one.execute("DELETE FROM outbox_events") == "DELETE 1"
        finally:
            await one.execute(f"DROP PUBLICATION {quoted(name)}")

    run(settings, 1, test)


def test_a_view_has_the_names_that_debeziums_router_has_by_default(settings: Settings) -> None:
    async def test(one: Any) -> None:
        await add(one, "k", payload='{"x": 1}', key="z")
        row = await one.fetchrow("SELECT * FROM outbox_debezium")
        defaults = ("id", "aggregatetype", "aggregateid", "type", "payload")
        assert [row[name] for name in defaults] == [1, TOPIC, "a", TOPIC, '{"x": 1}']

    run(settings, 1, test)


def test_the_migration_waits_for_no_writer_and_holds_up_none(settings: Settings) -> None:
    async def test() -> None:
        schema, wanted = schema_of(settings.namespace), migrations.load()
        async with (
            connected(settings.postgres(), "test") as host,
            connected(settings.postgres(), "test") as writer,
        ):
            await migrations.up(host, schema, wanted, 1)
            await writer.execute(f"SET search_path TO {quoted(schema)}; SET lock_timeout = '5s'")
            async with writer.transaction():
                await writer.execute("UPDATE projections SET generation = generation")
                await writer.execute("SELECT frame_history_day(DATE '2026-01-01')")
                await asyncio.wait_for(migrations.up(host, schema, wanted, PATIENT_UPTO), 90)
                await writer.execute("SELECT frame_history_day(DATE '2026-01-02')")
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await migrations.up(host, schema, wanted)
            assert await migrations.up(host, schema, wanted), "the columns want the tables alone"
            assert await add(writer, "k") == 1

    asyncio.run(test())
