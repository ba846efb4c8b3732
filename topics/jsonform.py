"""JSON for people: records as objects, times as ISO 8601 text, vectors as lists of numbers.

Other bytes are base64 text. A value whose first byte is '{', but for white space and a byte order
mark, is read this way by every processor, so the text is as untrusted as any: size, depth,
duplicates, ranges and NaN are checked.
"""

import base64
import binascii
import difflib
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from topics import moments, strictjson
from topics.schemas import schemas
from topics.walk import CHILDREN_MAX, BadRecord

TEXT_BYTES_MAX = 1024 * 1024
PROBLEMS_MAX = 10  # named in one error
MANY = 32  # numbers from which on NumPy is faster
_ENDS = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
_YEARS = tuple(moments.micros(end)[0] for end in _ENDS)
_VECTORS = {"float32": ("f", 4), "float64": ("d", 8)}
_BITS = {"int": 31, "long": 63}


class _WrongError(Exception):
    """What is wrong with one value; becomes part of a `BadRecord`'s detail."""


def from_json(name: str, text: str | bytes | Mapping[str, Any]) -> dict[str, Any]:
    """The record of a JSON object, checked against the newest schema; lacking defaults filled in.

    `BadRecord("bad_json", …)` names every wrong field: "error_metric: missing; ts: …".
    A time may also be an integer (microseconds).
    """
    return record_of(schemas().raw(name), text)


def record_of(schema: Mapping[str, Any], text: str | bytes | Mapping[str, Any]) -> dict[str, Any]:
    """As `from_json`, by a schema as it stands in its file."""
    given = text if isinstance(text, Mapping) else parse(text)
    fields = schema["fields"]
    record: dict[str, Any] = {}
    problems: list[str] = []
    for field in fields:
        try:
            record[field["name"]] = _field(field, given)
        except _WrongError as wrong:
            problems.append(f"{field['name']}: {wrong}")
    names = [field["name"] for field in fields]
    problems += [_unknown(str(key), names) for key in given if key not in names]
    if problems:
        more = len(problems) - PROBLEMS_MAX
        tail = [f"and {more} more"] if more > 0 else []
        raise BadRecord("bad_json", "; ".join(problems[:PROBLEMS_MAX] + tail))
    return record


def to_json(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `from_json`, in the schema's order.

    JSON has no NaN and no infinity: they become null. A vector of a broken length becomes base64,
    a time outside the years 1-9999 stays an integer.
    """
    fields = schemas().raw(name)["fields"]
    return {f["name"]: _show(f["type"], record[f["name"]]) for f in fields if f["name"] in record}


def parse(text: str | bytes) -> dict[str, Any]:
    """The JSON object of a record's text. `BadRecord` if it is none, or too large."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > TEXT_BYTES_MAX:
        raise BadRecord("too_large", f"{len(data)} bytes of JSON; at most {TEXT_BYTES_MAX}")
    try:
        parsed = strictjson.parse(data)
    except strictjson.NotUtf8Error as error:
        raise BadRecord("bad_utf8", str(error)) from None
    except strictjson.NotJsonError as error:
        raise BadRecord("bad_json", str(error)) from None
    if not isinstance(parsed, dict):
        raise BadRecord("bad_json", "not a JSON object")
    return parsed


def _unknown(key: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(key[:64], names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{_short(key)}: no such field{hint}"


def _field(field: dict[str, Any], given: Mapping[str, Any]) -> Any:
    if field["name"] in given:
        return _take(field["type"], given[field["name"]])
    if "default" not in field:
        raise _WrongError("missing")
    return default_of(field)


def default_of(field: dict[str, Any]) -> Any:
    """A field's default as a value of a record (Avro writes bytes as text, one character each)."""
    default = field["default"]
    if isinstance(default, str) and _kind(field["type"]) == "bytes":
        return default.encode("latin-1")
    return default.copy() if isinstance(default, dict | list) else default


def _kind(schema: Any) -> str:
    kind = schema["type"] if isinstance(schema, dict) else schema
    return kind if isinstance(kind, str) else "union"


def _take(schema: Any, value: Any) -> Any:
    if isinstance(schema, list):
        return None if value is None else _take(next(s for s in schema if s != "null"), value)
    kind = _kind(schema)
    if value is None:
        raise _WrongError("null")
    if kind in _BITS and isinstance(schema, dict) and "logicalType" in schema:
        return _take_time(value)
    if kind == "bytes" and isinstance(schema, dict) and "vector" in schema:
        return _take_vector(schema["vector"], value)
    if kind == "enum":
        return _take_symbol(schema["symbols"], value)
    if kind == "map":
        return _take_map(schema["values"], value)
    if kind == "array":
        return _take_array(schema["items"], value)
    return _TAKERS[kind](kind, value)


def _take_text(_kind: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _WrongError(f"{_short(value)} is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _WrongError("holds half of a surrogate pair, which is no character") from None
    return value


def _take_bytes(_kind: str, value: Any) -> bytes:
    try:
        return base64.b64decode(_take_text("string", value), validate=True)
    except (binascii.Error, ValueError):
        raise _WrongError("not base64") from None


def _take_whole(kind: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _WrongError(f"{_short(value)} is no whole number")
    bits = _BITS[kind]
    if not -(1 << bits) <= value < 1 << bits:
        raise _WrongError(f"out of range: more than {bits + 1} bits")
    return value


def _take_number(kind: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _WrongError(f"{_short(value)} is no number")
    try:
        number = float(value)
        struct.pack("<f" if kind == "float" else "<d", number)
    except OverflowError:
        raise _WrongError(f"out of range for a {kind}") from None
    if not math.isfinite(number):
        raise _WrongError(f"{number} isn't finite")
    return number


def _take_boolean(_kind: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongError(f"{_short(value)} is neither true nor false")
    return value


_TAKERS: dict[str, Callable[[str, Any], Any]] = {
    "string": _take_text,
    "bytes": _take_bytes,
    "int": _take_whole,
    "long": _take_whole,
    "float": _take_number,
    "double": _take_number,
    "boolean": _take_boolean,
}


def _take_time(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _take_whole("long", value)
    if not isinstance(value, str):
        raise _WrongError(f"{_short(value)} is neither ISO 8601 text nor microseconds")
    try:
        ts, naive = moments.iso(value)
    except ValueError:
        raise _WrongError(f"{_short(value)} isn't ISO 8601, as 2026-01-31T12:00:00Z is") from None
    if naive:
        raise _WrongError(f"{_short(value)} has no time zone: end it with Z for UTC")
    if not _YEARS[0] <= ts <= _YEARS[1]:
        raise _WrongError(f"{_short(value)} isn't within the years 1-9999 of UTC")
    return ts


def _take_vector(vector: str, value: Any) -> bytes:
    if not isinstance(value, list):
        raise _WrongError(f"{_short(value)} is no list of numbers")
    code, _ = _VECTORS[vector]
    if len(value) >= MANY and (packed := _packed(code, value)) is not None:
        return packed
    kind = "float" if code == "f" else "double"
    numbers = [_item(kind, item, f"[{k}]") for k, item in enumerate(value)]
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


def _packed(code: str, value: list[Any]) -> bytes | None:
    """A long vector's bytes at once; None if an item must be named, or looked at by itself."""
    import numpy as np  # when it is used: the verbs of `soma` load quickly

    if not set(map(type, value)) <= {int, float}:
        return None
    try:
        numbers = np.array(value, np.float64)
    except OverflowError:
        return None
    with np.errstate(over="ignore"):
        narrowed = numbers.astype(f"<{code}")
    return narrowed.tobytes() if np.isfinite(narrowed).all() else None


def _take_symbol(symbols: list[str], value: Any) -> str:
    if value not in symbols:
        raise _WrongError(f"{_short(value)} is none of {', '.join(symbols)}")
    return str(value)


def _take_map(values: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _WrongError(f"{_short(value)} is no object")
    if len(value) > CHILDREN_MAX:
        raise _WrongError(f"more than {CHILDREN_MAX} items")
    return {
        _take_text("string", key): _item(values, item, f"[{_short(key)}]")
        for key, item in value.items()
    }


def _take_array(items: Any, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _WrongError(f"{_short(value)} is no list")
    if len(value) > CHILDREN_MAX:
        raise _WrongError(f"more than {CHILDREN_MAX} items")
    return [_item(items, item, f"[{k}]") for k, item in enumerate(value)]


def _item(schema: Any, value: Any, place: str) -> Any:
    try:
        return _take(schema, value)
    except _WrongError as wrong:
        raise _WrongError(f"{place}: {wrong}") from None


def _short(value: Any) -> str:
    """A value as an error shows it: on one line, at most 40 characters."""
    text = json.dumps(value, default=str)[:200] if _small(value) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


def _small(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return value.bit_length() <= 128
    return isinstance(value, str | float | bool)


def _show(schema: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(schema, list):
        return _show(next(part for part in schema if part != "null"), value)
    kind = _kind(schema)
    if kind == "long" and isinstance(schema, dict) and "logicalType" in schema:
        return _show_time(value)
    if kind == "bytes":
        return _show_bytes(schema, value)
    if kind in ("float", "double"):
        return _show_number(kind, value)
    if kind == "map":
        return {key: _show(schema["values"], item) for key, item in value.items()}
    if kind == "array":
        return [_show(schema["items"], item) for item in value]
    return value


def _show_time(micros: int) -> str | int:
    try:
        return (moments.EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return micros


def _show_number(kind: str, value: float) -> float | None:
    if not math.isfinite(value):
        return None
    if kind != "float":
        return float(value)
    import numpy as np

    # The shortest digits that mean the same float32: 0.1, not 0.10000000149011612.
    return float(str(np.float32(value)))


def _show_bytes(schema: Any, value: bytes) -> Any:
    code, size = _VECTORS.get(schema.get("vector", "") if isinstance(schema, dict) else "", ("", 0))
    if not size or len(value) % size:
        return base64.b64encode(value).decode()
    kind = "float" if code == "f" else "double"
    return [
        _show_number(kind, number)
        for number in struct.unpack(f"<{len(value) // size}{code}", value)
    ]
