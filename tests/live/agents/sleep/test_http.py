"""The HTTP API's routes of sleep, beside a worker that runs it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from agents.api import sleep_log
from agents.api.app import make
from agents.settings import Settings
from agents.sleep import agent
from agents.sleep.law import BURST, PER_S
from tests.live.agents.api.conftest import api_settings
from tests.live.agents.api.helpers import admin, bearer
from tests.live.agents.api.inside import Client
from tests.live.agents.projections.compare import migrated
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of
from tests.opa import PolicyServer
from topics import codec

MADE = topics_of("sleep")

UTIL, MODE, POLICY = "/api/util/sleep", "/api/brain/sleep_mode", "/api/brain/sleep_policy"
STATE = "/api/sleep/state"
MINUTE, HOUR = 60_000_000, 3_600_000_000
RULES = """
package soma.policy.api

default allow := false
allow if {
    input.method == "POST"
    input.path == sprintf("/api/util/%s", [input.action])
    input.tenant_id == "acme"
    input.max_seconds <= 600
}
rationale := sprintf("%s is for at most ten minutes", [input.target_state])
"""


@pytest.fixture
def client(topics: Settings) -> Iterator[Client]:
    """The API over the topics of this test; an answer is waited for 14 s."""
    own = migrated(topics).model_copy(update={"api": api_settings(timeout_s=20.0)})
    with Client(own) as one:
        yield one


def mine() -> dict[str, str]:
    """Of acme's administrator: made when it is used, for it is good for ten minutes only."""
    return admin(("acme",)) | {"x-soma-tenant": "acme"}


def asked(client: Client, path: str = UTIL, who: dict[str, str] | None = None, **body: Any) -> Any:
    return client.post(path, json=body, headers=mine() if who is None else who)


def slept(client: Client, path: str = UTIL, who: dict[str, str] | None = None, **body: Any) -> Any:
    """What is in force, for a request that waits for it."""
    answer = asked(client, path, who, async_mode=False, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()["in_force"]


def state(client: Client, tenant: str = "acme") -> Any:
    headers = bearer((tenant,), ("read",)) | {"x-soma-tenant": tenant}
    answer = client.get(STATE, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def controls(settings: Settings, topic: str) -> list[tuple[int, int, dict[str, Any]]]:
    """(partition, offset, record) of the control records in a topic."""
    begins = tuple(codec.headers("control_sleep"))
    return [
        (one.partition() or 0, one.offset() or 0, codec.decode(one.value() or b"")[1])
        for one in read(settings, topic)
        if (one.value() or b"").startswith(begins)
    ]


def requests(settings: Settings) -> list[dict[str, Any]]:
    found = [one.value() or b"" for one in read(settings, agent.REQUESTS)]
    return [codec.decode(value)[1] for value in found if value[:1] != b"{"]


def test_names_are_those_of_the_processor() -> None:
    names = ("REQUESTS", "AUDIT", "REQUEST_SCHEMA", "CONTROL_SCHEMA", "CONCERNED")
    assert all(getattr(sleep_log, name) == getattr(agent, name) for name in names)


@pytest.mark.timeout(400)
def test_a_sleep_is_in_force_where_the_answer_says(
    topics: Settings, client: Client, worker: WorkerFactory
) -> None:
    nobody = client.get(STATE, headers=bearer(("acme",), ("read",)) | {"x-soma-tenant": "acme"})
    assert nobody.status_code == 503 and int(nobody.headers["retry-after"]) > 0
    one = worker(SOMA_AGENTS="sleep")
    assert state(client) == {
        "tenant": "acme", "state": "active", "since": None, "wake_at": None, "cause": "",
        "wake_on_traffic": False, "version": 0,
        "powers": {"K": 100, "t": 10.0, "tau": 1.0, "eta": 0.1, "lambda": 0.01, "B": 0.5},
    }  # fmt: skip
    told = slept(client, target_state="DEEP", ttl_seconds=600, trace_id="mine")
    assert (told["outcome"], told["state"], told["version"]) == ("changed", "deep", 2)
    for topic in agent.CONCERNED:
        ((partition, offset, record),) = controls(topics, topic)
        assert told["offsets"][topic] == {"partition": partition, "offset": offset}
        assert (record["tenant"], record["state"], record["version"]) == ("acme", "deep", 2)
    now = state(client)
    assert (now["state"], now["cause"], now["version"]) == ("deep", "operator", 2)
    assert now["wake_at"] == told["wake_at"] and now["powers"]["K"] == 20
    (request,) = requests(topics)
    assert (request["actor"], request["trace_id"], request["kind"]) == (
        "tester",
        "mine",
        "operator",
    )

    # Another end prolongs it; there is no way back but by waking.
    assert slept(client, target_state="deep", ttl_seconds=900)["outcome"] == "prolonged"
    refused = asked(client, MODE, target_state="light", async_mode=False)
    assert refused.status_code == 409 and "no way leads from deep to light" in refused.text
    assert refused.json()["sleep_request_id"].startswith("http-")
    assert slept(client, MODE, target_state="active")["state"] == "active"
    again = slept(client, target_state="active")
    assert (again["outcome"], again["offsets"]) == ("unchanged", {})

    # The policy's sleep: traffic may wake it, an operator takes it over, and then it can't wake it.
    assert slept(client, POLICY, target_state="light")["state"] == "light"
    assert (state(client)["cause"], state(client)["wake_on_traffic"]) == ("policy", True)
    env = environment(topics)
    assert soma("sleep", "set", "acme", "deep", env=env).returncode == 0
    refused = asked(client, POLICY, target_state="active", async_mode=False)
    assert refused.status_code == 409 and "this sleep is the operator's" in refused.text

    # Not waited for: it is in force soon after.
    later = asked(client, target_state="freeze")
    assert later.status_code == 202 and later.json()["in_force"] is None
    eventually(lambda: state(client)["state"] == "freeze", 30, "the state that was asked for")
    shown = json.loads(soma("sleep", "status", "acme", "--json", env=env).stdout)["tenants"]
    assert shown[0]["request_id"] == later.json()["sleep_request_id"]

    # How long it takes, and what a worker that is away means.
    took = []
    for k in range(20):
        began = time.monotonic()
        slept(client, who=admin() | {"x-soma-tenant": f"t{k}"}, target_state="light")
        took.append(round(1000 * (time.monotonic() - began)))
    print(f"\n  in force after ms: median {sorted(took)[10]}, longest {max(took)}")
    one.kill()
    late = asked(client, target_state="active", async_mode=False)
    assert late.status_code == 504 and late.json()["sleep_request_id"], late.text
    worker(SOMA_AGENTS="sleep")
    eventually(lambda: state(client)["state"] == "active", 60, "obeyed when one is there")


@pytest.mark.timeout(240)
def test_an_idempotency_key_is_one_request(
    topics: Settings, client: Client, worker: WorkerFactory
) -> None:
    worker(SOMA_AGENTS="sleep")
    once = mine() | {"idempotency-key": "k1"}
    first = asked(client, who=once, target_state="light", ttl_seconds=60)
    again = asked(client, who=once, target_state="light", ttl_seconds=60)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json() | {"duplicate": True}
    other = asked(client, who=once, target_state="deep", ttl_seconds=60)
    assert other.status_code == 409 and other.json()["conflicts"][0]["dedupe_key"] == "k1"
    # Of another tenant it is another key, and so it is in another process of the API.
    theirs = admin() | {"x-soma-tenant": "other", "idempotency-key": "k1"}
    assert asked(client, who=theirs, target_state="deep").status_code == 202
    keyed = mine() | {"idempotency-key": "k2"}
    told = slept(client, who=keyed, target_state="active")
    with Client(migrated(topics).model_copy(update={"api": api_settings()})) as second:
        asked(second, target_state="deep")
        eventually(lambda: state(second)["state"] == "deep", 30, "asleep since")
        repeated = asked(second, who=keyed, target_state="active", async_mode=False)
        assert repeated.status_code == 200 and repeated.json()["duplicate"]
        assert repeated.json()["in_force"] == told
        assert state(second)["state"] == "deep"  # it isn't done again
    assert len(requests(topics)) == 4


def test_what_cant_be_is_named_and_who_may_not_is_refused(client: Client) -> None:
    for body, at, said in (
        ({}, "/target_state", "required"), ({"target_state": "coma"}, "/target_state", "active"),
        ({"target_state": 3}, "/target_state", "active"),
        ({"target_state": "deep", "ttl_seconds": 0}, "/ttl_seconds", "1"),
        ({"target_state": "deep", "ttl_seconds": 10**6}, "/ttl_seconds", "3600"),
        ({"target_state": "deep", "ttl_seconds": 1.5}, "/ttl_seconds", "integer"),
        ({"target_state": "active", "ttl_seconds": 5}, "/ttl_seconds", "active has no end"),
        ({"target_state": "deep", "async_mode": "no"}, "/async_mode", "boolean"),
        ({"target_state": "deep", "trace_id": "a b"}, "/trace_id", "pattern"),
        ({"target_state": "deep", "tenant": "x"}, "/tenant", "not permitted"),
    ):  # fmt: skip
        for path in (UTIL, MODE, POLICY):
            answer = client.post(path, json=body, headers=mine())
            assert answer.status_code == 422, answer.text
            (error,) = answer.json()["errors"]
            assert error["at"] == at and said in error["detail"], error
    deep = {"target_state": "deep"}
    for who, status in (
        ({}, 401), (bearer(("acme",), ("read", "write")) | {"x-soma-tenant": "acme"}, 403),
        (admin(("acme",)) | {"x-soma-tenant": "other"}, 403), (admin(("acme",)), 403),
    ):  # fmt: skip
        assert client.post(UTIL, json=deep, headers=who).status_code == status
    assert client.get(STATE, headers=mine()).status_code == 403
    alien = bearer(("acme",), ("read",)) | {"x-soma-tenant": "other"}
    assert client.get(STATE, headers=alien).status_code == 403


def test_a_tenant_has_so_many_requests_and_others_theirs(
    topics: Settings, client: Client, worker: WorkerFactory
) -> None:
    """Of 10⁵ a second the first few: what is above the rate costs no word to Kafka."""
    worker(SOMA_AGENTS="sleep")
    began = time.monotonic()
    statuses = [
        asked(client, target_state=("light", "active")[k % 2]).status_code for k in range(400)
    ]
    seconds = time.monotonic() - began
    taken = statuses.count(202)
    assert BURST <= taken <= BURST + PER_S * seconds + 1, (taken, seconds)
    assert set(statuses) <= {202, 429} and statuses[:100] == [202] * 100
    if taken < len(statuses):
        last = asked(client, target_state="light")
        assert last.status_code != 429 or int(last.headers["retry-after"]) >= 1
        counted = client.get("/metrics").text
        assert 'soma_http_refused_total{limit="sleep"}' in counted
    assert asked(client, who=admin() | {"x-soma-tenant": "b"}, target_state="light").is_success
    # By whatever way they come the law counts them too, and says so to who waits.
    record = {"tenant": "flood", "target": "light", "ts": "2026-01-31T12:00:00Z"}
    flood = [
        (b"flood", json.dumps(record | {"request_id": f"f{k}"}).encode()) for k in range(100_000)
    ]
    produce(topics, agent.REQUESTS, flood)
    said = asked(
        client, who=admin() | {"x-soma-tenant": "flood"}, target_state="deep", async_mode=False
    )
    assert said.status_code in (200, 429, 504), said.text
    eventually(
        lambda: slept(client, who=admin() | {"x-soma-tenant": "calm"}, target_state="deep"),
        60, "others are heard behind it",
    )  # fmt: skip


def test_the_log_s_clock_counts_whatever_the_asker_s_says(
    topics: Settings, client: Client, worker: WorkerFactory
) -> None:
    worker(SOMA_AGENTS="sleep")
    now = time.time_ns() // 1000
    for tenant, off in (("early", -HOUR), ("late", HOUR)):
        record = {
            "request_id": tenant, "tenant": tenant, "target": "deep", "kind": "operator",
            "ttl_seconds": 60, "wake_on_traffic": False, "version": 0, "trace_id": None,
            "actor": "", "ts": now + off,
        }  # fmt: skip
        produce(topics, agent.REQUESTS, [(tenant.encode(), codec.encode("sleep_request", record))])
        eventually(lambda t=tenant: state(client, t)["state"] == "deep", 30, "asleep")  # type: ignore[misc]
        shown = json.loads(
            soma("sleep", "status", tenant, "--json", env=environment(topics)).stdout
        )["tenants"][0]
        assert abs(shown["wake_at"] - (now + MINUTE)) < MINUTE / 2


def test_an_opa_server_decides(topics: Settings, worker: WorkerFactory) -> None:
    worker(SOMA_AGENTS="sleep")
    base = migrated(topics).model_copy(update={"api": api_settings(timeout_s=20.0)})
    with PolicyServer({"api.rego": RULES}) as opa:
        told = {"opa_url": opa.url, "opa_token": SecretStr("shown"), "opa_timeout_s": 0.5}
        with Client(base.model_copy(update=told)) as client:
            assert slept(client, target_state="deep", ttl_seconds=600)["state"] == "deep"
            assert opa.asked[-1] == {
                "method": "POST", "path": UTIL, "tenant_id": "acme", "action": "sleep",
                "target_state": "deep", "max_seconds": 600,
            }  # fmt: skip
            denied = asked(client, target_state="freeze", ttl_seconds=700)
            assert denied.status_code == 403
            assert "freeze is for at most ten minutes" in denied.json()["detail"]
            assert asked(client, POLICY, target_state="light", ttl_seconds=5).status_code == 403
            opa.says = (200, b'{"result": {"allow": "yes"}}')
            assert asked(client, target_state="active").status_code == 503
            opa.says = "slow"
            silent = asked(client, target_state="active")
            assert silent.status_code == 503 and int(silent.headers["retry-after"]) > 0
            assert len(requests(topics)) == 1
            assert state(client)["state"] == "deep"
        with Client(base.model_copy(update=told | {"opa_fail_open": True})) as client:
            assert asked(client, target_state="active").status_code == 202


def test_without_kafka_it_is_said(settings: Settings) -> None:
    """No topics, and no broker at all: nothing waits for ever."""
    base = migrated(settings).model_copy(update={"api": api_settings(timeout_s=20.0)})
    gone = base.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    for own in (base, gone):
        with Client(own) as client:
            for more in ({}, {"async_mode": False}):
                answer: httpx.Response = asked(client, target_state="light", **more)
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"]


def test_the_document_has_the_routes(settings: Settings) -> None:
    paths = make(settings.model_copy(update={"api": api_settings()})).openapi()["paths"]
    assert {UTIL, MODE, POLICY, STATE} <= paths.keys()
    assert set(paths[UTIL]["post"]["responses"]) >= {
        "200",
        "202",
        "403",
        "409",
        "422",
        "429",
        "504",
    }
