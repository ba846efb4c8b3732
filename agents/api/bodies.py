"""Bodies as untrusted as they are: bounded in size and time, strict JSON, bounded in depth."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from agents.api.callers import payer
from agents.api.offload import LARGE_BYTES
from agents.api.problems import Problem, invalid, wrong
from topics import strictjson

if TYPE_CHECKING:
    from agents.api.dependencies import Resources

T = TypeVar("T")

MORE = "The body has more than {} bytes."
TOKEN_BYTES = 4096  # of a body count as one event against the rate


class StrictRequest(Request):
    """A request whose body is read and parsed by our rules; FastAPI asks `body` and `json`."""

    takes: tuple[str, ...] = ("application/json",)  # what its body may be
    whose: str  # in whose name it is read
    check: Callable[[Any], Any]  # the value as the route's model has it

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await self._read()
        return self._body

    async def json(self) -> Any:
        """The JSON value; of a large body, what the route's model makes of it."""
        data = await self.body()
        resources: Resources = self.app.state.resources
        if tokens := len(data) // TOKEN_BYTES:
            resources.take(self.whose, tokens)
        if len(data) <= LARGE_BYTES:
            return parse(data)
        return await self.aside(lambda: self.check(parse(data)))

    async def aside(self, work: Callable[[], T]) -> T:
        """What `work` on the body returns, which is done in a thread if the body is large."""
        resources: Resources = self.app.state.resources
        return await resources.offload.do(self.whose, len(await self.body()), work)

    def most(self) -> int:
        """How many bytes it may have."""
        most: int = self.app.state.limits.body_bytes_max
        return most

    def too_large(self) -> Problem:
        """413, and the connection closes: the rest isn't read."""
        return Problem(413, MORE.format(self.most()), {"Connection": "close"})

    async def _read(self) -> bytes:
        limits = self.app.state.limits
        _check_type(self, self.takes)
        most = self.most()
        if not _within(self.headers.get("content-length"), most):
            raise self.too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limits.body_timeout_s):
                async for chunk in self.stream():
                    size += len(chunk)
                    if size > most:
                        raise self.too_large()
                    chunks.append(chunk)
        except TimeoutError:
            late = f"The body wasn't here within {limits.body_timeout_s:g} s."
            raise Problem(408, late, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise Problem(400, "The connection ended before the body did.") from None
        return b"".join(chunks)


class StrictRoute(APIRoute):
    """A route for those who show a token, which reads its requests strictly."""

    request_class = StrictRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        field = self.body_field
        known = _parameters(self.dependant)

        async def strict(request: Request) -> Response:
            # Before a byte of the body is read: FastAPI would ask who calls only afterwards.
            resources: Resources = request.app.state.resources
            caller = await resources.tokens.caller(request.headers.get("authorization"))
            request.scope["soma.caller"] = caller
            if unknown := sorted(request.query_params.keys() - known):
                raise _no_parameters(unknown)
            own = self.request_class(request.scope, request.receive)
            own.whose = payer(caller, request.headers.get("x-soma-tenant"))
            own.check = partial(_checked, field)
            with resources.under_way(own.whose):
                return await handle(own)

        return strict


def _parameters(route: Dependant) -> set[str]:
    """The names that may be in a route's query."""
    own = {one.alias for one in route.query_params}
    return own.union(*map(_parameters, route.dependencies))


def _no_parameters(names: list[str]) -> Problem:
    """422: what looks like a filter must be one."""
    errors = wrong((f"query {name}", "there is no such parameter") for name in names)
    return Problem(422, "The request isn't as this route wants it.", errors=errors)


def _checked(field: Any, value: Any) -> Any:
    """The value as FastAPI's field has it; `Problem` 422."""
    found, errors = field.validate(value, {}, loc=("body",))
    if errors:
        raise invalid(errors)
    return found


def parse(data: bytes) -> Any:
    """The JSON value. `Problem` 400 says why it is none, or none that we take.

    Stricter yet than `topics.strictjson`: no NUL and no half of a surrogate pair, which no
    database takes.
    """
    try:
        value = strictjson.parse(data, _int if len(data) > LARGE_BYTES else None)
    except strictjson.NotJsonError as error:
        raise Problem(400, f"The body isn't JSON as it is taken here: {error}.") from None
    if b"\\u" in data:
        _characters(value)
    return value


def _int(text: str) -> int:
    """As `int`, but Python's: between two numbers of a million, another thread may go on."""
    return int(text)


def _characters(value: Any) -> None:
    """No NUL, no lone surrogates, anywhere."""
    if isinstance(value, str):
        if "\x00" in value:
            raise Problem(400, "A text holds NUL (\\u0000), which the database can't.")
        try:
            value.encode()
        except UnicodeEncodeError:
            half = "A text holds half of a surrogate pair, which is no character."
            raise Problem(400, half) from None
    elif isinstance(value, dict):
        for name, one in value.items():
            _characters(name)
            _characters(one)
    elif isinstance(value, list):
        for one in value:
            _characters(one)


def media_type(request: Request) -> str:
    """What the body says it is."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_type(request: Request, takes: tuple[str, ...]) -> None:
    given = request.headers.get("content-type", "").partition(";")
    if media_type(request) not in takes:
        known = " or ".join(takes)
        raise Problem(415, f"The body must be {known}.", {"Accept": ", ".join(takes)})
    charset = given[2].strip().lower().replace('"', "")
    if charset.startswith("charset=") and charset != "charset=utf-8":
        raise Problem(415, "JSON is UTF-8.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "The body must not be compressed.", {"Accept-Encoding": "identity"})


def _within(length: str | None, most: int) -> bool:
    """Whether the announced length is allowed (what is read is counted in any case)."""
    return length is None or not length.isdecimal() or int(length[:20]) <= most
