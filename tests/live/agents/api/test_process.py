"""`soma api` as a process: its token, its end, what it doesn't start with, odd clients, outages."""

import json
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from agents.settings import Settings
from tests.contract.test_environment import HOSTILE
from tests.live.agents.api.conftest import OwnPostgres
from tests.live.agents.api.helpers import (
    SECRET,
    ApiProcess,
    acme,
    admin,
    bearer,
    events_of,
    observation,
)
from tests.live.helpers import environment, eventually, soma

Start = Callable[..., ApiProcess]
ONE = {"payload": observation()}
PATH = "/events/cog.observations"


def test_from_a_token_to_the_outbox_and_a_graceful_end(process: Start, database: Settings) -> None:
    api = process()
    env = environment(database, SOMA_API__JWT_SECRET=SECRET)
    made = soma("api", "token", "--tenant", "acme", "--role", "write", "--ttl", "60", env=env)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", made.stdout) and made.stderr == ""
    headers = {"authorization": f"Bearer {made.stdout.strip()}", "x-soma-tenant": "acme"}
    with httpx.Client(base_url=api.base, timeout=20.0) as http:
        answer = http.post(PATH, json=ONE, headers=headers | {"x-request-id": "r-1"})
        assert answer.status_code == 202 and answer.headers["x-request-id"] == "r-1"
        assert http.get("/readyz").json()["status"] == "ready"
        for path in ("/healthz", "/readyz"):  # as load balancers ask
            head = http.head(path)
            assert head.status_code == 200 and head.content == b""
        assert "soma_http_requests_total" in http.get("/metrics").text
        # A connection stays open and idle: the end doesn't wait for it.
        started = time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(5.0) == 0
        assert time.monotonic() - started < 5.0
    assert len(events_of(database)) == 1
    log = api.log.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    (request,) = [line for line in lines if line.get("request_id") == "r-1"]
    assert (request["status"], request["route"]) == (202, "/events/{topic}")
    assert made.stdout.strip() not in log and "eyJ" not in log and "vector" not in log


def raw(api: ApiProcess, data: bytes, seconds: float = 20.0) -> bytes:
    """What is answered to these bytes, up to the connection's end or `seconds` of silence."""
    with socket.create_connection(("127.0.0.1", api.port), 5.0) as one:
        one.settimeout(seconds)
        got = b""
        try:
            one.sendall(data)
            while chunk := one.recv(65536):
                got += chunk
        except ConnectionError:
            return got
        return got


def test_slow_and_odd_clients_are_sent_away(process: Start, database: Settings) -> None:
    api = process(SOMA_API__BODY_TIMEOUT_S="1", SOMA_API__BODY_BYTES_MAX="2048")
    token = acme()["authorization"].encode()
    head = (
        b"POST /events/cog.observations HTTP/1.1\r\nhost: x\r\nauthorization: " + token
        + b"\r\nx-soma-tenant: acme\r\ncontent-type: application/json\r\n"
    )  # fmt: skip
    started = time.monotonic()
    slow = raw(api, head + b"content-length: 100\r\n\r\n{")
    assert slow.startswith(b"HTTP/1.1 408") and time.monotonic() - started < 10.0
    chunked = head + b"transfer-encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n"
    assert raw(api, chunked + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 4).startswith(b"HTTP/1.1 413")
    assert raw(api, head + b"content-length: 9999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    counted = httpx.get(f"{api.base}/metrics", timeout=20.0).text
    assert 'soma_http_refused_total{limit="body"} 2.0' in counted
    close = head + b"connection: close\r\n"
    compressed = close + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}"
    assert raw(api, compressed).startswith(b"HTTP/1.1 415")
    for odd in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        head + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        head + b"content-length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 2_000_000 + b"\r\n\r\n",
    ):
        answer = raw(api, odd)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), odd[:60]
    split = (
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: a\rb: c\r\n\r\n"
    )
    assert b"\r\nb: c" not in raw(api, split).lower()
    assert api.alive() and events_of(database) == []


def test_slow_bodies_of_one_tenant_leave_room_for_the_others(process: Start) -> None:
    """Of eight at once, two may be one tenant's; all that its token covers count as its own."""
    api = process(SOMA_API__CONCURRENCY="8", SOMA_API__BODY_TIMEOUT_S="120")
    other = bearer(("other",)) | {"x-soma-tenant": "other"}
    named = ("x-soma-tenant: acme\r\n", "x-soma-tenant: other\r\n")
    with ExitStack() as stack, httpx.Client(base_url=api.base, timeout=60.0) as http:
        for name in named:
            one = stack.enter_context(socket.create_connection(("127.0.0.1", api.port), 5.0))
            one.sendall(
                b"POST /events/cog.observations HTTP/1.1\r\nhost: x\r\n"
                + f"authorization: {bearer()['authorization']}\r\n{name}".encode()
                + b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            )
        eventually(lambda: "soma_http_in_flight 2.0" in http.get("/metrics").text)
        for _ in range(3):
            refused = http.post(PATH, json=ONE, headers=acme())
            assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
            assert http.post(PATH, json=ONE, headers=other).status_code == 202
        counted = http.get("/metrics").text
    assert 'soma_http_refused_total{limit="share"} 3.0' in counted
    assert "concurrency" not in re.findall(r'refused_total{limit="(\w+)"', counted)


def test_while_postgres_is_away_events_wait_in_the_journal(
    postgres: OwnPostgres, tmp_path: Path
) -> None:
    """Accepted, killed, started anew, and in the outbox once each, in their order."""
    own = {"SOMA_JOURNAL__FOLDER": str(tmp_path / "journal")}
    api = ApiProcess(postgres.settings, tmp_path / "api.log", own).await_alive()
    try:
        with httpx.Client(base_url=api.base, timeout=30.0, headers=acme()) as http:

            def post(k: int) -> Any:
                return http.post(PATH, json={"payload": observation(k), "dedupe_key": f"d{k}"})

            assert post(0).status_code == 202
            postgres.kill()
            kept = [post(k) for k in range(1, 6)]
            assert [one.status_code for one in kept] == [202] * 5
            assert all(one.json()["journaled"] for one in kept)
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
            assert ready.json()["dependencies"] == {"postgres": "down", "journal": "up"}
            assert http.get("/admin/outbox", headers=admin()).status_code == 503
        api.kill()
        api.restart()
        postgres.start()
        eventually(lambda: len(events_of(postgres.settings)) == 6, 60.0, "all are in the outbox")
        rows = events_of(postgres.settings)
        assert [row["dedupe_key"] for row in rows] == [f"d{k}" for k in range(6)]
    finally:
        api.kill()


def test_without_postgres_and_journal_the_api_says_503(
    postgres: OwnPostgres, tmp_path: Path
) -> None:
    own = {"SOMA_API__JOURNAL": "off"}
    postgres.stop()
    api = ApiProcess(postgres.settings, tmp_path / "api.log", own).await_alive()
    try:
        with httpx.Client(base_url=api.base, timeout=30.0, headers=acme()) as http:
            refused = http.post(PATH, json=ONE)
            assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
            assert ready.json()["dependencies"] == {"postgres": "down"}
            assert http.get("/healthz").status_code == 200
            postgres.start()
            eventually(lambda: http.post(PATH, json=ONE).status_code == 202, 30.0, "it is back")
    finally:
        api.kill()


def test_what_the_environment_tells_others_reaches_no_connection(
    process: Start, database: Settings
) -> None:
    proxy = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    others = {**HOSTILE, **proxy, "NETRC": "/no/such/file", "WEB_CONCURRENCY": "many"}
    api = process(**others)
    with httpx.Client(base_url=api.base, timeout=20.0) as http:
        assert http.post(PATH, json=ONE, headers=acme()).json()["journaled"] is False
    assert soma("outbox", "summary", env=environment(database, **others)).returncode == 0
