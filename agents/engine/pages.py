"""The worker's web pages: / (alive), /ready (every owned partition recovered), /metrics."""

from collections.abc import Sequence
from typing import Any, cast

import faust
from faust.web import Request, Response, View
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from agents.engine.engine import Engine
from agents.engine.transport import BatchConsumer
from agents.services.base import Service


def register(app: faust.App, engine: Engine, services: Sequence[Service] = ()) -> None:
    """Add the pages to the worker's web server."""

    @app.page("/ready")
    async def ready(self: View, request: Request) -> Response:
        """200 when all owned partitions run; 503 with each one's phase, or why there are none.

        And while a part of a service (a shard of the outbox) is stopped.
        """
        good, partitions = engine.ready()
        stopped = {part: why for one in services for part, why in one.stopped().items()}
        refused = cast(BatchConsumer, app.consumer).refused if engine.plans else ""
        good, partitions = good and not stopped and not refused, {**partitions, **stopped}
        answer: dict[str, Any] = {
            "ready": good,
            "assigned": engine.assigned,
            "partitions": partitions,
        }
        if held := engine.held_up.shown():  # ready all the same: another's transaction is open
            answer["held_up"] = held
        if troubles := engine.troubles():
            answer["troubles"] = troubles
        if refused:
            answer["refused"] = refused
        return self.json(answer, status=200 if good else 503)

    @app.page("/metrics")
    async def metrics(self: View, request: Request) -> Response:
        """Prometheus' text format."""
        return self.bytes(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
