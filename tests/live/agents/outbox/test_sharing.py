"""Relays share the shards, hear of new rows, and lose everything with their session."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from agents.outbox import SHARDS
from agents.outbox.metrics import metrics_of
from agents.outbox.relay_resources import RelayResources
from agents.outbox.shard import Shard
from agents.settings import Settings
from ops.stack.ports import free_port
from stores.grants import grants_to
from stores.names import schema_of
from stores.outbox_relay import Keeper
from tests.live.agents.outbox.outbox import (
    TOPIC,
    Running,
    add,
    add_all,
    asked,
    made,
    queued,
    sequences,
)
from tests.live.helpers import PARTITIONS, REPO, environment, eventually, read, topics_of
from tests.metrics_page import differences, documented
from tests.metrics_page import said as said_by

MADE = (*topics_of("relay"), "cog.observations")

Processes = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def ready(topics: Settings) -> Settings:
    return made(topics)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Processes]:
    started: list[subprocess.Popen[bytes]] = []

    def start(settings: Settings, *options: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / f"relay-{len(started)}.log").open("wb") as log:
            env = environment(settings, SOMA_OUTBOX__QUOTA_PER_MINUTE="0")
            words = [sys.executable, "-m", "agents.cli", "relay", *options]
            started.append(subprocess.Popen(words, env=env, cwd=REPO, stdout=log, stderr=log))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait(10.0)


def owners(settings: Settings) -> dict[int, int]:
    """Session -> how many shards it owns."""

    async def ask(connection: Any) -> dict[int, int]:
        rows = await connection.fetch(
            "SELECT pid, count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = outbox_lock_class()::oid AND objsubid = 2 AND objid < 4 GROUP BY pid"
        )
        return {row["pid"]: row["n"] for row in rows}

    return asked(settings, ask)


def shares(settings: Settings) -> list[int]:
    return sorted(owners(settings).values())


def test_a_relay_that_comes_gets_its_part_and_one_that_is_killed_leaves_it(
    ready: Settings, relay: Processes
) -> None:
    async def write(connection: Any, numbers: range) -> None:
        for key in "abcdefgh":
            await add_all(connection, "acme", numbers, key)

    with Running(ready) as first:
        first.await_shards(SHARDS)
        second = relay(ready)
        eventually(lambda: shares(ready) == [SHARDS // 2, SHARDS // 2], 60.0)
        asked(ready, lambda c: write(c, range(200)))
        second.kill()
        eventually(lambda: shares(ready) == [SHARDS], 20.0)
        asked(ready, lambda c: write(c, range(200, 250)))
        eventually(lambda: queued(ready) == 0)
    assert sequences(ready) == {("acme", key): list(range(250)) for key in "abcdefgh"}


def test_it_says_which_shards_it_has_and_where_its_metrics_are(
    ready: Settings, relay: Processes, tmp_path: Path
) -> None:
    def said(of: int) -> list[str]:
        lines = (tmp_path / f"relay-{of}.log").read_text().splitlines()
        return [line for line in lines if line.startswith("soma relay: ")]

    port = free_port()
    relay(ready, "--metrics-port", str(port))
    whole = f"soma relay: relaying shards 0, 1, 2, 3 of 4; metrics: http://127.0.0.1:{port}/metrics"
    eventually(lambda: said(0) == [whole], 60.0)

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as answer:
            return str(answer.read().decode())

    assert "soma_outbox_shards 4.0" in page()
    eventually(lambda: "soma_outbox_pending" in page(), 30.0, "it knows how its queue stands")
    found = differences(documented()["Outbox"], said_by(page()))
    assert not found, "\n".join(found)
    relay(ready)
    eventually(lambda: len(said(0)) > 1 and said(1), 60.0)
    assert said(1)[0].endswith("; no metrics (--metrics-port)")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_within_five_seconds_and_leaves_no_lock(
    ready: Settings, relay: Processes, ending: signal.Signals
) -> None:
    one = relay(ready)
    eventually(lambda: shares(ready) == [SHARDS], 60.0)
    asked(ready, lambda c: add(c, "acme", 0))
    began = time.monotonic()
    one.send_signal(ending)
    assert one.wait(10.0) == 0
    assert time.monotonic() - began < 5.0
    assert eventually(lambda: not owners(ready))


def test_a_relay_that_stands_still_loses_its_shards_and_doubles_nothing(
    ready: Settings, relay: Processes
) -> None:
    one = relay(ready)
    eventually(lambda: shares(ready) == [SHARDS], 60.0)
    os.kill(one.pid, signal.SIGSTOP)
    asked(ready, lambda c: add_all(c, "acme", range(50), "k"))
    with Running(ready) as other:
        other.await_shards(SHARDS)
        eventually(lambda: queued(ready) == 0)
        os.kill(one.pid, signal.SIGCONT)
        asked(ready, lambda c: add_all(c, "acme", range(50, 80), "k"))
        eventually(lambda: len(shares(ready)) == 2 and queued(ready) == 0)
    assert sequences(ready) == {("acme", "k"): list(range(80))}


def test_all_connections_cut_off_in_the_middle_double_nothing(ready: Settings) -> None:
    async def cut(connection: Any) -> None:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'soma relay%' AND datname = current_database()"
        )

    keys = "abcdefgh"

    async def write(connection: Any, numbers: range) -> None:
        for key in keys:
            await add_all(connection, "acme", numbers, key)

    with Running(ready) as running:
        running.await_shards(SHARDS)
        for k in range(4):
            asked(ready, lambda c, k=k: write(c, range(50 * k, 50 * k + 50)))  # type: ignore[misc]
            asked(ready, cut)
        eventually(lambda: queued(ready) == 0)
    assert sequences(ready) == {("acme", key): list(range(200)) for key in keys}


def test_it_sleeps_without_polling_and_wakes_at_once(ready: Settings) -> None:
    with Running(ready) as running:
        running.await_shards(SHARDS)
        asked(ready, lambda c: add(c, "acme", 0))
        eventually(lambda: queued(ready) == 0)
        time.sleep(1.0)  # the shards fall asleep
        before = running.statements()
        time.sleep(4.0)
        # The beat: locks, what waits, a recount; each every two seconds. Sometimes the gauges.
        assert running.statements() - before <= 10
        waits = []
        for number in range(1, 21):
            asked(ready, lambda c, n=number: add(c, "acme", n))  # type: ignore[misc]
            began = time.monotonic()
            eventually(lambda n=number: running.count("sent") > n)  # type: ignore[misc]
            waits.append(time.monotonic() - began)
        assert sorted(waits)[10] < 0.5, waits


@pytest.mark.parametrize(("quota", "each"), [(0, 3), (1_000_000, 4)])
def test_statements_of_a_batch_are_the_same_whatever_the_tenants(
    topics: Settings, quota: int, each: int
) -> None:
    """1,000 rows a batch: choose, (allowances,) fetch, take off. Round trips are the same."""
    ready = made(topics, quota_per_minute=quota, batch=1000)

    async def write(connection: Any) -> None:
        keys = await connection.fetch(
            "SELECT 't' || t AS tenant, k::text AS key FROM generate_series(1, 200) AS t,"
            " LATERAL (SELECT k FROM generate_series(1, 500) AS k"
            "          WHERE outbox_shard('t' || t, k::text) = 1 LIMIT 1) AS k"
        )
        for row in keys:
            await add_all(connection, row["tenant"], range(5), row["key"])
        await add_all(connection, "t1", range(5, 1005), keys[0]["key"])

    asked(ready, write)
    assert turn_statements(ready) == [(1000, each), (1000, each), (0, 1)]


def turn_statements(settings: Settings) -> list[tuple[int, int]]:
    """(rows, statements) of each turn of shard 1 until nothing waits."""

    async def turns() -> list[tuple[int, int]]:
        metrics = metrics_of(CollectorRegistry())
        resources = RelayResources(settings, {TOPIC: PARTITIONS}, PARTITIONS, metrics)
        keeper = await Keeper.open(
            settings.postgres(),
            resources.schema,
            resources.statements,
            lambda _: None,
            lambda: None,
        )
        assert await keeper.take(1)
        shard = Shard(1, resources, keeper)
        found: list[tuple[int, int]] = []
        try:
            await shard._take()
            while not found or found[-1][0]:
                before = resources.statements.sent
                turn = await shard._turn()
                found.append((turn.rows, resources.statements.sent - before))
            return found
        finally:
            await shard._drop()
            keeper.close()
            await resources.close()

    return asyncio.run(turns())


def test_a_role_with_the_printed_rights_can_relay(ready: Settings) -> None:
    role, schema = f"relay_{ready.namespace}", schema_of(ready.namespace)

    async def grant(connection: Any) -> None:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        await connection.execute(grants_to(role, schema))

    asked(ready, grant)
    parts = urlsplit(ready.postgres())
    place = parts.netloc.rpartition("@")[2]
    dsn = urlunsplit(parts._replace(netloc=f"{role}:x@{place}"))
    asked(ready, lambda c: add(c, "acme", 0))
    with Running(ready.model_copy(update={"postgres_dsn": SecretStr(dsn)})):
        eventually(lambda: queued(ready) == 0)
    assert len(read(ready, TOPIC)) == 1
