"""/admin/replay: jobs that do the past of a topic again. Each command is audited first.

A job reads everybody's records: only an administrator of all tenants is let in.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from agents.api.bodies import StrictRoute
from agents.api.body_models import BodyModel, at_most
from agents.api.callers import Caller, asker
from agents.api.dependencies import AdminCaller, ResourcesDep
from agents.api.permission import SEVERAL, MayI
from agents.api.problems import Problem, documented
from agents.replay import client
from agents.replay.command import TENANTS_MAX, Command
from agents.replay.modes import ATTEMPTS_MAX, refusal_of
from agents.settings import Settings, SettingsError
from stores.errors import StoreDown

router = APIRouter(
    prefix="/admin/replay",
    route_class=StrictRoute,
    tags=["admin"],
    responses=documented(400, 408, 413, 415),
)
logger = logging.getLogger(__name__)

RETRY_S = {"Retry-After": "5"}
T = TypeVar("T")
JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Name = Annotated[str, Field(max_length=128)]
Text = Annotated[str, Field(max_length=1_000)]
Setting = Annotated[str, Field(max_length=1_300)]
TRIED = 50  # settings of a what-if


class CommandIn(BodyModel):
    """A command. All but `id` and `type` is of a start; the others name its job by `id`."""

    id: JobId | None = Field(None, description="the job's; a start without one gets a new one")
    type: Literal["start", "pause", "resume", "stop", "status"] = "start"
    mode: Literal[
        "republish", "rebuild", "redrive", "outbox", "what-if", "projection", "shadow"
    ] = "republish"
    source: Text = Field(
        "",
        description="the topic to read; of a redrive, where records failed; "
        "of the outbox, that of the events",
    )
    target: Text = Field(
        "",
        description="a topic of your own, which must be there; of a rebuild, the processor; "
        "of a projection, which one",
    )
    shadow: Name = Field(
        "",
        description="instead: a namespace, whose topic of that name is made; of a rebuild, where "
        "its outputs go",
    )
    tenants: Annotated[list[Name], at_most(TENANTS_MAX)] = Field([], max_length=TENANTS_MAX)
    domains: Annotated[list[Name], at_most(TENANTS_MAX)] = Field([], max_length=TENANTS_MAX)
    predicate: Text = Field("", description="JMESPath; records for which it is true")
    since: Text = Field("", description="a time of the log, offsets, or a record's id")
    until: Text = Field("", description="likewise; before it the range ends")
    partial: bool = Field(False, description="what is gone from the log may be missing")
    dry_run: bool = Field(False, description="count what would be sent, and send nothing")
    apply: bool = Field(False, description="of a rebuild: put it in the live one's place")
    reasons: Annotated[list[Name], at_most(TENANTS_MAX)] = Field(
        [], max_length=TENANTS_MAX, description="of a redrive: of which dead letters"
    )
    max_attempts: Annotated[int, Field(ge=0, le=ATTEMPTS_MAX)] = Field(
        0, description="of a redrive: before a record is parked; 0: three"
    )
    rate_limit: Annotated[int, Field(ge=0, le=10**9)] = Field(0, description="records a second")
    settings: Annotated[list[Setting], at_most(TRIED)] = Field(
        [],
        max_length=TRIED,
        description="of a what-if: PROCESSOR.NAME=VALUE; "
        "of a redrive, FIELD=VALUE: a field to be changed first",
    )
    status: Literal["", "failed", "skipped", "sent"] = Field(
        "", description="of the outbox: which events; by default those that failed"
    )
    begin: Literal["", "log", "snapshot"] = Field(
        "",
        description="of a rebuild: as early as the log allows, or with the newest snapshot; by "
        "default the latter where rows are lost, and the former where not",
    )
    folded_to: Text = Field(
        "",
        description="of a rebuild: PARTITION:OFFSET,…, before which all was folded, where outputs "
        "don't tell",
    )


class SaidOut(BaseModel):
    """The command is written; what becomes of it, GET /admin/replay/{id} says."""

    id: str


class JobOut(BaseModel):
    """How a job is."""

    id: str
    state: Literal["accepted", "running", "paused", "done", "failed", "stopped", "refused"]
    ts: Any = Field(description="when this was so")
    message: str
    mode: str
    done: int = Field(description="offsets of the range that are behind it")
    total: int
    read: int = Field(description="records")
    sent: int = Field(description="records")
    sent_bytes: int
    rate: float = Field(description="records read a second, of late")
    left_s: float | None
    started: Any
    finished: Any
    plan: dict[str, Any] | None = Field(description="topics, ranges, what is missing; tenants met")
    digest_before: str | None
    digest_after: str | None


class JobsOut(BaseModel):
    """The jobs of the last 30 days."""

    jobs: list[JobOut] = Field(description="the latest first")


async def settings_of(request: Request, resources: ResourcesDep, caller: AdminCaller) -> Settings:
    """The process' settings, for an administrator of all tenants; `Problem` 403."""
    if caller.tenants is not None:
        raise Problem(403, "A job reads all tenants' records: this needs a token for all.")
    resources.take(asker(caller))
    settings: Settings = request.app.state.settings
    return settings


OfAll = Annotated[Settings, Depends(settings_of)]


@router.post("", status_code=202, response_model=SaidOut, summary="Start or command a job")
async def say(
    settings: OfAll, resources: ResourcesDep, caller: AdminCaller, may: MayI, body: CommandIn
) -> SaidOut:
    """The same start again does nothing more; another body under the same id is refused."""
    record = _record(body, caller)
    if body.type == "start" and (why := _refused(body)) is not None:
        raise Problem(422, why)
    await may.ask(f"replay.{body.type}", body.tenants[0] if len(body.tenants) == 1 else SEVERAL)
    said = {k: v for k, v in record.items() if v and k != "actor"}
    try:
        await resources.outbox.note(caller.subject, f"replay.{body.type}", {None: said})
    except StoreDown as error:
        logger.warning("No command is said: %s", error)
        audit = "The audit, in PostgreSQL, can't be written now; without it this isn't done."
        raise Problem(503, audit, RETRY_S) from None
    await _asked(partial(client.say, settings, record))
    return SaidOut(id=record["id"])


@router.get("", response_model=JobsOut, summary="List jobs")
async def jobs(settings: OfAll, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> JobsOut:
    """As they were last said to be."""
    found = sorted((await _asked(partial(_last, settings, None))).values(), key=_when)
    return JobsOut(jobs=[_out(one) for one in found[: -limit - 1 : -1]])


@router.get(
    "/{job}", response_model=JobOut, responses=documented(404), summary="How a job is"
)  # fmt: skip
async def job_of(settings: OfAll, job: Annotated[JobId, Path()]) -> JobOut:
    """As it was last said to be."""
    found = await _asked(partial(_last, settings, job))
    if job not in found:
        raise Problem(404, "There is no such job; one that was just started may not be known yet.")
    return _out(found[job])


def _record(body: CommandIn, caller: Caller) -> dict[str, Any]:
    """The command as it is written."""
    if body.id is None and body.type != "start":
        raise Problem(422, f"id: which job is to {body.type}?")
    given = body.model_dump() if body.type == "start" else {"type": body.type}
    name = body.id or client.new_id(body.mode)
    return client.command(given | {"id": name, "actor": caller.subject})


def _refused(body: CommandIn) -> str | None:
    """Why a start can't be, as far as it can be told here: the processor says the same."""
    given = body.model_dump(exclude={"id", "type"})
    lists = ("tenants", "domains", "reasons", "settings")
    given |= {name: tuple(given[name]) for name in lists}
    return refusal_of(Command(**given), time.time_ns() // 1000)


def _last(settings: Settings, job: str | None) -> dict[str, dict[str, Any]]:
    with client.Statuses(settings, job, past=True) as statuses:
        return statuses.last()


def _when(status: dict[str, Any]) -> int:
    return int(status["ts"])


def _out(status: dict[str, Any]) -> JobOut:
    return JobOut.model_validate(client.shown(status))


async def _asked(work: Callable[[], T]) -> T:
    """What Kafka says; `Problem` 503 where it doesn't."""
    try:
        return await asyncio.to_thread(work)
    except (client.NobodyAnswersError, SettingsError) as error:
        logger.warning("Replay: %s", error)
        said = "Kafka doesn't answer, or has no topics of replay."
        raise Problem(503, said, RETRY_S) from None
