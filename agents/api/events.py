"""POST /events/{topic}: events, checked against the topic's schema, into the outbox."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Discriminator, Field, Tag

from agents.api.bodies import StrictRequest, StrictRoute
from agents.api.body_models import BodyModel, at_most, short_of
from agents.api.callers import tenant_of
from agents.api.dependencies import (
    TRACEPARENT,
    IdempotencyKey,
    Resources,
    TenantHeader,
    WriterCaller,
    trace_of,
)
from agents.api.permission import MayI
from agents.api.problems import Problem, documented, wrong
from agents.api.writing import Written
from stores.outbox import Event
from stores.outbox_checks import KEY_BYTES_MAX
from topics.catalogue import CATALOGUE
from topics.codec import BadRecord, from_json
from topics.schemas import is_control_id, schemas

HEADERS_MAX = 16
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
VALUE = re.compile(r"[\x20-\x7e]{0,1024}")
OURS = re.compile(r"ce_.*|soma-.*|tenant-id|dedupe-key")
# As PostgreSQL writes it, a space after each comma and colon; with the rest below its 1 MB.
PAYLOAD_BYTES_MAX = 900_000

router = APIRouter(route_class=StrictRoute, tags=["events"])
Text = Annotated[
    str,
    Field(min_length=1, max_length=KEY_BYTES_MAX, pattern=r"^[^\x00-\x1f\x7f]+$"),
    short_of(KEY_BYTES_MAX),
]


class EventIn(BodyModel):
    """One event. Give a `dedupe_key`, or the header Idempotency-Key, to repeat safely."""

    payload: dict[str, Any] = Field(
        description="The record, as the topic's Avro schema has it: times are ISO 8601 text, "
        "vectors lists of numbers. `tenant` may be left out."
    )
    dedupe_key: Text | None = Field(None, description="The tenant's name for this event.")
    key: Text | None = Field(None, description="Scope of order in the tenant; default: the tenant.")
    headers: Annotated[dict[str, str], at_most(HEADERS_MAX)] = Field(
        {}, max_length=HEADERS_MAX, description="For the record."
    )


def _kind(value: Any) -> str:
    return "batch" if isinstance(value, list) else "event"


OneOrMore = Annotated[
    Annotated[EventIn, Tag("event")]
    | Annotated[list[EventIn], Field(min_length=1, max_length=1000), Tag("batch")],
    Discriminator(_kind),
]


class EventOut(BaseModel):
    """What became of one event."""

    id: int | None = Field(description="in the outbox; null while it is in the journal")
    dedupe_key: str
    duplicate: bool = Field(description="the same event was there before, with this id")


class Accepted(BaseModel):
    """All events are on the disk, and will be in the topic once each."""

    topic: str
    tenant: str
    journaled: bool = Field(description="kept here until PostgreSQL is back")
    events: list[EventOut]


EXAMPLE = {"domain": "cpu", "ts": "2026-01-31T12:00:00Z", "vector": [0.25, 0.5, 1.0]}


@router.post(
    "/events/{topic}",
    status_code=202,
    response_model=Accepted,
    responses={
        200: {"model": Accepted, "description": "All of it was there already: the first answer."},
        202: {"description": "Accepted: on the disk, on its way."},
        **documented(400, 404, 408, 409, 413, 415),
    },
    summary="Add one event or a batch to a topic",
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {
                    "examples": {
                        "one": {"value": {"payload": EXAMPLE, "dedupe_key": "cpu-1"}},
                        "batch": {"value": [{"payload": EXAMPLE}, {"payload": EXAMPLE}]},
                    }
                }
            }
        }
    },
)
async def add_events(
    request: StrictRequest,
    response: Response,
    caller: WriterCaller,
    may: MayI,
    topic: Annotated[str, Path(description="of the catalogue, one that users may write")],
    body: OneOrMore,
    idempotency_key: IdempotencyKey,
    tenant: TenantHeader = None,
) -> Accepted:
    """All events of a batch are accepted, or none of them.

    An event's dedupe key is its own `dedupe_key`; else Idempotency-Key (in a batch from the
    second event on with `:1`, `:2` … after it); else one is made up, which the answer names.
    """
    whose, resources = caller.must_cover(tenant_of(tenant)), may.resources
    given = body if isinstance(body, list) else [body]
    places = [f"/{k}" for k in range(len(given))] if isinstance(body, list) else [""]
    _few(resources, given)
    resources.take(whose, len(given))
    schema = schema_for(topic)
    await may.ask("events", whose)
    keys = dedupe_keys([one.dedupe_key for one in given], idempotency_key)
    trace = trace_of(request)
    named = list(zip(places, keys, given, strict=True))
    rows = await request.aside(lambda: checked(topic, schema, whose, named, trace))
    together = [k for k, one in enumerate(given) if idempotency_key and one.dedupe_key is None]
    after = f"{idempotency_key}:{len(given)}" if together else None
    unused = after if after is not None and after not in keys else None
    written = await resources.writing.write(rows, together, unused)
    out = outcome(written, keys, places, idempotency_key)
    if out and all(one.duplicate for one in out):
        response.status_code = 200
    return Accepted(topic=topic, tenant=whose, journaled=written.journaled, events=out)


def schema_for(topic: str) -> str:
    """The schema of a topic that users may write; `Problem` otherwise."""
    row = CATALOGUE.get(topic)
    if row is None:
        raise Problem(404, "There is no such topic.")
    if not row.of_tenants or row.schema is None or is_control_id(schemas().schema_id(row.schema)):
        raise Problem(403, "This topic isn't written by users.")
    return row.schema


def dedupe_keys(own: Sequence[str | None], idempotency_key: str | None) -> list[str]:
    """Each event's dedupe key."""
    made = [
        (idempotency_key if k == 0 else f"{idempotency_key}:{k}")
        if idempotency_key
        else uuid.uuid4().hex
        for k in range(len(own))
    ]
    return [key if key is not None else made[k] for k, key in enumerate(own)]


def checked(
    topic: str,
    schema: str,
    tenant: str,
    named: Sequence[tuple[str, str, EventIn]],
    trace: Mapping[str, str],
) -> list[Event]:
    """The events (place in the body, dedupe key, event) as rows of the outbox.

    `Problem` 422 names all that is wrong in them.
    """
    errors: list[tuple[str, str]] = []
    rows: list[Event] = []
    for at, key, one in named:
        if bad := _bad_header(one.headers):
            errors.append((f"{at}/headers", bad))
        payload = {"tenant": tenant, **one.payload}
        if payload["tenant"] != tenant:
            errors.append((f"{at}/payload/tenant", "isn't the request's tenant"))
        elif bad := unfit(schema, payload):
            errors.append((f"{at}/payload", bad))
        headers = {**trace, **one.headers} or None
        text = json.dumps(payload, ensure_ascii=False) if not errors else ""
        if (size := len(text.encode())) > PAYLOAD_BYTES_MAX:
            raise too_long(f"{at}/payload", size)
        rows.append(Event(topic, tenant, text, key, one.key, headers))
    if errors:
        detail = f"Not as the topic's schema {schema} has it; nothing was accepted."
        raise Problem(422, detail, errors=wrong(errors))
    return rows


def too_long(what: str, size: int) -> Problem:
    """413 for one event."""
    kept = "with a space after each comma and colon, as it is kept"
    return Problem(413, f"{what} has {size} bytes {kept}; at most {PAYLOAD_BYTES_MAX} are taken.")


def unfit(schema: str, payload: Mapping[str, Any]) -> str:
    """Why a payload isn't a record of the schema; empty if it is one."""
    try:
        from_json(schema, payload)
    except BadRecord as error:
        return error.detail
    return ""


def outcome(
    written: Written,
    keys: Sequence[str],
    places: Sequence[str],
    idempotency_key: str | None = None,
) -> list[EventOut]:
    """What became of each. `Problem` 409 when a key was used for something else."""
    # Of the batch itself: it isn't kept, so that its events have places, and no ids.
    own = {keys[k]: places[k] for k, one in enumerate(written.added) if not one.duplicate}
    conflicts: list[dict[str, Any]] = [
        {"at": places[k], "dedupe_key": keys[k], **_named(one.id, own.get(keys[k]))}
        for k, one in enumerate(written.added)
        if one.differs
    ]
    if written.other is not None:
        conflicts.append({"at": "", "dedupe_key": idempotency_key, "id": written.other.id})
    if conflicts:
        detail = "The idempotency key was used for something else; nothing was accepted."
        raise Problem(409, detail, conflicts=conflicts[:100])
    return [
        EventOut(id=one.id, dedupe_key=key, duplicate=one.duplicate)
        for key, one in zip(keys, written.added, strict=True)
    ]


def _named(number: int | None, place: str | None) -> dict[str, Any]:
    return {"id": number} if place is None else {"first": place}


def _few(resources: Resources, given: Sequence[EventIn]) -> None:
    most = resources.limits.batch_max
    if len(given) > most:
        raise Problem(413, f"A batch has at most {most} events, this one {len(given)}.")


def _bad_header(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not NAME.fullmatch(name):
            return "a header's name is 1-64 of [a-z0-9_-], a letter first"
        if OURS.fullmatch(name):
            return f"the header {name} is ours"
        if not VALUE.fullmatch(value):
            return f"{name}: a header's value is at most 1024 printable ASCII characters"
        if name == "traceparent" and not TRACEPARENT.fullmatch(value):
            return "traceparent isn't a W3C trace context"
    return ""
