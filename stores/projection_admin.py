"""What people ask of the projections: how they stand, to be emptied, to be made anew."""

from dataclasses import dataclass
from typing import Any

from stores.names import quoted
from stores.projection_sql import Position

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


async def standings(connection: Any, schema: str) -> list[ProjectionStanding]:
    """All projections, by name."""
    inside = quoted(schema)
    found = await connection.fetch(f"SELECT * FROM {inside}.projections ORDER BY name")
    rows = await connection.fetch(
        f"SELECT * FROM {inside}.projection_positions ORDER BY projection, kafka_partition"
    )
    listed: list[ProjectionStanding] = []
    for one in found:
        positions = {
            row["kafka_partition"]: Position(row["generation"], row["topic_id"], row["next_offset"])
            for row in rows
            if row["projection"] == one["name"]
        }
        count, counted = await _rows(connection, f"{inside}.{quoted(one['name'])}")
        state = (one["name"], one["generation"], one["dropped"])
        listed.append(ProjectionStanding(*state, count, counted, positions))
    return listed


async def known(connection: Any, schema: str, name: str) -> None:
    """Raises NoProjectionError unless there is a projection of this name."""
    rows = await connection.fetch(f"SELECT name FROM {quoted(schema)}.projections ORDER BY 1")
    names = [row["name"] for row in rows]
    if name not in names:
        raise NoProjectionError(f"There is no projection {name!r}; there are: {', '.join(names)}.")


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
