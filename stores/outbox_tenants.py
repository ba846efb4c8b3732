"""The outbox as the HTTP API needs it: batches that are whole or not at all, and tenants apart."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from stores import outbox_checks as checks
from stores import outbox_statements as sql
from stores.content import content
from stores.errors import Locked
from stores.outbox import Outbox
from stores.outbox_types import Added, Event, TenantSummary

FEW_S = 2.0  # how long a tenant gets few connections after it waited for a lock in vain

FIRST = """
    SELECT topic, key, payload::text AS payload FROM SCHEMA.outbox_events
    WHERE tenant_id = $1 AND id = $2
"""
HELD = """
    SELECT EXISTS (SELECT FROM SCHEMA.outbox_events WHERE tenant_id = $1 AND dedupe_key = $2)
"""
TENANTS = """
    SELECT id FROM SCHEMA.outbox_events
    WHERE id = ANY ($1::bigint[]) AND tenant_id = ANY ($2::text[])
"""
OF_TENANTS = """
    SELECT q.tenant_id AS tenant, count(*) FILTER (WHERE q.status = 'pending') AS pending,
           count(*) FILTER (WHERE q.status = 'failed') AS failed,
           greatest(0, extract(epoch FROM clock_timestamp()
               - min(q.created_at) FILTER (WHERE q.status = 'pending')))::float8 AS oldest_age_s,
           coalesce((SELECT c.refused FROM SCHEMA.outbox_counts c WHERE c.tenant_id = q.tenant_id
                     ORDER BY c.n DESC LIMIT 1), false) AS refused,
           (SELECT l.max_pending FROM SCHEMA.outbox_limits l WHERE l.tenant_id IN (q.tenant_id, '*')
            ORDER BY l.tenant_id = '*' LIMIT 1) AS max_pending
    FROM SCHEMA.outbox_queue q WHERE q.tenant_id = ANY ($1::text[])
    GROUP BY q.tenant_id ORDER BY count(*) DESC, q.tenant_id
"""


class _NotWholeError(Exception):
    """Ends the transaction."""


class TenantOutbox(Outbox):
    """An `Outbox` for callers who see some tenants only, and mustn't hold up one another."""

    def __init__(self, pool: Any, namespace: str) -> None:
        super().__init__(pool, namespace)
        self._few: dict[str, float] = {}  # tenant -> until when
        self._running: Counter[str] = Counter()

    @asynccontextmanager
    async def _connection(self, tenants: Sequence[str] = ()) -> AsyncIterator[Any]:
        """A connection to add events of these tenants with; one whose events wait for a lock, again
        and again, gets half of the connections at most: `Locked`."""
        whose = set(tenants)
        try:
            async with super()._connection(tenants) as connection:
                with self._turn(whose):
                    yield connection
        except Locked:
            now = time.monotonic()
            kept = {tenant: until for tenant, until in self._few.items() if until > now}
            self._few = kept | dict.fromkeys(whose, now + FEW_S)
            raise

    @contextmanager
    def _turn(self, whose: set[str]) -> Iterator[None]:
        now, most = time.monotonic(), max(1, self._pool.get_max_size() // 2)
        for tenant in whose:
            if self._running[tenant] >= most and self._few.get(tenant, 0.0) > now:
                raise Locked("others of the tenant's events wait for another open transaction")
        self._running.update(whose)
        try:
            yield
        finally:
            self._running.subtract(whose)
            for tenant in whose:
                if not self._running[tenant]:
                    del self._running[tenant]

    async def add_whole(
        self, events: Sequence[Event], together: Sequence[int] = (), unused: str | None = None
    ) -> tuple[list[Added], int | None]:
        """Add events of one tenant as `add_many` does, but none if one of them `differs`.

        Those at the places `together` must be all new or all duplicates, and if they are duplicates
        there must be no event with the dedupe key `unused`: else nothing is added, and the second
        of the answer is the id of the first that is there.
        """
        if len(events) == 1 and unused is None:
            return await self.add_many(events), None  # one that differs adds nothing by itself
        columns = checks.batch(events)
        added: list[Added] = []
        other: int | None = None
        try:
            async with self._connection(columns[1]) as connection, connection.transaction():
                rows = await connection.fetch(self._sql(sql.ADD), *columns)
                added = [Added(row["id"], row["duplicate"], row["differs"]) for row in rows]
                known = [added[k].id for k in together if added[k].duplicate]
                held = 0 < len(known) < len(together)
                if known and not held and unused is not None:
                    held = await connection.fetchval(self._sql(HELD), columns[1][0], unused)
                other = known[0] if held else None
                if other is not None or any(one.differs for one in added):
                    raise _NotWholeError
        except _NotWholeError:
            pass
        return added, other

    async def repeats(self, event: Event, number: int) -> bool:
        """Whether the tenant's event `number` says the same, but for the field `but_for`."""
        async with self._connection() as connection:
            row = await connection.fetchrow(self._sql(FIRST), event.tenant, number)
        if row is None or row["payload"] is None:
            return False
        key = event.tenant if event.key is None else event.key
        if (row["topic"], row["key"]) != (event.topic, key):
            return False
        return bool(content(row["payload"], event.but_for) == content(event.payload, event.but_for))

    async def of_tenants(self, ids: Sequence[int], tenants: Collection[str]) -> list[int]:
        """Those of the ids that are events of these tenants."""
        wanted = checks.ids_of(ids)
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql(TENANTS), wanted, list(tenants))
        known = {row["id"] for row in rows}
        return [one for one in wanted if one in known]

    async def summary_of(self, tenants: Collection[str]) -> list[TenantSummary]:
        """What of these tenants waits."""
        async with self._connection() as connection:
            rows: Sequence[Any] = await connection.fetch(self._sql(OF_TENANTS), list(tenants))
        return [TenantSummary(**dict(row)) for row in rows]
