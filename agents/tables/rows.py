"""Records as rows: a schema's fields in order, and the record's place in Kafka."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson
from confluent_kafka import Message

from stores.projection_sql import PLACE
from topics import codec
from topics.schemas import schemas

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Convert = Callable[[Any], Any]


class Rows:
    """Makes rows of one schema's records."""

    def __init__(self, schema: str) -> None:
        """KeyError if there is no such schema."""
        raw = schemas().raw(schema)
        self.schema = schema
        self.fields = tuple(field["name"] for field in raw["fields"])
        self.columns = (*self.fields, *PLACE)
        makers = [(field["name"], converter(field["type"])) for field in raw["fields"]]
        self._convert = [(name, convert) for name, convert in makers if convert is not same]
        self._values = itemgetter(*self.fields)

    def taken(self, message: Message, topic_id: str) -> "tuple[Any, ...] | Gone":
        """The row of a record, or which it says are gone; `BadRecord` if it says neither."""
        return self.row(message, topic_id)

    def row(self, message: Message, topic_id: str) -> tuple[Any, ...]:
        """The row of a record; `BadRecord` if it holds none of this schema."""
        record = self.record(message)
        return (*self._values(record), *place_of(message, topic_id))

    def record(self, message: Message) -> dict[str, Any]:
        """The record, its values as the columns have them. `BadRecord`."""
        value = message.value()
        if not isinstance(value, bytes):
            raise codec.BadRecord("null_value", "no value")
        name, record = codec.decode_ours(value)
        if name != self.schema:
            raise codec.BadRecord("unknown_schema", f"a {name}, not a {self.schema}")
        try:
            for field, convert in self._convert:
                record[field] = convert(record[field])
        except OverflowError as error:
            raise codec.BadRecord("ts_range", f"a time that no calendar has: {error}") from None
        return record


@dataclass(frozen=True, slots=True)
class Gone:
    """The keys of rows that are gone, where they aren't newer."""

    keys: tuple[tuple[str, ...], ...]


def place_of(message: Message, topic_id: str) -> tuple[Any, ...]:
    """The values of the columns `PLACE`."""
    log_time = of_log(message.timestamp()[1])
    return topic_id, message.partition(), message.offset(), log_time


def instant(us: int) -> datetime:
    """Microseconds since 1970 as a time. OverflowError beyond the years 1 to 9999."""
    return EPOCH + timedelta(microseconds=us)


@lru_cache(64)
def of_log(ms: int) -> datetime:
    """Milliseconds since 1970, as the log has them, as a time: many records have the same."""
    return instant(ms * 1000)


def text(value: str) -> str:
    """The text, but for the character that PostgreSQL can't hold."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value


def jsonb(value: Mapping[str, Any]) -> str:
    """A map as JSON; what isn't a finite number is null there."""
    said = orjson.dumps(value)
    if b"\\u0000" in said:
        said = orjson.dumps({text(name): v for name, v in value.items()})
    return said.decode()


def converter(kind: Any) -> Convert:
    """What makes a column's value of a field's (times, texts, maps; all else is as it is)."""
    if isinstance(kind, list):
        inner = [converter(one) for one in kind if one != "null"]
        convert = inner[0]
        return lambda value: None if value is None else convert(value)
    if kind == "string":
        return text
    if isinstance(kind, dict):
        if kind.get("logicalType") == "timestamp-micros":
            return instant
        if kind["type"] == "map":
            return jsonb
    return same


def same(value: Any) -> Any:
    """The value as it is."""
    return value
