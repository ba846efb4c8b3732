"""Keyword search of memories: PostgreSQL's full text over the projection (migrations/0010).

The tenant is said three times: to the session, for row security; to the function that looks into
the index; and in the statement that joins what it finds with the rows that the role may see.
"""

from dataclasses import dataclass
from datetime import datetime

from stores.errors import StoreDown
from stores.outbox_writer import OutboxWriter

PROJECTION = "memories"
_TENANT = "SELECT set_config('soma.tenant', $1, true)"
_STANDING = f"""
    SELECT dropped, EXISTS (
        SELECT FROM SCHEMA.projection_positions WHERE projection = '{PROJECTION}'
    ) AS begun FROM SCHEMA.projections WHERE name = '{PROJECTION}'
"""
_MATCHES = """
    SELECT found.id, found.score
    FROM SCHEMA.memory_matches($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb) AS found
    JOIN SCHEMA.memories AS head ON head.tenant = $1 AND head.namespace = found.namespace
         AND head.id = found.id AND head.part = 'head'
    ORDER BY found.score DESC, found.id
"""
_REACHED = f"""
    SELECT kafka_partition, topic_id, next_offset FROM SCHEMA.projection_positions
    WHERE projection = '{PROJECTION}'
"""


class NotKeptError(StoreDown):
    """The projection of memories is dropped, or nobody has begun to fill it."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which memories are asked for; None: any. Times are of the last change; `fields`: JSON."""

    namespace: str | None = None
    memory_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    fields: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A memory that has words of the question."""

    id: str
    score: float


class MemoryKeywords(OutboxWriter):
    """Memories by their words, over a pool: `await MemoryKeywords.open(dsn, ns, name)`.

    Every method raises `StoreDown` when PostgreSQL doesn't answer.
    """

    async def matches(self, tenant: str, question: str, most: int, which: Which) -> list[Match]:
        """The best `most` of the tenant, by score and then by id. `NotKeptError`."""
        said = question.encode("utf-8", "replace").decode().replace("\0", " ")
        asked = which.namespace, which.memory_type, which.since, which.until, which.fields
        async with self._connection() as connection, connection.transaction(readonly=True):
            await connection.fetch(_TENANT, tenant)
            standing = await connection.fetchrow(self._sql(_STANDING))
            if standing is None or standing["dropped"]:
                raise NotKeptError("the projection of memories is dropped")
            if not standing["begun"]:
                raise NotKeptError("no worker has begun to fill the projection of memories")
            rows = await connection.fetch(self._sql(_MATCHES), tenant, said, most, *asked)
        return [Match(row["id"], row["score"]) for row in rows]

    async def reached(self) -> dict[int, tuple[str, int]]:
        """Partition of memory.latest -> topic id and next offset, of those that are begun."""
        async with self._connection() as connection:
            rows = await connection.fetch(self._sql(_REACHED))
        return {row["kafka_partition"]: (row["topic_id"], row["next_offset"]) for row in rows}
