"""DELETE /memories/{coordinate}, POST /memories/bulk, POST /graph/link: events of memories, by the
outbox. The processor `memory` judges each in its order: what it refuses is in memory.audit.
"""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from agents.api.bodies import StrictRequest, StrictRoute
from agents.api.body_models import BodyModel, Time
from agents.api.callers import tenant_of
from agents.api.dependencies import (
    IdempotencyKey,
    Resources,
    ResourcesDep,
    TenantHeader,
    WriterCaller,
    trace_of,
)
from agents.api.events import dedupe_keys, outcome
from agents.api.memories import (
    NAMESPACE_MAX,
    MemoryIn,
    Number,
    Plain,
    Remembered,
    bring,
    but_for_ts,
    event_of,
    micros,
    place_of,
    recorded,
    remembered,
)
from agents.api.permission import MayI
from agents.api.problems import Problem, documented
from agents.api.writing import Written
from agents.coordinates import NUMBERS_MAX, event_id, memory_id
from stores.outbox import Event

KIND_MAX = 200
BULK_MAX = 1000

router = APIRouter(route_class=StrictRoute, tags=["memories"])
Coordinate = str | Annotated[list[Number], Field(max_length=NUMBERS_MAX)]
Namespace = Annotated[
    str, Query(max_length=NAMESPACE_MAX, pattern=Plain, description="that the memory is in")
]
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": Remembered, "description": "It was there already: the first answer."},
    202: {"description": "Accepted: on the disk, on its way."},
    **documented(400, 408, 409, 413, 415),
}


class LinkIn(BodyModel):
    """A link from one memory to another of the same tenant; circles are allowed."""

    from_: Annotated[Coordinate, Field(alias="from", description="where the memory lies")]
    to: Annotated[Coordinate, Field(description="where the other one lies")]
    kind: str = Field(
        "related", max_length=KIND_MAX, pattern=Plain, description="Empty: take the link away."
    )
    namespace: str = Field("", max_length=NAMESPACE_MAX, pattern=Plain)
    ts: Time | None = Field(None, description="When it was seen; default: now.")
    dedupe_key: Annotated[str, Field(min_length=1, max_length=200, pattern=Plain)] | None = None


class BulkOut(BaseModel):
    """All events are on the disk, and will be in memory.events once each."""

    tenant: str
    journaled: bool = Field(description="kept here until PostgreSQL is back")
    memories: list[Remembered]


class Changing:
    """One event of a memory that has no content, by a caller who may write it."""

    def __init__(
        self, request: Request, response: Response, resources: ResourcesDep, caller: WriterCaller,
        may: MayI, idempotency_key: IdempotencyKey, tenant: TenantHeader = None,
    ) -> None:  # fmt: skip
        self._request, self._response, self._resources = request, response, resources
        self._caller, self._may, self._header, self.key = caller, may, tenant, idempotency_key

    async def of(self, namespace: str) -> str:
        """The tenant whose memory it is. `Problem` 403, 429, 503."""
        whose = self._caller.must_cover(tenant_of(self._header, namespace))
        self._resources.take(whose)
        await self._may.ask("memories", whose)
        return whose

    async def write(self, record: dict[str, Any], key: str | None) -> Remembered:
        """Bring it into the outbox."""
        tenant, key = record["tenant"], key or uuid.uuid4().hex
        stamped = "ts" if record["ts"] is None else None
        record |= {"ts": micros(record["ts"]), "event_id": event_id(tenant, key), "dedupe_key": key}
        event = event_of(tenant, record, key, trace_of(self._request), stamped)
        return remembered(record, *await bring(self._resources, self._response, event))


ToChange = Annotated[Changing, Depends()]


@router.delete(
    "/memories/{coordinate:path}", status_code=202, response_model=Remembered, responses=ANSWERS,
    summary="Forget a memory",
)  # fmt: skip
async def forget(
    change: ToChange,
    coordinate: Annotated[str, Path(description="where it lies")],
    namespace: Namespace = "",
) -> Remembered:
    """Accepted whether there is such a memory or not, so nothing is told by it."""
    place = place_of(coordinate, "")
    record = _record(await change.of(namespace), place, "deleted", namespace)
    return await change.write(record, change.key)


@router.post(
    "/graph/link", status_code=202, response_model=Remembered, responses=ANSWERS,
    summary="Link two memories", tags=["graph"],
)  # fmt: skip
async def link(change: ToChange, body: LinkIn) -> Remembered:
    """Both are the request's tenant's: a link never leads to another's."""
    place, other = place_of(body.from_, "/from"), place_of(body.to, "/to")
    whose = await change.of(body.namespace)
    record = _record(whose, place, "linked", body.namespace)
    record |= {"links": {memory_id(whose, other): body.kind}, "ts": body.ts}
    return await change.write(record, body.dedupe_key or change.key)


@router.post(
    "/memories/bulk", status_code=202, response_model=BulkOut, responses=ANSWERS | {
        200: {"model": BulkOut, "description": "All were there already: the first answers."}},
    summary="Remember many things",
)  # fmt: skip
async def bulk(
    request: StrictRequest,
    response: Response,
    resources: ResourcesDep,
    caller: WriterCaller,
    may: MayI,
    body: Annotated[list[MemoryIn], Field(min_length=1, max_length=BULK_MAX)],
    idempotency_key: IdempotencyKey,
    tenant: TenantHeader = None,
) -> BulkOut:
    """All are accepted, or none. Dedupe keys are as those of a batch of events. Without the header
    the tenant follows from the first one's namespace, and all must be of it.
    """
    whose = caller.must_cover(tenant_of(tenant, body[0].namespace))
    if any(tenant_of(tenant, one.namespace) != whose for one in body):
        raise Problem(422, "The namespaces are of several tenants: say X-Soma-Tenant.")
    if len(body) > resources.limits.batch_max:
        most = resources.limits.batch_max
        raise Problem(413, f"At most {most} memories are taken at once, not {len(body)}.")
    resources.take(whose, len(body))
    await may.ask("memories", whose)
    keys = dedupe_keys([one.dedupe_key for one in body], idempotency_key)
    trace = trace_of(request)

    def made() -> list[tuple[dict[str, Any], Event]]:
        found = []
        for one, key in zip(body, keys, strict=True):
            record = recorded(one, whose, key)
            stamped = "ts" if one.ts is None else None
            found.append((record, event_of(whose, record, key, trace, stamped)))
        return found

    pairs = await request.aside(made)
    events = [event for _, event in pairs]
    together = [k for k, one in enumerate(body) if idempotency_key and one.dedupe_key is None]
    after = f"{idempotency_key}:{len(body)}" if together else None
    unused = after if after is not None and after not in keys else None
    written = await resources.writing.write(events, together, unused)
    written = await _but_for_times(resources, written, events)
    places = [f"/{k}" for k in range(len(body))]
    out = outcome(written, keys, places, idempotency_key)
    if all(one.duplicate for one in out):
        response.status_code = 200
    records = [record for record, _ in pairs]
    told = [
        remembered(record, one, written.journaled) for record, one in zip(records, out, strict=True)
    ]
    return BulkOut(tenant=whose, journaled=written.journaled, memories=told)


async def _but_for_times(
    resources: Resources, written: Written, events: Sequence[Event]
) -> Written:
    """As `but_for_ts`, of each."""
    fates = []
    for fate, event in zip(written.added, events, strict=True):
        alone = await but_for_ts(resources, Written([fate], written.journaled), event)
        fates += alone.added
    return Written(fates, written.journaled, written.other)


def _record(tenant: str, coordinate: str, what: str, namespace: str) -> dict[str, Any]:
    """A memory_event without its keys, of an event that has no content."""
    return {
        "id": memory_id(tenant, coordinate), "tenant": tenant, "namespace": namespace,
        "type": what, "ts": None, "coordinate": coordinate, "memory_type": "episodic",
        "payload": "{}", "importance": None, "embedding": [], "model_revision": "", "links": {},
        "expected_version": None,
    }  # fmt: skip
