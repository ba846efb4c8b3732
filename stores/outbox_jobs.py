"""Events of the outbox put back in parts, by whose they are, status, topic and time: for jobs.

A part is one transaction, with its lines of audit. Whoever goes on behind the last id of a part,
up to the last one that there was at first, puts none back twice: what was sent gets a new id.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from stores import outbox_checks as checks
from stores.outbox import Outbox

_WHICH = {
    "failed": "SCHEMA.outbox_queue q JOIN SCHEMA.outbox_events e ON e.shard = q.shard "
    "AND e.id = q.id WHERE q.status = 'failed'",
    "skipped": "SCHEMA.outbox_skipped s JOIN SCHEMA.outbox_events e ON e.id = s.id WHERE true",
    "sent": """SCHEMA.outbox_events e
        WHERE NOT EXISTS (SELECT FROM SCHEMA.outbox_queue q WHERE q.shard = e.shard AND q.id = e.id)
          AND NOT EXISTS (SELECT FROM SCHEMA.outbox_skipped s WHERE s.id = e.id)""",
}
WAYS = tuple(_WHICH)  # statuses of what can be put back
_CHOSEN = """
    AND ($1::text[] IS NULL OR e.tenant_id = ANY ($1::text[]))
    AND CASE WHEN $3 THEN starts_with(e.topic, $2::text) ELSE e.topic = $2 OR $2 IS NULL END
    AND ($4::timestamptz IS NULL OR e.created_at >= $4)
    AND ($5::timestamptz IS NULL OR e.created_at < $5)
"""
_BYTES = "coalesce(octet_length(e.payload::text), octet_length(e.value))"
COUNT = f"""
    SELECT e.tenant_id AS tenant, count(*) AS events, sum({_BYTES})::bigint AS bytes,
           min(e.created_at) AS first, max(e.created_at) AS last, max(e.id) AS top
    FROM {{}} {_CHOSEN} GROUP BY e.tenant_id
"""
NEXT = f"""
    SELECT e.id, e.tenant_id AS tenant, e.created_at, {_BYTES} AS bytes
    FROM {{}} {_CHOSEN} AND e.id > $6 AND e.id <= $7 ORDER BY e.id LIMIT $8
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events. Times are those at which they were added; `until` is left out."""

    status: str = "failed"  # or skipped, sent
    tenants: Sequence[str] = ()  # none: everybody's
    topic_filter: str = ""  # a topic's name, or the beginning of names with a `*` at its end
    since: datetime | None = None
    until: datetime | None = None

    def arguments(self) -> tuple[Any, ...]:
        """$1 to $5 of the statements. `BadQuestion`."""
        text, prefix = checks.prefix_of(self.topic_filter) if self.topic_filter else (None, False)
        return list(self.tenants) or None, text, prefix, self.since, self.until


@dataclass(slots=True)
class Events:
    """Some events, counted. Of a part: those that were put back."""

    count: int = 0
    bytes: int = 0
    top: int = 0  # the last id
    times: tuple[datetime, datetime] | None = None  # added: the first and the last
    tenants: Counter[str] = field(default_factory=Counter)

    def add(self, tenant: str, count: int, size: int, first: datetime, last: datetime) -> None:
        """So many more of a tenant's."""
        self.count += count
        self.bytes += size
        before = self.times or (first, last)
        self.times = min(before[0], first), max(before[1], last)
        self.tenants[tenant] += count


class OutboxJobs(Outbox):
    """Every method raises `StoreDown` and `BadQuestion`, as those of `Outbox` do."""

    async def count(self, choice: Choice) -> Events:
        """The events of a choice as they are now."""
        text = self._sql(COUNT.format(_WHICH[choice.status]))
        found = Events()
        async with self._connection() as connection:
            for row in await connection.fetch(text, *choice.arguments()):
                one = [row[name] for name in ("tenant", "events", "bytes", "first", "last")]
                found.add(*one)
                found.top = max(found.top, row["top"])
        return found

    async def replay_next(
        self, choice: Choice, actor: str, after: int, top: int, limit: int
    ) -> tuple[int, int, Events]:
        """Put the next events back: how many there were (0: none is left), the last one's id, and
        what was put back of them.
        """
        who = checks.actor_of(actor)
        text = self._sql(NEXT.format(_WHICH[choice.status]))
        done = Events()
        async with self._transaction() as connection:
            rows = await connection.fetch(text, *choice.arguments(), after, top, limit)
            if not rows:
                return 0, after, done
            ids = [row["id"] for row in rows]
            back = await self._replayed(connection, ids, who, choice.status == "sent")
        replayed = set(back.replayed)
        for row in rows:
            if row["id"] in replayed:
                done.add(row["tenant"], 1, row["bytes"], row["created_at"], row["created_at"])
        return len(rows), ids[-1], done
