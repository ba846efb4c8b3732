"""The Postgres schema's versions: numbered SQL files, each run once, in order, all or nothing.

An installation has one schema, `soma` or `soma_<namespace>`. What ran is noted in its table
`migrations` with a checksum. Any number of hosts may migrate at once: an advisory lock of the
session, derived from the schema's name, lets one after the other do it.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stores.errors import NotMigrated
from stores.names import quoted

FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
LOCK_WAIT_S = 120.0
LOCK_POLL_S = 0.1
_TABLE = """
    CREATE TABLE migrations (
        number     integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        applied_by text NOT NULL DEFAULT session_user
    )
"""

State = Literal["applied", "pending", "edited", "unknown"]


class MigrationError(Exception):
    """The schema can't be brought up as asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """16 hex digits of the SHA-256 of the text, whatever its line ends."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Step:
    """A migration as the files and the schema have it."""

    number: int
    name: str
    state: State
    applied_at: str | None = None  # ISO 8601

    def __str__(self) -> str:
        when = f" at {self.applied_at}" if self.applied_at else ""
        return f"{self.number:04} {self.name}: {self.state}{when}"


def folder() -> Path:
    """Where the SQL files are: beside the package, in a checkout as when installed."""
    return Path(__file__).resolve().parent.parent / "migrations"


def load(place: Path | None = None) -> list[Migration]:
    """All migrations in order; `MigrationError` names a file misnamed, double or lacking."""
    found: list[Migration] = []
    for path in sorted((place or folder()).glob("*.sql")):
        named = FILE.fullmatch(path.name)
        if named is None:
            raise MigrationError(f"{path.name} isn't named as a migration: 0001_what_it_does.sql")
        found.append(Migration(int(named[1]), named[2], path.read_text(encoding="utf-8")))
    for k, migration in enumerate(found, 1):
        if migration.number != k:
            raise MigrationError(
                f"migration {k:04} is lacking or there twice: next comes "
                f"{migration.number:04}_{migration.name}.sql"
            )
    if not found:
        raise MigrationError("the installation has no migrations: it is broken")
    return found


def lock_key(schema: str) -> int:
    """The advisory lock's number: 64 bits, signed."""
    digest = hashlib.sha256(f"soma migrate {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


async def status(connection: Any, schema: str, wanted: Sequence[Migration]) -> list[Step]:
    """Every migration that the files or the schema know, in order."""
    noted = await _noted(connection, schema)
    steps: list[Step] = []
    for migration in wanted:
        row = noted.pop(migration.number, None)
        if row is None:
            steps.append(Step(migration.number, migration.name, "pending"))
            continue
        state: State = "applied" if row["checksum"] == migration.checksum else "edited"
        when = row["applied_at"].isoformat(timespec="seconds")
        steps.append(Step(migration.number, migration.name, state, when))
    for number, row in sorted(noted.items()):
        when = row["applied_at"].isoformat(timespec="seconds")
        steps.append(Step(number, row["name"], "unknown", when))
    return steps


async def check(connection: Any, schema: str) -> None:
    """`NotMigrated` names the first migration of this version that the schema lacks."""
    steps = await status(connection, schema, load())
    if pending := [step for step in steps if step.state == "pending"]:
        raise NotMigrated(f"the schema {schema} lacks {pending[0]}")


async def up(
    connection: Any,
    schema: str,
    wanted: Sequence[Migration],
    upto: int | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> list[Migration]:
    """Run what hasn't run, up to the number `upto`; returns it. `said` hears of progress.

    Each migration commits by itself, so one that fails leaves the schema as the last good one.
    """
    await _lock(connection, schema, said)
    try:
        steps = await status(connection, schema, wanted)
        refuse(schema, steps)
        pending = {step.number for step in steps if step.state == "pending"}
        todo = [m for m in wanted if m.number in pending and (upto is None or m.number <= upto)]
        if todo:
            await _prepare(connection, schema)
        for migration in todo:
            said(f"{migration.number:04} {migration.name}")
            await _run(connection, schema, migration)
        return todo
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", lock_key(schema))


def refuse(schema: str, steps: Sequence[Step]) -> None:
    """`MigrationError` if a file was edited after it ran, or the schema is a newer version's."""
    if edited := [f"{s.number:04}_{s.name}.sql" for s in steps if s.state == "edited"]:
        raise MigrationError(
            f"{', '.join(edited)}: edited after it was applied to the schema {schema}. Put the "
            "file back as it was and write the change into a new migration."
        )
    if unknown := [f"{s.number:04} {s.name}" for s in steps if s.state == "unknown"]:
        raise MigrationError(
            f"the schema {schema} has {', '.join(unknown)}, which this version doesn't know: "
            "a newer version has migrated it. Migrate with that one."
        )


async def _noted(connection: Any, schema: str) -> dict[int, Any]:
    table = f"{quoted(schema)}.migrations"
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        return {}
    rows = await connection.fetch(f"SELECT number, name, checksum, applied_at FROM {table}")
    return {row["number"]: row for row in rows}


async def _lock(connection: Any, schema: str, said: Callable[[str], None]) -> None:
    waited = 0.0
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock_key(schema)):
        if waited == 0.0:
            said("another host migrates this schema: waiting")
        if waited > LOCK_WAIT_S:
            raise MigrationError(
                f"another session has held the schema {schema}'s lock for {LOCK_WAIT_S:.0f} s: "
                "see pg_locks (locktype advisory) for its pid."
            )
        await asyncio.sleep(LOCK_POLL_S)
        waited += LOCK_POLL_S


async def _prepare(connection: Any, schema: str) -> None:
    """The schema and its table of migrations."""
    # Asked for first: with the schema made for it, a role needs no right to make schemas.
    if await connection.fetchval("SELECT to_regnamespace($1)", quoted(schema)) is None:
        await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
    if await connection.fetchval("SELECT to_regclass($1)", f"{quoted(schema)}.migrations") is None:
        async with connection.transaction():
            await _within(connection, schema)
            await connection.execute(_TABLE)


async def _run(connection: Any, schema: str, migration: Migration) -> None:
    async with connection.transaction():
        await _within(connection, schema)
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )


async def _within(connection: Any, schema: str) -> None:
    await connection.execute(f"SET LOCAL search_path TO {quoted(schema)}")
