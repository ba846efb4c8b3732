"""The outbox as the HTTP doors need it: batches that are whole or not at all, and tenants apart."""

from collections.abc import Collection, Sequence
from typing import Any

from stores import outbox_checks as checks
from stores import outbox_statements as sql
from stores.outbox import Outbox
from stores.outbox_types import Added, Event, TenantSummary

FIRST = """
    SELECT topic, key, payload::text AS payload FROM SCHEMA.outbox_events
    WHERE tenant_id = $1 AND id = $2
"""
HELD = "SELECT id FROM SCHEMA.outbox_events WHERE tenant_id = $1 AND dedupe_key = $2"
TENANTS = """
    SELECT id FROM SCHEMA.outbox_events
    WHERE id = ANY ($1::bigint[]) AND tenant_id = ANY ($2::text[])
"""
OF_TENANTS = """
    SELECT q.tenant_id AS tenant, count(*) FILTER (WHERE q.status = 'pending') AS pending,
           count(*) FILTER (WHERE q.status = 'failed') AS failed,
           coalesce(extract(epoch FROM clock_timestamp()
               - min(q.created_at) FILTER (WHERE q.status = 'pending')), 0)::float8 AS oldest_age_s,
           coalesce((SELECT c.refused FROM SCHEMA.outbox_counts c WHERE c.tenant_id = q.tenant_id),
                    false) AS refused,
           (SELECT l.max_pending FROM SCHEMA.outbox_limits l WHERE l.tenant_id IN (q.tenant_id, '*')
            ORDER BY l.tenant_id = '*' LIMIT 1) AS max_pending
    FROM SCHEMA.outbox_queue q WHERE q.tenant_id = ANY ($1::text[])
    GROUP BY q.tenant_id ORDER BY count(*) DESC, q.tenant_id
"""


class _NotWholeError(Exception):
    """Ends the transaction."""


class OutboxDoor(Outbox):
    """An `Outbox` for callers who see some tenants only."""

    async def add_whole(
        self, events: Sequence[Event], together: Sequence[int] = (), unused: str | None = None
    ) -> tuple[list[Added], int | None]:
        """Add events of one tenant as `add_many` does, but none if one of them `differs`.

        Those at the places `together` must be all new or all duplicates, and if they are duplicates
        there must be no event with the dedupe key `unused`: else nothing is added, and the second
        of the answer is the id that says so.
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
                if 0 < len(known) < len(together):
                    other = known[0]
                elif known and unused is not None:
                    other = await connection.fetchval(self._sql(HELD), columns[1][0], unused)
                if other is not None or any(one.differs for one in added):
                    raise _NotWholeError
        except _NotWholeError:
            pass
        return added, other

    async def first(self, tenant: str, number: int) -> tuple[str, str, str | None] | None:
        """(topic, key, payload as JSON text) of an event."""
        async with self._connection() as connection:
            row = await connection.fetchrow(self._sql(FIRST), tenant, number)
        return None if row is None else (row["topic"], row["key"], row["payload"])

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
