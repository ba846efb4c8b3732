"""Memory events as calls of the remote service: whose an event is, where it goes, key and body."""

import json
import re
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from topics import codec, strictjson
from topics.codec import BadRecord
from topics.jsonform import from_json
from topics.messages import as_bytes
from topics.schemas import is_control_id, schemas
from topics.strictjson import begins_object

SCHEMA, ORDER = "memory_event", "prune_order"
NAME = re.compile(rb"[A-Za-z0-9._-]{1,128}")
KEY = re.compile(r"[\x21-\x7e]{1,200}")  # idempotency keys that a header can carry
RECORD_BYTES = 512  # of a record's object, beside its own bytes
MEMORIES = "/memories"
EVENTS = "/events/memory.events"
# What POST /memories takes, beside the payload; the rest follows from these at the other side.
SAID = (
    "namespace", "coordinate", "memory_type", "importance", "embedding", "model_revision", "links",
    "ts", "dedupe_key", "expected_version",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One POST to be made, again and again with the same key until it is answered."""

    tenant: str
    key: str
    path: str
    body: bytes


def tenant_of(message: Message) -> str:
    """The tenant whose lane a record belongs to, by its key alone; "" where the key is none."""
    key = as_bytes(message.key())
    return key.decode() if key is not None and NAME.fullmatch(key) else ""


def is_control(message: Message) -> bool:
    """Whether it is no event, but obeyed by processors: a control record, or an order to prune
    (what that lets go are events).
    """
    value = message.value()
    if not isinstance(value, bytes) or len(value) < codec.HEADER or value[0] != 0:
        return False
    number = int.from_bytes(value[1 : codec.HEADER], "big")
    return is_control_id(number) or number in schemas().writers(ORDER)


def size_of(message: Message) -> int:
    """Bytes that it takes in memory."""
    return RECORD_BYTES + len(message.value() or b"") + len(message.key() or b"")


def call_of(message: Message, topic_id: str) -> Call:
    """The call that delivers this record. `BadRecord` if it holds no event of its tenant.

    The idempotency key is the event's own id, or, where that can't be a header, the record's place
    in the log: both stay as they are through retries, restarts and new owners.

    What creates or updates a memory goes to POST /memories; what deletes, touches or links one to
    POST /events/memory.events, as it is, for the memory contract has no POST for these.
    """
    value = message.value()
    if not isinstance(value, bytes):
        raise BadRecord("null_value", "no value")
    if begins_object(value):
        name, record = SCHEMA, from_json(SCHEMA, value)
    else:
        name, record = codec.decode(value)
    if name != SCHEMA:
        raise BadRecord("unknown_schema", f"a {name}, not a {SCHEMA}")
    tenant = tenant_of(message)
    if not tenant or record["tenant"] != tenant:
        raise BadRecord("bad_tenant", "the key isn't the tenant that the event names")
    key = record["event_id"]
    if KEY.fullmatch(key) is None:
        key = f"{topic_id[:8]}-{message.partition()}-{message.offset()}"
    said = codec.to_json(SCHEMA, record)
    if record["type"] in ("created", "updated"):
        return Call(tenant, key, MEMORIES, _memory(said))
    if not said["expected_key"]:  # newer than the rest: who doesn't know it isn't told of none
        del said["expected_key"]
    event = {"payload": said, "key": record["id"] or tenant}
    if record["dedupe_key"]:
        event["dedupe_key"] = record["dedupe_key"]
    return Call(tenant, key, EVENTS, _text(event))


def _memory(said: dict[str, Any]) -> bytes:
    """The body of POST /memories; the payload's text stays as it is, number by number."""
    try:
        payload = strictjson.parse(said["payload"])
    except strictjson.NotJsonError as error:
        raise BadRecord("bad_payload", f"payload: {error}") from error
    if not isinstance(payload, dict):
        raise BadRecord("bad_payload", "payload: no JSON object")
    rest = _text({name: said[name] for name in SAID if said[name] not in (None, "")})
    text: str = said["payload"].removeprefix("\ufeff")
    return b'{"payload":' + text.encode() + b"," + rest[1:]


def _text(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
