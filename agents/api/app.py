"""The application: routes, limits and stores put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from agents.api import admin, contract, events, health, memories, problems
from agents.api.buckets import Buckets
from agents.api.doors import Doors
from agents.api.metrics import ApiMetrics
from agents.api.middleware import Around
from agents.api.tokens import Tokens
from agents.api.writing import Writing
from agents.settings import Settings
from stores.outbox_door import OutboxDoor

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
        doors.outbox = await OutboxDoor.open(
            settings.postgres(), settings.namespace, "soma api", limits.connections
        )
        doors.writing = Writing(doors.outbox, doors.metrics)
        try:
            yield
        finally:
            await doors.outbox.close()

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
    for router in (events.router, memories.router, admin.router, health.router):
        app.include_router(router)
    contract.install(app)
    return app


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
