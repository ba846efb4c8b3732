"""The remote is a second installation: `soma api` and a schema of its own, killed and restarted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agents.settings import Settings
from tests.live.agents.api.helpers import ApiProcess, bearer, events_of
from tests.live.agents.gateway.conftest import Running, event
from tests.live.agents.projections.compare import migrated
from tests.live.helpers import ended, eventually, produce

TENANTS = [f"t{k}" for k in range(6)]
EACH = 60


@pytest.fixture
def elsewhere(settings: Settings) -> Settings:
    """The second installation: other topics, another schema."""
    return migrated(settings.model_copy(update={"namespace": f"{settings.namespace}r"}))


@pytest.fixture
def api(elsewhere: Settings, tmp_path: Path) -> Iterator[ApiProcess]:
    one = ApiProcess(elsewhere, tmp_path / "api.log", {"SOMA_API__JOURNAL": "off"})
    yield one.await_alive()
    one.kill()


@pytest.fixture
def run(topics: Settings, api: ApiProcess) -> Iterator[Running]:
    token = bearer("*", ("write",))["authorization"].removeprefix("Bearer ")
    running = Running(topics.model_copy(update={"memory_http_token": SecretStr(token)}), api.base)
    with ended(running.all):
        yield running


def kind_of(number: int) -> str:
    return "deleted" if number % 7 == 3 else "created"


def arrived(elsewhere: Settings) -> dict[str, list[dict[str, Any]]]:
    """tenant -> its events in the second installation's outbox, in their order."""
    found: dict[str, list[dict[str, Any]]] = {tenant: [] for tenant in TENANTS}
    for row in events_of(elsewhere):
        assert row["topic"] == "memory.events"
        found[row["tenant_id"]].append(json.loads(row["payload"]))
    return found


def test_a_second_soma_killed_and_restarted_has_each_event_once_and_in_order(
    topics: Settings, elsewhere: Settings, api: ApiProcess, run: Running
) -> None:
    gateway = run()
    for n in range(EACH):
        records = [(t.encode(), event(t, n, kind_of(n), dedupe_key=f"d{n}")) for t in TENANTS]
        produce(topics, "memory.events", records)
        if n == EACH // 3:
            eventually(lambda: len(events_of(elsewhere)) > 20)
            api.kill()
    eventually(lambda: len(gateway.circuits.broken()) == len(TENANTS))
    api.restart()
    eventually(lambda: len(events_of(elsewhere)) == EACH * len(TENANTS), 60.0)
    eventually(lambda: run.value("soma_circuit_open_count") == 0)
    for events in arrived(elsewhere).values():
        numbers = [json.loads(one["payload"])["number"] for one in events]
        assert numbers == list(range(EACH))
        assert [one["type"] for one in events] == [kind_of(n) for n in range(EACH)]
    assert run.value("soma_gateway_delivered_total", result="refused") == 0
