"""Matrices in PostgreSQL: the truth about ρ. A commit is one transaction, with what is told of it.

Its locks come in one order everywhere (the idempotency key, then the matrices by their keys, then
the outbox), so two commits never wait for each other.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stores import outbox_checks as checks
from stores import outbox_statements as outbox_sql
from stores.outbox_types import Event
from stores.outbox_writer import AGAIN, TRIES, OutboxWriter

KEPT_DAYS = 7  # an idempotency key at least; as the outbox keeps its dedupe keys
TIDIED = 4  # old ones that go with each that comes

_READ = "SELECT version, matrix FROM SCHEMA.matrices WHERE tenant = $1 AND key = $2"
_HEAD = "SELECT substring(matrix FOR 32) FROM SCHEMA.matrices WHERE tenant = $1 AND key = $2"
_CURRENT = "SELECT version FROM SCHEMA.matrices WHERE tenant = $1 AND key = $2"
_FIRST = """
    INSERT INTO SCHEMA.matrices (tenant, key, version, matrix) VALUES ($1, $2, 1, $3)
    ON CONFLICT DO NOTHING RETURNING version
"""
_NEXT = """
    UPDATE SCHEMA.matrices SET version = version + 1, matrix = $3, updated_at = now()
    WHERE tenant = $1 AND key = $2 AND version = $4
      AND ($5::bytea IS NULL OR substring(matrix FROM 29 FOR 4) = $5) RETURNING version
"""
_CLAIM = """
    INSERT INTO SCHEMA.matrix_commits (tenant, idempotency_key, digest, versions)
    VALUES ($1, $2, $3, $4::text::jsonb) ON CONFLICT DO NOTHING RETURNING 1
"""
_CLAIMED = """
    SELECT digest, versions::text AS versions FROM SCHEMA.matrix_commits
    WHERE tenant = $1 AND idempotency_key = $2
"""
_TIDY = f"""
    DELETE FROM SCHEMA.matrix_commits c USING (
        SELECT o.idempotency_key FROM SCHEMA.matrix_commits o
        WHERE o.tenant = $1 AND o.created_at < now() - interval '{KEPT_DAYS} days'
        ORDER BY o.created_at LIMIT {TIDIED} FOR UPDATE SKIP LOCKED
    ) AS old WHERE c.tenant = $1 AND c.idempotency_key = old.idempotency_key
"""


@dataclass(frozen=True, slots=True)
class Write:
    """A matrix to be committed at version `expected` + 1, and the event that tells of it."""

    key: str
    expected: int  # 0: there must be none
    envelope: bytes  # of version `expected` + 1
    event: Event
    expected_crc: bytes | None = None  # 4 bytes of what it replaces; None: whatever that holds


@dataclass(frozen=True, slots=True)
class Written:
    """The keys' versions. `repeated`: from an earlier commit with the same idempotency key."""

    versions: dict[str, int]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """A key is at another version (0: there is none), or at this one with another CRC."""

    key: str
    current: int
    expected: int


class OtherCommitError(Exception):
    """The idempotency key was used for a commit of another digest."""


class _ConflictError(Exception):
    """Ends the transaction."""

    def __init__(self, one: Write) -> None:
        super().__init__(one.key)
        self.one = one


class MatrixStore(OutboxWriter):
    """The matrices of an installation, over a pool: `await MatrixStore.open(dsn, ns)`.

    Every method raises `StoreDown` when PostgreSQL doesn't answer.
    """

    async def read(self, tenant: str, key: str) -> tuple[int, bytes] | None:
        """Version and envelope; None: there is none."""
        async with self._connection() as connection:
            row = await connection.fetchrow(self._sql(_READ), tenant, key)
        return None if row is None else (row["version"], row["matrix"])

    async def head(self, tenant: str, key: str) -> bytes | None:
        """The first 32 bytes of its envelope; None: there is none."""
        async with self._connection() as connection:
            found: bytes | None = await connection.fetchval(self._sql(_HEAD), tenant, key)
        return found

    async def commit(
        self, tenant: str, writes: Sequence[Write], digest: bytes, idempotency_key: str | None
    ) -> Written | Conflict:
        """Commit all or none. `OtherCommitError`; `TooManyPending` where the outbox is full."""
        for left in reversed(range(TRIES)):
            async with self._connection([tenant]) as connection:
                try:
                    return await self._committed(
                        connection, tenant, writes, digest, idempotency_key
                    )
                except AGAIN:
                    if not left:
                        raise
                    await asyncio.sleep(random.uniform(0.001, 0.02))
        raise AssertionError("the last try returns or raises")

    async def _committed(
        self, connection: Any, tenant: str, writes: Sequence[Write], digest: bytes,
        idempotency_key: str | None,
    ) -> Written | Conflict:  # fmt: skip
        versions = {one.key: one.expected + 1 for one in writes}
        try:
            async with connection.transaction():
                if idempotency_key is not None:
                    claim = (tenant, idempotency_key, digest, json.dumps(versions))
                    if await connection.fetchval(self._sql(_CLAIM), *claim) is None:
                        return await self._repeated(connection, tenant, digest, idempotency_key)
                    await connection.execute(self._sql(_TIDY), tenant)
                for one in sorted(writes, key=lambda write: write.key):
                    await self._write(connection, tenant, one)
                events = checks.batch([one.event for one in writes])
                await connection.fetch(self._sql(outbox_sql.ADD), *events)
        except _ConflictError as conflict:
            key, expected = conflict.one.key, conflict.one.expected
            current = await connection.fetchval(self._sql(_CURRENT), tenant, key)
            return Conflict(key, current or 0, expected)
        return Written(versions)

    async def _write(self, connection: Any, tenant: str, one: Write) -> None:
        if one.expected_crc and not one.expected:
            raise _ConflictError(one)  # what isn't there has none
        given = tenant, one.key, one.envelope
        found = (
            await connection.fetchval(self._sql(_NEXT), *given, one.expected, one.expected_crc)
            if one.expected
            else await connection.fetchval(self._sql(_FIRST), *given)
        )
        if found is None:
            raise _ConflictError(one)

    async def _repeated(
        self, connection: Any, tenant: str, digest: bytes, idempotency_key: str
    ) -> Written:
        """What was answered first. (The row is committed: the claim waited for that.)"""
        row = await connection.fetchrow(self._sql(_CLAIMED), tenant, idempotency_key)
        if row is None or row["digest"] != digest:
            raise OtherCommitError
        return Written(dict(json.loads(row["versions"])), repeated=True)
