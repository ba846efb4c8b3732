"""The two schemas as the Python peers read and write them: Confluent wire format by fastavro."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer

AVRO = Path(__file__).resolve().parents[2] / "avro"


def _plain(schema: Any) -> Any:
    """Without logical types: times stay integers, which is quicker than datetime."""
    if isinstance(schema, dict):
        return {key: _plain(part) for key, part in schema.items() if key != "logicalType"}
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


def load(name: str, folder: Path = AVRO) -> tuple[Any, bytes]:
    """A schema and the five bytes that stand in front of its records."""
    ids = json.loads((folder / "ids.json").read_text())
    number = next(int(n) for n, stem in ids.items() if stem == f"{name}.v1")
    parsed = parse_schema(_plain(json.loads((folder / f"{name}.v1.avsc").read_text())))
    return parsed, b"\0" + number.to_bytes(4, "big")


OBSERVATION, OBSERVATION_HEADER = load("observation")
UPDATE, UPDATE_HEADER = load("predictor_update")
FRAME, FRAME_HEADER = load("global_frame")


def encode(header: bytes, schema: Any, record: dict[str, Any]) -> bytes:
    """A record's value on the wire."""
    out = BytesIO()
    out.write(header)
    schemaless_writer(out, schema, record)
    return out.getvalue()


def decode_update(value: bytes) -> dict[str, Any]:
    """A predictor_update from its value."""
    return schemaless_reader(BytesIO(value[5:]), UPDATE, None)  # type: ignore[return-value]


def encode_frame(frame: dict[str, Any]) -> bytes:
    """A global_frame's value."""
    return encode(FRAME_HEADER, FRAME, frame)


def decode_frame(value: bytes) -> dict[str, Any]:
    """A global_frame from its value."""
    return schemaless_reader(BytesIO(value[5:]), FRAME, None)  # type: ignore[return-value]
