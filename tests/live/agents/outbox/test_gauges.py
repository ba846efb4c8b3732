"""What a relay shows of the queue is of its own shards as they are, or isn't shown at all."""

from typing import Any

import pytest

from agents.outbox import SHARDS
from agents.settings import Settings
from stores.names import quoted, schema_of
from tests.live.agents.outbox.outbox import Running, add, add_all, asked, made, queued, value
from tests.live.helpers import eventually, topics_of

MADE = (*topics_of("relay"), "cog.observations")


@pytest.fixture(autouse=True)
def _never_just_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gauges aren't renewed for their age alone: what happens must do it."""
    monkeypatch.setattr("agents.outbox.relay.STATE_S", 3600.0)


def shown(running: Running, name: str) -> float | None:
    return running.registry.get_sample_value(f"soma_outbox_{name}")


def test_a_failed_row_is_shown_soon(topics: Settings) -> None:
    ready = made(topics)
    with Running(ready) as running:
        eventually(lambda: shown(running, "pending") == 0)
        asked(ready, lambda c: add(c, "acme", 0, "k", what=value("another", 0)))
        asked(ready, lambda c: add(c, "acme", 1, "k"))
        eventually(lambda: shown(running, "blocked_keys") == 1)
        eventually(lambda: shown(running, "pending") == 1)


def test_shards_that_leave_take_their_numbers_with_them(topics: Settings) -> None:
    ready = made(topics, quota_per_minute=1)

    async def write(connection: Any) -> None:
        for key in "abcdefgh":
            await add_all(connection, "acme", range(10), key)

    asked(ready, write)
    with Running(ready) as first:
        first.await_shards(SHARDS)
        eventually(lambda: shown(first, "pending") == queued(ready) > 70)
        with Running(ready) as second:
            second.await_shards(SHARDS // 2)
            both = (first, second)
            eventually(lambda: sum(shown(one, "pending") or 0 for one in both) == queued(ready))
            assert all((shown(one, "pending") or 0) < queued(ready) for one in both)
        first.await_shards(SHARDS)
        eventually(lambda: shown(first, "pending") == queued(ready))


def test_without_the_database_nothing_is_shown(topics: Settings) -> None:
    ready = made(topics)
    schema = schema_of(ready.namespace)
    aside = f"{schema}_aside"

    async def away(connection: Any) -> None:
        await connection.execute(f"ALTER SCHEMA {quoted(schema)} RENAME TO {quoted(aside)}")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
            " current_database() AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
            f" AND classid = {quoted(aside)}.outbox_lock_class()::oid)"
        )

    async def back(connection: Any) -> None:
        await connection.execute(f"ALTER SCHEMA {quoted(aside)} RENAME TO {quoted(schema)}")

    with Running(ready) as running:
        eventually(lambda: shown(running, "pending") == 0)
        asked(ready, away)
        eventually(lambda: shown(running, "pending") is None)
        assert shown(running, "blocked_keys") is None and shown(running, "shards") == 0
        asked(ready, back)
        eventually(lambda: shown(running, "pending") == 0)
