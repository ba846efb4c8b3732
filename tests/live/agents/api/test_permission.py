"""An OPA server decides about every write by HTTP: a new route that doesn't ask fails here."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agents.policy import ACCESS, rego
from agents.settings import Settings
from tests.live.agents.api.conftest import api_settings
from tests.live.agents.api.helpers import acme, admin, bearer, events_of, observation
from tests.live.agents.api.inside import Client
from tests.live.helpers import REPO
from tests.opa import PolicyServer

FRAME = "0123abcd-2-77"


def of_acme() -> dict[str, str]:
    return admin(("acme",)) | {"x-soma-tenant": "acme"}


# Route -> action, tenants, path, body, who asks (tokens are made when they are used: they expire).
WRITES: dict[str, tuple[str, list[str], str, Any, Callable[[], dict[str, str]]]] = {
    "/events/{topic}": (
        "events", ["acme"], "/events/cog.observations", {"payload": observation()}, acme,
    ),
    "/memories": (
        "memories", ["b"], "/memories", {"payload": {}, "namespace": "a:b"}, lambda: bearer(("b",)),
    ),
    "/memories/bulk": (
        "memories", ["acme"], "/memories/bulk", [{"payload": {}}], acme,
    ),
    "/memories/{coordinate}": ("memories", ["acme"], "/memories/1,2", None, acme),
    "/graph/link": (
        "memories", ["acme"], "/graph/link", {"from": "1,2", "to": "3,4"}, acme,
    ),
    "/reward/{frame_id}": ("reward", ["acme"], f"/reward/{FRAME}", {"r_task": 1.0}, acme),
    "/teach/feedback": (
        "feedback", ["acme"], "/teach/feedback", {"frame_id": FRAME, "rating": 4}, acme,
    ),
    "/rho": (
        "rho", ["acme"], "/rho",
        {"commits": [{"key": "k", "expected_version": 0, "matrix": [[1]]}]}, acme,
    ),
    "/rho/{key}": ("rho", ["acme"], "/rho/k?expected_version=0", {"matrix": [[1]]}, acme),
    "/admin/outbox/replay": (
        "outbox.replay", ["*"], "/admin/outbox/replay", {"event_ids": [1]}, admin,
    ),
    "/admin/outbox/replay/tenant": (
        "outbox.replay", ["acme"], "/admin/outbox/replay/tenant", {"tenant_id": "acme"}, admin,
    ),
    "/admin/outbox/skip": (
        "outbox.skip", ["acme"], "/admin/outbox/skip", {"event_ids": [1]}, of_acme,
    ),
    "/admin/dlq/redrive": (
        "dlq.redrive", ["acme", "b"], "/admin/dlq/redrive",
        {"topic": "cog.observations", "tenant": "acme", "set": {"tenant": "b"}}, admin,
    ),
    "/admin/dlq/drop": (
        "dlq.drop", ["*"], "/admin/dlq/drop", {"topic": "cog.observations", "dry_run": True},
        admin,
    ),
    "/admin/journal/replay": (
        "journal.replay", ["*"], "/admin/journal/replay", {"seqs": [1]}, admin,
    ),
    "/admin/journal/cleanup": (
        "journal.cleanup", ["*"], "/admin/journal/cleanup", {"drop_failed": True}, admin,
    ),
    "/admin/replay": (
        "replay.start", ["acme"], "/admin/replay",
        {"source": "cog.observations", "shadow": "copy", "tenants": ["acme"]}, admin,
    ),
    "/api/util/sleep": (
        "sleep", ["acme"], "/api/util/sleep", {"target_state": "deep", "ttl_seconds": 60}, of_acme,
    ),
    "/api/brain/sleep_mode": (
        "sleep_mode", ["acme"], "/api/brain/sleep_mode", {"target_state": "deep"}, of_acme,
    ),
    "/api/brain/sleep_policy": (
        "sleep_policy", ["acme"], "/api/brain/sleep_policy", {"target_state": "light"}, of_acme,
    ),
}  # fmt: skip
METHODS = {"/rho/{key}": "PUT", "/memories/{coordinate}": "DELETE"}  # others: POST
SAFE = {"get", "head", "options"}
QUESTIONS = {"/memories/search"}  # by POST: they write nothing


@pytest.fixture
def opa() -> Iterator[PolicyServer]:
    with PolicyServer({"api.rego": _example()}) as one:
        yield one


@pytest.fixture
def guarded(database: Settings, opa: PolicyServer) -> Iterator[Client]:
    """The HTTP API of an installation whose OPA server is asked."""
    own = {"opa_url": opa.url, "opa_timeout_s": 3.0, "api": api_settings(journal="on")}
    with Client(database.model_copy(update=own)) as one:
        yield one


def _example() -> str:
    """The policy that the README of policies shows."""
    text = (REPO / "ops" / "policies" / "README.md").read_text()
    (found,) = re.findall(r"```rego\n(.*?)```", text, re.DOTALL)
    return str(found)


def sent(client: Client, route: str) -> Any:
    _, _, path, body, who = WRITES[route]
    return client.request(METHODS.get(route, "POST"), path, json=body, headers=who())


def test_every_write_asks_and_is_refused_without_a_yes(
    guarded: Client, opa: PolicyServer, database: Settings
) -> None:
    paths = guarded.app.openapi()["paths"]
    assert {path for path in paths if paths[path].keys() - SAFE} - QUESTIONS == WRITES.keys()
    denied = b'{"result": {"allow": false, "rationale": "not today"}}'
    for route, (action, tenants, path, body, _) in WRITES.items():
        opa.says, opa.asked = (200, denied), []
        said = body if isinstance(body, dict) else {}
        answer = sent(guarded, route)
        assert answer.status_code == 403 and "not today" in answer.json()["detail"], answer.text
        assert opa.asked == [{
            "method": METHODS.get(route, "POST"), "path": path.partition("?")[0],
            "tenant_id": tenants[0], "action": action,
            "target_state": said.get("target_state"), "max_seconds": said.get("ttl_seconds"),
        }]  # fmt: skip
        for nonsense in (b"{}", b'{"result": {"allow": "yes"}}'):
            opa.says = (200, nonsense)
            answer = sent(guarded, route)
            assert answer.status_code == 503 and answer.headers["retry-after"], answer.text
            assert "The policy gives no answer" in answer.json()["detail"]
    opa.says = "slow"
    assert sent(guarded, "/events/{topic}").status_code == 503
    assert events_of(database) == []
    assert 'soma_http_refused_total{limit="policy"}' in guarded.get("/metrics").text


def test_a_yes_is_needed_for_each_tenant(guarded: Client, opa: PolicyServer) -> None:
    opa.says = (200, b'{"result": {"allow": true}}')
    assert sent(guarded, "/events/{topic}").status_code == 202
    assert sent(guarded, "/memories").status_code == 202
    opa.asked = []
    sent(guarded, "/admin/dlq/redrive")  # (here without Kafka's topics)
    assert [one["tenant_id"] for one in opa.asked] == ["acme", "b"]
    opa.asked = []
    assert guarded.get("/admin/outbox", headers=admin()).status_code == 200
    assert guarded.post("/memories", json={}, headers=acme()).status_code == 422
    assert guarded.post("/memories", json={"payload": {}}, headers=admin()).status_code == 403
    assert opa.asked == []  # of what isn't done anyway


def test_the_example_s_rules_are_as_it_says(guarded: Client, opa: PolicyServer) -> None:
    """In the embedded Rego, behind a server; and nothing is asked where no server is set."""
    assert sent(guarded, "/events/{topic}").status_code == 202
    late = guarded.post("/api/util/sleep", json={"target_state": "freeze"}, headers=of_acme())
    assert late.status_code == 403 and "freeze without an end" in late.json()["detail"]
    assert sent(guarded, "/admin/dlq/drop").status_code == 403
    policy = rego.Rego({"api.rego": _example()}, ACCESS)
    slept = {"action": "sleep", "target_state": "freeze", "max_seconds": 60, "tenant_id": "acme"}
    told = policy.query(slept)
    assert isinstance(told, dict) and told["allow"] is True and "rationale" not in told
