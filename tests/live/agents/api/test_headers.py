"""Headers that decide something: once each, by both names of the idempotency key, by raw bytes."""

import json
import logging
import time
from collections.abc import Callable

import httpx
import pytest

from agents.settings import Settings
from tests.live.agents.api.helpers import ApiProcess, acme, bearer, events_of, observation
from tests.live.agents.api.inside import Client
from tests.live.agents.api.test_process import raw

PATH = "/events/cog.observations"
ONE = {"payload": observation()}


def test_a_key_is_the_same_by_either_name_quoted_or_not(client: Client, database: Settings) -> None:
    first = client.post(PATH, json=ONE, headers=acme(idempotency_key='"a-1"'))
    assert first.status_code == 202 and first.json()["events"][0]["dedupe_key"] == "a-1"
    for headers in (
        acme(idempotency_key="a-1"),
        acme(x_idempotency_key="a-1"),
        acme(idempotency_key='"a-1"', x_idempotency_key="a-1"),
    ):
        again = client.post(PATH, json=ONE, headers=headers)
        assert again.status_code == 200 and again.json()["events"] == [
            first.json()["events"][0] | {"duplicate": True}
        ]
    other = client.post(PATH, json={"payload": observation(2)}, headers=acme(idempotency_key="a-1"))
    assert other.status_code == 409
    two = acme(idempotency_key="a-1", x_idempotency_key="a-2")
    assert client.post(PATH, json=ONE, headers=two).status_code == 400
    for bad in ('"', '""', '"a', '"a"b"', "a b", '"a";p=1', "x" * 201):
        refused = client.post(PATH, json=ONE, headers=acme(idempotency_key=bad))
        assert refused.status_code == 422, bad
    memory = {"payload": {"text": "x"}, "coordinate": "c", "ts": "2026-01-31T12:00:00Z"}
    codes = [
        client.post("/memories", json=memory, headers=acme(idempotency_key='"m"')).status_code
        for _ in range(2)
    ]
    assert codes == [202, 200] and len(events_of(database)) == 2


@pytest.mark.parametrize(
    "name",
    ["authorization", "x-soma-tenant", "idempotency-key", "x-idempotency-key", "content-type",
     "x-request-id", "traceparent", "host"],
)  # fmt: skip
def test_a_header_given_twice_is_refused(client: Client, database: Settings, name: str) -> None:
    given = acme(host="api", content_type="application/json", traceparent="x")
    given |= {"idempotency-key": "k", "x-idempotency-key": "k", "x-request-id": "r"}
    twice = [*given.items(), (name.title(), given[name])]
    answer = client.post(PATH, content=json.dumps(ONE), headers=twice)
    assert answer.status_code == 400 and name in answer.json()["detail"]
    assert answer.headers["connection"] == "close" and events_of(database) == []


def test_a_401_logs_its_cause_and_nothing_of_the_token(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agents.api.access")
    now = int(time.time())
    for headers, cause in (
        ({}, "no Authorization header"),
        ({"authorization": "Basic c2VjcmV0"}, "another scheme, or no token"),
        (bearer(exp=now - 60), "expired"),
        (bearer(nbf=now + 600), "ImmatureSignatureError"),
        (bearer(iat=now + 600), "ImmatureSignatureError"),
        (bearer(secret="another secret of thirty-two bytes"), "InvalidSignatureError"),
        (bearer(sub=""), "no subject"),
        (bearer(tenants=["s3cret/x"]), "tenants are not names"),
        (bearer(filler="x" * 9000), "more than 8192 bytes"),
    ):
        caplog.clear()
        answer = client.post(PATH, json=ONE, headers=headers)
        assert answer.status_code == 401
        (line,) = [one for one in caplog.records if one.name == "agents.api.access"]
        assert vars(line)["cause"] == cause
        assert vars(line)["request_id"] == answer.json()["request_id"]
        assert cause not in answer.text or cause == "expired"


def test_two_ends_of_a_body_close_the_connection(
    process: Callable[..., ApiProcess], database: Settings
) -> None:
    """And what comes behind them is no request."""
    api = process()
    head = "POST /events/cog.observations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    head += "".join(f"{name}: {text}\r\n" for name, text in acme().items())
    body = json.dumps(ONE)
    chunk = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    behind = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    for fields, sent in (
        (f"content-length: {len(chunk)}\r\ntransfer-encoding: chunked\r\n", chunk),
        (f"transfer-encoding: chunked\r\ncontent-length: {len(body)}\r\n", chunk),
        (f"content-length: {len(body)}\r\ncontent-length: {len(body)}\r\n", body),
        (f"content-length: {len(body)}\r\nContent-Length: 2\r\n", body),
        (f"content-length: {len(body)}, {len(body)}\r\n", body),
        (f"content-length: {len(body)}\r\nx-soma-tenant: other\r\n", body),
    ):
        answer = raw(api, (head + fields + "\r\n" + sent + behind).encode())
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert answer.count(b"HTTP/1.1 ") == 1 and b"connection: close" in answer.lower()
    assert events_of(database) == []
    last = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    good = raw(api, (head + "transfer-encoding: chunked\r\n\r\n" + chunk + last).encode())
    assert good.startswith(b"HTTP/1.1 202") and b"HTTP/1.1 200" in good
    with httpx.Client(base_url=api.base) as http:
        assert http.get("/healthz").is_success
