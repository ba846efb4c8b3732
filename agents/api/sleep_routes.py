"""/api/…/sleep: how deep a tenant is to sleep, and how deep it does.

A request is written to brain.sleep.requests, which isn't the outbox's; the processor `sleep` obeys
or refuses it. Only administrators of the tenant ask.
"""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from agents.api.bodies import StrictRoute
from agents.api.body_models import BodyModel
from agents.api.callers import Caller, tenant_of
from agents.api.dependencies import (
    AdminCaller,
    IdempotencyKey,
    ResourcesDep,
    TenantHeader,
    caller_of,
    too_many,
    trace_of,
)
from agents.api.owners import Owners
from agents.api.permission import MayI
from agents.api.problems import documented
from agents.api.sleep_desk import Done, SleepDesk
from agents.kit.asleep import ACTIVE, STATES, powers
from agents.sleep.law import OPERATOR, POLICY, TTL_S_MAX

SECOND = 1_000_000
PROCESSOR = "sleep"
TRACE_MAX = 128

router = APIRouter(prefix="/api", route_class=StrictRoute, tags=["sleep"])
State = Literal["active", "light", "deep", "freeze"]


def _lower(given: Any) -> Any:
    return given.lower() if isinstance(given, str) else given


class SleepIn(BodyModel):
    """What state a tenant is to be in."""

    target_state: Annotated[State, BeforeValidator(_lower)] = Field(
        description="in capitals, too; the states between are walked over"
    )
    ttl_seconds: Annotated[int, Field(ge=1, le=TTL_S_MAX)] | None = Field(
        None, description="Wake by itself after so long, by the log's clock."
    )
    async_mode: bool = Field(
        True, description="Answer when it is asked for (202), not when it is in force (200)."
    )
    trace_id: Annotated[str, Field(max_length=TRACE_MAX, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        None, description="Of whoever follows it; default: that of `traceparent`."
    )

    @field_validator("ttl_seconds")
    @classmethod
    def _of_a_sleep(cls, given: int | None, info: ValidationInfo) -> int | None:
        if given is not None and info.data.get("target_state") == STATES[ACTIVE]:
            raise PydanticCustomError("ttl", "is of a sleep: active has no end")
        return given


class PlaceOut(BaseModel):
    """From this record on."""

    partition: int
    offset: int


class InForceOut(BaseModel):
    """What the request came to."""

    outcome: Literal["changed", "prolonged", "unchanged"]
    state: State
    version: int = Field(description="of the tenant's sleep")
    wake_at: datetime | None = Field(description="when it wakes by itself, by the log's clock")
    offsets: dict[str, PlaceOut] = Field(
        description="Topic -> where it acts from; without what was so before, or isn't found in "
        "time in a busy log."
    )


class AskedOut(BaseModel):
    """The request is written. soma.audit has its answer under this id."""

    sleep_request_id: str
    tenant: str
    target_state: State
    duplicate: bool = Field(description="the idempotency key's request was written before")
    in_force: InForceOut | None = Field(description="null unless it was waited for")


class SleepOut(BaseModel):
    """A tenant's sleep, from the worker that knows."""

    tenant: str
    state: State
    since: datetime | None = Field(description="null: it was never asked to sleep, or long ago")
    wake_at: datetime | None
    cause: Literal["", "operator", "circuit", "policy"] = Field(description="empty while awake")
    wake_on_traffic: bool
    version: int
    powers: dict[str, float] = Field(description="K, t, tau, eta, lambda and B at this depth")


async def desk_of(request: Request) -> SleepDesk:
    """The process' desk."""
    desk: SleepDesk = request.app.state.sleep
    return desk


Desk = Annotated[SleepDesk, Depends(desk_of)]
ASKED: dict[int | str, dict[str, Any]] = {
    200: {"model": AskedOut, "description": "In force; or the idempotency key's first request."},
    202: {"description": "Asked for, not yet answered."},
    **documented(400, 408, 409, 413, 415),
}


class Asking:
    """A request to sleep, before its body is looked at."""

    def __init__(
        self, request: Request, resources: ResourcesDep, desk: Desk, may: MayI,
        caller: AdminCaller, idempotency_key: IdempotencyKey, tenant: TenantHeader = None,
    ) -> None:  # fmt: skip
        self.deadline = desk.deadline()
        self.tenant = caller.must_cover(tenant_of(tenant))
        resources.take(self.tenant)
        if wait := desk.buckets.take(self.tenant, 1.0, time.monotonic()):
            resources.metrics.refused.labels("sleep").inc()
            raise too_many("More requests for this tenant's sleep than it may have.", wait)
        self._request, self._desk, self._caller = request, desk, caller
        self._key, self._may = idempotency_key, may

    async def do(self, body: SleepIn, kind: str, response: Response) -> AskedOut:
        """Ask the policy, write it, and wait if so asked."""
        path = self._request.url.path
        await self._may.ask(
            path.rpartition("/")[2], self.tenant,
            target_state=body.target_state, max_seconds=body.ttl_seconds,
        )  # fmt: skip
        parent = trace_of(self._request).get("traceparent", "")
        record = {
            "tenant": self.tenant, "target": body.target_state, "kind": kind,
            "ttl_seconds": body.ttl_seconds, "wake_on_traffic": False, "version": 0,
            "trace_id": body.trace_id or (parent.split("-")[1] if parent else None),
            "actor": self._caller.subject, "ts": time.time_ns() // 1000,
        }  # fmt: skip
        done = await self._desk.ask(record, self._key, self.deadline, not body.async_mode)
        response.status_code = 200 if done.duplicate or done.answer is not None else 202
        return AskedOut(
            sleep_request_id=done.request_id, tenant=self.tenant, target_state=body.target_state,
            duplicate=done.duplicate, in_force=_in_force(done),
        )  # fmt: skip


Asked = Annotated[Asking, Depends()]


@router.post(
    "/util/sleep", status_code=202, response_model=AskedOut, responses=ASKED,
    summary="Let a tenant sleep, or wake it",
)  # fmt: skip
async def util_sleep(asking: Asked, body: SleepIn, response: Response) -> AskedOut:
    """As an operator: it takes every sleep over, and wakes everybody."""
    return await asking.do(body, OPERATOR, response)


@router.post(
    "/brain/sleep_mode", status_code=202, response_model=AskedOut, responses=ASKED,
    summary="The same by its other name",
)  # fmt: skip
async def sleep_mode(asking: Asked, body: SleepIn, response: Response) -> AskedOut:
    """As /api/util/sleep does; a policy may tell them apart by path and action."""
    return await asking.do(body, OPERATOR, response)


@router.post(
    "/brain/sleep_policy", status_code=202, response_model=AskedOut, responses=ASKED,
    summary="Let a tenant sleep until it is needed",
)  # fmt: skip
async def sleep_policy(asking: Asked, body: SleepIn, response: Response) -> AskedOut:
    """In the policy's name: the tenant's next observation wakes it, an operator's or the circuit's
    sleep isn't changed, and only its own is ended.
    """
    return await asking.do(body, POLICY, response)


@router.get(
    "/sleep/state", response_model=SleepOut, responses=documented(503),
    summary="How deep a tenant sleeps",
)  # fmt: skip
async def sleep_state(
    request: Request,
    resources: ResourcesDep,
    caller: Annotated[Caller, Depends(caller_of)],
    tenant: TenantHeader = None,
) -> SleepOut:
    """From the worker that has the tenant's partition of `sleep`; 503 while none has."""
    caller.must_have("read")
    whose = caller.must_cover(tenant_of(tenant))
    resources.take(whose)
    owners: Owners = request.app.state.owners
    rows = (await owners.state(PROCESSOR, whose))["rows"]
    fields: dict[str, Any] = next((row["fields"] for row in rows if not row.get("entity")), {})
    state = fields.get("state", STATES[ACTIVE])
    has = powers(STATES.index(state))
    return SleepOut(
        tenant=whose, state=state, since=_time(fields.get("since") or None),
        wake_at=_time(fields.get("wake_at")), cause=fields.get("cause", ""),
        wake_on_traffic=fields.get("wakes", False), version=fields.get("version", 0),
        powers={
            "K": has.K, "t": has.t, "tau": has.tau, "eta": has.eta, "lambda": has.lam, "B": has.B,
        },
    )  # fmt: skip


def _in_force(done: Done) -> InForceOut | None:
    if (said := done.answer) is None:
        return None
    offsets = {
        topic: PlaceOut(partition=partition, offset=offset)
        for topic, (partition, offset) in sorted(done.places.items())
    }
    return InForceOut(
        outcome=said["outcome"], state=said["state"], version=said["version"],
        wake_at=_time(said["wake_at"]), offsets=offsets,
    )  # fmt: skip


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(micros / SECOND, UTC)
