"""The worker's web pages: / (alive), /ready (every owned partition recovered), /metrics."""

import time
from collections.abc import Sequence
from typing import Any, cast

import faust
from faust.web import Request, Response, View
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from agents.engine.dealing import ProcessorAssignor
from agents.engine.engine import Engine
from agents.engine.host import Part
from agents.engine.transport import BatchConsumer
from agents.services.base import Service


def _named(engine: Engine, part: Part) -> str:
    """A partition for people; with the processor where several read its topic here."""
    several = len(engine.reading[part.topic]) > 1
    return f"{part.topic}/{part.partition}" + (f" {part.processor}" if several else "")


def troubles(engine: Engine, services: Sequence[Service]) -> dict[str, str]:
    """What stops partitions, or takes them long, and for whom services wait, in words."""
    now = time.monotonic()
    waiting = {one.name: text for one in services if (text := one.waits())}
    unsaid = "the group's leader hasn't said whose its partitions are: it doesn't know them (yet)"
    return (
        waiting
        | dict.fromkeys(ProcessorAssignor.unsaid(), unsaid)
        | {
            _named(engine, part): text
            for part, one in engine.partitions.items()
            if (text := str(one.stopped) if one.stopped else one.slow(now))
        }
    )


def phases(engine: Engine) -> tuple[bool, dict[str, str]]:
    """Whether all owned partitions run, and what each does.

    Owning none is fine, where the group has said so.
    """
    state, now = {}, time.monotonic()
    for part, one in engine.partitions.items():
        slow = "slow_fold" if one.slow(now) else "stalled" if part in engine.stalled else one.phase
        state[_named(engine, part)] = one.stopped.name if one.stopped else slow
    joined = (engine.assigned and not ProcessorAssignor.unsaid()) or not engine.plans
    return joined and all(phase == "running" for phase in state.values()), state


def register(app: faust.App, engine: Engine, services: Sequence[Service] = ()) -> None:
    """Add the pages to the worker's web server."""

    @app.page("/ready")
    async def ready(self: View, request: Request) -> Response:
        """200 when all owned partitions run; 503 with each one's phase, or why there are none.

        And while a part of a service (a shard of the outbox) is stopped.
        """
        good, partitions = phases(engine)
        stopped = {part: why for one in services for part, why in one.stopped().items()}
        refused = cast(BatchConsumer, app.consumer).refused if engine.plans else ""
        good, partitions = good and not stopped and not refused, {**partitions, **stopped}
        answer: dict[str, Any] = {
            "ready": good,
            "assigned": engine.assigned,
            "partitions": partitions,
        }
        held = {place: told for one in services for place, told in one.held_up().items()}
        held |= engine.held_up.shown()
        if held:  # ready all the same: another's transaction is open
            answer["held_up"] = held
        if told := troubles(engine, services):
            answer["troubles"] = told
        if refused:
            answer["refused"] = refused
        return self.json(answer, status=200 if good else 503)

    @app.page("/metrics")
    async def metrics(self: View, request: Request) -> Response:
        """Prometheus' text format."""
        return self.bytes(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
