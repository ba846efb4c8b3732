"""The two clients. Each call is declared once, in the modules of calls; here it is sent."""

import functools
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import httpx

from soma_client import memories, mind, rho
from soma_client.call import Answer, Call
from soma_client.deadline import Transport, within
from soma_client.errors import BadAnswer, CantSend
from soma_client.trying import Policy, Send, Steps, steps

P = ParamSpec("P")
T = TypeVar("T")
Token = str | Callable[[], str]  # asked anew for each try, so it may be one that expires
ANSWER_BYTES_MAX = 256 << 20
CONNECTIONS = 32


def _version() -> str:
    try:
        return version("soma-client")
    except PackageNotFoundError:
        return "0"


AGENT = f"soma-client/{_version()}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and how long is tried. Without a tenant it follows from a memory's namespace."""

    tenant: str | None
    token: Token | None
    policy: Policy

    def headers(self, call: Call[Any]) -> dict[str, str]:
        """Of one try."""
        token = self.token() if callable(self.token) else self.token
        found = {
            "X-Soma-Tenant": self.tenant,
            "Authorization": None if token is None else f"Bearer {token}",
            "Idempotency-Key": call.key,
            "Content-Type": None if call.body is None else call.media,
            "Accept": f"{call.accept}, application/problem+json",
        }
        return {name: text for name, text in found.items() if text is not None}

    def using(self, tenant: str | None, timeout_s: float | None) -> "Caller":
        """With another tenant, or another limit of time."""
        changed = self if tenant is None else replace(self, tenant=tenant)
        if timeout_s is None:
            return changed
        return replace(changed, policy=replace(changed.policy, timeout_s=timeout_s))


def sync(make: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    """A method of `Client` that makes this call."""

    @functools.wraps(make)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.call(make(*args, **kwargs))

    return method


def asynchronous(
    make: Callable[P, Call[T]],
) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """A method of `AsyncClient` that makes this call."""

    @functools.wraps(make)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.call(make(*args, **kwargs))

    return method


class Client:
    """The API at `url`, for one tenant; safe to share between threads, and to be closed.

    Writes carry an Idempotency-Key, so what fails in passing is tried again until `timeout_s` is
    over or `tries` are: a whole call, tries and waits and reads of a trickle, ends by then. With a
    `transport` of one's own (httpx', for proxies or TLS) that is true of single reads and of a
    body's, but not of headers that trickle.
    """

    def __init__(
        self, url: str, tenant: str | None = None, token: Token | None = None, *,
        timeout_s: float = 30.0, tries: int = 6, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._caller = Caller(tenant, token, Policy(timeout_s, tries))
        with _urls():
            own = Transport(httpx.URL(url), _LIMITS) if transport is None else transport
            self._http = httpx.Client(
                base_url=url, transport=own, headers={"User-Agent": AGENT}, limits=_LIMITS
            )

    def using(self, *, tenant: str | None = None, timeout_s: float | None = None) -> Self:
        """The same client, over the same connections, for another tenant or with another limit."""
        other = object.__new__(type(self))
        other._http, other._caller = self._http, self._caller.using(tenant, timeout_s)
        return other

    def call(self, call: Call[T]) -> T:
        """Send it, as often as it takes. `SomaError`."""
        doing = steps(call, self._caller.policy)
        step = next(doing)
        try:
            while True:
                if isinstance(step, Send):
                    step = doing.send(self._sent(call, step.within_s))
                else:
                    time.sleep(step.seconds)
                    step = doing.send(None)
        except StopIteration as done:
            return _returned(doing, done)

    def _sent(self, call: Call[Any], within_s: float) -> Answer | httpx.HTTPError:
        until = time.monotonic() + within_s
        try:
            with _urls(), within(until), self._http.stream(
                call.method, call.path, params=dict(call.query), content=call.body,
                headers=self._caller.headers(call), timeout=within_s,
            ) as answer:  # fmt: skip
                body = bytearray()
                for chunk in answer.iter_bytes():
                    _grown(body, chunk, until)
                return _answer(answer, body)
        except httpx.HTTPError as error:
            return error

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    remember, bulk, get = sync(memories.remember), sync(memories.bulk), sync(memories.get)
    search, forget = sync(memories.search), sync(memories.forget)
    link, neighbours = sync(memories.link), sync(memories.neighbours)
    path, stats = sync(memories.path), sync(memories.stats)
    publish, publish_events = sync(mind.publish), sync(mind.publish_events)
    reward, feedback = sync(mind.reward), sync(mind.feedback)
    sleep, sleep_state, state = sync(mind.sleep), sync(mind.sleep_state), sync(mind.state)
    rho_commit, rho_commit_all = sync(rho.rho_commit), sync(rho.rho_commit_all)
    rho_read = sync(rho.rho_read)


class AsyncClient:
    """As `Client`, for asyncio (or trio): each call is awaited."""

    def __init__(
        self, url: str, tenant: str | None = None, token: Token | None = None, *,
        timeout_s: float = 30.0, tries: int = 6, transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._caller = Caller(tenant, token, Policy(timeout_s, tries))
        with _urls():
            self._http = httpx.AsyncClient(
                base_url=url, transport=transport, headers={"User-Agent": AGENT}, limits=_LIMITS
            )

    def using(self, *, tenant: str | None = None, timeout_s: float | None = None) -> Self:
        """The same client, over the same connections, for another tenant or with another limit."""
        other = object.__new__(type(self))
        other._http, other._caller = self._http, self._caller.using(tenant, timeout_s)
        return other

    async def call(self, call: Call[T]) -> T:
        """Send it, as often as it takes. `SomaError`."""
        doing = steps(call, self._caller.policy)
        step = next(doing)
        try:
            while True:
                if isinstance(step, Send):
                    step = doing.send(await self._sent(call, step.within_s))
                else:
                    await anyio.sleep(step.seconds)
                    step = doing.send(None)
        except StopIteration as done:
            return _returned(doing, done)

    async def _sent(self, call: Call[Any], within_s: float) -> Answer | httpx.HTTPError:
        until = time.monotonic() + within_s
        try:
            with anyio.fail_after(within_s), _urls():
                async with self._http.stream(
                    call.method, call.path, params=dict(call.query), content=call.body,
                    headers=self._caller.headers(call), timeout=within_s,
                ) as answer:  # fmt: skip
                    body = bytearray()
                    async for chunk in answer.aiter_bytes():
                        _grown(body, chunk, until)
                    return _answer(answer, body)
        except httpx.HTTPError as error:
            return error
        except TimeoutError:
            return httpx.ReadTimeout(f"no answer within {within_s:.3g} s")

    async def close(self) -> None:
        """End its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    remember, bulk = asynchronous(memories.remember), asynchronous(memories.bulk)
    get, search = asynchronous(memories.get), asynchronous(memories.search)
    forget, link = asynchronous(memories.forget), asynchronous(memories.link)
    neighbours, path = asynchronous(memories.neighbours), asynchronous(memories.path)
    stats, publish = asynchronous(memories.stats), asynchronous(mind.publish)
    publish_events, reward = asynchronous(mind.publish_events), asynchronous(mind.reward)
    feedback, sleep = asynchronous(mind.feedback), asynchronous(mind.sleep)
    sleep_state, state = asynchronous(mind.sleep_state), asynchronous(mind.state)
    rho_commit, rho_read = asynchronous(rho.rho_commit), asynchronous(rho.rho_read)
    rho_commit_all = asynchronous(rho.rho_commit_all)


_LIMITS = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)


@contextmanager
def _urls() -> Generator[None]:
    """`CantSend` where httpx can't make a request of what it is given."""
    try:
        yield
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        raise CantSend(f"no request can be made of this: {error}") from None


def _grown(body: bytearray, chunk: bytes, until: float) -> None:
    """Take a chunk in. httpx' limits are of single reads: a trickle is cut off here."""
    body += chunk
    if len(body) > ANSWER_BYTES_MAX:
        raise BadAnswer(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    if time.monotonic() > until:
        raise httpx.ReadTimeout("the answer came too slowly")


def _answer(answer: httpx.Response, body: bytearray) -> Answer:
    headers = {name.lower(): text for name, text in answer.headers.items()}
    return Answer(answer.status_code, headers, bytes(body))


def _returned(doing: Steps[T], done: StopIteration) -> T:
    """What the steps returned (`StopIteration` doesn't say of which type)."""
    value: T = done.value
    return value
