"""Which answers mean what; and calls of a real server that misbehaves."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores.memory_remote import REFUSALS, Answer, MemoryRemote, answer_of, retry_after_s

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@given(st.integers(100, 999), st.binary(max_size=3000))
def test_every_status_means_one_thing(status: int, said: bytes) -> None:
    answer = answer_of(status, said, 7.0)
    assert answer.status == status and len(answer.said) <= 400
    expected = "failed"
    if 200 <= status < 300:
        expected = "delivered"
    elif status in REFUSALS:
        expected = "refused"
    elif status == 429:
        expected = "limited"
    assert answer.kind == expected


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 408, 500, 502, 503])
def test_what_somebody_has_to_mend_is_never_a_refusal(status: int) -> None:
    assert answer_of(status, b"", 0.0).kind == "failed"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0), ("", 0.0), ("3", 3.0), ("-3", 0.0), ("1e9", 300.0), ("nan", 0.0),
        ("inf", 0.0), ("soon", 0.0), ("Sat, 21 Nov 2026 17:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2020 17:00:30 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float) -> None:
    assert retry_after_s(text, "Sat, 21 Nov 2026 17:00:00 GMT") == seconds


def test_a_date_without_the_server_s_own_says_nothing() -> None:
    assert retry_after_s("Sat, 21 Nov 2026 17:00:30 GMT") == 0.0


def asked(handler: Handler, timeout_s: float = 5.0, token: str = "") -> tuple[Answer, bool]:
    """What a POST and a look at its health get from a server that does so."""

    async def body() -> tuple[Answer, bool]:
        handling: list[asyncio.Task[None]] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handling.append(task)
            try:
                await handler(reader, writer)
            finally:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        remote = MemoryRemote(f"http://127.0.0.1:{port}/base/", timeout_s, 4, token)
        try:
            return await remote.post("/memories", "t", "k", b"{}"), await remote.health()
        finally:
            await remote.close()
            server.close()
            await asyncio.gather(*handling, return_exceptions=True)

    return asyncio.run(body())


def says(head: str, body: bytes = b"", heard: list[bytes] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(request)
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        writer.write(f"HTTP/1.1 {head}\r\n{length}\r\n".encode() + body)
        await writer.drain()

    return handle


def test_a_call_carries_tenant_key_and_token() -> None:
    heard: list[bytes] = []
    answer, well = asked(says("202 Accepted", heard=heard), token="secret-token")
    assert answer.kind == "delivered" and well
    post, health = heard
    assert post.startswith(b"POST /base/memories ")
    for line in (b"X-Soma-Tenant: t", b"X-Idempotency-Key: k", b"Authorization: Bearer secret"):
        assert line in post
    assert health.startswith(b"GET /base/healthz ")


def test_what_a_refusal_says_is_kept() -> None:
    answer, well = asked(says("422 Unprocessable", b"not so"))
    assert answer == Answer("refused", 422, "not so") and well


def test_a_limit_says_for_how_long() -> None:
    answer, _ = asked(says("429 Slow\r\nRetry-After: 12"))
    assert answer.kind == "limited" and answer.retry_after_s == 12.0


def test_redirects_aren_t_followed_and_a_sick_server_isn_t_well() -> None:
    answer, _ = asked(says("307 Elsewhere\r\nLocation: http://127.0.0.1:1/"))
    assert answer.kind == "failed" and answer.status == 307
    answer, well = asked(says("503 Away"))
    assert answer.kind == "failed" and not well


def test_silence_nonsense_and_hanging_up_are_failures_in_words() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\x00nonsense\r\n\r\n")

    for handler in (silent, hangs_up, nonsense):
        answer, well = asked(handler, timeout_s=0.3)
        assert answer.kind == "failed" and answer.status == 0 and not well
        assert answer.said.startswith("no answer")


def test_nobody_there_is_a_failure() -> None:
    async def body() -> Answer:
        remote = MemoryRemote("http://127.0.0.1:1", 1.0, 1)
        try:
            return await remote.post("/memories", "t", "k", b"{}")
        finally:
            await remote.close()

    assert asyncio.run(body()).kind == "failed"


def test_a_long_answer_is_not_read_whole() -> None:
    answer, _ = asked(says("400 No", b"x" * 1_000_000))
    assert answer.kind == "refused" and answer.said == "x" * 400
