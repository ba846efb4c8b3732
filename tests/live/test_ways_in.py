"""One table of requests, asked by every way in: each answers as HTTP does."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from mcp import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from agents.mcp.tools import TOOLS
from agents.settings import Settings
from ops.stack.ports import free_port
from tests.live.agents.api.conftest import database
from tests.live.agents.api.helpers import SECRET, bearer
from tests.live.agents.api.test_recall import remember
from tests.live.forking import Started, forked
from tests.live.helpers import REPO, environment, eventually, topics_of
from tests.live.ways_in import ByCommand, ByHttp, ByTools, Said, Way

MADE = topics_of("memory")
__all__ = ["database"]

# What is asked, by whom of two callers, and the status; in this order.
SHORT = {"payload": {"text": "short answers"}, "coordinate": "a", "dedupe_key": "k1"}
TABLE: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("remember", SHORT, 202),
    ("remember", SHORT, 200),
    ("remember", SHORT | {"payload": {"text": "other"}}, 409),
    ("remember", SHORT | {"coordinate": ""}, 422),
    ("remember", SHORT | {"coordinate": "x" * 600}, 422),
    ("remember", {"payload": "text"}, 422),
    ("remember", {"payload": {}, "importance": "high"}, 422),
    ("remember", {"payload": {}, "unknown": 1}, 422),
    ("remember", {"payload": {"text": "a\x00b"}}, 400),
    ("remember", {"payload": {"text": "x" * (4 << 20)}}, 413),
    ("recall", {"text": "why did the deploy fail"}, 200),
    ("recall", {"text": "deploy", "top_k": 1}, 200),
    ("recall", {"text": "deploy", "filters": {"payload": {"n": 4}}}, 200),
    ("recall", {"text": "deploy", "top_k": 0}, 422),
    ("recall", {"text": "deploy", "vector": [1.0]}, 422),
    ("recall", {"vector": [1.0, 2.0]}, 422),
    ("recall", {}, 422),
    ("get", {"coordinate": "deploy"}, 200),
    ("get", {"coordinate": "absent"}, 404),
    ("get", {"coordinate": "secret"}, 404),  # another tenant's
    ("get", {"coordinate": ".."}, 404),
    ("neighbours", {"coordinate": "deploy"}, 200),
    ("neighbours", {"coordinate": "secret"}, 404),
    ("path", {"from": "deploy", "to": "incident"}, 200),
    ("path", {"from": "incident", "to": "deploy"}, 404),
    ("link", {"from": "a", "to": "b", "kind": "next", "dedupe_key": "k2"}, 202),
    ("link", {"from": "a", "to": ""}, 422),
    ("forget", {"coordinate": "c", "dedupe_key": "k3"}, 202),
    ("forget", {"coordinate": "c", "dedupe_key": "k3"}, 200),
    ("forget", {"coordinate": "a\x07b"}, 422),
    ("state", {"processor": "nobody"}, 404),
    ("explain", {"id": "frame"}, 404),
    ("explain", {"id": "nothing/0/0"}, 404),
    ("explain", {"id": "memory.events/99/0"}, 404),
    ("explain", {"id": "memory.events/0/99"}, 404),
)


@pytest.fixture
def process(database: Settings, topics: Settings, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts `soma WORDS`, listening at a port whose setting is said; its URL."""
    started: list[Started] = []

    def start(words: list[str], setting: str, **more: str) -> str:
        port = free_port()
        env = environment(topics, SOMA_API__JWT_SECRET=SECRET, **{setting: str(port)}, **more)
        log = tmp_path / f"{words[0]}.log"
        started.append(forked(words, env, REPO, log))
        base = f"http://127.0.0.1:{port}"

        def there() -> bool:
            assert started[-1].poll() is None, log.read_text()
            try:
                return httpx.get(f"{base}/readyz", timeout=2.0).status_code != 503
            except httpx.HTTPError:
                return False

        eventually(there, 90.0, f"soma {words[0]} answers")
        return base

    yield start
    for one in started:
        one.send_signal(15)
        assert one.wait(15.0) == 0


@pytest.mark.timeout(600)
def test_each_way_in_gives_the_answers_of_http(
    process: Callable[..., str], topics: Settings, tmp_path: Path
) -> None:
    names = ("t-http", "t-command", "t-pipes", "t-mcp")
    for tenant in names:
        incident = remember(topics, tenant, "incident", payload='{"text":"incident 4"}')
        remember(topics, tenant, "deploy", payload='{"text":"the deploy failed","n":4}',
                 links={incident: "caused"})  # fmt: skip
    remember(topics, "globex", "secret", payload='{"text":"deploy of another"}')
    api = process(["recall"], "SOMA_API__PORT", SOMA_RECALL__DIMENSION="64")
    tools = process(["mcp", "--http", "--url", api], "SOMA_MCP__PORT")
    with ExitStack() as stack:
        ways = opened(stack, api, tools, names, tmp_path)
        answers = {one.tenant: asked(one) for one in ways}
        first = answers.pop("t-http")
        for at, (_, _, status) in named().items():
            one = first[at]
            assert one is not None and one.status == status, (at, one)
        for tenant, others in answers.items():
            same(tenant, first, others)
        listed_as_declared(ways[2], ways[3])
    guarded(tools, api)


def opened(
    stack: ExitStack, api: str, tools: str, names: tuple[str, ...], tmp_path: Path
) -> tuple[ByHttp, ByCommand, ByTools, ByTools]:
    """The ways in, each for a tenant of its own."""
    portal = stack.enter_context(start_blocking_portal())
    for tenant in names:
        text = bearer((tenant,))["authorization"].removeprefix("Bearer ")
        (tmp_path / tenant).write_text(text)
    words = ["-m", "agents.cli", "mcp", "--tenant", names[2], "--url", api]
    words += ["--token-file", str(tmp_path / names[2])]
    pipes = StdioServerParameters(
        command=sys.executable, args=words, cwd=REPO, env={"PATH": os.environ["PATH"]}
    )
    http = httpx2.AsyncClient(headers=bearer((names[3],)), timeout=60.0, trust_env=False)
    stack.callback(portal.call, http.aclose)
    clients = [
        stack.enter_context(portal.wrap_async_context_manager(ByTools.over(portal, one, tenant)))
        for one, tenant in (
            (pipes, names[2]),
            (streamable_http_client(f"{tools}/mcp", http_client=http), names[3]),
        )
    ]
    return (
        ByHttp(api, names[0]), ByCommand(api, names[1], tmp_path / names[1]),
        ByTools(portal, clients[0], names[2]), ByTools(portal, clients[1], names[3]),
    )  # fmt: skip


def named() -> dict[str, tuple[str, dict[str, Any], int]]:
    """The table by what each is."""
    return {f"{n}: {row[0]} {str(row[1])[:100]}": row for n, row in enumerate(TABLE)}


def asked(way: Way) -> dict[str, Said | None]:
    """Its answers to the table, in order."""
    return {
        at: way.ask(verb, given | ({"tenant": way.tenant} if verb == "state" else {}))
        for at, (verb, given, _) in named().items()
    }


def same(tenant: str, first: dict[str, Said | None], others: dict[str, Said | None]) -> None:
    """As HTTP, where a way has the verb."""
    told, unlike = 0, []
    for at, one in others.items():
        expected = first[at]
        if one is None or expected is None:
            continue
        told += 1
        # A success without a status, an error without a document: what is told must be the same.
        as_told = Said(
            one.status and expected.status,
            None if one.document is None else expected.document,
            expected.text,
        )
        if one != as_told:
            unlike.append((tenant, at, one, as_told))
    assert unlike == []
    assert told >= (10 if tenant == "t-command" else 20), (tenant, told)


def listed_as_declared(*ways: ByTools) -> None:
    for way in ways:
        tools = way.portal.call(way.client.list_tools).tools
        assert [one.name for one in tools] == list(TOOLS)
        for one in tools:
            assert one.input_schema == TOOLS[one.name].input_schema()
            assert one.description and one.output_schema


def guarded(tools: str, api: str) -> None:
    """The tools by HTTP take no message without a token, of no length, at no other path."""
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    told = {"accept": "application/json, text/event-stream"}
    acme = told | bearer()

    def post(headers: dict[str, str], path: str = "/mcp", **more: Any) -> httpx.Response:
        return httpx.post(tools + path, headers=headers, timeout=30.0, **more)

    assert post(told, json=listing).status_code == 401
    assert post(told | bearer(secret="x" * 40), json=listing).status_code == 401
    assert post(acme, json=listing).json()["result"]["tools"][0]["name"] == "remember"
    assert post(acme, "/other", json=listing).status_code == 404
    assert httpx.get(f"{tools}/mcp", headers=acme, timeout=30.0).status_code == 405
    assert post(acme, content=b"x" * 5_000_000).status_code in (400, 413)
    for junk in (b"\xff\xfe", b"{", b"[]", b'{"a":' * 5000):
        json_ = acme | {"content-type": "application/json"}
        answer = post(json_, content=junk)
        assert answer.status_code == 400 and answer.json()["error"]["message"], answer.text
    call = listing | {"method": "tools/call", "params": {
        "name": "remember", "arguments": {"payload": {}}}}  # fmt: skip
    foreign = post(acme | {"x-soma-tenant": "globex"}, json=call).json()["result"]
    assert foreign["isError"] and foreign["structuredContent"]["status"] == 403
    odd = httpx.Headers([*acme.items(), ("x-soma-tenant", "acmé")], encoding="latin-1")
    refused = httpx.post(f"{tools}/mcp", headers=odd, json=call, timeout=30.0)
    assert refused.status_code == 422 and "X-Soma-Tenant" in refused.json()["detail"]
    assert httpx.get(f"{api}/healthz", timeout=30.0).status_code == 200


def _send(process: "subprocess.Popen[bytes]", *parts: bytes) -> None:
    """In a thread: it answers while it reads, and pipes hold little."""
    assert process.stdin is not None
    for part in parts:
        process.stdin.write(part)
    process.stdin.flush()


@pytest.mark.timeout(120)
def test_noise_on_standard_input_is_answered_with_errors(tmp_path: Path) -> None:
    noise = os.urandom(20_000).replace(b"\r", b"") + b"\n"
    ping = b'{"jsonrpc":"2.0","id":7,"method":"ping"}\n'
    with subprocess.Popen(
        [sys.executable, "-m", "agents.cli", "mcp", "--url", "http://127.0.0.1:1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPO,
        env={"PATH": os.environ["PATH"], "SOMA_HOME": str(tmp_path)},
    ) as one:  # fmt: skip
        assert one.stdin is not None and one.stdout is not None
        threading.Thread(
            target=lambda: _send(one, noise, b"\xff" * 5_000_000 + b"\n", ping)
        ).start()
        answers = []
        while not answers or "result" not in answers[-1]:  # at its input's end it answers no more
            answers.append(json.loads(one.stdout.readline()))
        one.stdin.close()
        assert one.wait(30.0) == 0
    *errors, last = answers
    assert len(errors) > 10 and all(one["error"]["code"] < 0 for one in errors)
    assert "at most" in errors[-1]["error"]["message"]
    assert last == {"jsonrpc": "2.0", "id": 7, "result": {}}
