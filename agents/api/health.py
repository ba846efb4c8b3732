"""/healthz, /readyz, /metrics: for whoever runs the process. No token is wanted."""

import asyncio
import time
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from agents.api.dependencies import Resources, ResourcesDep, resources_of
from agents.api.keysets import KeysError
from agents.api.recall_desk import RecallDesk
from stores.errors import NotMigrated, StoreError
from stores.journal import JournalError
from stores.outbox import Defect

AGAIN_S = 1.0  # how long an answer holds: asking often costs nothing
ASK_S = 4.0

State = Literal["up", "down"]

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"
    psd_ok: bool | None = Field(
        None,
        description="of the matrix (ρ) that this process committed or read last: whether it is "
        "one still, where it is kept; null: there was none yet",
    )
    trace_error: float | None = Field(None, description="how far its trace is from 1")


class Ready(BaseModel):
    """Whether events are accepted. `degraded`: into the journal only, or memories aren't
    read just now."""

    status: Literal["ready", "degraded", "unavailable"]
    dependencies: dict[str, State] = Field(
        examples=[{"postgres": "up", "journal": "up"}],
        description="postgres; schema, where its migrations lack; journal, jwks, recall, if used",
    )


class Readiness:
    """Asks the dependencies, not more often than once a second."""

    def __init__(self, recall: RecallDesk | None = None) -> None:
        self._recall = recall
        self._last: Ready | None = None
        self._at = float("-inf")
        self._lock = asyncio.Lock()

    async def ask(self, resources: Resources) -> Ready:
        """What they say."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._at > AGAIN_S:
                self._last = self._with_recall(await _asked(resources))
                self._at = time.monotonic()
            return self._last

    def _with_recall(self, ready: Ready) -> Ready:
        """Not ready before all memories were read once; later only what is found is old."""
        if self._recall is None:
            return ready
        up = not self._recall.replica.why
        known = ready.dependencies | {"recall": "up" if up else "down"}
        if not self._recall.ready():
            return Ready(status="unavailable", dependencies=known)
        worse = ready.status == "ready" and not up
        return Ready(status="degraded" if worse else ready.status, dependencies=known)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Alive, summary="Is the process alive?")
async def healthz(resources: ResourcesDep) -> Alive:
    """Always, if it answers."""
    matrices = resources.matrices
    return Alive(psd_ok=matrices.psd_ok, trace_error=matrices.trace_error)


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not ready; `dependencies` says why."}},
    summary="Are events accepted?",
)
async def readyz(request: Request, response: Response, resources: ResourcesDep) -> Ready:
    """While PostgreSQL is away, too, as long as the journal isn't full."""
    ready: Ready = await request.app.state.readiness.ask(resources)
    if ready.status == "unavailable":
        response.status_code = 503
    return ready


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
    summary="Metrics",
)
async def metrics(request: Request) -> Response:
    """Of this process."""
    text = generate_latest(resources_of(request).metrics.registry)
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


async def _asked(resources: Resources) -> Ready:
    found: dict[str, State] = {}
    store = await _store(resources, found)
    resources.writing.seen(store)
    kept = await _journal(resources, found)
    if resources.tokens.keys is not None:
        try:
            await resources.tokens.keys.key(None)
            found["jwks"] = "up"
        except KeysError:
            found["jwks"] = "down"
    if found.get("jwks") == "down" or not (store or kept):
        return Ready(status="unavailable", dependencies=found)
    return Ready(status="ready" if store else "degraded", dependencies=found)


async def _store(resources: Resources, found: dict[str, State]) -> bool:
    """Whether PostgreSQL takes events."""
    found["postgres"] = "down"
    try:
        async with asyncio.timeout(ASK_S):
            await resources.aside.ready()
    except (NotMigrated, Defect):
        found |= {"postgres": "up", "schema": "down"}
        return False
    except (StoreError, TimeoutError):
        return False
    found["postgres"] = "up"
    return True


async def _journal(resources: Resources, found: dict[str, State]) -> bool:
    """Whether the journal takes what PostgreSQL doesn't. (Only an outage brings events there: while
    the schema alone is lacking they are refused.)"""
    if resources.journal is None:
        return False
    found["journal"] = "down"
    try:
        await resources.journal.check()
    except JournalError:
        return False
    found["journal"] = "up"
    return found["postgres"] == "down" or resources.writing.away
