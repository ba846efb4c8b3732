"""/admin/outbox: what waits or failed, and what people do about it. Every change is audited."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from agents.api.bodies import StrictRoute
from agents.api.body_models import BodyModel, Time
from agents.api.callers import Caller, asker
from agents.api.dependencies import AdminCaller, Resources, ResourcesDep
from agents.api.permission import MayI, scope_of
from agents.api.problems import documented
from stores.outbox import TenantSummary

router = APIRouter(
    prefix="/admin/outbox",
    route_class=StrictRoute,
    tags=["admin"],
    responses=documented(400, 408, 413, 415),
)

Status = Literal["pending", "failed", "skipped", "sent"]
Tenant = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
TopicFilter = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]+$",
        description="A topic's name, compared literally; a `*` at its end stands for any rest.",
    ),
]
EventId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class RowOut(BaseModel):
    """One event of the outbox."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: datetime
    topic: str
    tenant: str
    key: str
    shard: int
    status: Status
    retries: int
    next_attempt_at: datetime | None
    last_error: str | None
    dedupe_key: str
    headers: dict[str, Any] | None
    payload: str | None = Field(description="JSON text; null if it is Avro, or large")
    bytes: int


class Rows(BaseModel):
    """A page of events."""

    events: list[RowOut]
    limit: int
    offset: int


class TenantOut(BaseModel):
    """What of a tenant waits."""

    model_config = ConfigDict(from_attributes=True)

    tenant: str
    pending: int
    failed: int
    oldest_age_s: float
    refused: bool = Field(description="it has max_pending events pending, and may not add more")
    max_pending: int


class SummaryOut(BaseModel):
    """What waits: of all tenants, or of those that the token covers."""

    pending: int
    failed: int
    oldest_age_s: float
    tenants: int = Field(description="tenants of which anything waits")
    top: list[TenantOut] = Field(description="those with the most, at most 100")


class Ids(BodyModel):
    """Which events."""

    event_ids: list[EventId] = Field(min_length=1, max_length=1000)


class ReplayTenant(BodyModel):
    """Which events of a tenant."""

    tenant_id: Tenant
    status: Literal["failed", "skipped"] = "failed"
    topic_filter: TopicFilter | None = None
    before_timestamp: Time | None = Field(None, description="added before this time")
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


class ReplayedOut(BaseModel):
    """What was put back into the queue."""

    replayed: list[int]
    missing: list[int] = Field(description="ids that don't exist, or aren't for this token")
    not_failed: list[int]
    more: bool = Field(False, description="the limit was reached: ask again")


class SkippedOut(BaseModel):
    """What was given up: it is never sent, and holds nothing back any more."""

    skipped: list[int]
    missing: list[int]
    not_failed: list[int]


@router.get("", response_model=Rows, summary="List events")
async def listed(
    resources: ResourcesDep,
    caller: AdminCaller,
    status: Status | None = None,
    tenant: Tenant | None = None,
    topic_filter: Annotated[TopicFilter | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
) -> Rows:
    """What waits comes oldest first; what is sent or skipped, and all together, newest first."""
    whose = caller.one_tenant(tenant)
    _take(resources, caller)
    rows = await resources.outbox.list(status, whose, topic_filter, limit, offset)
    shown = [RowOut.model_validate(row) for row in rows]
    return Rows(events=shown, limit=limit, offset=offset)


@router.get("/summary", response_model=SummaryOut, summary="What waits")
async def summary(resources: ResourcesDep, caller: AdminCaller) -> SummaryOut:
    """In all, and by tenant."""
    _take(resources, caller)
    if caller.tenants is not None:
        top = await resources.outbox.summary_of(caller.tenants)
        return SummaryOut(
            pending=sum(one.pending for one in top),
            failed=sum(one.failed for one in top),
            oldest_age_s=max((one.oldest_age_s for one in top), default=0.0),
            tenants=len(top),
            top=_tenants(top[:100]),
        )
    found = await resources.outbox.summary()
    return SummaryOut(
        pending=found.pending,
        failed=found.failed,
        oldest_age_s=found.oldest_age_s,
        tenants=found.tenants,
        top=_tenants(found.top),
    )


@router.post("/replay", response_model=ReplayedOut, summary="Replay events")
async def replay(resources: ResourcesDep, caller: AdminCaller, may: MayI, body: Ids) -> ReplayedOut:
    """Failed and skipped events go back into the queue, at their place in the order."""
    _take(resources, caller)
    await may.ask("outbox.replay", scope_of(caller))
    ids, hidden = await _visible(resources, caller, body.event_ids)
    if not ids:
        return ReplayedOut(replayed=[], missing=hidden, not_failed=[])
    done = await resources.outbox.replay(ids, caller.subject)
    return ReplayedOut(
        replayed=done.replayed, missing=sorted([*done.missing, *hidden]), not_failed=done.not_failed
    )


@router.post("/replay/tenant", response_model=ReplayedOut, summary="Replay a tenant's events")
async def replay_tenant(
    resources: ResourcesDep, caller: AdminCaller, may: MayI, body: ReplayTenant
) -> ReplayedOut:
    """A tenant's failed (or skipped) events go back into the queue, oldest first."""
    whose = caller.must_cover(body.tenant_id)
    _take(resources, caller)
    await may.ask("outbox.replay", whose)
    done = await resources.outbox.replay_tenant(
        whose,
        caller.subject,
        status=body.status,
        topic_filter=body.topic_filter,
        before=body.before_timestamp,
        limit=body.limit,
    )
    return ReplayedOut(
        replayed=done.replayed, missing=done.missing, not_failed=done.not_failed, more=done.more
    )


@router.post("/skip", response_model=SkippedOut, summary="Give events up")
async def skip(resources: ResourcesDep, caller: AdminCaller, may: MayI, body: Ids) -> SkippedOut:
    """Failed events are given up; what waits behind them goes on."""
    _take(resources, caller)
    await may.ask("outbox.skip", scope_of(caller))
    ids, hidden = await _visible(resources, caller, body.event_ids)
    if not ids:
        return SkippedOut(skipped=[], missing=hidden, not_failed=[])
    done = await resources.outbox.skip(ids, caller.subject)
    return SkippedOut(
        skipped=done.skipped, missing=sorted([*done.missing, *hidden]), not_failed=done.not_failed
    )


def _take(resources: Resources, caller: Caller) -> None:
    """Questions count against a rate too: of the person who asks."""
    resources.take(asker(caller))


async def _visible(
    resources: Resources, caller: Caller, ids: Sequence[int]
) -> tuple[list[int], list[int]]:
    """(ids that the caller may see, the others in order). An event's tenant never changes."""
    wanted = list(dict.fromkeys(ids))
    if caller.tenants is None:
        return wanted, []
    seen = await resources.outbox.of_tenants(wanted, caller.tenants)
    return seen, sorted(set(wanted) - set(seen))


def _tenants(found: Sequence[TenantSummary]) -> list[TenantOut]:
    return [TenantOut.model_validate(one) for one in found]
