"""/admin/dlq: dead letters, and their way back. What is done is audited in its own transaction.

Reading Kafka takes time, so each request has a deadline before its own time is over, and few are
under way at once. All of it is done in threads, the client's import too.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Query, Request

from agents.api.bodies import StrictRoute
from agents.api.body_models import Time
from agents.api.callers import Caller, asker
from agents.api.dependencies import AdminCaller, ResourcesDep
from agents.api.dlq_models import (
    ChosenIn,
    CountOut,
    CountsOut,
    DropIn,
    DroppedOut,
    LetterOut,
    LettersOut,
    Name,
    Reason,
    RedriveIn,
    RedrivenOut,
    ShownOut,
    Status,
    Tenant,
)
from agents.api.permission import MayI, scope_of
from agents.api.problems import Problem, documented
from agents.dlq.letters import LEFT, BadChoiceError, BusyError, DlqError, LateError, place_of
from agents.settings import Settings, SettingsError

if TYPE_CHECKING:
    from agents.dlq.redrive import Tally

router = APIRouter(
    prefix="/admin/dlq",
    route_class=StrictRoute,
    tags=["admin"],
    responses=documented(400, 408, 409, 413, 415),
)
logger = logging.getLogger(__name__)

AT_ONCE = 2  # requests of this kind that a process works on
PART_OF_TIME = 0.7  # of a request's time: the answer is to be written, too
RETRY_S = {"Retry-After": "5"}
T = TypeVar("T")
Given = dict[str, Any]  # the arguments of agents.dlq.choosing.choice


class Desk:
    """The requests that are under way, and the settings to answer them by."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._under_way = 0

    def deadline(self) -> float:
        """When a request that begins now must be done; time.monotonic()."""
        return time.monotonic() + PART_OF_TIME * self.settings.api.timeout_s

    async def do(self, work: Callable[[], T]) -> T:
        """What Kafka says, in a thread. `Problem` where it doesn't, or too many ask."""
        if self._under_way >= AT_ONCE:
            raise Problem(503, "Others ask for dead letters just now.", RETRY_S)
        self._under_way += 1
        try:
            with _problems():
                return await asyncio.shield(asyncio.create_task(self._done(work)))
        except asyncio.CancelledError:
            logger.warning("A request for dead letters took more than its time")
            raise

    async def _done(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        finally:
            self._under_way -= 1  # when the thread is done, whoever still waits


async def desk_of(request: Request, resources: ResourcesDep, caller: AdminCaller) -> Desk:
    """The process' desk; questions count against the rate of whoever asks."""
    resources.take(asker(caller))
    desk: Desk = request.app.state.dlq
    return desk


OfLetters = Annotated[Desk, Depends(desk_of)]


async def asked_for(
    caller: AdminCaller,
    topic: Annotated[Name | None, Query(description="where the records failed")] = None,
    reason: Reason | None = None,
    tenant: Tenant | None = None,
    since: Annotated[Time | None, Query(description="written at this log time or later")] = None,
    until: Annotated[Time | None, Query(description="written before this log time")] = None,
    status: Annotated[
        Status | None, Query(description="[default: those that are open or parked]")
    ] = None,
) -> Given:
    """The letters that a query means."""
    return {
        "topics": _given(topic), "reasons": _given(reason),
        "tenants": _given(caller.one_tenant(tenant)), "since": since, "until": until,
        "statuses": (status,) if status else LEFT,
    }  # fmt: skip


Asked = Annotated[Given, Depends(asked_for)]


@router.get("", response_model=LettersOut, summary="List dead letters")
async def listed(
    desk: OfLetters,
    asked: Asked,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
) -> LettersOut:
    """The oldest first."""
    after, deadline = _cursor(cursor), desk.deadline()

    def work() -> tuple[list[Any], bool]:
        from agents.dlq.choosing import choice
        from agents.dlq.listing import Cursor, listed

        behind = Cursor(*after) if after is not None else None
        return listed(desk.settings, choice(**asked), limit, behind, deadline)

    rows, more = await desk.do(work)
    last = f"{rows[-1].failed_ms}:{rows[-1].place}" if more else None
    return LettersOut(letters=[LetterOut.model_validate(row) for row in rows], cursor=last)


@router.get("/stats", response_model=CountsOut, summary="Count dead letters")
async def counted(
    desk: OfLetters, asked: Asked, top: Annotated[int, Query(ge=0, le=1000)] = 5
) -> CountsOut:
    """By topic and reason, with their ages, and the `top` tenants that have the most."""
    deadline = desk.deadline()

    def work() -> CountsOut:
        from agents.dlq.choosing import choice
        from agents.dlq.listing import counted

        found = counted(desk.settings, choice(**asked), deadline)
        return CountsOut(counts=[CountOut.model_validate(one.data(top)) for one in found])

    return await desk.do(work)


@router.get(
    "/{topic}/{partition}/{offset}", response_model=ShownOut, responses=documented(404),
    summary="Show a dead letter",
)  # fmt: skip
async def shown(
    desk: OfLetters, caller: AdminCaller, topic: Name,
    partition: Annotated[int, Path(ge=0, le=999_999_999)],
    offset: Annotated[int, Path(ge=0, le=10**18 - 1)],
) -> ShownOut:  # fmt: skip
    """Its record as far as it can be read, the fields that were wrong, and how to mend it."""
    place, deadline = f"{topic}/{partition}/{offset}", desk.deadline()

    def work() -> ShownOut | None:
        from agents.dlq.choosing import choice
        from agents.dlq.listing import chosen, shown

        for found in chosen(desk.settings, choice(places=[place]), deadline):
            data = shown(*found)
            if caller.tenants is None or data["tenant"] in caller.tenants:
                return ShownOut.model_validate(data)
        return None

    if (answer := await desk.do(work)) is None:
        raise Problem(404, "There is no such letter, or none for this token.")
    return answer


@router.post("/redrive", response_model=RedrivenOut, summary="Redrive dead letters")
async def redriven(desk: OfLetters, caller: AdminCaller, may: MayI, body: RedriveIn) -> RedrivenOut:
    """Their records go to their topic again, the oldest first, each once for each failure."""
    given, whose = _chosen(caller, body), [scope_of(caller, body.tenant)]
    if isinstance(mended := body.set.get("tenant"), str):
        whose.append(caller.must_cover(mended))
    await may.ask("dlq.redrive", *whose)
    tally = await _done(desk, caller, body, given, most=body.max_attempts, changes=body.set)
    logger.info("%s redrove %d dead letters", caller.subject, 0 if body.dry_run else tally.sent)
    return RedrivenOut.model_validate(tally.data())


@router.post("/drop", response_model=DroppedOut, summary="Give dead letters up")
async def dropped(desk: OfLetters, caller: AdminCaller, may: MayI, body: DropIn) -> DroppedOut:
    """They are listed and redriven no more. Asked with `dry_run` first: how many there are."""
    if not (body.confirm or body.dry_run):
        raise Problem(422, "confirm: true is needed to give letters up, or ask with dry_run first.")
    given = _chosen(caller, body)
    await may.ask("dlq.drop", scope_of(caller, body.tenant))
    tally = await _done(desk, caller, body, given, drops=True)
    logger.info("%s dropped %d dead letters", caller.subject, 0 if body.dry_run else tally.dropped)
    return DroppedOut.model_validate(tally.data())


async def _done(
    desk: Desk, caller: Caller, body: ChosenIn, given: Given, *, drops: bool = False, **how: Any
) -> "Tally":
    """What became of letters that were to be redriven, or dropped."""
    deadline = desk.deadline()

    def work() -> "Tally":
        from agents.dlq.choosing import choice
        from agents.dlq.redrive import Terms, drop, redrive

        terms = Terms(
            caller.subject, dry=body.dry_run, limit=body.limit, deadline=deadline, **how
        )  # fmt: skip
        tally = (drop if drops else redrive)(desk.settings, choice(**given), terms)
        if tally.more and not (tally.committed or tally.sent or tally.dropped or tally.all_refused):
            raise LateError("nothing could be done in time")
        return tally

    return await desk.do(work)


def _chosen(caller: Caller, body: ChosenIn) -> Given:
    """The letters that a body means. `Problem` 422."""
    filters = (body.topic, body.reason, body.tenant, body.since, body.until)
    if bool(body.places) == any(one is not None for one in filters):
        raise Problem(422, "Give places, or what chooses among all: one of the two.")
    return {
        "topics": _given(body.topic), "reasons": _given(body.reason),
        "tenants": _given(caller.one_tenant(body.tenant)), "since": body.since,
        "until": body.until, "statuses": LEFT, "places": body.places,
    }  # fmt: skip


def _given(one: str | None) -> tuple[str, ...]:
    return () if one is None else (one,)


def _cursor(text: str | None) -> tuple[int, Any] | None:
    """Where a page ended, from what it said. `Problem` 422."""
    if text is None:
        return None
    number, _, rest = text.partition(":")
    place = place_of(rest)
    if place is None or not (number.isascii() and number.isdecimal() and len(number) < 16):
        raise Problem(422, "cursor: isn't one that an earlier page gave.")
    return int(number), place


@contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except BadChoiceError as error:
        raise Problem(422, str(error)) from None
    except BusyError as error:
        logger.warning("Dead letters: %s", error)
        said = "Somebody else redrives or drops letters of this topic just now."
        raise Problem(409, said, RETRY_S) from None
    except LateError:
        said = "Not all letters could be read in time: ask for fewer topics, or a range of times."
        raise Problem(503, said, RETRY_S) from None
    except (DlqError, SettingsError) as error:
        logger.warning("Dead letters: %s", error)
        said = "Kafka doesn't answer, or has no topics of dead letters."
        raise Problem(503, said, RETRY_S) from None
