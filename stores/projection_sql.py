"""The statements of a projection, made once for a schema and a table."""

from dataclasses import dataclass

from stores.names import quoted

INCOMING = "incoming"  # the temporary table that rows are copied into
POSITIONS, REBUILD_POSITIONS = "projection_positions", "projection_rebuild_positions"
PLACE = ("topic_id", "kafka_partition", "kafka_offset", "log_time")  # of a record in Kafka


@dataclass(frozen=True, slots=True)
class Target:
    """A projection's table. `latest`: of a key the newest record is kept, else the first."""

    projection: str
    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    latest: bool = False
    days: bool = False  # partitioned by day


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where a projection holds a partition: the next offset that it lacks."""

    generation: int
    topic_id: str
    next_offset: int


@dataclass(frozen=True, slots=True)
class Statements:
    """What is asked of the database; $1 is the projection's name where there are arguments."""

    projection: str
    first: str
    look: str
    move: str
    incoming: str
    upsert: str
    delete: str
    day: str
    drop_before: str
    may_forget: str


def statements(schema: str, target: Target, positions: str = POSITIONS) -> Statements:
    """The statements for a schema (quoted), a table, and the table of its positions."""
    table = f"{schema}.{quoted(target.table)}"
    columns = ", ".join(map(quoted, target.columns))
    key = ", ".join(map(quoted, target.key))
    return Statements(
        projection=f"SELECT generation, dropped FROM {schema}.projections WHERE name = $1 "
        "FOR SHARE",
        first=f"INSERT INTO {schema}.{positions} "
        "(projection, kafka_partition, generation, topic_id, next_offset) "
        "SELECT $1, kafka_partition, $3, $4, 0 FROM unnest($2::integer[]) AS kafka_partition "
        "ON CONFLICT DO NOTHING",
        look="SELECT kafka_partition, generation, topic_id, next_offset "
        f"FROM {schema}.{positions} "
        "WHERE projection = $1 AND kafka_partition = ANY($2::integer[])",
        move=_move(f"{schema}.{positions}"),
        incoming=f"CREATE TEMPORARY TABLE {INCOMING} (LIKE {table}) ON COMMIT DELETE ROWS",
        upsert=f"INSERT INTO {table} AS held ({columns}) {_incoming(target, columns, key)} "
        f"ON CONFLICT ({key}) DO {_update(target) if target.latest else 'NOTHING'}",
        delete=_delete(table, target.key),
        day=f"SELECT {schema}.{quoted(target.table + '_day')}($1)",
        drop_before=f"SELECT {schema}.{quoted(target.table + '_drop_before')}($1)",
        may_forget="SELECT has_function_privilege("
        f"'{schema}.projection_rebuild_discard(text, text, interval)', 'EXECUTE')",
    )


def _move(positions: str) -> str:
    """Moves every position that stands where its owner believes it to; returns which."""
    return f"""
        UPDATE {positions} AS held
        SET topic_id = wanted.topic_id, next_offset = wanted.next_offset, updated_at = now()
        FROM unnest($2::integer[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[])
             AS wanted (kafka_partition, generation, was_id, was_offset, topic_id, next_offset)
        WHERE held.projection = $1 AND held.kafka_partition = wanted.kafka_partition
          AND held.generation = wanted.generation
          AND held.topic_id = wanted.was_id AND held.next_offset = wanted.was_offset
        RETURNING held.kafka_partition
    """


def _delete(table: str, key: tuple[str, ...]) -> str:
    """Takes away the rows of these keys, unless they are newer; keys are texts."""
    names = [*map(quoted, key), "topic_id", "kafka_offset"]
    kinds = ["text"] * (len(key) + 1) + ["bigint"]
    arrays = ", ".join(f"${k}::{kind}[]" for k, kind in enumerate(kinds, 1))
    same = " AND ".join(f"held.{name} = gone.{name}" for name in map(quoted, key))
    return (
        f"DELETE FROM {table} AS held USING unnest({arrays}) AS gone ({', '.join(names)}) "
        f"WHERE {same} "
        "AND (held.topic_id <> gone.topic_id OR held.kafka_offset < gone.kafka_offset)"
    )


def _incoming(target: Target, columns: str, key: str) -> str:
    if not target.latest:
        return f"SELECT {columns} FROM {INCOMING}"
    # One statement can't change a row twice, and a record's key needn't be its tenant.
    return f"SELECT DISTINCT ON ({key}) {columns} FROM {INCOMING} ORDER BY {key}, kafka_offset DESC"


def _update(target: Target) -> str:
    """The newer record over the older; of a recreated topic all are newer."""
    rest = [quoted(name) for name in target.columns if name not in target.key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in rest)
    return (
        f"UPDATE SET {changes} "
        "WHERE held.topic_id <> excluded.topic_id OR held.kafka_offset < excluded.kafka_offset"
    )
