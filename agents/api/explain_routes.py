"""GET /explain/{record_id}: what one record did to its tenant's state, and why, folded anew.

As `soma explain` says it, but within a request's time; of one record at a time in each process, for
a fold takes a core. A record of another tenant is answered as one that isn't there, and told so
where an id in a record of the caller's names it.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

from confluent_kafka import KafkaException
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from agents.api.bodies import StrictRoute
from agents.api.callers import Caller, payer
from agents.api.dependencies import ResourcesDep, TenantHeader, caller_of
from agents.api.problems import Problem, documented
from agents.history.errors import HistoryError, TookTooLong
from agents.settings import Settings
from topics.broker import BrokerError
from topics.reading import NO_PARTITION

if TYPE_CHECKING:
    from agents.history.explain import Explained

ID_MAX = 400  # characters: a topic's name (249 at most), two numbers; or a segment's id
COST = 50  # events' worth of a tenant's rate
PART_OF_TIME = 0.7  # of a request's: the answer is to be written, too
RETRY = {"Retry-After": "2"}
ABSENT = "There is no such record."
COLD = "The kernels of {} aren't compiled on this machine yet: `soma warm` does it."
LATE = "It takes longer than a request may: `soma explain` takes its time."

router = APIRouter(route_class=StrictRoute, tags=["state"])


class ExplainedOut(BaseModel):
    """A record, its tenant's state on both sides of it, and what can be said of it."""

    place: str = Field(description="TOPIC/PARTITION/OFFSET")
    id: str
    log_ms: int = Field(description="when it was written")
    record: dict[str, Any] | None = Field(description="null: nobody can read it")
    processor: str = Field(description="whose fold of it this is")
    tenant: str
    fate: str = Field(examples=["folded", "dead_letter", "control", "forwarded"])
    reason: str = Field(description="of a dead letter")
    detail: str
    letter: dict[str, Any] | None = Field(description="the dead letter that was asked for")
    words: list[str] = Field(description="the law's own, with its numbers")
    begun: str = Field(alias="from", description="what the fold began with")
    notes: list[str]
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    changed: list[dict[str, Any]]
    lineage: list[dict[str, Any]] = Field(description="whence it came, and what it caused")


class Explaining:
    """Folds of one process, one at a time. `close` it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "explain")
        self._running: asyncio.Future[dict[str, Any]] | None = None

    def close(self) -> None:
        """What runs ends by its own deadline."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def explain(
        self, record_id: str, processor: str, covers: Callable[[str], bool]
    ) -> dict[str, Any]:
        """What `soma explain --json` says of a record of a tenant that is covered. `Problem`."""
        if self._running is not None and not self._running.done():
            raise Problem(503, "Another record is being explained here.", RETRY)
        seconds = PART_OF_TIME * self._settings.api.timeout_s
        late = _Deadline(time.monotonic() + seconds)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(
            self._thread, lambda: _explained(self._settings, record_id, processor, covers, late)
        )
        running.add_done_callback(lambda one: one.cancelled() or one.exception())
        self._running = running
        try:
            # The thread looks at the clock, too, but not while it compiles kernels.
            async with asyncio.timeout(seconds):
                return await asyncio.shield(running)
        except (TimeoutError, TookTooLong):
            raise Problem(504, LATE) from None
        except (BrokerError, KafkaException) as error:
            why = error.args[0].str() if isinstance(error, KafkaException) else error
            raise Problem(503, f"Kafka doesn't answer: {why}", RETRY) from None


class _Deadline:
    """Ends what calls it now and then. TookTooLong."""

    def __init__(self, until: float) -> None:
        self._until = until

    def __call__(self, *_: object) -> None:
        if time.monotonic() > self._until:
            raise TookTooLong(LATE)


def _explained(
    settings: Settings, record_id: str, processor: str, covers: Callable[[str], bool],
    late: _Deadline,
) -> dict[str, Any]:  # fmt: skip
    """Of whoever isn't covered nothing is told, nor why it can't be found."""
    from agents.engine.compiling import missing, units
    from agents.history import explain  # kernels: when used
    from agents.history.finding import Finder

    finder = Finder(settings, late)
    try:
        found = explain.subject(settings, finder, record_id)
        whose = {explain.tenant_of(found.record), *found.record.tenants}
    except TookTooLong:
        raise
    except HistoryError as error:
        raise Problem(404, str(error) if covers("*") else ABSENT) from None
    except KafkaException as error:
        if error.args[0].code() in NO_PARTITION:
            raise Problem(404, ABSENT) from None
        raise
    if not all(map(covers, whose)):
        raise Problem(404, ABSENT)
    late()
    try:
        plan = explain.plan_for(settings, found, processor)
        if missing(units([plan.processor.name])):
            raise Problem(503, COLD.format(plan.processor.name), RETRY)
        said: Explained = explain.explained(
            settings, finder, plan, found, late, alone=not covers("*")
        )
    except TookTooLong:
        raise
    except HistoryError as error:
        raise Problem(422, str(error)) from None
    return said.data()


@router.get(
    "/explain/{record_id:path}", response_model=ExplainedOut, responses=documented(404),
    summary="What a record did, and why",
)  # fmt: skip
async def explain(
    request: Request,
    resources: ResourcesDep,
    caller: Annotated[Caller, Depends(caller_of)],
    record_id: Annotated[
        str,
        Path(
            min_length=1, max_length=ID_MAX,
            description="the id of a frame, segment or observation, or TOPIC/PARTITION/OFFSET",
        ),
    ],
    processor: Annotated[
        str,
        Query(pattern=r"^([a-z][a-z0-9_]{0,63})?$", description="whose fold, where several read"),
    ] = "",
    tenant: TenantHeader = None,
) -> dict[str, Any]:  # fmt: skip
    """Its tenant's records are folded anew up to it, by the settings as they were; nothing is
    written. 504 where that takes longer than a request may.
    """
    caller.must_have("read")
    if tenant is not None:
        caller.must_cover(tenant)
    resources.take(payer(caller, tenant), COST)
    desk: Explaining = request.app.state.explaining

    def covers(one: str) -> bool:
        return one == tenant if tenant is not None else caller.covers(one)

    return await desk.explain(record_id, processor, covers)
