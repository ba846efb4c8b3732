"""Both clients against a server that answers late, half, too slowly or not at all."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from soma_client import (
    AsyncClient,
    CantSend,
    Client,
    DeadlineExceeded,
    Given,
    NotReached,
    Unavailable,
)

FRAME = "0a0b0c0d-1-2"
DONE = (
    b'{"tenant": "acme", "frame_id": "0a0b0c0d-1-2", "topic": "t", "journaled": false,'
    b' "event": {"id": 1, "dedupe_key": "k", "duplicate": false}, "later": 1}'
)
LIMIT_S = 100.0
Answers = Callable[[int], tuple[bytes, ...]]  # what connection n is answered, part by part


def http(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def server(answers: Answers, pause_s: float = 0.0) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each connection by its number, with pauses between the parts; what it was asked."""
    asked: list[bytes] = []
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while not ended.is_set():
                try:
                    one, _ = listening.accept()
                except OSError:
                    return
                with one:
                    one.settimeout(LIMIT_S)
                    head = b""
                    while b"\r\n\r\n" not in head and (more := one.recv(65536)):
                        head += more
                    if not head:
                        continue  # gone before it asked
                    asked.append(head)
                    try:
                        for part in answers(len(asked)):
                            one.sendall(part)
                            ended.wait(pause_s)
                    except OSError:
                        continue  # the client has had enough

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT_S)


def sync(url: str, timeout_s: float) -> Given:
    with Client(url, "acme", lambda: "secret", timeout_s=timeout_s) as client:
        return client.reward(FRAME, r_task=1.0)


def asynchronous(url: str, timeout_s: float) -> Given:
    async def ask() -> Given:
        async with AsyncClient(url, "acme", "secret", timeout_s=timeout_s) as client:
            return await client.reward(FRAME, r_task=1.0)

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("ask", [sync, asynchronous])
Ask = Callable[[str, float], Given]


@BOTH
def test_what_passes_is_asked_again_with_the_same_key(ask: Ask) -> None:
    def answers(n: int) -> tuple[bytes, ...]:
        if n == 1:
            return (http("503 Service Unavailable", b"{}", "Retry-After: 0"),)
        if n == 2:
            return (http("202 Accepted", DONE[:20], length=len(DONE)),)  # and the end
        return () if n == 3 else (http("202 Accepted", DONE),)

    with server(answers) as (url, asked):
        assert ask(url, LIMIT_S).event.dedupe_key == "k"
    keys = {
        line
        for one in asked
        for line in one.split(b"\r\n")
        if line[:15].lower() == b"idempotency-key"
    }
    assert len(asked) == 4 and len(keys) == 1
    said = asked[0].lower()
    assert b"authorization: bearer secret" in said and b"x-soma-tenant: acme" in said


@BOTH
def test_a_trickle_ends_with_the_time(ask: Ask) -> None:
    parts = (http("202 Accepted", b"", length=100), *(b"x" for _ in range(99)))
    with server(lambda _: parts, pause_s=0.05) as (url, _):
        since = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(url, 0.4)
        assert time.monotonic() - since < LIMIT_S  # it would have been 5 s a try


@BOTH
def test_headers_that_trickle_end_with_the_time_too(ask: Ask) -> None:
    head = b"HTTP/1.1 202 Accepted\r\nX-Long: " + b"x" * 500
    with server(lambda _: tuple(bytes([one]) for one in head), pause_s=0.05) as (url, asked):
        since = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(url, 0.5)
        assert time.monotonic() - since < 10.0  # it would have been 27 s a try
        assert len(asked) == 1


def test_a_server_that_takes_nothing_in_ends_with_the_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url, "acme", timeout_s=0.5) as client, pytest.raises(DeadlineExceeded):
            client.remember({"text": "x" * (32 << 20)})


def test_calls_at_once_have_each_its_own_time() -> None:
    """Threads share a client and its connections, and no deadline."""
    with server(lambda _: (http("202 Accepted", DONE[:40], length=len(DONE)), DONE[40:]),
                pause_s=0.3) as (url, _), Client(url, "acme") as client:  # fmt: skip
        hasty = client.using(timeout_s=0.1)
        with pytest.raises(DeadlineExceeded):
            hasty.reward(FRAME, r_task=1.0)
        assert client.reward(FRAME, r_task=1.0).event.dedupe_key == "k"


def test_the_environments_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(lambda _: (http("202 Accepted", DONE),)) as (url, asked):
        monkeypatch.setenv("http_proxy", url.replace("://", "://me:it@"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert sync("http://soma.invalid:81", LIMIT_S).event.dedupe_key == "k"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert sync(url, LIMIT_S).event.dedupe_key == "k"
    assert asked[0].startswith(b"POST http://soma.invalid:81/") and b"Basic" in asked[0]
    assert asked[1].startswith(b"POST /")


@BOTH
def test_no_answer_or_nobody_there_is_said(ask: Ask) -> None:
    with server(lambda _: ()) as (url, _), pytest.raises(NotReached):
        ask(url, 0.3)
    with pytest.raises(NotReached):
        ask(url, 0.3)  # closed since
    for odd in ("no url", "http://[::1", "ftp://127.0.0.1:1"):
        with pytest.raises(CantSend):
            ask(odd, 0.3)


def test_using_shares_connections_and_changes_whose_and_how_long() -> None:
    busy = http("503 Service Unavailable", b'{"detail": "not now"}', "Retry-After: 60")
    with server(lambda _: (busy,)) as (url, asked), Client(url, "acme") as client:
        other = client.using(tenant="globex", timeout_s=0.5)
        with pytest.raises(Unavailable, match="not now"):
            other.stats()
        assert b"x-soma-tenant: globex" in asked[0].lower()
