"""Tables beside topics, by other means than the projections': records by fastavro, rows by SQL."""

import asyncio
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg

from agents.settings import Settings
from stores import migrations
from stores.names import quoted, schema_of
from stores.postgres import connected
from tests.live.helpers import read
from topics import codec

Record = dict[str, Any]
PLACE = ("kafka_partition", "kafka_offset")


def migrated(settings: Settings) -> Settings:
    """The settings, their schema made."""

    async def up() -> None:
        async with connected(settings.postgres(), "test") as connection:
            await migrations.up(connection, schema_of(settings.namespace), migrations.load())

    asyncio.run(up())
    return settings


def sql(settings: Settings, statement: str, *args: object) -> list[Any]:
    """Rows of a statement; `SCHEMA.` in it stands for the schema."""
    schema = quoted(schema_of(settings.namespace))

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(settings.postgres(), timeout=5.0)
        try:
            rows: list[Any] = await connection.fetch(
                statement.replace("SCHEMA.", f"{schema}."), *args
            )
            return rows
        finally:
            await connection.close()

    return asyncio.run(ask())


def records(settings: Settings, topic: str) -> list[tuple[Record, int]]:
    """Every record of a topic with its place, and its log time (ms), partition by partition.

    Control records are none: no table has them.
    """
    found = []
    for message in read(settings, topic):
        name, record = codec.decode(message.value() or b"")
        if name.startswith("control_"):
            continue
        place = zip(PLACE, (message.partition(), message.offset()), strict=True)
        found.append((record | dict(place), message.timestamp()[1]))
    return found


def rows(settings: Settings, table: str) -> list[Record]:
    """Every row of a table as the record that it should have come from."""
    return [_plain(row) for row in sql(settings, f"SELECT * FROM SCHEMA.{table}")]


def last(found: list[tuple[Record, int]]) -> list[Record]:
    """The last record of each tenant."""
    return list({record["tenant"]: record for record, _ in found}.values())


def sampled(found: list[tuple[Record, int]], slot: Callable[[Record, int], object]) -> list[Record]:
    """The first record of each tenant and slot; a slot of None isn't kept."""
    first: dict[tuple[str, object], Record] = {}
    for record, log_ms in found:
        if (one := slot(record, log_ms)) is not None:
            first.setdefault((record["tenant"], one), record)
    return list(first.values())


def same(held: list[Record], wanted: list[Record]) -> bool:
    """Whether rows and records are the same, in any order; NaN is NaN."""
    return _ordered(held) == _ordered(wanted)


def _ordered(some: list[Record]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in some)


def _plain(row: Any) -> Record:
    former = ("temperature", "previous", "fitted", "kept")  # of calibrations by law 1
    dropped = ("topic_id", "log_time", "slot", "seq", *former)
    return {name: _value(value) for name, value in row.items() if name not in dropped}


def _value(value: object) -> object:
    if isinstance(value, datetime):
        apart = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (apart.days * 86_400 + apart.seconds) * 1_000_000 + apart.microseconds
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return float("nan") if isinstance(value, float) and math.isnan(value) else value
