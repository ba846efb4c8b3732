"""Migrations on a real PostgreSQL: from every version, by many at once, never half."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import asyncpg
import pytest

from agents.settings import Settings
from ops.stack import Endpoints
from stores import migrations
from stores.errors import StoreDown
from stores.migrations import Migration, MigrationError
from stores.names import quoted, schema_of
from stores.postgres import connect, connected
from tests.live.helpers import REPO, environment, soma

ALL = migrations.load()
# Everything that makes up a schema, in a form that two schemas can be compared by.
PICTURE = """
    SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END AS what
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = to_regnamespace($1)
    UNION ALL
    SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = to_regnamespace($1)
    UNION ALL
    SELECT proname || ' ' || md5(prosrc) FROM pg_proc WHERE pronamespace = to_regnamespace($1)
    ORDER BY 1
"""


async def picture(connection: Any, schema: str) -> list[str]:
    rows = await connection.fetch(PICTURE, quoted(schema))
    return [row["what"].replace(schema, "SCHEMA") for row in rows]


def test_every_earlier_version_comes_up_to_the_same(stack: Endpoints, namespace: str) -> None:
    async def pictures() -> list[list[str]]:
        found = []
        async with connected(stack.postgres_dsn, "test") as connection:
            for first in range(len(ALL) + 1):
                schema = schema_of(f"{namespace}-{first}")
                if first:
                    assert await migrations.up(connection, schema, ALL, first) == ALL[:first]
                    states = [s.state for s in await migrations.status(connection, schema, ALL)]
                    assert states == ["applied"] * first + ["pending"] * (len(ALL) - first)
                assert await migrations.up(connection, schema, ALL) == ALL[first:]
                assert await migrations.up(connection, schema, ALL) == [], "idempotent"
                found.append(await picture(connection, schema))
        return found

    found = asyncio.run(pictures())
    assert found[0] and all(one == found[0] for one in found)


def test_three_hosts_at_once_and_the_command(topics: Settings) -> None:
    env = environment(topics)
    command = [sys.executable, "-m", "agents.cli", "migrate", "up", "--json"]
    hosts = [
        subprocess.Popen(command, env=env, cwd=REPO, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [json.loads(host.communicate(timeout=60)[0]) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0, 0]
    assert sorted(len(answer["applied"]) for answer in answers) == [0, 0, len(ALL)]
    said = soma("migrate", "status", "--json", env=env)
    assert said.returncode == 0
    states = [step["state"] for step in json.loads(said.stdout)["migrations"]]
    assert states == ["applied"] * len(ALL)
    assert "nothing to do" in soma("migrate", "up", env=env).stdout


def test_a_dry_run_changes_nothing_and_status_fails_before(
    stack: Endpoints, settings: Settings
) -> None:
    env = environment(settings)
    said = soma("migrate", "up", "--dry-run", env=env)
    assert said.returncode == 0 and "would run 0001 projections" in said.stdout
    said = soma("migrate", "status", env=env)
    assert said.returncode == 1 and "soma migrate up" in said.stderr

    async def there() -> bool:
        async with connected(stack.postgres_dsn, "test") as connection:
            schema = quoted(schema_of(settings.namespace))
            return await connection.fetchval("SELECT to_regnamespace($1)", schema) is not None

    assert not asyncio.run(there())


def test_an_edited_file_and_a_newer_schema_are_refused(stack: Endpoints, namespace: str) -> None:
    first, second = Migration(1, "a", "CREATE TABLE a ()"), Migration(2, "b", "CREATE TABLE b ()")

    async def refused() -> None:
        schema = schema_of(namespace)
        async with connected(stack.postgres_dsn, "test") as connection:
            await migrations.up(connection, schema, [first, second])
            edited = [Migration(1, "a", "CREATE TABLE a (x int)"), second]
            with pytest.raises(MigrationError, match=r"0001_a\.sql"):
                await migrations.up(connection, schema, edited)
            with pytest.raises(MigrationError, match="0002 b"):
                await migrations.up(connection, schema, [first])
            assert await connection.fetchval("SELECT count(*) FROM pg_locks "
                "WHERE locktype = 'advisory' AND pid = pg_backend_pid()") == 0  # fmt: skip

    asyncio.run(refused())


def test_a_migration_that_fails_leaves_nothing_of_it(stack: Endpoints, namespace: str) -> None:
    good = Migration(1, "good", "CREATE TABLE good ()")
    bad = Migration(2, "bad", "CREATE TABLE half (); SELECT 1 / 0")
    mended = Migration(2, "bad", "CREATE TABLE half ()")

    async def fails() -> None:
        schema = schema_of(namespace)
        with pytest.raises(StoreDown, match="division by zero"):
            async with connected(stack.postgres_dsn, "test") as connection:
                await migrations.up(connection, schema, [good, bad])
        async with connected(stack.postgres_dsn, "test") as connection:
            half = f"{quoted(schema)}.half"
            assert await connection.fetchval("SELECT to_regclass($1)", half) is None
            assert await migrations.up(connection, schema, [good, mended]) == [mended]

    asyncio.run(fails())


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://soma:Sec:ret@127.0.0.1:Sec/x",
        "mysql://soma:Secret@127.0.0.1/x",
        "postgresql://soma:Secret@127.0.0.1:1/x",
        "postgresql://soma:Secret@[::1/x",
        "Secret",
    ],
)
def test_errors_show_nothing_of_the_dsn(dsn: str, settings: Settings) -> None:
    said = soma("migrate", "status", env=environment(settings, SOMA_POSTGRES_DSN=dsn))
    assert said.returncode == 1
    assert "Sec" not in said.stdout + said.stderr
    assert said.stderr.startswith(("Error: PostgreSQL: ", "Error: The settings can't be used: "))


def test_a_wrong_password_is_named_without_it(stack: Endpoints) -> None:
    wrong = stack.postgres_dsn.replace("soma:", "soma:Secret", 1)
    with pytest.raises(StoreDown, match="password authentication failed") as refused:
        asyncio.run(connect(wrong, "test"))
    assert "Secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_asyncpg_is_what_we_take_it_for() -> None:
    assert issubclass(asyncpg.ClientConfigurationError, ValueError)
