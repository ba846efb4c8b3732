"""Kill relays, database and broker at any moment: table and topic still say the same.

And the verifier that says so is put to the test itself, on a real table and a real topic.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Producer

from agents.settings import Settings
from ops.prove.outbox import Strikes, kill
from ops.prove.outbox_check import SCHEMA, TOPIC
from ops.prove.outbox_run import Options
from ops.prove.outbox_writers import ADD_AVRO, ADD_JSON, as_json, event
from ops.prove.wire import Wire
from ops.stack import Stack
from ops.stack.jars import SHARED
from stores import migrations
from stores.names import schema_of
from stores.postgres import connected
from tests.live.helpers import REPO, environment

SCRIPT = ("kill", "between", "postgres9", "kill", "broker", "kill")
Pairs = list[tuple[str, str | bytes | None]]


@pytest.mark.timeout(600)
def test_killed_relays_and_servers_lose_double_and_reorder_nothing(
    new_home: Callable[[], Path], tmp_path: Path
) -> None:
    stack = Stack(new_home(), ephemeral=True, cache=SHARED, without=("valkey",))
    strikes = Strikes(script=SCRIPT, pause=(0.3, 1.5), down=(0.0, 1.0))
    try:
        report = kill(Options(seed=11), strikes, stack, tmp_path)
    finally:
        stack.down()
    assert report.clean, report.lines()
    assert report.blows == {"kill": 3, "between": 1, "postgres9": 1, "broker": 1}
    assert report.verdict["rows"] == report.verdict["records"] > 300
    assert report.verdict["keys"] == 50 and 0 < report.verdict["ready"] < report.verdict["rows"]
    assert report.writers["rolled back"] and report.writers["slow"], "the writers were too tame"


@pytest.mark.timeout(600)
def test_a_database_restored_under_writers_and_relays_loses_and_doubles_nothing(
    new_home: Callable[[], Path], tmp_path: Path
) -> None:
    stack = Stack(new_home(), ephemeral=True, cache=SHARED, without=("valkey",))
    strikes = Strikes(script=("backup", "kill", "restore", "kill"), pause=(0.3, 1.0))
    try:
        report = kill(Options(seed=12), strikes, stack, tmp_path)
    finally:
        stack.down()
    assert report.clean, report.lines()
    assert report.blows == {"backup": 1, "kill": 2, "restore": 1}
    assert report.verdict["records"] > report.verdict["rows"] > 100, "some were restored away"


async def filled(settings: Settings, count: int) -> list[dict[str, Any]]:
    """So many events in the table, taken off the queue by hand; as contents."""
    schema, wire, made = schema_of(settings.namespace), Wire(), []
    async with connected(settings.postgres(), "test") as connection:
        await migrations.up(connection, schema, migrations.load())
    dsn = settings.postgres()
    connection = await asyncpg.connect(dsn, server_settings={"search_path": f'"{schema}"'})
    for number in range(count):
        key, version = f"k{number % 4}", 1 + number // 4
        one = event("acme", key, version, f"{key}.{version}")
        ready = number % 2 == 0
        value: Any = wire.encode(SCHEMA, one) if ready else as_json(one)
        add = ADD_AVRO if ready else ADD_JSON
        await connection.fetchval(add, TOPIC, "acme", value, one["dedupe_key"], key, None)
        made.append(one)
    await connection.execute("DELETE FROM outbox_queue")
    await connection.close()
    return made


def publish(settings: Settings, contents: list[dict[str, Any]]) -> None:
    """By hand, as a relay would."""
    producer, wire = Producer(settings.librdkafka()), Wire()
    for number, one in enumerate(contents):
        headers: Pairs = [
            ("ce_id", str(number).encode()), ("ce_source", b"/test"), ("ce_type", b"test"),
            ("ce_time", b"2026-01-01T00:00:00Z"), ("ce_specversion", b"1.0"),
            ("tenant-id", b"acme"), ("dedupe-key", one["dedupe_key"].encode()),
            ("soma-key", one["id"].encode()),
        ]  # fmt: skip
        value = wire.encode(SCHEMA, one)
        producer.produce(settings.topic(TOPIC), value, b"acme", 0, headers=headers)
    assert producer.flush(30) == 0


def verdict(settings: Settings) -> tuple[int, dict[str, Any]]:
    """What the verifier says, as a program of its own."""
    env = environment(settings) | {"SOMA_POSTGRES_DSN": settings.postgres()}
    done = subprocess.run(
        [sys.executable, "-m", "ops.prove.outbox_verify", "--json", "--namespace",
         settings.namespace, "--bootstrap", settings.bootstrap()],
        env=os.environ | env, cwd=REPO, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_verifier_finds_what_is_wrong_by_hand(topics: Settings) -> None:
    made = asyncio.run(filled(topics, 40))
    contents = list(made)
    contents[0], contents[4] = contents[4], contents[0]  # an inversion of k0
    del contents[10]  # lost
    contents.append(made[20])  # doubled
    contents.append(event("acme", "k1", 99, "k1.99"))  # rolled back
    contents[30] = contents[30] | {"coordinate": "elsewhere"}  # wrong
    publish(topics, contents)
    code, found = verdict(topics)
    assert code == 1 and not found["clean"]
    faults = {name: found[name] for name in ("lost", "doubled", "phantom", "inversions", "wrong")}
    assert faults == dict.fromkeys(faults, 1), found
    assert found["rows"] == 40 and found["records"] == 41 and found["waiting"] == 0


def test_the_verifier_passes_what_is_whole(topics: Settings) -> None:
    publish(topics, asyncio.run(filled(topics, 40)))
    code, found = verdict(topics)
    assert code == 0 and found["clean"], found
