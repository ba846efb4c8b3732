"""/state: what a processor knows of a tenant now, from the worker that works on it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from agents.api.bodies import StrictRoute
from agents.api.callers import Caller
from agents.api.dependencies import ResourcesDep, caller_of
from agents.api.owners import Owners
from agents.api.problems import Problem, documented
from agents.engine.registry import processor_names

router = APIRouter(route_class=StrictRoute, tags=["state"])

Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="a processor")]
Tenant = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,128}$")]


class RowOut(BaseModel):
    """A state row: the tenant's own, or that of one of its domains or entities."""

    tenant: str
    entity: str = Field("", description="empty: the tenant's own row")
    fields: dict[str, Any]
    touched: str | None = Field(description="log time of its last record")
    settings: dict[str, Any] = Field(description="what the tenant set itself")


class StateOut(BaseModel):
    """All of it is committed, and of one moment: before the record at `offset`."""

    processor: str
    tenant: str
    partition: int
    source: str = Field(alias="from", description="who says so")
    offset: int = Field(description="of the processor's source: all before it is folded")
    end: int = Field(description="where the source ended when this was asked")
    notes: list[str]
    rows: list[RowOut]


@router.get(
    "/state/{processor}/{tenant}",
    response_model=StateOut,
    responses=documented(404, 422, 503),
    summary="What a processor knows of a tenant",
)
async def state(
    request: Request,
    resources: ResourcesDep,
    caller: Annotated[Caller, Depends(caller_of)],
    processor: Name,
    tenant: Tenant,
) -> dict[str, Any]:
    """From the worker that owns the tenant's partition. While nobody does (a rebalance, a
    recovery, no worker) it is 503, which says what is missing: no answer is from elsewhere.
    """
    caller.must_have("read")
    caller.must_cover(tenant)
    resources.take(tenant)
    if processor not in processor_names():
        raise Problem(404, "There is no such processor.")
    owners: Owners = request.app.state.owners
    said = await owners.state(processor, tenant)
    if not said["rows"]:
        raise Problem(404, f"{processor} has no state of this tenant.")
    return said
