import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from agents.settings import Settings
from agents.tables.declared import TOPICS, declared
from agents.tables.memories import LEFT_OUT, MADE, MemoryRows
from agents.tables.rows import Rows, instant, jsonb, text
from stores import migrations
from stores.projection_sql import PLACE
from topics import codec
from topics.catalogue import CATALOGUE
from topics.schemas import schemas

FRAME: dict[str, Any] = {
    "frame_id": "0-0-1",
    "tenant": "t",
    "ts": 1_700_000_000_123_456,
    "domain": "d",
    "leader": "d",
    "weights": {"d": 0.5, "e": float("nan")},
    "errors": {},
    "confidence": 0.5,
    "entropy": 0.0,
    "regret_bound": float("inf"),
    "dwell_ms": 3,
    "veto": "allow",
    "rationale": "it\0is",
    "observation_id": "",
    "config_version": 0,
    "policy": "1a2b3c4d5e6f7a8b",
}


def message(value: bytes | None, offset: int = 7) -> Message:
    return Message(
        topic="t", partition=2, offset=offset, key=b"t", value=value, timestamp=(2, 86_400_001)
    )


def test_a_frame_is_its_fields_and_its_place() -> None:
    rows = Rows("global_frame")
    row = rows.row(message(codec.encode("global_frame", FRAME)), "ab")
    held = dict(zip(rows.columns, row, strict=True))
    assert held["ts"] == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert json.loads(held["weights"]) == {"d": 0.5, "e": None}
    assert held["regret_bound"] == math.inf
    assert held["rationale"] == "it\N{REPLACEMENT CHARACTER}is"
    place = [held[name] for name in PLACE]
    assert place == ["ab", 2, 7, datetime(1970, 1, 2, 0, 0, 0, 1000, UTC)]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_value"),
        (b"", "bad_wire_format"),
        (codec.encode("global_frame", FRAME)[:-1], "bad_avro"),
        (codec.encode("global_frame", FRAME | {"ts": 2**62}), "ts_range"),
        (b"\0\0\0\xff\xff", "unknown_schema"),
    ],
)
def test_what_is_no_frame_says_why(value: bytes | None, reason: str) -> None:
    with pytest.raises(codec.BadRecord) as refused:
        Rows("global_frame").row(message(value), "ab")
    assert refused.value.reason == reason


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_times_keep_their_microseconds(us: int) -> None:
    apart = instant(us) - datetime(1970, 1, 1, tzinfo=UTC)
    assert apart.days * 86_400_000_000 + apart.seconds * 1_000_000 + apart.microseconds == us


@given(st.dictionaries(st.text(), st.floats()))
def test_json_holds_what_postgres_can(some: dict[str, float]) -> None:
    held = json.loads(jsonb(some), parse_constant=lambda word: pytest.fail(word))
    assert not any("\0" in name for name in held)
    for name, value in some.items():
        if "\0" not in name and "\N{REPLACEMENT CHARACTER}" not in name:
            assert held[name] == (value if math.isfinite(value) else None)


@given(st.text())
def test_only_one_character_is_replaced(some: str) -> None:
    assert len(text(some)) == len(some)
    assert "\0" not in text(some)
    if "\0" not in some:
        assert text(some) is some


def test_tables_have_the_columns_of_their_schemas() -> None:
    """A field added to a schema asks for a migration: this says so.

    What a schema had and has no more, a table keeps.
    """
    made = "\n".join(migration.sql for migration in migrations.load())
    for what in declared(Settings()):
        assert what.topic in CATALOGUE
        if what.target.days:
            continue
        body = re.search(rf"CREATE TABLE {what.target.table} \((.*?)\n\)", made, re.DOTALL)
        assert body is not None
        columns = set(re.findall(r"^    ([a-z_]+) ", body[1], re.MULTILINE))
        columns |= set(re.findall(rf"ALTER TABLE {what.target.table} ADD COLUMN (\w+)", made))
        name = what.rows.schema
        versions = [schemas().raw(name, version) for version in schemas().versions(name)]
        ever = {field["name"] for version in versions for field in version["fields"]}
        if isinstance(what.rows, MemoryRows):
            columns |= set(LEFT_OUT)
            ever |= set(MADE)
        assert columns == set(what.rows.columns) | ever


def test_every_projection_of_the_schema_has_a_topic() -> None:
    made = "\n".join(migration.sql for migration in migrations.load())
    names = re.findall(r"INSERT INTO projections .*?;", made, re.DOTALL)
    assert set(re.findall(r"\('(\w+)'\)", "".join(names))) == set(TOPICS)
