"""/admin/journal: what this process keeps while PostgreSQL is away. Each process has its own.

The journal holds events of all tenants: only an administrator of all of them is let in.
"""

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from agents.api import journal_admin
from agents.api.bodies import StrictRoute
from agents.api.dependencies import AdminCaller, ResourcesDep
from agents.api.permission import SEVERAL, MayI
from agents.api.problems import Problem, documented
from stores.errors import StoreDown
from stores.journal import Journal, JournalError, JournalRow

router = APIRouter(
    prefix="/admin/journal",
    route_class=StrictRoute,
    tags=["admin"],
    responses=documented(400, 404, 408, 413, 415),
)
logger = logging.getLogger(__name__)

State = Literal["pending", "drained", "failed"]
Seq = Annotated[int, Field(ge=1, le=2**53 - 1)]


class Stats(BaseModel):
    """How full the journal is."""

    folder: str
    pending: int = Field(description="events that wait for the outbox")
    drained: int = Field(description="kept until their time is over")
    failed: int = Field(description="refused by the outbox for good")
    tenants_waiting: int
    oldest_pending_s: float | None
    files: int
    packed_files: int
    set_aside: list[str] = Field(description="files that can't be read")
    bytes: int
    bytes_max: int


class JournalEventOut(BaseModel):
    """One event of the journal."""

    seq: int
    state: State
    error: str | None
    created: float = Field(description="s since 1970")
    topic: str
    tenant: str
    key: str
    dedupe_key: str
    headers: dict[str, str] | None
    payload: str = Field(description="JSON text")


class Events(BaseModel):
    """A page of events, oldest first."""

    events: list[JournalEventOut]
    limit: int
    offset: int


class ReplayIn(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seqs: list[Seq] = Field(min_length=1, max_length=1000)
    drained: bool = Field(False, description="drained ones too: the database was restored")


class ReplayedOut(BaseModel):
    """What waits again."""

    replayed: list[int]
    missing: list[int]
    not_failed: list[int]


class CleanupIn(BaseModel):
    """What to do besides packing and removing what is old."""

    model_config = ConfigDict(extra="forbid", strict=True)

    drop_failed: bool = Field(False, description="delete the events that the outbox refused")


class CleanedOut(BaseModel):
    """What was done."""

    packed: int = Field(description="files")
    removed: int = Field(description="files")
    failed_deleted: int = Field(description="events")


async def journal_of(resources: ResourcesDep, caller: AdminCaller) -> Journal:
    """The journal, for an administrator of all tenants; `Problem` 403, or 404 where none is."""
    if caller.tenants is not None:
        raise Problem(403, "The journal holds all tenants' events: this needs a token for all.")
    resources.take(f"\x1f{caller.subject}")
    if resources.journal is None:
        raise Problem(404, "This process has no journal.")
    return resources.journal


InJournal = Annotated[Journal, Depends(journal_of)]


@router.get("/stats", response_model=Stats, summary="How full the journal is")
async def stats(journal: InJournal) -> dict[str, Any]:
    """Events by state, files, bytes, and the age of the oldest event that waits."""
    try:
        return await journal.stats()
    except JournalError as error:
        raise _away(error) from None


@router.get("/events", response_model=Events, summary="List the journal's events")
async def events(
    journal: InJournal,
    status: State | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Events:
    """Oldest first."""
    try:
        rows = await journal.events(limit, offset, status)
    except JournalError as error:
        raise _away(error) from None
    return Events(events=[_out(row) for row in rows], limit=limit, offset=offset)


@router.post("/replay", response_model=ReplayedOut, summary="Drain events again")
async def replay(
    journal: InJournal, resources: ResourcesDep, caller: AdminCaller, may: MayI, body: ReplayIn
) -> ReplayedOut:
    """Refused events wait again; with `drained` those as well that the outbox took. Audited."""
    await may.ask("journal.replay", SEVERAL)
    try:
        done = await journal_admin.replay(
            journal, resources.outbox, caller.subject, body.seqs, body.drained
        )
    except JournalError as error:
        raise _away(error) from None
    except StoreDown as error:
        raise _unaudited(error) from None
    return ReplayedOut(
        replayed=list(done.replayed), missing=list(done.missing), not_failed=list(done.not_failed)
    )


@router.post("/cleanup", response_model=CleanedOut, summary="Tidy the journal")
async def cleanup(
    journal: InJournal, resources: ResourcesDep, caller: AdminCaller, may: MayI, body: CleanupIn
) -> CleanedOut:
    """Drained files are packed, those whose time is over removed. What is deleted is audited."""
    await may.ask("journal.cleanup", SEVERAL)
    deleted = 0
    try:
        if body.drop_failed:
            deleted = await journal_admin.drop_failed(journal, resources.outbox, caller.subject)
        done = await journal.cleanup()
    except JournalError as error:
        raise _away(error) from None
    except StoreDown as error:
        raise _unaudited(error) from None
    return CleanedOut(packed=done.packed, removed=done.removed, failed_deleted=deleted)


def _out(row: JournalRow) -> JournalEventOut:
    one = row.event
    return JournalEventOut(
        seq=row.seq,
        state=row.state,
        error=row.error,
        created=one.created,
        topic=one.topic,
        tenant=one.tenant,
        key=one.key,
        dedupe_key=one.dedupe_key,
        headers=one.headers,
        payload=one.payload,
    )


def _away(error: JournalError) -> Problem:
    logger.error("The journal doesn't do it: %s", error)
    return Problem(503, "The journal doesn't do it now.", {"Retry-After": "5"})


def _unaudited(error: StoreDown) -> Problem:
    logger.warning("The journal stays as it is: %s", error)
    said = "The audit, in PostgreSQL, can't be written now; without it this isn't done."
    return Problem(503, said, {"Retry-After": "5"})
