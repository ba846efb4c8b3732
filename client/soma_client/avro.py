"""Records as they are on the wire: 0x00, the schema's id (4 bytes, big-endian), Avro binary.

The schemas of topics that users write are in schemas.json, as `soma schema topics` prints them;
packages of your own bring theirs the same way. Wants the extra `kafka`.
"""

import io
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_writer

from soma_client.errors import CantSend

OURS = Path(__file__).with_name("schemas.json")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BITS = {"int": 31, "long": 63}
_VECTORS = {"float32": "f", "float64": "d"}


class _Wrong(Exception):
    """What is wrong with one value."""


@dataclass(frozen=True, slots=True)
class TopicSchema:
    """What a topic's values are."""

    id: int
    schema: Mapping[str, Any]  # as it stands in its file
    parsed: Any

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """The value. Times: a datetime, ISO 8601 text or microseconds; vectors: numbers.

        `CantSend` names each field that is lacking, unknown or wrong.
        """
        whole, wrong = {}, []
        for field in self.schema["fields"]:
            name = field["name"]
            try:
                whole[name] = _field(field, record)
            except _Wrong as why:
                wrong.append(f"{name}: {why}")
        wrong += [f"{name}: no such field" for name in record if name not in whole]
        if wrong:
            raise CantSend("; ".join(wrong))
        out = io.BytesIO()
        out.write(struct.pack(">bI", 0, self.id))
        schemaless_writer(out, self.parsed, whole)
        return out.getvalue()


def schemas(place: Path = OURS) -> dict[str, TopicSchema]:
    """Topic -> its schema, of a file that `soma schema topics` wrote."""
    return {
        topic: TopicSchema(one["id"], one["schema"], parse_schema(_plain(one["schema"])))
        for topic, one in json.loads(place.read_text("utf-8")).items()
    }


def _plain(schema: Any) -> Any:
    """Without logical types: times are whole numbers here."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if isinstance(schema, dict):
        return {key: _plain(part) for key, part in schema.items() if key != "logicalType"}
    return schema


def _field(field: Mapping[str, Any], record: Mapping[str, Any]) -> Any:
    if field["name"] in record:
        return _take(field["type"], record[field["name"]])
    if "default" not in field:
        raise _Wrong("missing")
    default = field["default"]
    is_bytes = isinstance(default, str) and _kind(field["type"]) == "bytes"
    return default.encode("latin-1") if is_bytes else default


def _kind(schema: Any) -> str:
    kind = schema["type"] if isinstance(schema, dict) else schema
    return kind if isinstance(kind, str) else "union"


def _take(schema: Any, value: Any) -> Any:
    if isinstance(schema, list):
        return None if value is None else _take(next(s for s in schema if s != "null"), value)
    kind = _kind(schema)
    if isinstance(schema, dict):
        if "logicalType" in schema:
            return _time(value)
        if "vector" in schema:
            return _vector(_VECTORS[schema["vector"]], value)
        if kind == "enum" and value not in schema["symbols"]:
            raise _Wrong(f"{value!r} is none of {', '.join(schema['symbols'])}")
        if kind == "map":
            if not isinstance(value, Mapping):
                raise _Wrong("no mapping")
            return {_text(key): _take(schema["values"], one) for key, one in value.items()}
        if kind == "array":
            return [_take(schema["items"], one) for one in _listed(value)]
    return value if kind == "enum" else _TAKERS[kind](kind, value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"a {type(value).__name__} is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Wrong("holds half of a surrogate pair, which is no character") from None
    return value


def _bytes(_kind: str, value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _Wrong(f"a {type(value).__name__} isn't bytes")
    return value


def _whole(kind: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong(f"a {type(value).__name__} is no whole number")
    if not -(1 << _BITS[kind]) <= value < 1 << _BITS[kind]:
        raise _Wrong(f"out of range for a {kind}")
    return value


def _number(kind: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Wrong(f"a {type(value).__name__} is no number")
    try:
        number = float(value)
        struct.pack("<f" if kind == "float" else "<d", number)
    except OverflowError:
        raise _Wrong(f"out of range for a {kind}") from None
    if not math.isfinite(number):
        raise _Wrong(f"{number} isn't finite")
    return number


def _boolean(_kind: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"a {type(value).__name__} is neither true nor false")
    return value


_TAKERS: dict[str, Callable[[str, Any], Any]] = {
    "string": lambda _, value: _text(value), "bytes": _bytes, "int": _whole, "long": _whole,
    "float": _number, "double": _number, "boolean": _boolean,
}  # fmt: skip


def _time(value: Any) -> int:
    if isinstance(value, int):
        return _whole("long", value)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            raise _Wrong(f"a {type(value).__name__} is no time")
    except ValueError:
        raise _Wrong(f"{value!r} isn't ISO 8601, as 2026-01-31T12:00:00Z is") from None
    if moment.tzinfo is None:
        raise _Wrong(f"{value} has no time zone")
    return (moment - EPOCH) // timedelta(microseconds=1)


def _vector(code: str, value: Any) -> bytes:
    kind = "float" if code == "f" else "double"
    numbers = [_number(kind, one) for one in _listed(value)]
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


def _listed(value: Any) -> Sequence[Any]:
    tolist = getattr(value, "tolist", None)  # arrays of NumPy and others
    found = tolist() if callable(tolist) else value
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise _Wrong(f"a {type(value).__name__} is no list")
    return found
