"""The rows of the outbox's benchmark: 200-byte payloads, made and added inside the database."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ops.bench.filling import tenant_names
from stores.names import quoted
from stores.postgres import connected
from topics import codec

TOPIC, SCHEMA = "memory.events", "memory_event"
TENANTS, KEYS, PAYLOAD_BYTES = 100, 10, 200
CHUNK = 5_000  # rows of one transaction while the table is filled
INSERT_ROWS = 250  # of one transaction while the relay runs
INSERTERS = 2
# Number n is an event of tenant n mod TENANTS and of one of its KEYS keys.
_NUMBERED = """
    SELECT count({add}($1, ($2::text[])[1 + n % {tenants}], ($3::{kind}[])[1 + n % {tenants}],
           $4::text || n, 'key-' || (n / {tenants}) % {keys}))
    FROM generate_series($5::bigint, $6::bigint) AS n
"""
_FORMS = {"avro": ("soma_outbox_add_avro", "bytea"), "json": ("soma_outbox_add", "jsonb")}
OWN_TRANSACTIONS = 2  # of a session of ours that asks one thing: SET, SELECT
_TRANSACTIONS = """
    SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()
"""
_PEERS = """
    CREATE TABLE IF NOT EXISTS bench_outbox (
        id bigserial PRIMARY KEY, tenant text NOT NULL, key text NOT NULL, dedupe_key text NOT NULL,
        value bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
    )
"""
_FILL_PEERS = f"""
    INSERT INTO bench_outbox (tenant, key, dedupe_key, value)
    SELECT ($1::text[])[1 + n % {TENANTS}], 'key-' || (n / {TENANTS}) % {KEYS}, 'p' || n,
           ($2::bytea[])[1 + n % {TENANTS}]
    FROM generate_series(0, $3::bigint - 1) AS n
"""


def _record(tenant: str, padding: int) -> dict[str, Any]:
    payload = json.dumps({"t": "x" * padding})
    return {
        "event_id": "e", "id": "m", "tenant": tenant, "type": "created",
        "ts": "2026-01-01T00:00:00Z", "coordinate": "0", "payload": payload,
    }  # fmt: skip


def _sized(make: Any, tenant: str) -> Any:
    """`make` of a record padded to PAYLOAD_BYTES."""
    padding = PAYLOAD_BYTES - len(make(_record(tenant, 0)))
    while len(make(_record(tenant, padding))) > PAYLOAD_BYTES:
        padding -= 1  # lengths are varints
    return make(_record(tenant, padding))


def avro(tenant: str) -> bytes:
    """A ready value of PAYLOAD_BYTES."""
    value: bytes = _sized(
        lambda record: codec.encode(SCHEMA, codec.from_json(SCHEMA, record)), tenant
    )
    return value


def text(tenant: str) -> str:
    """A JSON payload of PAYLOAD_BYTES."""
    payload: str = _sized(json.dumps, tenant)
    return payload


@dataclass
class Rows:
    """The outbox's tables of one schema."""

    dsn: str
    schema: str
    added: int = 0
    _sessions: int = 0

    def __post_init__(self) -> None:
        self.tenants = tenant_names(TENANTS)
        self.values: dict[str, list[Any]] = {
            "avro": [avro(tenant) for tenant in self.tenants],
            "json": [text(tenant) for tenant in self.tenants],
        }

    async def fill(self, form: str, count: int) -> None:
        """Empty tables, then so many committed rows."""
        async with self.session() as connection:
            await connection.execute("TRUNCATE outbox_events, outbox_queue, outbox_counts")
        parts = range(0, count, CHUNK)
        async with self.session() as one, self.session() as two:
            await asyncio.gather(
                *(
                    self._part(connection, form, list(parts)[k::2], count)
                    for k, connection in enumerate((one, two))
                )
            )

    async def _part(self, connection: Any, form: str, begins: list[int], count: int) -> None:
        for begin in begins:
            await self.add(connection, form, min(CHUNK, count - begin))

    async def add(self, connection: Any, form: str, count: int) -> None:
        """So many rows in one transaction."""
        name, kind = _FORMS[form]
        begin, self.added = self.added, self.added + count
        query = _NUMBERED.format(add=name, kind=kind, tenants=TENANTS, keys=KEYS)
        given = (TOPIC, self.tenants, self.values[form], "d", begin, begin + count - 1)
        await connection.fetchval(query, *given)

    async def keep_adding(self, form: str, rate: float, seconds: float) -> int:
        """Rows at a rate by INSERTERS connections, as far as they can; how many."""
        began, before = time.monotonic(), self.added

        async def one() -> None:
            async with self.session() as connection:
                while (past := time.monotonic() - began) < seconds:
                    if self.added - before < past * rate:
                        await self.add(connection, form, INSERT_ROWS)
                    else:
                        await asyncio.sleep(0.002)

        await asyncio.gather(*(one() for _ in range(INSERTERS)))
        return self.added - before

    async def fill_peers(self, count: int) -> None:
        """The same rows in a table as a peer would have it."""
        async with self.session() as connection:
            await connection.execute(_PEERS)
            await connection.execute("TRUNCATE bench_outbox")
            await connection.execute(_FILL_PEERS, self.tenants, self.values["avro"], count)

    async def add_one(self, connection: Any, number: int) -> None:
        """One ready row, committed when this returns."""
        tenant, key = number % TENANTS, f"key-{number // TENANTS % KEYS}"
        given = (TOPIC, self.tenants[tenant], self.values["avro"][tenant], f"one-{number}", key)
        await connection.fetchval("SELECT soma_outbox_add_avro($1, $2, $3, $4, $5)", *given)

    async def waiting(self) -> bool:
        """Whether anything is queued."""
        async with self.session() as connection:
            return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM outbox_queue)"))

    async def transactions(self) -> int:
        """Transactions that the database has counted so far, but for this benchmark's sessions.

        Sessions are counted when they end; outside of BEGIN a statement is a transaction.
        """
        async with self.session() as connection:
            ours = OWN_TRANSACTIONS * (self._sessions - 1)
            return int(await connection.fetchval(_TRANSACTIONS)) - ours

    async def durability(self) -> str:
        """The server's settings that decide what a commit costs."""
        names = ("fsync", "synchronous_commit", "server_version")
        async with self.session() as connection:
            found = [f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in names]
        return ", ".join(found)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        """A connection whose statements find the tables."""
        async with connected(self.dsn, "soma bench outbox") as connection:
            await connection.execute(f"SET search_path = {quoted(self.schema)}")
            self._sessions += 1
            yield connection
