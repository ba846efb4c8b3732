"""The row path: values on the wire to dicts and back, one at a time. fastavro is the reader.

This is the reference for the column kernels (`topics.columns`) and the way for what is odd or rare.
In the dicts, times are integers (microseconds since 1970) and vectors little-endian bytes.
"""

import io
import struct
from functools import cache
from typing import Any

from fastavro import schemaless_reader, schemaless_writer

from topics.jsonform import from_json, to_json
from topics.schemas import is_control_id, schemas
from topics.walk import BadRecord, Walk

__all__ = [
    "HEADER",
    "BadRecord",
    "control_headers",
    "decode",
    "encode",
    "from_json",
    "header",
    "headers",
    "schema_of",
    "to_json",
]

HEADER = 5  # bytes before the Avro: 0x00, and the schema's id, big-endian


def header(schema_id: int) -> bytes:
    """The five bytes in front of a value (Confluent wire format)."""
    return struct.pack(">bI", 0, schema_id)


@cache
def headers(name: str) -> frozenset[bytes]:
    """How the values of a schema that we write begin, in all its versions."""
    return frozenset(header(number) for number in schemas().writers(name))


@cache
def control_headers() -> frozenset[bytes]:
    """How control records begin: processors obey them, and nobody else has to do with them."""
    return frozenset(header(number) for number in schemas().ids() if is_control_id(number))


def schema_of(value: bytes) -> int:
    """The schema id that a value claims. `BadRecord` if it isn't in the wire format."""
    if len(value) < HEADER or value[0] != 0:
        start = value[:HEADER].hex(" ") or "nothing"
        raise BadRecord("bad_wire_format", f"starts with {start}, not with 00 and a schema id")
    return int.from_bytes(value[1:HEADER], "big")


def encode(name: str, record: dict[str, Any], version: int | None = None) -> bytes:
    """The value on the wire, by a version of a schema (default: the newest).

    `BadRecord` if a field is lacking, unknown or of the wrong type.
    """
    known = schemas()
    number = known.schema_id(name, version)
    out = io.BytesIO()
    out.write(header(number))
    try:
        schemaless_writer(out, known.by_id(number)[2], record, strict_allow_default=True)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise BadRecord("bad_value", f"{name}: {error}") from error
    return out.getvalue()


def decode(value: bytes) -> tuple[str, dict[str, Any]]:
    """(schema's name, record as its newest version has it). `BadRecord` if anything is wrong."""
    known = schemas()
    number = schema_of(value)
    try:
        name, version, writer = known.by_id(number)
    except KeyError as error:
        raise BadRecord("unknown_schema", error.args[0]) from None
    Walk(value, HEADER).record(writer)
    reader = None if version == known.versions(name)[-1] else known.newest(name)
    stream = io.BytesIO(value)
    stream.seek(HEADER)
    try:
        record = schemaless_reader(stream, writer, reader)
    except Exception as error:  # fastavro has many kinds; after the walk, only resolution can fail
        raise BadRecord("bad_avro", f"{name}.v{version}: {error}") from error
    if not isinstance(record, dict):
        raise TypeError(f"{name} isn't a record")
    return name, record


def decode_ours(value: bytes) -> tuple[str, dict[str, Any]]:
    """As `decode`, but three times as fast: for topics that only we write.

    What is no record is still refused; but fastavro lets some through that `decode` refuses (a
    negative index of an enum, for instance).
    """
    number = schema_of(value)
    name, version, writer, reader = _known(number)
    stream = io.BytesIO(value)
    stream.seek(HEADER)
    try:
        record = schemaless_reader(stream, writer, reader)
    except Exception as error:  # fastavro has many kinds
        raise BadRecord("bad_avro", f"{name}.v{version}: {error}") from error
    if stream.tell() != len(value):
        raise BadRecord("bad_avro", f"{name}.v{version}: bytes too many")
    if not isinstance(record, dict):
        raise TypeError(f"{name} isn't a record")
    return name, record


@cache
def _known(number: int) -> tuple[str, int, Any, Any]:
    """A schema's name and version, and how to read it as the newest."""
    known = schemas()
    try:
        name, version, writer = known.by_id(number)
    except KeyError as error:
        raise BadRecord("unknown_schema", error.args[0]) from None
    return (
        name,
        version,
        writer,
        None if version == known.versions(name)[-1] else known.newest(name),
    )
