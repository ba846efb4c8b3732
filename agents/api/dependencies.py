"""What routes depend on: the process' settings, stores and limits, a request's caller and key."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPBearer

from agents.api.buckets import Buckets
from agents.api.callers import Caller
from agents.api.metrics import ApiMetrics
from agents.api.offload import Offload
from agents.api.problems import Problem
from agents.api.shares import Shares
from agents.api.tokens import Tokens
from agents.api.writing import Writing
from agents.policy.access import Access
from agents.rho.matrices import Matrices
from agents.settings import ApiSettings
from stores.journal import Journal
from stores.outbox_tenants import TenantOutbox

TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


@dataclass
class Resources:
    """What all routes share, held by the app's state."""

    limits: ApiSettings
    tokens: Tokens
    metrics: ApiMetrics
    buckets: Buckets
    offload: Offload = field(default_factory=Offload)
    shares: Shares = field(init=False)
    outbox: TenantOutbox = field(init=False)  # from start to end of the app
    aside: TenantOutbox = field(init=False)  # it too, over connections kept for asking and draining
    writing: Writing = field(init=False)
    matrices: Matrices = field(init=False)
    journal: Journal | None = None  # likewise, unless it is off; may be opened before
    policy: Access | None = None  # that decides about writes, where one does

    def __post_init__(self) -> None:
        self.shares = Shares(self.limits.concurrency)

    @contextmanager
    def under_way(self, whose: str) -> Iterator[None]:
        """A request of a tenant is; `Problem` 429 when it has as many as it may."""
        if not self.shares.enter(whose):
            self.metrics.refused.labels("share").inc()
            many = "This tenant has too many requests under way."
            # Its body isn't read.
            raise Problem(429, many, {"Retry-After": "1", "Connection": "close"})
        try:
            yield
        finally:
            self.shares.leave(whose)

    def take(self, tenant: str, cost: float = 1.0) -> None:
        """`Problem` 429 when the tenant has used up its rate."""
        wait = self.buckets.take(tenant, cost, time.monotonic())
        if wait:
            self.metrics.refused.labels("rate").inc()
            raise too_many("This tenant sends more than its rate.", wait)


def too_many(detail: str, seconds: float) -> Problem:
    """429, and when to come again."""
    return Problem(429, detail, {"Retry-After": str(max(1, round(seconds + 0.5)))})


def resources_of(request: Request) -> Resources:
    """What all routes share."""
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(resources_of)]
_bearer = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="Claims: sub, exp, tenants (names, or * for all), roles (read, write, admin).",
)


async def caller_of(request: Request, _: Annotated[object, Depends(_bearer)]) -> Caller:
    """Who calls: the route has asked already."""
    caller: Caller = request.scope["soma.caller"]
    return caller


async def writer_of(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """A caller who may write."""
    caller.must_have("write")
    return caller


async def admin_of(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """A caller who administers."""
    caller.must_have("admin")
    return caller


WriterCaller = Annotated[Caller, Depends(writer_of)]
AdminCaller = Annotated[Caller, Depends(admin_of)]
TenantHeader = Annotated[
    str | None,
    Header(
        alias="X-Soma-Tenant",
        pattern=r"^[A-Za-z0-9._-]{1,128}$",
        description="For which tenant. Without it: what follows the last `:` of the body's "
        "namespace, or `default`.",
    ),
]


async def idempotency_of(
    standard: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=r'^("[\x21\x23-\x5b\x5d-\x7e]{1,200}"|[\x21\x23-\x7e][\x21-\x7e]{0,199})$',
            description="Makes a repetition safe: the same key with the same body is answered as "
            "the first time, with another body 409. In double quotes (as the IETF's draft has it), "
            "which aren't part of it, or without.",
        ),
    ] = None,
    own: Annotated[
        str | None,
        Header(
            alias="X-Idempotency-Key",
            pattern=r"^[\x21-\x7e]{1,200}$",
            description="The same by its older name, as it is. If both are given they must agree.",
        ),
    ] = None,
) -> str | None:
    """The request's idempotency key. `Problem` 400 where its two names say different ones."""
    given = standard[1:-1] if standard is not None and standard.startswith('"') else standard
    if given is not None and own is not None and given != own:
        raise Problem(400, "Idempotency-Key and X-Idempotency-Key say different keys.")
    return own if given is None else given


IdempotencyKey = Annotated[str | None, Depends(idempotency_of)]


def trace_of(request: Request) -> dict[str, str]:
    """The request's W3C trace context as an event's headers; a malformed one is left out."""
    given = request.headers.get("traceparent", "")
    return {"traceparent": given} if TRACEPARENT.fullmatch(given) else {}
