"""Jobs of the outbox: events are put back once, by whose they are, status, topic and time."""

import asyncio
from collections.abc import Mapping

import pytest

from agents.replay.command import Command
from agents.replay.modes import CantReplayError
from agents.replay.outbox import PutBack
from agents.settings import Settings
from stores.outbox import Event, Outbox
from tests.live.agents.projections.compare import migrated, sql
from tests.live.agents.replay.helpers import few, ran

OTHER = "cog.observations"


async def added(settings: Settings, counts: Mapping[tuple[str, str], int]) -> None:
    outbox = await Outbox.open(settings.postgres(), settings.namespace)
    try:
        for (tenant, topic), count in counts.items():
            await outbox.add_many([
                Event(topic, tenant, f'{{"n": {n}}}', f"{topic}{n}") for n in range(count)
            ])  # fmt: skip
    finally:
        await outbox.close()


def write(settings: Settings) -> Settings:
    """Events that failed, of a and b, and two of c that were given up."""
    migrated(settings)
    counts = {("a", "memory.events"): 30, ("a", OTHER): 5, ("b", "memory.events"): 20}
    asyncio.run(added(settings, {**counts, ("c", "memory.events"): 2}))
    sql(settings, "UPDATE SCHEMA.outbox_queue SET status = 'failed' WHERE tenant_id <> 'c'")
    sql(
        settings,
        "WITH gone AS (DELETE FROM SCHEMA.outbox_queue WHERE tenant_id = 'c' RETURNING id) "
        "INSERT INTO SCHEMA.outbox_skipped (id, actor) SELECT id, 'jo' FROM gone",
    )
    return settings


def standing(settings: Settings) -> dict[tuple[str, str], int]:
    """How many events of each tenant are in which status."""
    rows = sql(settings, "SELECT tenant_id, status, count(*) FROM SCHEMA.outbox GROUP BY 1, 2")
    return {(row[0], row[1]): row[2] for row in rows}


def test_events_are_put_back_by_tenant_status_and_topic(topics: Settings) -> None:
    before = standing(write(topics))
    mode = PutBack(topics, "one")
    plan = asyncio.run(mode.plan(Command(mode="outbox", dry_run=True), few))
    assert (plan.total, plan.said["of"]) == (55, {"a": 35, "b": 20})
    assert asyncio.run(ran(mode, Command(mode="outbox", dry_run=True)))[0] == 55
    assert standing(topics) == before
    of_a = Command(mode="outbox", source="memory.*", tenants=("a",))
    assert asyncio.run(ran(mode, of_a))[0] == 30
    assert standing(topics) == before | {("a", "pending"): 30, ("a", "failed"): 5}
    for bad, said in (
        (Command(mode="outbox", tenants=("a", "z")), "nothing of z is failed"),
        (Command(mode="outbox", source="x" * 251), "1 to 250 characters"),
    ):
        with pytest.raises(CantReplayError, match=said):
            asyncio.run(mode.plan(bad, few))
    early = Command(mode="outbox", status="skipped", until="2020-01-01T00:00:00Z")
    assert asyncio.run(ran(mode, early))[0] == 0
    assert asyncio.run(ran(mode, Command(mode="outbox", status="skipped")))[0] == 2
    assert standing(topics)["c", "pending"] == 2
    notes = sql(topics, "SELECT actor, tenant FROM SCHEMA.audit WHERE action = 'outbox.replay'")
    who = "nobody named, replay job one"
    assert {tuple(row) for row in notes} == {(who, "a"), (who, "c")}


def test_what_died_before_it_was_noted_is_put_back_once(topics: Settings) -> None:
    """Of what was sent: put back again it would be sent twice. It has a new id instead."""
    write(topics)
    mode = PutBack(topics, "one")
    sql(topics, "DELETE FROM SCHEMA.outbox_queue")
    command = Command(mode="outbox", tenants=("a", "b"), status="sent")
    some, plan = asyncio.run(ran(mode, command, most=1))
    assert (some, plan["events"]) == (20, 55)
    rest, _ = asyncio.run(ran(mode, command, plan))  # from the beginning
    assert some + rest == 55
    queued = sql(topics, "SELECT count(*), count(DISTINCT id), min(id) FROM SCHEMA.outbox_queue")
    assert tuple(queued[0])[:2] == (55, 55) and queued[0][2] > plan["top"]
    again, _ = asyncio.run(ran(mode, command, plan))
    assert again == 0
