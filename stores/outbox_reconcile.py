"""What `soma outbox reconcile` asks of PostgreSQL: the queue, compared with what Kafka holds.

Its session holds the advisory locks of all shards, so no relay works meanwhile. What Kafka holds
is copied into a temporary table; then everything is decided and changed in one transaction.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from stores import migrations
from stores.errors import Locked, NotMigrated
from stores.names import quoted
from stores.outbox_sql import SHARDS
from stores.postgres import connected

STATEMENT_S = 600.0  # a large queue is joined with many records
OWN_S = 30.0  # a relay that is stopped lets go of its shard when it has looked at it
TABLES_S = 10.0  # how long to wait for writers whose transactions are open
IDS_MAX = 1000  # in a line of the audit

Record = tuple[str, str, int, datetime]  # tenant, dedupe key, event's id, its creation

TRY = "SELECT pg_try_advisory_lock(outbox_lock_class(), $1)"
OWN = "SELECT pg_advisory_lock(outbox_lock_class(), $1)"
SEEN = """
    CREATE TEMPORARY TABLE seen (
        tenant_id text COLLATE "C", dedupe_key text COLLATE "C", id bigint, created_at timestamptz
    )
"""
INDEX = """
    CREATE INDEX ON seen (tenant_id, dedupe_key);
    CREATE INDEX ON seen (id);
    ANALYZE seen
"""
BATCHES = "SELECT shard, n, taken_at FROM outbox_batches ORDER BY shard"
# Writers wait: an id that is given out now must be behind those that are renumbered.
QUIET = "LOCK TABLE outbox_events, outbox_queue IN SHARE ROW EXCLUSIVE MODE"

# A row that waits was delivered if Kafka has its event: created in the same transaction, under its
# id or a later one (an earlier one: it is to be sent again, by `replay --again`). Or created anew
# under the same dedupe key ($1: for so long a key names one event).
DELIVERED = """
    WITH those AS MATERIALIZED (
        SELECT q.shard, q.id, bool_and(s.created_at <> e.created_at) AS anew
        FROM outbox_queue q JOIN outbox_events e ON e.id = q.id
        JOIN seen s ON s.tenant_id = e.tenant_id AND s.dedupe_key = e.dedupe_key
        WHERE CASE WHEN s.created_at = e.created_at THEN s.id >= e.id
                   ELSE s.created_at > e.created_at - $1::interval END
        GROUP BY q.shard, q.id
    )
    DELETE FROM outbox_queue q USING those t WHERE q.shard = t.shard AND q.id = t.id
    RETURNING q.id, q.tenant_id, t.anew
"""
# Events created since $1 that left the queue as sent, and of which Kafka has nothing.
MISSING = """
    SELECT e.id FROM outbox_events e
    WHERE e.created_at >= coalesce($1::timestamptz, '-infinity')
      AND NOT EXISTS (SELECT FROM outbox_queue q WHERE q.shard = e.shard AND q.id = e.id)
      AND NOT EXISTS (SELECT FROM outbox_skipped s WHERE s.id = e.id)
      AND NOT EXISTS (SELECT FROM seen s
                      WHERE s.tenant_id = e.tenant_id AND s.dedupe_key = e.dedupe_key)
    ORDER BY e.id
"""
AGAIN = """
    INSERT INTO outbox_queue (shard, id, tenant_id, key_hash, created_at)
    SELECT e.shard, e.id, e.tenant_id, outbox_key_hash(e.tenant_id, e.key), clock_timestamp()
    FROM outbox_events e WHERE e.id = ANY ($1::bigint[])
"""
# The first event that waits under an id that Kafka has of another event.
TAKEN = """
    SELECT min(q.id) FROM outbox_queue q JOIN outbox_events e ON e.id = q.id
    JOIN seen s ON s.id = e.id
    WHERE (s.tenant_id, s.dedupe_key, s.created_at) <> (e.tenant_id, e.dedupe_key, e.created_at)
"""
TOP = """
    SELECT greatest((SELECT last_value FROM outbox_events_id_seq), $1::bigint,
                    (SELECT max(id) FROM seen), (SELECT max(id) FROM outbox_events))
"""
# What waits under the ids $1 to $2 gets others, in its order: greater by $3.
RENUMBER = """
    WITH events AS (
        UPDATE outbox_events e SET id = q.id + $3::bigint FROM outbox_queue q
        WHERE q.id BETWEEN $1 AND $2 AND e.id = q.id
    ), queued AS (
        UPDATE outbox_queue q SET id = q.id + $3::bigint WHERE q.id BETWEEN $1 AND $2 RETURNING q.id
    )
    SELECT count(*) FROM queued
"""
NEXT = """
    SELECT setval('outbox_events_id_seq', greatest($1::bigint, (SELECT max(id) FROM outbox_events)))
"""
GO_ON = """
    UPDATE outbox_batches b SET n = a.n, taken_at = clock_timestamp()
    FROM unnest($1::smallint[], $2::bigint[]) AS a (shard, n) WHERE b.shard = a.shard
"""
NOTE = "INSERT INTO audit (actor, action, tenant, detail) VALUES ($1, $2, $3, $4::jsonb)"
ACTION = "outbox.reconcile"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done. `batches` and `top` are Kafka's: by shard, and the highest id sent."""

    actor: str
    since: datetime | None
    batches: Mapping[int, int]
    top: int
    certain_since: datetime | None  # from here on Kafka's logs are whole
    one_event: timedelta  # for so long a dedupe key names one event
    resend: bool = False
    leave: bool = False


@dataclass(slots=True)
class Settled:
    """What was found and done; `undecided`: nothing was, for events are missing."""

    delivered: int = 0
    anew: int = 0  # of these, added again after the restore
    missing: int = 0
    resent: int = 0
    renumbered: int = 0
    renumbered_from: int | None = None  # this id, and all later ones that wait
    renumbered_by: int | None = None
    waiting: int = 0
    batches: dict[int, tuple[int, int]] = field(default_factory=dict)  # shard -> was, is
    undecided: bool = False


class Reconciler:
    """One session. Use `reconciler`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def own(self, held: Callable[[int], None]) -> None:
        """Own all shards. `held` hears of the first that a relay has now; `Locked` names one that
        it keeps.
        """
        await self._connection.execute(f"SET lock_timeout = {int(OWN_S * 1000)}")
        first = True
        for shard in range(SHARDS):
            if await self._connection.fetchval(TRY, shard):
                continue
            if first:
                held(shard)
            first = False
            try:
                await self._connection.execute(OWN, shard)
            except asyncpg.LockNotAvailableError:
                raise Locked(
                    f"a relay works on shard {shard}: stop `soma worker` and `soma relay` first"
                ) from None
        await self._connection.execute(f"SET lock_timeout = {int(TABLES_S * 1000)}")

    async def batches(self) -> tuple[dict[int, int], dict[int, datetime]]:
        """The last batch of each shard, and when it left the queue."""
        rows = await self._connection.fetch(BATCHES)
        counts = {row["shard"]: row["n"] for row in rows}
        return counts, {row["shard"]: row["taken_at"] for row in rows if row["taken_at"]}

    async def note(self, records: Sequence[Record]) -> None:
        """Records that Kafka holds."""
        await self._connection.copy_records_to_table("seen", records=records)

    async def settle(self, wish: Wish, dry: bool) -> Settled:
        """Decide, and change everything or (`dry`, or undecided) nothing."""
        await self._connection.execute(INDEX)
        try:
            found = await self._settled(wish, dry)
            if not dry and not found.undecided:
                await self._stragglers(wish, found)
        except asyncpg.LockNotAvailableError:
            raise Locked("a writer's transaction stays open: try again when it has ended") from None
        return found

    async def _settled(self, wish: Wish, dry: bool) -> Settled:
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            if not dry:
                await self._connection.execute(QUIET)
            found, top = await self._changed(wish)
        except BaseException:
            await transaction.rollback()
            raise
        if dry or found.undecided:
            await transaction.rollback()
        else:
            await self._connection.execute(NEXT, top)
            await transaction.commit()
        return found

    async def _changed(self, wish: Wish) -> tuple[Settled, int]:
        """What was changed, and the last id that Kafka or the table had before."""
        ask = self._connection
        was, _ = await self.batches()
        rows = await ask.fetch(DELIVERED, wish.one_event)
        found = Settled(delivered=len(rows), anew=sum(row["anew"] for row in rows))
        missing = [row["id"] for row in await ask.fetch(MISSING, wish.certain_since)]
        found.missing = len(missing)
        found.undecided = bool(missing) and not wish.resend and not wish.leave
        first = await ask.fetchval(TAKEN)
        if wish.resend and missing:
            await ask.execute(AGAIN, missing)
            found.resent, first = len(missing), min(missing[0], first or missing[0])
        top = await ask.fetchval(TOP, wish.top)
        if first is not None:
            found.renumbered_from, found.renumbered_by = first, top - first + 1
            found.renumbered = await ask.fetchval(RENUMBER, first, top, top - first + 1)
        found.batches = {shard: (n, wish.batches.get(shard, 0)) for shard, n in was.items()}
        await ask.execute(GO_ON, list(was), [wish.batches.get(shard, 0) for shard in was])
        await ask.execute("DELETE FROM outbox_counts")  # they name ids: count again
        found.waiting = await ask.fetchval("SELECT count(*) FROM outbox_queue")
        await self._audit(wish, rows, found)
        return found, top

    async def _stragglers(self, wish: Wish, found: Settled) -> None:
        """Writers that had their ids when the tables were locked, and waited for them."""
        ask = self._connection
        async with ask.transaction():
            await ask.execute(QUIET)
            first = await ask.fetchval(TAKEN)
            if first is None:
                return
            top = await ask.fetchval(TOP, wish.top)
            found.renumbered += await ask.fetchval(RENUMBER, first, first, top - first + 1)
            await ask.execute(NEXT, top)

    async def _audit(self, wish: Wish, rows: Sequence[Any], found: Settled) -> None:
        ids: dict[str | None, list[int]] = {}
        for row in rows:
            ids.setdefault(row["tenant_id"], []).append(row["id"])
        lines = [
            (wish.actor, ACTION, tenant, json.dumps({"delivered": len(own), "ids": own[:IDS_MAX]}))
            for tenant, own in ids.items()
        ]
        whole = {
            "since": None if wish.since is None else wish.since.isoformat(),
            "delivered": found.delivered, "missing": found.missing, "resent": found.resent,
            "renumbered": found.renumbered, "renumbered_from": found.renumbered_from,
            "renumbered_by": found.renumbered_by, "batches": found.batches,
        }  # fmt: skip
        lines.append((wish.actor, ACTION, None, json.dumps(whole)))
        await self._connection.executemany(NOTE, lines)


@asynccontextmanager
async def reconciler(dsn: str, schema: str) -> AsyncIterator[Reconciler]:
    """A session for as long as the block takes. `StoreError` for everything that is wrong."""
    async with connected(dsn, "soma outbox reconcile", STATEMENT_S) as connection:
        steps = await migrations.status(connection, schema, migrations.load())
        if pending := [step for step in steps if step.state == "pending"]:
            raise NotMigrated(f"the schema {schema} lacks {pending[0]}: run `soma migrate up`")
        await connection.execute(f"SET search_path = {quoted(schema)}")
        await connection.execute("SET idle_in_transaction_session_timeout = 0")
        await connection.execute(SEEN)
        yield Reconciler(connection)
