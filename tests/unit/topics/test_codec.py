import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topics.strategies import NAMED, NAMED_RECORDS
from topics import codec, schemas
from topics.codec import (
    HEADER,
    BadRecord,
    decode,
    decode_ours,
    encode,
    header,
    schema_of,
)

UPDATE = {
    "tenant": "a",
    "domain": "state",
    "predictor_type": "heat",
    "error_metric": 0.5,
    "ts": 1_769_860_800_000_000,
}
REASONS = {"bad_wire_format", "unknown_schema", "bad_avro", "bad_utf8"}


@given(NAMED_RECORDS)
def test_encodes_as_fastavro_does_behind_the_header(pair: tuple[str, dict[str, Any]]) -> None:
    name, record = pair
    out = io.BytesIO()
    schemaless_writer(out, schemas.schemas().newest(name), record)
    number = schemas.schemas().schema_id(name)
    assert encode(name, record) == b"\x00" + number.to_bytes(4, "big") + out.getvalue()


@given(NAMED_RECORDS)
def test_decodes_what_it_encoded(pair: tuple[str, dict[str, Any]]) -> None:
    name, record = pair
    value = encode(name, record)
    assert decode(value) == (name, record)
    oracle = schemaless_reader(io.BytesIO(value[HEADER:]), schemas.schemas().newest(name), None)
    assert oracle == record


@given(st.binary(max_size=80))
def test_random_bytes_are_bad_records_and_nothing_else(value: bytes) -> None:
    with pytest.raises(BadRecord):  # none of these begins with a known id, or the next test's
        decode(value if value[:1] != b"\x00" else b"\x01" + value)


@given(NAMED, st.binary(max_size=80))
def test_random_avro_is_taken_or_bad(name: str, body: bytes) -> None:
    try:
        decode(header(schemas.schemas().schema_id(name)) + body)
    except BadRecord as error:
        assert error.reason in REASONS


@given(NAMED_RECORDS, st.data())
def test_mutated_values_are_taken_or_bad(
    pair: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    value = bytearray(encode(*pair))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(value[: data.draw(st.integers(0, len(value)))]))
    except BadRecord as error:
        assert error.reason in REASONS


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (b"", "bad_wire_format", "nothing"),
        (b"\x00\x00\x00\x00", "bad_wire_format", "00 00 00 00"),
        (b'{"tenant": "a"}', "bad_wire_format", "7b"),
        (header(4711), "unknown_schema", "4711"),
        (b"\x00\xff\xff\xff\xff", "unknown_schema", "4294967295"),
        (header(1) + b"\x02\xff", "bad_utf8", "tenant"),
        (header(1) + b"\x02a\x02d", "bad_avro", "ts"),
        (encode("predictor_update", UPDATE) + b"\x00", "bad_avro", "too many"),
    ],
)
def test_says_what_is_wrong(value: bytes, reason: str, said: str) -> None:
    with pytest.raises(BadRecord, match=said) as caught:
        decode(value)
    assert caught.value.reason == reason


def test_lacking_fields_take_their_defaults() -> None:
    name, record = decode(encode("predictor_update", UPDATE))
    assert name == "predictor_update"
    assert record["model_version"] == "1.0"
    assert record["confidence"] == 0.0
    assert record["observation_id"] == ""


def test_numbers_that_are_none_survive_the_wire() -> None:
    _, record = decode(encode("predictor_update", {**UPDATE, "error_metric": math.nan}))
    assert math.isnan(record["error_metric"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "d"},
        {**UPDATE, "extra": 1},
        {**UPDATE, "tenant": 7},
        {**UPDATE, "ts": "noon"},
        {**UPDATE, "ts": 2**63},
    ],
)
def test_refuses_to_encode_what_doesnt_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRecord) as caught:
        encode("predictor_update", wrong)
    assert caught.value.reason == "bad_value"


def test_the_schema_id_is_read_alone() -> None:
    assert schema_of(encode("predictor_update", UPDATE)) == 2


@pytest.fixture
def two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema in two versions: the second has wider numbers, a new field and a smaller enum."""

    def version(*fields: dict[str, Any]) -> str:
        record = {"type": "record", "name": "thing", "namespace": "soma", "fields": fields}
        return json.dumps(record)

    def enum(*symbols: str, **more: str) -> dict[str, Any]:
        return {"type": "enum", "name": "mood", "symbols": symbols, **more}

    (tmp_path / "ids.json").write_text('{"1": "thing.v1", "2": "thing.v2"}')
    (tmp_path / "thing.v1.avsc").write_text(
        version({"name": "n", "type": "int"}, {"name": "mood", "type": enum("up", "down")})
    )
    (tmp_path / "thing.v2.avsc").write_text(
        version(
            {"name": "new", "type": "string", "default": "none"},
            {"name": "mood", "type": enum("up", "odd", default="odd")},
            {"name": "n", "type": "double"},
        )
    )
    known = schemas.Schemas(tmp_path)
    monkeypatch.setattr(codec, "schemas", lambda: known)


@pytest.mark.usefixtures("two_versions")
def test_older_versions_are_read_as_the_newest() -> None:
    old = encode("thing", {"n": 7, "mood": "down"}, version=1)
    assert old[:HEADER] == header(1)
    assert decode(old) == ("thing", {"new": "none", "mood": "odd", "n": 7.0})
    assert isinstance(decode(old)[1]["n"], float)


@given(NAMED_RECORDS)
def test_ours_decode_to_the_same(pair: tuple[str, dict[str, Any]]) -> None:
    value = encode(*pair)
    assert decode_ours(value) == decode(value)
    for wrong in (value[:-1], value + b"\0"):
        with pytest.raises(BadRecord):
            decode_ours(wrong)


@given(NAMED, st.binary(max_size=80))
def test_ours_are_taken_or_bad_whatever_the_bytes(name: str, body: bytes) -> None:
    value = header(schemas.schemas().schema_id(name)) + body
    try:
        taken = decode(value)
    except BadRecord:
        try:
            decode_ours(value)
        except BadRecord as error:
            assert error.reason == "bad_avro"
        return
    # NaN differs from itself, not from its text.
    assert repr(decode_ours(value)) == repr(taken)


def test_control_records_are_known_by_how_they_begin() -> None:
    """An id of theirs that nobody knows is an unknown schema, as it is to the engine."""
    for name in schemas.schemas().names():
        assert all(begin[0] == 0 and len(begin) == HEADER for begin in codec.headers(name))
        control = name.startswith("control_")
        assert (codec.headers(name) <= codec.control_headers()) == control
    assert header(schemas.RESERVED + 99) not in codec.control_headers()
