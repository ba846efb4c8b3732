"""POST /memories: the write half of the memory contract, into memory.events by the outbox."""

import json
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from agents.api.bodies import StrictRequest, StrictRoute
from agents.api.body_models import BodyModel, Time, at_most
from agents.api.callers import tenant_of
from agents.api.dependencies import (
    IdempotencyKey,
    Resources,
    ResourcesDep,
    TenantHeader,
    WriterCaller,
    trace_of,
)
from agents.api.events import PAYLOAD_BYTES_MAX, EventOut, Text, outcome, too_long, unfit
from agents.api.permission import MayI
from agents.api.problems import Problem, documented
from agents.api.writing import Fate, Written
from agents.coordinates import NUMBERS_MAX, canonical, event_id, memory_id
from stores.errors import StoreDown
from stores.outbox import Event

TOPIC = "memory.events"
SCHEMA = "memory_event"
DIMENSION_MAX = 4096
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LINKS_MAX = 256
NAMESPACE_MAX = 200

router = APIRouter(route_class=StrictRoute, tags=["memories"])
Number = Annotated[float, Field(allow_inf_nan=False)]
Float32 = Annotated[float, Field(allow_inf_nan=False, ge=-3.4e38, le=3.4e38)]
Plain = r"^[^\x00-\x1f\x7f]*$"


class MemoryIn(BodyModel):
    """Something to remember."""

    payload: dict[str, Any] = Field(description="What is remembered; any JSON object.")
    namespace: str = Field(
        "", max_length=NAMESPACE_MAX, pattern=Plain, description="A part of the memory."
    )
    coordinate: str | Annotated[list[Number], Field(max_length=NUMBERS_MAX)] | None = Field(
        None,
        description="Where it lies: a text or numbers. The id follows from it, so the same "
        "coordinate is the same memory. Without one it gets one of its own.",
    )
    memory_type: Literal["episodic", "semantic"] = "episodic"
    importance: Number | None = None
    embedding: list[Float32] = Field([], max_length=DIMENSION_MAX)
    model_revision: str = Field("", max_length=200, pattern=Plain)
    links: Annotated[dict[str, str], at_most(LINKS_MAX)] = Field(
        {}, max_length=LINKS_MAX, description="memory id -> kind of link"
    )
    ts: Time | None = Field(None, description="When it happened; default: now.")
    dedupe_key: Text | None = Field(
        None, description="The tenant's name for this event; it goes before Idempotency-Key."
    )
    expected_version: Annotated[int, Field(ge=0, le=2**62)] | None = Field(
        None, description="Refused later unless the memory is at this version."
    )


class Remembered(BaseModel):
    """The memory's event is on the disk, and will be in memory.events once."""

    tenant: str
    namespace: str
    id: str = Field(description="uuid5 of the tenant's namespace and the coordinate")
    coordinate: str = Field(description="in canonical form")
    event_id: str
    outbox_id: int | None = Field(description="null while it is in the journal")
    dedupe_key: str
    duplicate: bool
    journaled: bool


@router.post(
    "/memories",
    status_code=202,
    response_model=Remembered,
    responses={
        200: {"model": Remembered, "description": "It was there already: the first answer."},
        202: {"description": "Accepted: on the disk, on its way."},
        **documented(400, 408, 409, 413, 415),
    },
    summary="Remember something",
)
async def remember(
    request: StrictRequest,
    response: Response,
    resources: ResourcesDep,
    caller: WriterCaller,
    may: MayI,
    body: MemoryIn,
    idempotency_key: IdempotencyKey,
    tenant: TenantHeader = None,
) -> Remembered:
    """Creates a memory, or a new version of the one at the same coordinate."""
    whose = caller.must_cover(tenant_of(tenant, body.namespace))
    resources.take(whose)
    await may.ask("memories", whose)
    dedupe_key = body.dedupe_key or idempotency_key or uuid.uuid4().hex
    trace = trace_of(request)
    stamped = "ts" if body.ts is None else None

    def made() -> tuple[dict[str, Any], Event]:
        record = recorded(body, whose, dedupe_key)
        return record, event_of(whose, record, dedupe_key, trace, stamped)

    record, event = await request.aside(made)
    return remembered(record, *await bring(resources, response, event))


def recorded(body: MemoryIn, tenant: str, dedupe_key: str) -> dict[str, Any]:
    """The memory_event as JSON data."""
    event = event_id(tenant, dedupe_key)
    coordinate = place_of(event if body.coordinate is None else body.coordinate, "/coordinate")
    return {
        "event_id": event,
        "id": memory_id(tenant, coordinate),
        "tenant": tenant,
        "namespace": body.namespace,
        "type": "created",
        "ts": micros(body.ts),
        "coordinate": coordinate,
        "memory_type": body.memory_type,
        "payload": json.dumps(
            body.payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ),
        "importance": body.importance,
        "embedding": body.embedding,
        "model_revision": body.model_revision,
        "links": body.links,
        "dedupe_key": dedupe_key,
        "expected_version": body.expected_version,
    }


def place_of(coordinate: str | Sequence[float], at: str) -> str:
    """A coordinate in canonical form. `Problem` 422, which names where in the body it is."""
    try:
        return canonical(coordinate)
    except ValueError as error:
        raise Problem(422, "The coordinate can't be used.", errors=[_at(at, str(error))]) from None


def event_of(
    tenant: str, record: dict[str, Any], dedupe_key: str, trace: dict[str, str], but_for: str | None
) -> Event:
    """A memory_event for the outbox. `Problem` 422, 413."""
    if bad := unfit(SCHEMA, record):
        raise Problem(422, "Not as the schema memory_event has it.", errors=[_at("", bad)])
    text = json.dumps(record, ensure_ascii=False)
    if (size := len(text.encode())) > PAYLOAD_BYTES_MAX:
        raise too_long("The memory", size)
    return Event(TOPIC, tenant, text, dedupe_key, record["id"], trace or None, but_for)


async def bring(resources: Resources, response: Response, event: Event) -> tuple[EventOut, bool]:
    """One event into the outbox: what became of it, and whether it is in the journal. `Problem`."""
    written = await but_for_ts(resources, await resources.writing.write([event]), event)
    (out,) = outcome(written, [event.dedupe_key], [""])
    if out.duplicate:
        response.status_code = 200
    return out, written.journaled


def remembered(record: dict[str, Any], out: EventOut, journaled: bool) -> Remembered:
    """The answer about a memory_event."""
    return Remembered(
        tenant=record["tenant"], namespace=record["namespace"], id=record["id"],
        coordinate=record["coordinate"], event_id=record["event_id"], outbox_id=out.id,
        dedupe_key=out.dedupe_key, duplicate=out.duplicate, journaled=journaled,
    )  # fmt: skip


async def but_for_ts(resources: Resources, written: Written, event: Event) -> Written:
    """A repetition differs from the first in the time that we gave it: that isn't another body."""
    (first,) = written.added
    if event.but_for is None or first.id is None or not first.differs:
        return written  # (the journal has looked at it so already)
    try:
        same = await resources.outbox.repeats(event, first.id)
    except StoreDown:
        raise Problem(503, "The outbox isn't there.", {"Retry-After": "2"}) from None
    return Written([Fate(first.id, duplicate=True, differs=False)]) if same else written


def micros(ts: datetime | None) -> int:
    """A time in microseconds; None: now."""
    return time.time_ns() // 1000 if ts is None else (ts - EPOCH) // timedelta(microseconds=1)


def _at(at: str, detail: str) -> dict[str, str]:
    return {"at": at, "detail": detail}
