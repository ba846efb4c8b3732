"""The common case of `codec.encode(name, codec.from_json(name, text))`, about three times as fast.

A schema becomes one small function a field. Whatever is unusual (wrong, huge, base64) gives None:
then the codec has the word, which names the error or encodes it after all. What isn't None is the
very bytes that the codec would have given. For texts that are a jsonb's: no name twice.
"""

import io
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any

from fastavro import parse_schema, schemaless_writer

from agents.engine.records import varint
from topics import codec
from topics.jsonform import TEXT_BYTES_MAX, default_of
from topics.schemas import plain, schemas

Put = Callable[[Any], bytes | None]

CHILDREN_FEW = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
_NUMBERS = {float, int}
_SIZES = [varint(n) for n in range(8192)]
# What an odd value may raise on its way.
_ODD = (
    ValueError,
    TypeError,
    OverflowError,
    KeyError,
    AttributeError,
    RecursionError,
    struct.error,
)


class JsonEncoder:
    """Encodes JSON texts of one schema, by its newest version."""

    def __init__(self, name: str) -> None:
        self._header = codec.header(schemas().schema_id(name))
        self._fields = [
            (field["name"], put_of(field["type"]), _default(field))
            for field in schemas().raw(name)["fields"]
        ]

    def encode(self, text: bytes, tenant: str) -> bytes | None:
        """The value on the wire of a JSON object whose tenant is `tenant`; None: ask the codec."""
        if len(text) > TEXT_BYTES_MAX:
            return None
        try:
            given = json.loads(text.decode())
            if type(given) is not dict or given["tenant"] != tenant:
                return None
            parts, left = [self._header], len(given)
            for name, put, default in self._fields:
                if name in given:
                    left -= 1
                    part = put(given[name])
                else:
                    part = default
                if part is None:
                    return None
                parts.append(part)
        except _ODD:
            return None
        return b"".join(parts) if left == 0 else None


def _default(field: dict[str, Any]) -> bytes | None:
    """A field's default as Avro; None without one."""
    if "default" not in field:
        return None
    one = {"name": field["name"], "type": plain(field["type"])}
    schema = parse_schema({"type": "record", "name": "one", "fields": [one]})
    out = io.BytesIO()
    schemaless_writer(out, schema, {field["name"]: default_of(field)})
    return out.getvalue()


def put_of(schema: Any) -> Put:
    """A function from a value of JSON to Avro, or None for what the codec is to look at."""
    if isinstance(schema, list):
        return _nullable(schema)
    body = schema if isinstance(schema, dict) else {"type": schema}
    kind = body["type"]
    if kind == "long" and "logicalType" in body:
        return _time
    if kind == "bytes" and "vector" in body:
        return _vector("f" if body["vector"] == "float32" else "d")
    if kind == "enum":
        table = {symbol: varint(k) for k, symbol in enumerate(body["symbols"])}
        return lambda value: table.get(value)
    if kind in ("map", "array"):
        return _children(put_of(body["values" if kind == "map" else "items"]), kind == "map")
    return _PLAIN.get(kind, _unusual)


def _nullable(schema: list[Any]) -> Put:
    null = varint(schema.index("null"))
    branch, put = next((varint(k), put_of(s)) for k, s in enumerate(schema) if s != "null")

    def one(value: Any) -> bytes | None:
        if value is None:
            return null
        part = put(value)
        return None if part is None else branch + part

    return one


def _text(value: Any) -> bytes | None:
    if type(value) is not str:
        return None
    content = value.encode()
    size = len(content)
    return (_SIZES[size] if size < len(_SIZES) else varint(size)) + content


def _whole(bits: int) -> Put:
    low, high = -(1 << bits), 1 << bits

    def one(value: Any) -> bytes | None:
        return varint(value) if type(value) is int and low <= value < high else None

    return one


def _number(code: str) -> Put:
    pack = struct.Struct("<" + code).pack

    def one(value: Any) -> bytes | None:
        return pack(value) if type(value) in _NUMBERS and isfinite(value) else None

    return one


def _unusual(_value: Any) -> bytes | None:
    return None


def _boolean(value: Any) -> bytes | None:
    return (b"\1" if value else b"\0") if type(value) is bool else None


def _time(value: Any) -> bytes | None:
    if type(value) is not str:
        return _LONG(value)
    time = datetime.fromisoformat(value)
    return None if time.tzinfo is None else varint((time.astimezone(UTC) - _EPOCH) // _MICRO)


def _vector(code: str) -> Put:
    size = struct.calcsize("<" + code)

    def one(value: Any) -> bytes | None:
        # A boolean is an int to `pack`, and infinity fits: both are for the codec to refuse.
        if type(value) is not list or not _NUMBERS.issuperset(map(type, value)):
            return None
        if not all(map(isfinite, value)):
            return None
        return varint(size * len(value)) + struct.pack(f"<{len(value)}{code}", *value)

    return one


def _sure(part: bytes | None) -> bytes:
    if part is None:
        raise TypeError("an unusual child")
    return part


def _children(put: Put, keyed: bool) -> Put:
    kind: type = dict if keyed else list

    def one(value: Any) -> bytes | None:
        as_wanted = type(value) is kind
        if not as_wanted or len(value) > CHILDREN_FEW:
            return None
        if not value:
            return b"\0"
        if keyed:
            parts = [_sure(_text(key)) + _sure(put(item)) for key, item in value.items()]
        else:
            parts = [_sure(put(item)) for item in value]
        return b"".join([varint(len(value)), *parts, b"\0"])

    return one


_LONG = _whole(63)
_PLAIN: dict[str, Put] = {
    "string": _text,
    "int": _whole(31),
    "long": _LONG,
    "float": _number("f"),
    "double": _number("d"),
    "boolean": _boolean,
}
