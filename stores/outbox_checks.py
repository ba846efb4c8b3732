"""What is asked of the outbox, checked before the database is: errors then name the place."""

import json
import re
from collections.abc import Sequence
from typing import Any

import asyncpg

from stores.errors import Locked, NotMigrated, StoreDown, StoreError
from stores.outbox_types import STATUSES, BadEvent, BadQuestion, Defect, Event, TooManyPending
from stores.postgres import said
from stores.sqlstates import TOOK_TOO_LONG, Meaning, meaning

BATCH_MAX = 10_000  # events added at once
IDS_MAX = 1000
LIST_MAX = 500
OFFSET_MAX = 100_000
ACTOR_MAX = 200
KEY_BYTES_MAX = 256
EVENT_BYTES_MAX = 1_000_000
HEADERS_BYTES_MAX = 16_384
PENDING_MAX = 1_000_000_000
BIGINT_MAX = 2**63 - 1
TOPIC = re.compile(r"[a-z0-9._-]{1,200}")
TENANT = re.compile(r"[A-Za-z0-9._-]{1,128}")


def checked(event: Event, index: int) -> None:
    """`BadEvent` unless the database will take the event, as far as can be told here."""
    if not TOPIC.fullmatch(event.topic):
        raise BadEvent(f"the topic {event.topic[:60]!r} isn't 1-200 of [a-z0-9._-]", index)
    if not TENANT.fullmatch(event.tenant):
        raise BadEvent(f"the tenant {event.tenant[:60]!r} isn't 1-128 of [A-Za-z0-9._-]", index)
    keys = {"dedupe key": event.dedupe_key}
    if event.key is not None:
        keys["key"] = event.key
    for name, text in keys.items():
        size = _bytes(text, name, index)
        if not 1 <= size <= KEY_BYTES_MAX:
            raise BadEvent(f"the {name} has {size} bytes, not 1-{KEY_BYTES_MAX}", index)
    size = _bytes(event.payload, "payload", index)
    if size > EVENT_BYTES_MAX:
        raise BadEvent(f"an event has at most {EVENT_BYTES_MAX:,} bytes, this one {size:,}", index)


def headers_of(event: Event, index: int) -> str | None:
    """The headers as JSON text; `BadEvent` unless they are texts by name, and short."""
    if event.headers is None:
        return None
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in event.headers.items()):
        raise BadEvent("headers are texts by name", index)
    text = json.dumps(dict(event.headers), ensure_ascii=False)
    if _bytes(text, "headers", index) > HEADERS_BYTES_MAX:
        raise BadEvent(f"headers have at most {HEADERS_BYTES_MAX:,} bytes", index)
    return text


def batch(events: Sequence[Event]) -> list[list[Any]]:
    """The events as columns: topics, tenants, payloads, dedupe keys, keys, headers."""
    if len(events) > BATCH_MAX:
        raise BadQuestion(f"at most {BATCH_MAX:,} events can be added at once")
    columns: list[list[Any]] = [[] for _ in range(6)]
    for index, event in enumerate(events):
        checked(event, index)
        row = (event.topic, event.tenant, event.payload, event.dedupe_key, event.key)
        for column, value in zip(columns, (*row, headers_of(event, index)), strict=True):
            column.append(value)
    return columns


def ids_of(ids: Sequence[int]) -> list[int]:
    """The ids, each once, in their order; `BadQuestion` if they are too many or none at all."""
    found = list(dict.fromkeys(ids))
    if not 1 <= len(found) <= IDS_MAX:
        raise BadQuestion(f"1 to {IDS_MAX:,} ids can be given at once, not {len(found):,}")
    if bad := [one for one in found if not 0 < one <= BIGINT_MAX]:
        raise BadQuestion(f"{bad[0]} is no event's id")
    return found


def within(name: str, value: int, low: int, high: int) -> int:
    """The value; `BadQuestion` unless it is in its range."""
    if not low <= value <= high:
        raise BadQuestion(f"{name} is {low:,} to {high:,}, not {value:,}")
    return value


def status_of(status: str) -> str:
    """The status; `BadQuestion` unless there is one of this name."""
    if status not in STATUSES:
        raise BadQuestion(f"there is no status {status[:60]!r}; there are {', '.join(STATUSES)}")
    return status


def actor_of(actor: str) -> str:
    """Who acts; `BadQuestion` unless it is named."""
    if not actor.strip() or len(actor) > ACTOR_MAX or "\0" in actor:
        raise BadQuestion(f"an actor is named by 1 to {ACTOR_MAX} characters")
    return actor


def prefix_of(topic_filter: str) -> tuple[str, bool]:
    """(text, whether it is a prefix): a `*` at the end, and only there, stands for any rest."""
    if not topic_filter or "\0" in topic_filter or len(topic_filter) > 250:
        raise BadQuestion("a topic filter has 1 to 250 characters")
    return (topic_filter[:-1], True) if topic_filter.endswith("*") else (topic_filter, False)


def raised(error: BaseException, tenants: Sequence[str]) -> StoreError:
    """What an error of the database means here. `tenants`: those of the events just added.

    Without events, what was given to a statement is ours: then a bad value is a defect.
    """
    text, state = str(error.args[0]) if error.args else "", getattr(error, "sqlstate", None) or ""
    match meaning(error):
        case Meaning.LACKING if isinstance(error, asyncpg.InvalidSchemaNameError):
            return NotMigrated("PostgreSQL lacks the schema: run `soma migrate up`")
        case Meaning.LACKING:
            return NotMigrated("PostgreSQL's schema lacks the outbox: run `soma migrate up`")
        case Meaning.LOCK:
            held = "another open transaction holds what this needs: try again when it has ended"
            return Locked(held)
        case Meaning.FULL:
            return TooManyPending(text, next((t for t in tenants if f" tenant {t} " in text), None))
        case Meaning.VALUE if tenants:
            return BadEvent(f"PostgreSQL doesn't take it: {text}")
        case Meaning.VALUE if state.startswith("22"):
            return Defect(f"PostgreSQL refuses a statement of ours: {said(error)}")
        case Meaning.DEFECT:
            return Defect(f"PostgreSQL refuses a statement of ours: {said(error)}")
    if state == TOOK_TOO_LONG:
        return StoreDown("PostgreSQL took too long: ask for less (a tenant, a topic, a status)")
    return StoreDown(f"PostgreSQL: {said(error)}")


def _bytes(text: str, name: str, index: int) -> int:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise BadEvent(f"the {name} can't be written as UTF-8", index) from error
    if "\0" in text:
        raise BadEvent(f"the {name} has a NUL character", index)
    return size
