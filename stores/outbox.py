"""The outbox from outside: adding events, and what people do with those that wait or failed.

Whoever writes to this database in a transaction of his own calls `soma_outbox_add` there. This is
for those who don't: the HTTP API, the journal, the command line. What people change is noted in
the table `audit` in the transaction of the change.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from stores import outbox_checks as checks
from stores import outbox_statements as sql
from stores.outbox_types import (
    Added,
    AuditEntry,
    BadEvent,
    BadQuestion,
    Check,
    Defect,
    Event,
    Limit,
    Replayed,
    Row,
    Skipped,
    Status,
    Summary,
    TenantSummary,
    TooManyPending,
)
from stores.outbox_writer import OutboxWriter

__all__ = [
    "Added", "AuditEntry", "BadEvent", "BadQuestion", "Check", "Defect", "Event", "Limit", "Outbox",
    "Replayed", "Row", "Skipped", "Status", "Summary", "TenantSummary", "TooManyPending",
]  # fmt: skip

TOP_TENANTS = 100


class Outbox(OutboxWriter):
    """The outbox of an installation, over a pool of connections: `await Outbox.open(dsn, ns)`.

    Every method raises `StoreDown` when PostgreSQL doesn't answer, and `BadQuestion` for limits,
    filters and ids out of range.
    """

    async def list(
        self,
        status: str | None = None,
        tenant: str | None = None,
        topic_filter: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Row]:
        """Up to 500 events: what waits oldest first, the rest (and all, without status) newest.

        `topic_filter` is a topic's name, or the beginning of names with a `*` at its end.
        """
        checks.within("limit", limit, 1, checks.LIST_MAX)
        checks.within("offset", offset, 0, checks.OFFSET_MAX)
        async with self._connection() as connection:
            rows = await self._listed(connection, status, tenant, topic_filter, limit, offset)
        return [Row(**dict(row) | {"headers": _object(row["headers"])}) for row in rows]

    async def summary(self, top: int = TOP_TENANTS) -> Summary:
        """What waits, in all and by tenant (the `top` with the most)."""
        checks.within("top", top, 1, 1000)
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql(sql.SUMMARY), top)
            totals = await connection.fetchrow(self._sql(sql.TOTALS))
        all_of, tenants = rows[-1], rows[:-1]
        return Summary(
            pending=all_of["pending"],
            failed=all_of["failed"],
            skipped=totals["skipped"],
            kept=totals["kept"],
            oldest_age_s=all_of["oldest_age_s"],
            tenants=all_of["max_pending"],
            top=[TenantSummary(**dict(row)) for row in tenants],
        )

    async def replay(self, ids: Sequence[int], actor: str, again: bool = False) -> Replayed:
        """Put failed or skipped events back into the queue, at their place in the order.

        With `again`, sent ones that are still kept too: they get new ids and come last.
        """
        wanted, who = checks.ids_of(ids), checks.actor_of(actor)
        async with self._transaction() as connection:
            return await self._replayed(connection, wanted, who, again)

    async def replay_tenant(
        self,
        tenant: str,
        actor: str,
        status: str = "failed",
        topic_filter: str | None = None,
        before: datetime | None = None,
        limit: int = 1000,
        again: bool = False,
    ) -> Replayed:
        """Put a tenant's events of this status back, at most `limit` (1,000), oldest first.

        `before` is of the time at which they were added. `more` says that there may be more.
        """
        checks.within("limit", limit, 1, checks.IDS_MAX)
        if checks.status_of(status) == "pending" or (status == "sent" and not again):
            raise BadQuestion(f"what is {status} can't be replayed" + _hint(status))
        _must_be_tenant(tenant)
        who = checks.actor_of(actor)
        async with self._transaction() as connection:
            rows = await self._listed(
                connection, status, tenant, topic_filter, limit, 0, before, oldest=True
            )
            ids = [row["id"] for row in rows]
            if not ids:
                return Replayed([], [], [], {})
            done = await self._replayed(connection, ids, who, again)
        return replace(done, more=len(ids) == limit)

    async def skip(self, ids: Sequence[int], actor: str) -> Skipped:
        """Give failed events up: they are never sent, and hold nothing back any more."""
        wanted, who = checks.ids_of(ids), checks.actor_of(actor)
        async with self._transaction() as connection:
            found = await connection.fetch(self._sql(sql.STANDING), wanted)
            gone = await connection.fetch(self._sql(sql.SKIP), wanted, who)
            skipped = sorted(row["id"] for row in gone)
            await self._noted(connection, who, "outbox.skip", found, skipped, {})
            await self._wake(connection, found, skipped)
        known = {row["id"] for row in found}
        return Skipped(
            skipped=skipped,
            missing=[one for one in wanted if one not in known],
            not_failed=sorted(known - set(skipped)),
        )

    async def check(self, max_pending: int) -> Check:
        """Which tenants have more than `max_pending` events pending, and which have failed ones."""
        checks.within("max_pending", max_pending, 0, checks.PENDING_MAX)
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql(sql.CHECK))
        return Check(
            over={r["tenant"]: r["pending"] for r in rows if r["pending"] > max_pending},
            failed={r["tenant"]: r["failed"] for r in rows if r["failed"]},
            oldest_age_s=max((r["oldest_age_s"] for r in rows), default=0.0),
        )

    async def limits(self) -> Sequence[Limit]:
        """Up to 10,000 limits; the one of `*` is for tenants without one of their own."""
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql(sql.LIMITS))
        return [Limit(row["tenant_id"], row["max_pending"]) for row in rows]

    async def limit(self, tenant: str, max_pending: int | None, actor: str) -> None:
        """Set how many events a tenant (`*`: each) may have pending; None: what all others may."""
        who = checks.actor_of(actor)
        if tenant == "*" and max_pending is None:
            raise BadQuestion("the limit for all can be changed, not taken away")
        if tenant != "*":
            _must_be_tenant(tenant)
        async with self._transaction() as connection:
            if max_pending is None:
                await connection.execute(self._sql(sql.UNLIMIT), tenant)
            else:
                checks.within("max_pending", max_pending, 1, checks.PENDING_MAX)
                await connection.execute(self._sql(sql.LIMIT), tenant, max_pending)
            await connection.execute(self._sql(sql.UNCOUNT), tenant)
            detail = json.dumps({"max_pending": max_pending})
            await connection.execute(self._sql(sql.AUDIT), who, "outbox.limit", tenant, detail)

    async def note(
        self, actor: str, action: str, details: Mapping[str | None, Mapping[str, Any]]
    ) -> None:
        """Write into the audit what is done elsewhere: a line for each tenant (None: unknown)."""
        who = checks.actor_of(actor)
        lines = [(who, action, tenant, json.dumps(detail)) for tenant, detail in details.items()]
        async with self._transaction() as connection:
            await connection.executemany(self._sql(sql.AUDIT), lines)

    async def audit(self, limit: int = 100, below: int | None = None) -> Sequence[AuditEntry]:
        """What was changed by hand, newest first; `below` an id, to go on from."""
        checks.within("limit", limit, 1, checks.LIST_MAX)
        top = checks.BIGINT_MAX if below is None else below
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql(sql.AUDITED), top, limit)
        return [AuditEntry(**dict(row) | {"detail": json.loads(row["detail"])}) for row in rows]

    async def _listed(
        self,
        connection: Any,
        status: str | None,
        tenant: str | None,
        topic_filter: str | None,
        limit: int,
        offset: int,
        before: datetime | None = None,
        oldest: bool = False,
    ) -> Sequence[Any]:
        if status is not None:
            checks.status_of(status)
        if tenant is not None and not checks.TENANT.fullmatch(tenant):
            return []  # there can't be one
        match: sql.Match = ""
        more: list[Any] = [] if tenant is None else [tenant]
        if topic_filter is not None:
            text, prefix = checks.prefix_of(topic_filter)
            match = "prefix" if prefix else "same"
            more.append(text)
        if before is not None:
            more.append(before)
        text = sql.listing(status, tenant is not None, match, before is not None, oldest)
        rows: Sequence[Any] = await connection.fetch(self._sql(text), status, limit, offset, *more)
        return rows

    async def _replayed(
        self, connection: Any, ids: Sequence[int], actor: str, again: bool
    ) -> Replayed:
        await connection.execute(self._sql(sql.STAY))
        found = await connection.fetch(self._sql(sql.STANDING), ids)
        failed = await connection.fetch(self._sql(sql.REPLAY_FAILED), ids)
        back = await connection.fetch(self._sql(sql.REPLAY_SKIPPED), ids)
        renumbered: dict[int, int] = {}
        if again:
            sent = [row["id"] for row in found if row["status"] is None and not row["skipped"]]
            rows = await connection.fetch(self._sql(sql.REPLAY_SENT), sent)
            renumbered = {row["was"]: row["id"] for row in rows}
        done = sorted([row["id"] for row in (*failed, *back)] + [*renumbered])
        await self._noted(connection, actor, "outbox.replay", found, done, renumbered)
        await self._wake(connection, found, done)
        known = {row["id"] for row in found}
        return Replayed(
            replayed=done,
            missing=[one for one in ids if one not in known],
            not_failed=sorted(known - set(done)),
            renumbered=renumbered,
        )

    async def _noted(
        self,
        connection: Any,
        actor: str,
        action: str,
        found: Sequence[Any],
        done: Sequence[int],
        renumbered: Mapping[int, int],
    ) -> None:
        """One line of audit per tenant of which something was changed."""
        ids: dict[str, list[int]] = {}
        for row in found:
            if row["id"] in set(done):
                ids.setdefault(row["tenant"], []).append(row["id"])
        for tenant, own in sorted(ids.items()):
            detail: dict[str, Any] = {"ids": own}
            if new := {str(one): renumbered[one] for one in own if one in renumbered}:
                detail["renumbered"] = new
            note = (actor, action, tenant, json.dumps(detail))
            await connection.execute(self._sql(sql.AUDIT), *note)

    async def _wake(self, connection: Any, found: Sequence[Any], done: Sequence[int]) -> None:
        shards = sorted({row["shard"] for row in found if row["id"] in set(done)})
        await connection.execute(sql.WAKE, f"{self.schema}.outbox", shards)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._connection() as connection, connection.transaction():
            yield connection


def _must_be_tenant(tenant: str) -> None:
    if not checks.TENANT.fullmatch(tenant):
        raise BadQuestion(f"the tenant {tenant[:60]!r} isn't 1-128 of [A-Za-z0-9._-]")


def _object(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(json.loads(text))


def _hint(status: str) -> str:
    return "" if status == "pending" else " unless it is asked for again"
