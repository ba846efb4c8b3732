"""What people ask of the projections: how they stand, to be emptied, to be made anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stores import migrations
from stores.names import quoted
from stores.projection_sql import Position, Target

EXACT_MAX = 1_000_000  # a table that is thought to have more rows isn't counted


class NoProjectionError(Exception):
    """There is no projection of this name; the text names those that there are."""


@dataclass(frozen=True, slots=True)
class ProjectionStanding:
    """A projection: its rows (counted, or estimated by the server), and up to where it is."""

    name: str
    generation: int
    dropped: bool
    rows: int
    counted: bool
    positions: dict[int, Position]  # by partition
    rebuilt_by: str = ""  # the job that makes it anew just now


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be known of a projection before it is made anew."""

    generation: int
    dropped: bool
    lost: int  # rows of records that the log no longer has
    role: str
    allowed: bool  # the role may


async def standings(connection: Any, schema: str) -> list[ProjectionStanding]:
    """All projections, by name."""
    inside = quoted(schema)
    found = await connection.fetch(f"SELECT * FROM {inside}.projections ORDER BY name")
    rows = await connection.fetch(
        f"SELECT * FROM {inside}.projection_positions ORDER BY projection, kafka_partition"
    )
    jobs = await connection.fetch(
        f"SELECT projection, job FROM {inside}.projection_rebuilds WHERE placed_at IS NULL"
    )
    job_of = {row["projection"]: job_id(row["job"]) for row in jobs}
    listed: list[ProjectionStanding] = []
    for one in found:
        positions = {
            row["kafka_partition"]: Position(row["generation"], row["topic_id"], row["next_offset"])
            for row in rows
            if row["projection"] == one["name"]
        }
        count, counted = await _rows(connection, f"{inside}.{quoted(one['name'])}")
        state = (one["name"], one["generation"], one["dropped"])
        by = job_of.get(one["name"], "")
        listed.append(ProjectionStanding(*state, count, counted, positions, by))
    return listed


def job_key(job: str, accepted: int) -> str:
    """A replay job as a rebuild names it: ids come again, long after; `accepted`: microseconds."""
    return f"{job}@{accepted}"


def job_id(key: str) -> str:
    """The id in such a name."""
    return key.rpartition("@")[0]


async def outlook(
    connection: Any, schema: str, target: Target, topic_id: str, begins: Mapping[int, int]
) -> Outlook:
    """What a rebuild from a topic would find; `begins`: the first offset of each of its partitions.

    NoProjectionError, NotMigrated. Reads the table once.
    """
    await migrations.check(connection, schema)
    inside, name = quoted(schema), target.projection
    await known(connection, schema, name)
    found = await connection.fetchrow(
        "SELECT generation, dropped, current_user AS role, "
        "has_function_privilege($2, 'EXECUTE') AS allowed "
        f"FROM {inside}.projections WHERE name = $1",
        name,
        f"{inside}.projection_rebuild_begin(text, text, bigint)",
    )
    lost = await connection.fetchval(
        f"SELECT count(*) FROM {inside}.{quoted(target.table)} AS held "
        "LEFT JOIN unnest($2::integer[], $3::bigint[]) AS log (kafka_partition, low) "
        "USING (kafka_partition) "
        "WHERE topic_id <> $1 OR low IS NULL OR kafka_offset < low",
        topic_id,
        list(begins.keys()),
        list(begins.values()),
    )
    return Outlook(found["generation"], found["dropped"], lost, found["role"], found["allowed"])


async def discard(
    connection: Any, schema: str, name: str, job: str | None = None, untouched_s: float = 0.0
) -> str | None:
    """Drop what a job's rebuild has filled (None: any job's), if nobody has touched it for so long.

    Returns the job's id, None: there was nothing.
    """
    key = await connection.fetchval(
        f"SELECT {quoted(schema)}.projection_rebuild_discard($1, $2, make_interval(secs => $3))",
        name,
        job,
        untouched_s,
    )
    return job_id(key) if key else None


async def known(connection: Any, schema: str, name: str) -> None:
    """Raises NoProjectionError unless there is a projection of this name."""
    rows = await connection.fetch(f"SELECT name FROM {quoted(schema)}.projections ORDER BY 1")
    names = [row["name"] for row in rows]
    if name not in names:
        raise NoProjectionError(f"There is no projection {name!r}; there are: {', '.join(names)}.")


async def dropped(connection: Any, schema: str, name: str) -> bool:
    """Whether a projection is dropped. NoProjectionError."""
    await known(connection, schema, name)
    statement = f"SELECT dropped FROM {quoted(schema)}.projections WHERE name = $1"
    return bool(await connection.fetchval(statement, name))


async def reset(connection: Any, schema: str, name: str, dropped: bool) -> int:
    """Empty a projection, rows and positions; returns its new generation.

    Workers notice: they start from the beginning, or leave it alone if it is to stay `dropped`.
    """
    inside = quoted(schema)
    async with connection.transaction():
        # First who would begin a partition has to wait, then who writes one, then who reads.
        generation = await connection.fetchval(
            f"UPDATE {inside}.projections SET generation = generation + 1, dropped = $2, "
            "since = now() WHERE name = $1 RETURNING generation",
            name,
            dropped,
        )
        if generation is None:
            await known(connection, schema, name)
        await connection.execute(
            f"DELETE FROM {inside}.projection_positions WHERE projection = $1", name
        )
        await connection.execute(f"TRUNCATE {inside}.{quoted(name)}")
        await discard(connection, schema, name)
    return int(generation)


async def _rows(connection: Any, table: str) -> tuple[int, bool]:
    """(rows, whether they were counted)."""
    guess = await connection.fetchval(
        "SELECT sum(greatest(c.reltuples, 0)) FROM pg_partition_tree(to_regclass($1)) t "
        "JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf",
        table,
    )
    if guess and guess > EXACT_MAX:
        return int(guess), False
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}")), True
