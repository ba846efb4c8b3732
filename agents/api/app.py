"""The HTTP API's application: routes, limits and stores put together."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from agents.api import (
    admin,
    dlq_routes,
    events,
    explain_routes,
    health,
    journal_routes,
    learning_routes,
    memories,
    memory_writes,
    openapi,
    problems,
    recall_routes,
    replay_routes,
    rho_routes,
    sleep_routes,
    state_routes,
)
from agents.api.buckets import Buckets
from agents.api.dependencies import Resources
from agents.api.journal_metrics import collect
from agents.api.journal_sink import LOCK_S as ASIDE_LOCK_S
from agents.api.journaled import LOCK_S, JournaledOutbox, open_journal
from agents.api.metrics import ApiMetrics
from agents.api.middleware import Around
from agents.api.owners import Owners
from agents.api.recall_desk import RecallDesk
from agents.api.sleep_desk import SleepDesk
from agents.api.tokens import Tokens
from agents.api.writing import Writing
from agents.policy.access import access_of
from agents.rho.matrices import opened
from agents.settings import Settings
from agents.tools.version import version
from stores.outbox_tenants import TenantOutbox

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
    policy = access_of(settings)
    resources = Resources(limits, Tokens(limits), ApiMetrics(), buckets, policy=policy)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            outboxes(settings, resources),
            matrices_of(settings, resources),
            journal_of(settings, resources) as journaled,
        ):
            resources.writing = Writing(resources.outbox, resources.metrics, journaled)
            recall: RecallDesk | None = app.state.recall
            if recall is not None:
                await recall.start()
            try:
                yield
            finally:
                resources.offload.close()
                if recall is not None:
                    await recall.close()
                await app.state.sleep.close()
                app.state.explaining.close()
                if policy is not None:
                    await policy.close()

    app = FastAPI(
        title="Soma Stream",
        version=version(),
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.limits = limits
    app.state.settings = settings
    app.state.dlq = dlq_routes.Desk(settings)
    app.state.resources = resources
    app.state.owners = Owners(settings)
    app.state.sleep = SleepDesk(settings)
    app.state.explaining = explain_routes.Explaining(settings)
    on = settings.recall.serve == "on"
    app.state.recall = RecallDesk(settings, resources.metrics.registry) if on else None
    app.state.readiness = health.Readiness(app.state.recall)
    problems.install(app)
    routes = (events, memories, learning_routes, admin, dlq_routes, journal_routes, replay_routes)
    # The fixed paths of recall before those with a coordinate in them.
    more = (
        recall_routes,
        memory_writes,
        sleep_routes,
        state_routes,
        explain_routes,
        rho_routes,
        health,
    )
    for one in (*routes, *more):
        app.include_router(one.router)
    app.include_router(rho_routes.several)
    openapi.install(app)
    return app


@asynccontextmanager
async def outboxes(settings: Settings, resources: Resources) -> AsyncIterator[None]:
    """The outbox for requests; and aside, to ask and drain by while requests have all of that."""
    dsn, namespace = settings.postgres(), settings.namespace
    most = settings.api.connections
    resources.outbox = await TenantOutbox.open(dsn, namespace, "soma api", most, LOCK_S)
    resources.aside = await TenantOutbox.open(dsn, namespace, "soma api aside", ASIDE, ASIDE_LOCK_S)
    try:
        yield
    finally:
        await asyncio.gather(resources.outbox.close(), resources.aside.close())


@asynccontextmanager
async def matrices_of(settings: Settings, resources: Resources) -> AsyncIterator[None]:
    """ρ, over connections of its own: matrices are large, and events don't wait for them."""
    async with opened(settings, "soma api rho") as matrices:
        resources.matrices = matrices
        resources.metrics.follow(matrices)
        yield


@asynccontextmanager
async def journal_of(
    settings: Settings, resources: Resources
) -> AsyncIterator[JournaledOutbox | None]:
    """The outbox with its journal, which is drained meanwhile; None if off. `JournalError`."""
    if settings.api.journal == "off":
        yield None
        return
    if resources.journal is None:
        resources.journal = await asyncio.to_thread(open_journal, settings)
    journal = resources.journal
    collect(journal, resources.metrics.registry)
    journaled = JournaledOutbox(resources.outbox, journal, settings.journal.batch, resources.aside)
    draining = asyncio.create_task(journaled.run(), name="journal")
    draining.add_done_callback(_ended)
    try:
        yield journaled
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
    resources: Resources = app.state.resources
    limits = resources.limits
    return Around(
        app, resources.metrics, limits.concurrency, limits.timeout_s, limits.body_timeout_s
    )
