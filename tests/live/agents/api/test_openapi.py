"""The OpenAPI document against a real process: schemathesis asks whatever it allows, and more."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase

from agents.settings import Settings
from tests.live.agents.api.conftest import Api
from tests.live.agents.api.helpers import ApiProcess, acme, bearer, observation
from tests.live.agents.api.test_journal_locks import session
from tests.live.conftest import WorkerFactory, with_topics
from tests.live.helpers import eventually

EXAMPLES = 15  # for each operation
WITHIN_S = 60.0  # for an answer, on a machine that may be busy


def test_every_answer_is_as_the_contract_says(
    process: Callable[..., ApiProcess], database: Settings, worker: WorkerFactory
) -> None:
    with_topics(database)  # jobs of replay are told in Kafka
    worker(database, SOMA_AGENTS="sleep")  # which is waited for
    api = process(
        SOMA_API__RATE_PER_S="100000", SOMA_API__RATE_BURST="1000000", SOMA_RECALL__SERVE="on"
    )
    eventually(lambda: httpx.get(f"{api.base}/readyz", timeout=5.0).is_success, 60.0, "ready")
    schema = schemathesis.openapi.from_url(f"{api.base}/openapi.json")
    who = bearer(("*",), ("read", "write", "admin"))
    seen: dict[str, set[int]] = {}

    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        )
        def ask(case: Any) -> None:
            answer = case.call(headers=who, timeout=30.0)
            checks = [
                schemathesis.checks.status_code_conformance,
                schemathesis.checks.content_type_conformance,
                schemathesis.checks.response_schema_conformance,
            ]
            if answer.status_code != 504:  # of a search that waits for what never comes
                checks.append(schemathesis.checks.not_a_server_error)
            case.validate_response(answer, checks=checks)
            seen.setdefault(case.operation.label, set()).add(answer.status_code)

        ask()
    assert len(seen) >= 10
    assert {202, 422} & seen["POST /memories"], seen


def test_hostile_requests_are_answered_with_problems(process: Callable[..., ApiProcess]) -> None:
    """What no contract allows: never a 5xx, always a problem document with our id."""
    api = process()
    nested = b'{"payload":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    odd: list[tuple[str, str, dict[str, Any], int]] = [
        ("POST", "/memories", {"content": nested}, 400),
        ("POST", "/memories", {"content": b"\xff\xfe"}, 400),
        ("POST", "/memories", {"content": b"x" * 5_000_000}, 413),
        ("POST", "/memories", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
        ("POST", "/memories", {"content": b"{}", "headers": {"content-encoding": "gzip"}}, 415),
        ("PUT", "/memories", {"content": b"{}"}, 405),
        ("GET", "/events/cog.observations", {}, 405),
        ("TRACE", "/memories", {}, 405),
        ("GET", "/no/such/path", {}, 404),
        ("GET", "/%00", {}, 404),
        ("GET", "/healthz/", {}, 404),
        ("GET", "/admin/outbox/../../etc/passwd", {}, 404),
        ("POST", "/events/" + "x" * 3000, {"json": {"payload": {}}}, 404),
        ("POST", "/events/%2e%2e%2fmemories", {"json": {"payload": {}}}, 404),
        ("POST", "/memories", {"json": {}, "headers": {"x-idempotency-key": "a b"}}, 422),
        ("POST", "/memories", {"json": {}, "headers": {"x-soma-tenant": "a/b"}}, 422),
    ]
    with httpx.Client(base_url=api.base, timeout=30.0) as http:
        for method, path, given, status in odd:
            headers = acme(content_type="application/json") | given.pop("headers", {})
            answer = http.request(method, path, headers=headers, **given)
            assert answer.status_code == status, (method, path[:60], answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            document = answer.json()
            assert document["status"] == status and document["title"]
            assert document["request_id"] == answer.headers["x-request-id"]
        for given, kept in (("abc-1.2:3", True), ("a b", False), ("x" * 129, False), ("é", False)):
            raw = {"x-request-id": given.encode()}
            answer = http.get("/healthz", headers=raw)
            assert (answer.headers["x-request-id"] == given) is kept
        eventually(lambda: http.get("/healthz").is_success)


def test_too_many_at_once_and_too_slow_are_said(api: Api, database: Settings) -> None:
    """Concurrency 1 and a body that isn't all there; a table that is locked for longer."""
    whole = json.dumps({"payload": observation()}).encode()
    where = "/events/cog.observations"
    given = acme(content_type="application/json")
    busy, slow = api(concurrency=1), api(timeout_s=0.2, body_timeout_s=0.2)

    async def meanwhile() -> tuple[httpx.Response, httpx.Response]:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            begun.set()
            await go_on.wait()
            yield whole

        async with asyncio.timeout(WITHIN_S):
            first = asyncio.create_task(busy.http.post(where, content=body(), headers=given))
            await begun.wait()
            second = await busy.http.post(where, content=whole, headers=given)
            go_on.set()
            return await first, second

    async def locked() -> httpx.Response:
        async with asyncio.timeout(WITHIN_S), session(database) as holder:
            await holder.execute("BEGIN; LOCK TABLE outbox_events")
            return await slow.http.post(where, content=whole, headers=given)

    first, second = busy.portal.call(meanwhile)
    assert second.status_code == 503 and second.headers["retry-after"] == "1"
    assert first.status_code == 202
    late = slow.portal.call(locked)
    assert late.status_code == 504 and late.json()["request_id"]
    assert busy.post(where, content=whole, headers=given).status_code == 202
    for client, limit in ((busy, "concurrency"), (slow, "time")):
        metrics = client.get("/metrics").text
        assert f'soma_http_refused_total{{limit="{limit}"}} 1.0' in metrics
        assert "acme" not in metrics
