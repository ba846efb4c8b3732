"""The sync client's transport: a deadline for a whole request; httpx has one for single reads only.

A server that sends a byte now and then keeps each read short and the request without an end. So the
streams below the connections give each read and write what is left until the deadline of their
thread's request. Only a name's resolving takes as long as the system lets it.
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

CHUNK = 16 << 10  # bytes of a write: what one send takes, or the deadline is looked at again


class _Deadline(threading.local):
    """Of the request that a thread has under way; time.monotonic()."""

    until: float | None = None


_mine = _Deadline()


@contextmanager
def within(until: float) -> Iterator[None]:
    """What this thread sends and reads in the block has time until then; time.monotonic()."""
    _mine.until = until
    try:
        yield
    finally:
        _mine.until = None


def _left(timeout: float | None, error: type[httpcore.TimeoutException]) -> float | None:
    """What an operation may take. `error`: nothing is left."""
    if _mine.until is None:
        return timeout
    left = _mine.until - time.monotonic()
    if left <= 0.0:
        raise error("the time of the request is over")
    return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), CHUNK):
            self._inner.write(buffer[at : at + CHUNK], _left(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None,
        local_address: str | None = None, socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:  # fmt: skip
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options))


class Transport(httpx.BaseTransport):
    """To a URL's host, by the proxy that the environment names for it. httpx.InvalidURL."""

    def __init__(self, url: httpx.URL, limits: httpx.Limits) -> None:
        pool: dict[str, Any] = {
            "ssl_context": httpx.create_ssl_context(), "network_backend": _Backend(),
            "max_connections": limits.max_connections,
            "max_keepalive_connections": limits.max_keepalive_connections,
            "keepalive_expiry": limits.keepalive_expiry,
        }  # fmt: skip
        named = getproxies()
        proxy = named.get(url.scheme) or named.get("all")
        self._pool: httpcore.ConnectionPool
        if not proxy or proxy_bypass(url.host):
            self._pool = httpcore.ConnectionPool(**pool)
            return
        said = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
        kind = httpcore.SOCKSProxy if said.url.scheme.startswith("socks") else httpcore.HTTPProxy
        self._pool = kind(str(said.url), said.raw_auth, **pool)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx' own transport does it."""
        url = request.url
        where = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        with _as_httpx():
            answer = self._pool.handle_request(
                httpcore.Request(
                    request.method, where, headers=request.headers.raw, content=request.stream,
                    extensions=request.extensions,
                )
            )  # fmt: skip
        body = _Body(answer)
        return httpx.Response(answer.status, headers=answer.headers, stream=body,
                              extensions=answer.extensions)  # fmt: skip

    def close(self) -> None:
        """End its connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """httpcore's errors as httpx', which has them by the same names."""
    kinds = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError,
             httpcore.ProxyError, httpcore.UnsupportedProtocol)  # fmt: skip
    try:
        yield
    except kinds as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
