"""Rows of memory.latest as rows of a table; which of them are gone, and what can't be one."""

import json
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.memory_rows import CONTENT_PART, HEAD_PART, content_key, head_key
from agents.tables.batch import Waiting
from agents.tables.memories import MemoryRows, jsonb_text
from agents.tables.rows import Gone
from tests.unit.agents.recall.samples import SCHEMA, row
from topics import codec

ROWS = MemoryRows()
HEAD, CONTENT = head_key("a", "n", "1").encode(), content_key("a", "n", "1").encode()


def record(part: str, **more: Any) -> bytes:
    return codec.encode(SCHEMA, row("a", "1", part, namespace="n", **more))


def message(key: bytes | None, value: bytes | None, offset: int = 7) -> Message:
    return Message(
        topic="t",
        partition=3,
        offset=offset,
        key=key,
        value=value,
        timestamp=(1, 1_700_000_000_000),
    )


def taken(key: bytes | None, value: bytes | None) -> dict[str, Any] | Gone:
    found = ROWS.taken(message(key, value), "id")
    return found if isinstance(found, Gone) else dict(zip(ROWS.columns, found, strict=True))


def test_a_head_and_a_content_are_rows_of_one_memory() -> None:
    head = taken(HEAD, record(HEAD_PART, version=4, links={"2": "next"}, importance_raw=0.5))
    assert isinstance(head, dict)
    assert (head["part"], head["version"], head["links"]) == ("head", 4, '{"2":"next"}')
    assert head["payload"] is None and head["importance_raw"] == 0.5
    content = taken(CONTENT, record(CONTENT_PART, payload='{"x":1}', vector=b"\0" * 8))
    assert isinstance(content, dict)
    assert (content["part"], content["payload"]) == ("content", '{"x":1}')
    assert "vector" not in content
    assert (content["topic_id"], content["kafka_partition"], content["kafka_offset"]) == (
        "id", 3, 7,
    )  # fmt: skip


def test_tombstones_take_their_row_away_and_a_head_that_goes_its_content_too() -> None:
    both = Gone((("a", "n", "1", "head"), ("a", "n", "1", "content")))
    assert taken(HEAD, None) == taken(HEAD, record(HEAD_PART, deleted=True)) == both
    assert taken(CONTENT, None) == Gone((("a", "n", "1", "content"),))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"a", None), (None, None), (b"\xff\x1fn\x1f1", None),
        (CONTENT, record(HEAD_PART)), (head_key("b", "n", "1").encode(), record(HEAD_PART)),
        (HEAD, b"\0"),
    ],
)  # fmt: skip
def test_what_is_no_row_of_its_key_is_bad(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(codec.BadRecord):
        taken(key, value)


def test_the_last_of_each_key_waits_and_a_tombstone_may_be_it() -> None:
    waiting = Waiting(codec.headers(SCHEMA), tombstones=True)
    for offset, (key, value) in enumerate(
        [(HEAD, record(HEAD_PART)), (CONTENT, record(CONTENT_PART)), (HEAD, None), (None, None)]
    ):
        waiting.add(message(key, value, offset))
    assert sorted(one.offset() or 0 for one in waiting.records()) == [1, 2, 3]
    assert waiting.replaced == 1


text = st.text(max_size=8) | st.sampled_from(["\0", "a\\u0000", "\ud800", "\ud83d\ude00"])
objects = st.dictionaries(
    text, text | st.integers() | st.none() | st.lists(text, max_size=3)
    | st.dictionaries(text, text, max_size=2), max_size=4,
)  # fmt: skip


@settings(max_examples=40)
@given(objects, st.booleans())
def test_payloads_say_what_they_said_but_for_what_postgres_cannot_hold(
    payload: dict[str, Any], escaped: bool
) -> None:
    whole = json.dumps(payload, ensure_ascii=True)
    plain = all(one not in whole for one in ("\\u0000", "\\ud"))
    said = json.loads(jsonb_text(("" if escaped else "\ufeff") + whole))
    if plain:
        assert said == payload
    assert "\0" not in json.dumps(said, ensure_ascii=False).encode().decode()
    assert not any("\0" in name for name in said)
