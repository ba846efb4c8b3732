"""Around every request: its id, the limits on how many and how long, what is counted and logged."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from agents.api.metrics import ApiMetrics
from agents.api.problems import answer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
ALWAYS_OPEN = ("/healthz", "/readyz", "/metrics")
# What decides who calls, for whom, and which event it is, must not be there twice: of two, a server
# in front may have looked at the other.
ONCE = (
    b"authorization", b"host", b"content-length", b"content-type", b"content-encoding",
    b"x-soma-tenant", b"idempotency-key", b"x-idempotency-key", b"x-request-id", b"traceparent",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

logger = logging.getLogger("agents.api.access")


class Around:
    """Wraps the app. What comes in must be answered within `timeout_s`, or is answered 504."""

    def __init__(
        self, app: App, metrics: ApiMetrics, concurrency: int, timeout_s: float, body_s: float
    ) -> None:
        self._app, self._metrics, self._most = app, metrics, concurrency
        self._timeout_s = timeout_s + body_s
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        one = _One(scope, send, self._metrics)
        if twice := _twice(scope):
            detail = f"The header {twice} is given twice."
            await answer(400, detail, one.id, {"Connection": "close"})(scope, receive, one.send)
            one.done()
            return
        if scope["path"] in ALWAYS_OPEN:
            await self._within(scope, receive, one)
            one.done()
            return
        if self._busy >= self._most:
            self._metrics.refused.labels("concurrency").inc()
            busy = "Too many requests are under way."
            await answer(503, busy, one.id, {"Retry-After": "1"})(scope, receive, one.send)
            one.done()
            return
        self._busy += 1
        self._metrics.in_flight.inc()
        try:
            await self._within(scope, receive, one)
        finally:
            self._busy -= 1
            self._metrics.in_flight.dec()
            one.done()

    async def _within(self, scope: Scope, receive: Receive, one: "_One") -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._app(scope, receive, one.send)
        except TimeoutError:
            self._metrics.refused.labels("time").inc()
            if not one.status:
                late = "There was no answer in time; what was written may or may not be there."
                await answer(504, late, one.id)(scope, receive, one.send)
        except Exception:
            # Starlette has answered 500 before it raises what happened.
            logger.exception("A request failed", extra={"request_id": one.id})
            if not one.status:
                broken = "Something went wrong here."
                await answer(500, broken, one.id)(scope, receive, one.send)


def _twice(scope: Scope) -> str:
    """A header that is there twice and mustn't be; empty: none is."""
    names = [name for name, _ in scope["headers"] if name in ONCE]
    found = next((name for name in ONCE if names.count(name) > 1), b"")
    return found.decode()


class _One:
    """One request: its id, its status, its place in metrics and log."""

    def __init__(self, scope: Scope, send: Send, metrics: ApiMetrics) -> None:
        given = next((v for name, v in scope["headers"] if name == b"x-request-id"), b"")
        known = REQUEST_ID.fullmatch(given)
        self.id = given.decode() if known else uuid.uuid4().hex
        scope["soma.request_id"] = self.id
        self.status = 0
        self._scope, self._send, self._metrics = scope, send, metrics
        self._since = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Pass on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [
                (b"x-request-id", self.id.encode()),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
            ]
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await self._send(message)

    def done(self) -> None:
        """Count and log it."""
        seconds = time.perf_counter() - self._since
        route = getattr(self._scope.get("route"), "path", "none")
        if self.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._metrics.refused.labels("body").inc()
        method = self._scope["method"] if self._scope["method"] in METHODS else "other"
        self._metrics.requests.labels(route, method, str(self.status or 499)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if logger.isEnabledFor(logging.INFO) and route not in ALWAYS_OPEN:
            logger.info(
                "request",
                extra={
                    "request_id": self.id,
                    "method": method,
                    "route": route,
                    "status": self.status or 499,
                    "ms": round(seconds * 1000, 2),
                    **({"cause": cause} if (cause := self._scope.get("soma.cause")) else {}),
                },
            )
