"""/state/{processor}/{tenant} of a worker: the rows of a tenant in the fold that it works with.

What is answered is committed, and says how far it is (`offset`) and where its input ends as the
broker says now (`end`): a worker that lost its partition and doesn't know it yet may be behind, and
then shows it; for a state follows from its input alone, an answer is right of its offset.
"""

import asyncio
import hmac
import ipaddress
import json
import socket
from typing import Any

import faust
from confluent_kafka import KafkaException, TopicPartition
from faust.web import Request, Response, View

from agents.engine.engine import Engine
from agents.engine.host import Part
from agents.engine.lookups import Unanswered, rows_of_tenant
from agents.engine.partition import Partition
from agents.history.rows import only
from agents.history.view import views
from agents.settings import Settings
from topics.broker import BrokerError
from topics.partition import partition_of

EVERY = ("0.0.0.0", "::")
ANSWER_S = 2.0  # a fold and a commit may be before it
BYTES_MAX = 4 << 20  # of an answer
OWNER, ELSEWHERE, LATE, TOO_LARGE = 200, 409, 503, 413


class Refused(Exception):
    """A question that can't be answered here: the HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def open_to(settings: Settings, given: str | None) -> bool:
    """Whether who shows this Authorization header may look: with SOMA_STATE_TOKEN; without such a
    token, anybody on this machine, if nobody else reaches the port.
    """
    token = settings.state_token.get_secret_value()
    if token:
        return hmac.compare_digest((given or "").encode(), f"Bearer {token}".encode())
    try:
        return ipaddress.ip_address(settings.web_host).is_loopback
    except ValueError:
        return settings.web_host == "localhost"


def url_of(settings: Settings) -> str:
    """Where others find this worker's pages; empty: it has none."""
    if settings.web_url or not settings.web_port:
        return settings.web_url
    host = settings.web_host
    if host in EVERY:
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.web_port}"


def register(app: faust.App, engine: Engine, settings: Settings) -> None:
    """Add the page to the worker's web server."""

    @app.page("/state/{processor}/{tenant}")
    async def state(self: View, request: Request, processor: str, tenant: str) -> Response:
        """The rows as `soma state show --json` has them; 409 where the partition isn't ours."""
        if not open_to(settings, request.headers.get("Authorization")):
            why = "SOMA_STATE_TOKEN isn't set, or isn't what is shown"
            return self.json({"why": why}, status=403)
        try:
            async with asyncio.timeout(ANSWER_S):
                said = await _state(engine, processor, tenant)
        except TimeoutError:
            return self.json({"why": f"no commit came within {ANSWER_S:g} s"}, status=LATE)
        except Refused as error:
            return self.json({"why": str(error)}, status=error.status)
        if len(text := json.dumps(said)) > BYTES_MAX:
            why = f"{len(said['rows'])} rows are more than {BYTES_MAX >> 20} MiB"
            return self.json({"why": why}, status=TOO_LARGE)
        return self.bytes(text.encode(), content_type="application/json", status=OWNER)


async def _state(engine: Engine, processor: str, tenant: str) -> dict[str, Any]:
    """What is known of a tenant. Refused."""
    plan = engine.plans.get(processor)
    if plan is None:
        raise Refused(ELSEWHERE, f"{processor} doesn't run here")
    number = partition_of(tenant, plan.partitions)
    one = engine.partitions.get(Part(plan.source, number, processor))
    if one is None or one.phase != "running":
        doing = "isn't ours" if one is None else f"is {one.phase}"
        raise Refused(ELSEWHERE, f"partition {number} of {plan.source} {doing}")
    try:
        rows, offset = await one.lookups.ask(lambda fold: rows_of_tenant(plan, fold, tenant))
        end = await _end(engine, one)
    except (Unanswered, BrokerError, KafkaException, OSError) as error:
        raise Refused(LATE, f"partition {number} of {plan.source}: {error}") from error
    found = await asyncio.to_thread(views, plan.processor, only(rows, tenant))
    return {
        "processor": processor, "tenant": tenant, "partition": number,
        "from": "the worker that has it", "offset": offset, "end": end, "notes": [],
        "rows": [view.data() for view in found],
    }  # fmt: skip


async def _end(engine: Engine, one: Partition) -> int:
    """Where its input ends now, for who reads what is committed."""
    return await engine.end_of(TopicPartition(*one.tp))
