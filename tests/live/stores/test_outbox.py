"""Adding to the outbox and administering it on a real PostgreSQL, as the API's own role."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from agents.settings import Settings
from stores.errors import NotMigrated, StoreDown
from stores.names import schema_of
from stores.outbox import Added, BadEvent, BadQuestion, Event, Outbox, TooManyPending
from tests.live.stores.outbox import TOPIC, as_role, run

Test = Callable[[Outbox, Any], Awaitable[None]]


def on_outbox(settings: Settings, test: Test) -> None:
    """Run a test with an outbox opened as a role that has the API's grants, and an owner."""

    async def whole(owner: Any) -> None:
        dsn = await as_role(settings, owner, "api")
        outbox = await Outbox.open(dsn, settings.namespace)
        try:
            await test(outbox, owner)
        finally:
            await outbox.close()

    run(settings, 1, whole)


async def filled(outbox: Outbox, count: int, tenant: str = "a", topic: str = TOPIC) -> list[int]:
    events = [Event(topic, tenant, f'{{"n": {n}}}', f"{tenant}{topic}{n}") for n in range(count)]
    return [one.id for one in await outbox.add_many(events)]


async def fail(owner: Any, ids: list[int]) -> None:
    await owner.execute("UPDATE outbox_queue SET status = 'failed', retries = 5, "
                        "last_error = 'refused' WHERE id = ANY ($1)", ids)  # fmt: skip


async def queue(owner: Any) -> dict[int, str]:
    return {r["id"]: r["status"] for r in await owner.fetch("SELECT id, status FROM outbox_queue")}


def test_duplicates_and_other_content_are_told(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        await outbox.ready()
        first = await outbox.add(TOPIC, "a", '{"x": 1}', "k", key="z", headers={"h": "ü"})
        assert first == Added(first.id, duplicate=False, differs=False)
        again = await outbox.add(TOPIC, "a", '{"x":1}', "k", key="z", headers={"h": "ü"})
        assert again == Added(first.id, duplicate=True, differs=False)
        assert (await outbox.add(TOPIC, "a", '{"x":2}', "k", key="z")).differs
        batch = [
            Event(TOPIC, "a", "1", "n"),
            Event(TOPIC, "a", "2", "n"),
            Event(TOPIC, "b", "3", "n"),
        ]
        told = await outbox.add_many(batch)
        assert [(t.duplicate, t.differs) for t in told] == [
            (False, False),
            (True, True),
            (False,) * 2,
        ]
        (row,) = await outbox.list("pending", limit=1)
        assert (row.id, row.headers, row.payload, row.key) == (
            first.id,
            {"h": "ü"},
            '{"x": 1}',
            "z",
        )
        assert await outbox.add_many([]) == []

    on_outbox(settings, test)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (Event("T", "a", "1", "k"), "topic"),
        (Event(TOPIC, "", "1", "k"), "tenant"),
        (Event(TOPIC, "a", "1", ""), "dedupe key has 0"),
        (Event(TOPIC, "a", "1", "ä" * 129), "dedupe key has 258"),
        (Event(TOPIC, "a", "1", "k", key=""), "key has 0"),
        (Event(TOPIC, "a", "1", "k\0"), "NUL"),
        (Event(TOPIC, "a", "1", "\ud800"), "UTF-8"),
        (Event(TOPIC, "a", "{", "k"), "isn't JSON"),
        (Event(TOPIC, "a", "", "k"), "isn't JSON"),
        (Event(TOPIC, "a", '"\\u0000"', "k"), "isn't JSON that PostgreSQL keeps"),
        (Event(TOPIC, "a", '"\\ud800"', "k"), "isn't JSON that PostgreSQL keeps"),
        (Event(TOPIC, "a", "1e999999", "k"), "isn't JSON that PostgreSQL keeps"),
        (Event(TOPIC, "a", "[" * 400_000, "k"), "isn't JSON|took too|stack depth"),
        (Event(TOPIC, "a", f'"{"x" * 2_000_000}"', "k"), "1,000,000 bytes"),
        (Event(TOPIC, "a", "1", "k", headers={"h": "x" * 17_000}), "headers"),
        (Event(TOPIC, "a", "1", "k", headers={"h": 1}), "headers"),  # type: ignore[dict-item]
    ],
)
def test_a_bad_event_is_named_by_its_place_and_nothing_is_added(
    settings: Settings, event: Event, says: str
) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        with pytest.raises(BadEvent, match=says) as bad:
            await outbox.add_many([Event(TOPIC, "a", "1", "fine"), event])
        assert bad.value.index == 1
        assert await queue(owner) == {}

    on_outbox(settings, test)


def test_a_full_tenant_is_named(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        await outbox.limit("a.b", 2, "me")
        await filled(outbox, 2, "a.b")
        with pytest.raises(TooManyPending, match="2 events pending") as full:
            await outbox.add_many([Event(TOPIC, "c", "1", "k"), Event(TOPIC, "a.b", "1", "k")])
        assert full.value.tenant == "a.b"
        assert (await outbox.summary()).top[0].refused
        await outbox.limit("a.b", None, "me")
        assert not (await outbox.add(TOPIC, "a.b", "1", "k")).duplicate
        assert [(one.tenant, one.max_pending) for one in await outbox.limits()] == [("*", 100_000)]

    on_outbox(settings, test)


def test_lists_by_status_tenant_and_the_letters_of_a_topic(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        mine = await filled(outbox, 3)
        odd = await filled(outbox, 1, "b", "cog.x_y")
        near = await filled(outbox, 1, "b", "cog.xzy")
        await fail(owner, mine[:1])
        await owner.execute("DELETE FROM outbox_queue WHERE id = $1", mine[1])
        await outbox.skip(mine[:1], "me")

        async def ids(*asked: Any, **more: Any) -> list[int]:
            return [row.id for row in await outbox.list(*asked, **more)]

        assert await ids("skipped") == mine[:1] and await ids("sent") == mine[1:2]
        assert await ids("pending") == [mine[2], *odd, *near], "the oldest first"
        assert await ids() == [*near, *odd, *reversed(mine)], "the newest first"
        assert await ids(None, "a", limit=2, offset=1) == [mine[1], mine[0]]
        assert await ids(topic_filter="cog.x_y") == odd, "no wildcard"
        assert await ids(topic_filter="cog.x*") == [*near, *odd]
        assert await ids(topic_filter="cog.%") == await ids(topic_filter="cog.*y") == []
        assert await ids(tenant="a' OR true --") == await ids(tenant="%") == []
        assert [row.status for row in await outbox.list(None, "a")] == [
            "pending",
            "sent",
            "skipped",
        ]
        await outbox.add(TOPIC, "big", f'"{"x" * 5000}"', "k")
        (big,) = await outbox.list(None, "big")
        assert big.payload is None and big.bytes > 5000

    on_outbox(settings, test)


def test_questions_out_of_range_are_refused(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        for asked in (outbox.list(limit=501), outbox.list(limit=0), outbox.list(offset=-1),
                      outbox.list("gone"), outbox.list(topic_filter=""), outbox.replay([], "me"),
                      outbox.replay(list(range(1, 1002)), "me"), outbox.replay([2**63], "me"),
                      outbox.replay([0], "me"), outbox.replay([1], " "), outbox.check(-1),
                      outbox.replay_tenant("a", "me", limit=1001),
                      outbox.replay_tenant("a", "me", status="sent"),
                      outbox.replay_tenant("a", "me", status="pending"),
                      outbox.limit("a", 0, "me"), outbox.limit("*", None, "me"),
                      outbox.limit("a b", 1, "me"), outbox.audit(501),
                      outbox.add_many([Event(TOPIC, "a", "1", "k")] * 10_001)):  # fmt: skip
            with pytest.raises(BadQuestion):
                await asked

    on_outbox(settings, test)


def test_replay_tells_what_it_did_to_each_and_wakes(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        heard: list[Any] = []
        await owner.add_listener(
            f"{schema_of(settings.namespace)}.outbox", lambda *s: heard.append(s)
        )
        failed, skipped, pending, sent = await filled(outbox, 4)
        await fail(owner, [failed, skipped])
        await owner.execute("DELETE FROM outbox_queue WHERE id = $1", sent)
        gone = await outbox.skip([skipped, pending, 99], "eve")
        assert (gone.skipped, gone.missing, gone.not_failed) == ([skipped], [99], [pending])
        heard.clear()
        done = await outbox.replay([failed, skipped, pending, sent, 99], "eve")
        assert (done.replayed, done.missing) == ([failed, skipped], [99])
        assert done.not_failed == [pending, sent]
        row = await owner.fetchrow("SELECT * FROM outbox_queue WHERE id = $1", failed)
        assert (row["status"], row["retries"], row["next_attempt_at"]) == ("pending", 0, None)
        assert set((await queue(owner)).values()) == {"pending"} and len(await queue(owner)) == 3
        await owner.execute("SELECT 1")
        assert heard, "a relay that sleeps hears of it"
        entries = await outbox.audit()
        assert [(e.actor, e.action, e.tenant) for e in entries] == [
            ("eve", "outbox.replay", "a"), ("eve", "outbox.skip", "a")]  # fmt: skip
        assert entries[0].detail == {"ids": [failed, skipped]}

    on_outbox(settings, test)


def test_what_was_sent_is_sent_again_under_a_new_id(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        one, two = await filled(outbox, 2)
        await owner.execute("DELETE FROM outbox_queue WHERE id = $1", one)
        done = await outbox.replay([one, two], "me", again=True)
        new = done.renumbered[one]
        # A receipt may list the old id as sent: a new owner of the shard would take it off.
        assert new > two and done.replayed == [one] and done.not_failed == [two]
        assert await queue(owner) == {two: "pending", new: "pending"}
        assert await outbox.add(TOPIC, "a", '{"n": 0}', f"a{TOPIC}0") == Added(new, True, False)
        assert (await outbox.audit())[0].detail == {"ids": [one], "renumbered": {str(one): new}}

    on_outbox(settings, test)


def test_a_tenants_failed_events_are_replayed_in_their_order(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        mine, other = await filled(outbox, 5), await filled(outbox, 2, "a", "cog.x")
        theirs = await filled(outbox, 1, "b")
        await fail(owner, [*mine, *other, *theirs])
        await owner.execute("UPDATE outbox_queue SET created_at = now() - interval '1 h' "
                            "WHERE id = ANY ($1)", mine[:3])  # fmt: skip
        done = await outbox.replay_tenant("a", "me", topic_filter=TOPIC, limit=2)
        assert done.replayed == mine[:2] and done.more
        before = datetime.now(UTC) - timedelta(minutes=30)
        done = await outbox.replay_tenant("a", "me", before=before)
        assert done.replayed == [mine[2]] and not done.more
        assert (await outbox.replay_tenant("nobody", "me")).replayed == []
        failed = [one for one, status in (await queue(owner)).items() if status == "failed"]
        assert sorted(failed) == [*mine[3:], *other, *theirs]
        await owner.execute("DELETE FROM outbox_queue WHERE id = ANY ($1)", mine)
        done = await outbox.replay_tenant("a", "me", "sent", limit=3, again=True)
        assert sorted(done.renumbered) == mine[:3]
        assert sorted(done.renumbered.values()) == [done.renumbered[one] for one in mine[:3]]

    on_outbox(settings, test)


def test_two_people_replay_the_same_once(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        ids = await filled(outbox, 50)
        await fail(owner, ids)
        done = await asyncio.gather(*(outbox.replay(ids, f"p{n}") for n in range(4)))
        assert sorted(len(one.replayed) for one in done) == [0, 0, 0, 50]
        assert len(await outbox.audit()) == 1

    on_outbox(settings, test)


def test_what_fails_midway_changes_nothing_and_isnt_audited(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        ids = await filled(outbox, 2)
        await fail(owner, ids)
        await owner.execute("ALTER TABLE audit ADD CHECK (actor <> 'bad')")
        with pytest.raises(StoreDown):
            await outbox.skip(ids, "bad")
        assert await queue(owner) == dict.fromkeys(ids, "failed")
        assert await outbox.audit() == [] and await outbox.list("skipped") == []

    on_outbox(settings, test)


def test_summary_and_check_count(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        mine = await filled(outbox, 3)
        await filled(outbox, 1, "b")
        await fail(owner, mine[:1])
        found = await outbox.summary(top=1)
        assert (found.pending, found.failed, found.skipped, found.tenants) == (3, 1, 0, 2)
        assert [(one.tenant, one.pending, one.failed) for one in found.top] == [("a", 2, 1)]
        assert found.oldest_age_s >= found.top[0].oldest_age_s > 0
        wrong = await outbox.check(1)
        assert (wrong.over, wrong.failed, wrong.well) == ({"a": 2}, {"a": 1}, False)
        await outbox.skip(mine[:1], "me")
        assert (await outbox.check(2)).well

    on_outbox(settings, test)


def test_a_database_that_is_away_is_named_without_its_dsn(settings: Settings) -> None:
    async def test() -> None:
        for dsn in ("postgresql://soma:Secret@127.0.0.1:1/x", "postgresql://s:Se:cret@h:Secret/x"):
            outbox = await Outbox.open(dsn, settings.namespace)
            with pytest.raises(StoreDown) as down:
                await outbox.add(TOPIC, "a", "1", "k")
            assert "Se" not in str(down.value).replace("SOMA", "")
            await outbox.close()
        outbox = await Outbox.open(settings.postgres(), settings.namespace)
        with pytest.raises(NotMigrated, match="soma migrate up"):
            await outbox.ready()
        await outbox.close()

    asyncio.run(test())


def test_a_session_that_is_cut_is_a_store_down_and_the_next_works(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        await outbox.ready()
        await owner.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                          "WHERE usename LIKE 'api_%'")  # fmt: skip
        for left in (True, False):
            try:
                await outbox.add(TOPIC, "a", "1", "k")
            except StoreDown:
                assert left
        assert len(await queue(owner)) == 1

    on_outbox(settings, test)


def test_the_apis_role_cant_change_the_past(settings: Settings) -> None:
    async def test(outbox: Outbox, owner: Any) -> None:
        await filled(outbox, 1)
        async with outbox._connection() as session:
            await session.execute(f'SET search_path TO "{outbox.schema}"')
            for refused in ("DELETE FROM audit", "UPDATE audit SET actor = 'x'",
                            "DELETE FROM outbox_events", "UPDATE outbox_events SET payload = '1'",
                            "TRUNCATE outbox_queue", "SELECT * FROM frames"):  # fmt: skip
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await session.execute(refused)

    on_outbox(settings, test)
