"""The application: routes, limits and stores put together."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from agents.api import admin, contract, events, health, journal_routes, memories, problems
from agents.api.buckets import Buckets
from agents.api.doors import Doors
from agents.api.journal_door import LOCK_S, Door, open_journal
from agents.api.journal_metrics import collect
from agents.api.journal_sink import LOCK_S as ASIDE_LOCK_S
from agents.api.metrics import ApiMetrics
from agents.api.middleware import Around
from agents.api.tokens import Tokens
from agents.api.writing import Writing
from agents.settings import Settings
from stores.outbox_door import OutboxDoor

ASIDE = 2  # connections: one drains, one asks

logger = logging.getLogger(__name__)

DESCRIPTION = """
Events and memories are accepted into PostgreSQL's outbox; a relay brings each to Kafka once, in the
order of its key. An answer 202 means: on the disk. Errors are problem documents (RFC 9457).
Timestamps are ISO 8601 with an offset. Every answer has an X-Request-ID: the request's, if it had
one of 1-128 of [A-Za-z0-9._:-].
"""


def make(settings: Settings) -> FastAPI:
    """The FastAPI application. `SettingsError` if the settings don't allow it to be safe."""
    limits = settings.api
    buckets = Buckets(limits.rate_per_s, limits.rate_burst)
    doors = Doors(limits, Tokens(limits), ApiMetrics(), buckets)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with outboxes(settings, doors), journal_of(settings, doors) as door:
            doors.writing = Writing(doors.outbox, doors.metrics, door)
            try:
                yield
            finally:
                doors.large.close()

    app = FastAPI(
        title="Soma Stream",
        version=_version(),
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.limits = limits
    app.state.doors = doors
    app.state.readiness = health.Readiness()
    problems.install(app)
    for one in (events, memories, admin, journal_routes, health):
        app.include_router(one.router)
    contract.install(app)
    return app


@asynccontextmanager
async def outboxes(settings: Settings, doors: Doors) -> AsyncIterator[None]:
    """The outbox for requests; and aside, to ask and drain by while requests have all of that."""
    dsn, namespace = settings.postgres(), settings.namespace
    most = settings.api.connections
    doors.outbox = await OutboxDoor.open(dsn, namespace, "soma api", most, LOCK_S)
    doors.aside = await OutboxDoor.open(dsn, namespace, "soma api aside", ASIDE, ASIDE_LOCK_S)
    try:
        yield
    finally:
        await asyncio.gather(doors.outbox.close(), doors.aside.close())


@asynccontextmanager
async def journal_of(settings: Settings, doors: Doors) -> AsyncIterator[Door | None]:
    """The journal's door, drained beside the requests; none if it is off. `JournalError`."""
    if settings.api.journal == "off":
        yield None
        return
    if doors.journal is None:
        doors.journal = await asyncio.to_thread(open_journal, settings)
    journal = doors.journal
    collect(journal, doors.metrics.registry)
    door = Door(doors.outbox, journal, settings.journal.batch, doors.aside)
    draining = asyncio.create_task(door.run(), name="journal")
    draining.add_done_callback(_ended)
    try:
        yield door
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await asyncio.to_thread(journal.close)


def _ended(draining: "asyncio.Task[None]") -> None:
    """Events that nobody drains must not pile up unseen: a defect there ends the process."""
    if not draining.cancelled() and (error := draining.exception()) is not None:
        logger.critical("The journal isn't drained any more", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def guarded(app: FastAPI) -> Around:
    """The app behind its limits: what a server runs."""
    doors: Doors = app.state.doors
    limits = doors.limits
    return Around(app, doors.metrics, limits.concurrency, limits.timeout_s, limits.body_timeout_s)


def _version() -> str:
    try:
        return version("soma-stream")
    except PackageNotFoundError:
        return "0"
