"""Records as calls. A record stands in for the client's, which can't be made in Python."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.gateway.events import KEY, call_of, is_control, tenant_of
from topics import codec

ORDER = 69  # the id of prune_order.v1
TOPIC_ID = "0123456789abcdef0123456789abcdef"


@dataclass
class Record:
    """The part of confluent_kafka.Message that is read."""

    key_: bytes | None
    value_: bytes | None

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return 77


def record(**changes: object) -> dict[str, object]:
    return {
        "event_id": "e1", "id": "m1", "tenant": "t", "namespace": "notes", "type": "created",
        "ts": 1_700_000_000_000_001, "coordinate": "1,2.5", "memory_type": "semantic",
        "payload": '{"a": 1.00, "b": 12345678901234567890}', "importance": 0.5,
        "embedding": b"\x00\x00\x80\x3f", "model_revision": "r", "links": {"m2": "next"},
        "dedupe_key": "d1", "expected_version": 3,
    } | changes  # fmt: skip


def message(key: bytes | None = b"t", **changes: object) -> Record:
    return Record(key, codec.encode("memory_event", record(**changes)))


def test_a_created_memory_is_posted_to_memories() -> None:
    call = call_of(message(), TOPIC_ID)  # type: ignore[arg-type]
    assert (call.tenant, call.key, call.path) == ("t", "e1", "/memories")
    assert json.loads(call.body) == {
        "payload": {"a": 1.0, "b": 12345678901234567890}, "namespace": "notes",
        "coordinate": "1,2.5", "memory_type": "semantic", "importance": 0.5, "embedding": [1.0],
        "model_revision": "r", "links": {"m2": "next"}, "ts": "2023-11-14T22:13:20.000001Z",
        "dedupe_key": "d1", "expected_version": 3,
    }  # fmt: skip
    assert b'{"a": 1.00, "b"' in call.body  # the text as it was
    marked = call_of(message(payload='\ufeff {"a": 1}'), TOPIC_ID)  # type: ignore[arg-type]
    assert json.loads(marked.body)["payload"] == {"a": 1}


@pytest.mark.parametrize("kind", ["deleted", "accessed", "linked"])
def test_what_memories_has_no_post_for_goes_as_the_event_it_is(kind: str) -> None:
    call = call_of(message(type=kind), TOPIC_ID)  # type: ignore[arg-type]
    assert call.path == "/events/memory.events"
    body = json.loads(call.body)
    assert body["key"] == "m1" and body["dedupe_key"] == "d1"
    assert "expected_key" not in body["payload"]  # a service may be older than that
    read = codec.from_json("memory_event", body["payload"])
    assert read == record(type=kind) | {"expected_key": ""}


def test_json_records_are_events_too() -> None:
    text = json.dumps(codec.to_json("memory_event", record())).encode()
    for start in (b"", b" \n", b"\xef\xbb\xbf"):
        one = Record(b"t", start + text)
        assert call_of(one, TOPIC_ID) == call_of(message(), TOPIC_ID)  # type: ignore[arg-type]


@given(st.text(max_size=250))
def test_the_idempotency_key_is_a_header_and_the_same_each_time(event_id: str) -> None:
    one = message(event_id=event_id.encode("utf-8", "ignore").decode())
    call, again = call_of(one, TOPIC_ID), call_of(one, TOPIC_ID)  # type: ignore[arg-type]
    assert call.key == again.key and KEY.fullmatch(call.key)
    assert call.key in (event_id, "01234567-2-77")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Record(b"t", None), "null_value"),
        (Record(b"t", b""), "bad_wire_format"),
        (Record(b"t", b"{"), "bad_json"),
        (Record(b"t", b"\x00\x00\x00\x00\xff"), "unknown_schema"),
        (Record(b"t", codec.header(15) + b"\xff"), "bad_avro"),
        (message(b"other"), "bad_tenant"),
        (message(None), "bad_tenant"),
        (message(b"a b", tenant="a b"), "bad_tenant"),
        (message(payload="[]"), "bad_payload"),
        (message(payload='{"a": NaN}'), "bad_payload"),
        (message(payload='{"a": 1, "a": 2}'), "bad_payload"),  # which of them counts, who knows
        (message(payload='{"a": 1e999}'), "bad_payload"),
        (message(payload="{" * 100_000), "bad_payload"),
    ],
)
def test_what_is_no_event_says_why(bad: Record, reason: str) -> None:
    with pytest.raises(codec.BadRecord) as caught:
        call_of(bad, TOPIC_ID)  # type: ignore[arg-type]
    assert caught.value.reason == reason


@given(st.one_of(st.none(), st.binary(max_size=200)))
def test_whatever_the_key_there_is_a_lane(key: bytes | None) -> None:
    tenant = tenant_of(Record(key, b""))  # type: ignore[arg-type]
    assert tenant == "" or tenant.encode() == key


@given(st.one_of(st.none(), st.binary(max_size=20)))
@example(b"\0\0\0\x03\x84")
@example(b"\0\0\0\x03\xe7")
@example(b"\0\0\0\x03\xe8")  # of a plugin
@example(b"\0\0\0\0\x45")  # an order to prune: for memory
def test_any_bytes_are_told_from_control_records(value: bytes | None) -> None:
    assert (
        is_control(Record(b"t", value))
        == (  # type: ignore[arg-type]
            value is not None
            and len(value) >= 5
            and value[0] == 0
            and (900 <= (number := int.from_bytes(value[1:5], "big")) < 1000 or number == ORDER)
        )
    )
