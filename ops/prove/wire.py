"""The wire format as the verifier reads it: Confluent's five bytes and Avro, or a JSON object.

Written from the contract alone. Times stay integers (microseconds), vectors stay bytes.
"""

import json
import struct
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

AVRO = Path(__file__).resolve().parents[2] / "avro"
CONTROL_ID_MIN = 900  # schema ids from here on are control records


class Record(NamedTuple):
    """One record of a topic, as a consumer gives it; `log_ms` is the broker's clock."""

    topic: str
    partition: int
    offset: int
    log_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset: unique within the topic."""
        return self.partition, self.offset

    def header(self, name: str) -> bytes | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name), None)


class UnreadableError(Exception):
    """A value that can't be decoded; the text says why."""


def _plain(schema: Any) -> Any:
    """The schema without logical types, so that times come as integers."""
    if isinstance(schema, dict):
        return {k: _plain(v) for k, v in schema.items() if k != "logicalType"}
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    return schema


class Wire:
    """Decodes values; knows every schema of a folder with `ids.json` and `NAME.vN.avsc` files."""

    def __init__(self, folder: Path = AVRO) -> None:
        self._by_id: dict[int, tuple[str, Any]] = {}
        self._id: dict[str, int] = {}
        self._newest: dict[str, tuple[int, Any]] = {}
        for number, file in json.loads((folder / "ids.json").read_text()).items():
            if not number.isdigit():
                continue
            stem = file.removesuffix(".avsc")
            name, version = stem.rsplit(".v", 1)
            raw = _plain(json.loads((folder / f"{stem}.avsc").read_text()))
            schema = fastavro.parse_schema(raw, _force=True)
            self._by_id[int(number)] = (name, schema)
            if int(version) >= self._newest.get(name, (0, None))[0]:
                self._newest[name] = (int(version), schema)
                self._id[name] = int(number)

    def schema_id(self, name: str) -> int:
        """The id of the newest version of a schema."""
        return self._id[name]

    def fields(self, name: str) -> list[dict[str, Any]]:
        """The fields of the newest version."""
        return list(self._newest[name][1]["fields"])

    def encode(self, name: str, record: dict[str, Any]) -> bytes:
        """The value of a record of the newest version."""
        out = BytesIO()
        out.write(struct.pack(">bI", 0, self._id[name]))
        fastavro.schemaless_writer(out, self._newest[name][1], record)
        return out.getvalue()

    def decode(self, value: bytes | None, expected: str) -> tuple[str, dict[str, Any]]:
        """Schema name and record; `expected` is the schema that a JSON object is taken for."""
        if not value:
            raise UnreadableError("no value")
        if value.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")[:1] == b"{":
            return expected, self._from_json(value, expected)
        if value[0] != 0 or len(value) < 5:
            raise UnreadableError("neither the wire format nor JSON")
        number = int.from_bytes(value[1:5], "big")
        if number not in self._by_id:
            raise UnreadableError(f"unknown schema id {number}")
        name, writer = self._by_id[number]
        body = BytesIO(value[5:])
        try:
            record: Any = fastavro.schemaless_reader(body, writer, self._newest[name][1])
        except Exception as error:  # whatever fastavro says about bytes that lie
            raise UnreadableError(f"not Avro: {error}") from error
        if body.read(1):
            raise UnreadableError("trailing bytes")
        return name, record

    def _from_json(self, value: bytes, name: str) -> dict[str, Any]:
        try:
            given = json.loads(value, object_pairs_hook=_once)
        except ValueError as error:
            raise UnreadableError(f"not JSON: {error}") from error
        record = {}
        for field in self._newest[name][1]["fields"]:
            if field["name"] in given:
                record[field["name"]] = _from_text(field, given.pop(field["name"]))
            elif "default" in field:
                record[field["name"]] = field["default"]
            else:
                raise UnreadableError(f"{field['name']} is missing")
        if given:
            raise UnreadableError(f"unknown fields {sorted(given)}")
        return record


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnreadableError("a name is given twice")
    return found


def _from_text(field: dict[str, Any], value: Any) -> Any:
    """A JSON value as the field's Avro type wants it."""
    kind = field["type"]
    kind = kind.get("type") if isinstance(kind, dict) else kind
    if kind == "bytes" and isinstance(value, list):
        return struct.pack(f"<{len(value)}f", *value)
    if kind == "long" and isinstance(value, str):
        seconds = datetime.fromisoformat(value)
        whole = int(seconds.replace(microsecond=0).timestamp())
        return whole * 1_000_000 + seconds.microsecond
    if kind in ("float", "double") and not isinstance(value, int | float):
        raise UnreadableError(f"{field['name']} isn't a number")
    if kind == "string" and not isinstance(value, str):
        raise UnreadableError(f"{field['name']} isn't text")
    if kind == "float":
        return struct.unpack("<f", struct.pack("<f", value))[0]
    return value
