"""A tenant whose memories can't be delivered sleeps until they can, whoever is killed meanwhile."""

from itertools import pairwise
from typing import Any

import pytest

from agents.gateway.writer import MARK_KEY, STATE, STATE_KEY
from agents.settings import Settings
from agents.sleep.agent import REQUESTS, STATUS
from tests.live.agents.gateway.conftest import Running, event, remote, run
from tests.live.agents.gateway.remote import Remote
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of
from topics import codec

MADE = topics_of("sleep", "gateway")

__all__ = ["remote", "run"]  # fixtures

WAIT_S = 90.0
GATEWAY = {
    "SOMA_AGENTS": "gateway,sleep", "SOMA_GATEWAY__HEALTH_EVERY_S": "0.2",
    "SOMA_GATEWAY__OPEN_S": "600",
}  # fmt: skip


def wishes(settings: Settings, tenant: str) -> list[str]:
    """What the circuit asked for, in order."""
    found = [codec.decode(one.value() or b"")[1] for one in read(settings, REQUESTS)]
    return [one["target"] for one in found if (one["tenant"], one["kind"]) == (tenant, "circuit")]


def states(settings: Settings, tenant: str) -> list[tuple[str, str]]:
    """The states that it entered, and whose they are."""
    found: list[dict[str, Any]] = [
        codec.decode(one.value() or b"")[1] for one in read(settings, STATUS)
    ]
    return [(one["state"], one["cause"]) for one in found if one["tenant"] == tenant]


def remember(settings: Settings, tenant: str, number: int = 0) -> None:
    produce(settings, "memory.events", [(tenant.encode(), event(tenant, number))])


@pytest.mark.timeout(400)
def test_a_circuit_lets_its_tenant_sleep_and_wakes_it(
    topics: Settings, worker: WorkerFactory, remote: Remote
) -> None:
    own = GATEWAY | {"SOMA_MEMORY_HTTP_ENDPOINT": remote.endpoint}
    first = worker(**own)
    env = environment(topics)
    assert soma("sleep", "set", "bad2", "light", env=env).returncode == 0
    remote.mode("500")
    for tenant in ("bad1", "bad2", "good"):
        remember(topics, tenant)
    frozen = [("light", "circuit"), ("deep", "circuit"), ("freeze", "circuit")]
    eventually(lambda: states(topics, "bad1") == frozen, WAIT_S, "frozen")
    eventually(lambda: wishes(topics, "bad2") == ["freeze"], WAIT_S, "asked for the other too")
    # Killed, it is followed by one that knows whom it let sleep, and asks for nothing twice.
    first.kill()
    remote.mode("down")
    worker(**own)
    remember(topics, "good", 1)
    eventually(lambda: remote.count("tenant = 'good'") == 2, WAIT_S, "the next one delivers")
    assert wishes(topics, "bad1")[0] == "freeze" and "active" not in wishes(topics, "bad1")
    remote.mode("well")
    eventually(lambda: remote.count("tenant LIKE 'bad%'") == 2, WAIT_S, "all is delivered")
    eventually(lambda: states(topics, "bad1")[-1] == ("active", ""), WAIT_S, "awake")
    asked = wishes(topics, "bad1")
    assert asked[0] == "freeze" and asked[-2:] == ["light", "active"]
    assert all(a != b for a, b in pairwise(asked)), asked
    assert not wishes(topics, "good")
    # An operator's sleep is neither deepened nor ended by it.
    eventually(lambda: wishes(topics, "bad2")[-1] == "active", WAIT_S, "asked, in vain")
    assert states(topics, "bad2") == [("light", "operator")]


@pytest.mark.timeout(400)
def test_each_change_is_asked_once_and_off_means_not_at_all(
    topics: Settings, run: Running, remote: Remote
) -> None:
    gateway = run(open_s=1.0)
    remote.mode("500")
    remember(topics, "bad1")
    failed = "status >= 500"
    eventually(lambda: len(remote.calls(failed)) >= 5, WAIT_S, "two probes have failed")
    remote.mode("well")
    eventually(lambda: wishes(topics, "bad1")[-1:] == ["active"], WAIT_S, "it is delivered")
    probes = len(remote.calls(failed)) - 3
    assert wishes(topics, "bad1") == ["freeze", "light"] * (probes + 1) + ["active"]
    # Left asleep by one, it is woken by another that is told to let nobody sleep.
    remote.mode("500")
    remember(topics, "bad1", 1)
    eventually(lambda: wishes(topics, "bad1")[-1] != "active", WAIT_S, "asleep again")
    gateway.stop()
    run(open_s=600.0, sleep="off")
    eventually(lambda: wishes(topics, "bad1")[-1] == "active", WAIT_S, "awake")
    remember(topics, "bad3")
    eventually(lambda: run.value("soma_circuit_open_count") == 2, WAIT_S, "both are open")
    remote.mode("well")
    assert not wishes(topics, "bad3")


@pytest.mark.timeout(400)
def test_who_finds_that_another_has_written_takes_the_partition_anew(
    topics: Settings, run: Running, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    run(open_s=1.0)
    remote.mode("500")
    remember(topics, "bad1")
    eventually(lambda: wishes(topics, "bad1")[:1] == ["freeze"], WAIT_S, "asked to sleep")
    rows = [one for one in read(topics, STATE) if one.key() == STATE_KEY]
    produce(topics, STATE, [(MARK_KEY, None)], partition=rows[-1].partition() or 0)
    remote.mode("well")
    remember(topics, "bad1", 1)
    eventually(lambda: wishes(topics, "bad1")[-1] == "active", WAIT_S, "awake")
    eventually(lambda: remote.count("tenant = 'bad1'") == 2, WAIT_S, "all is delivered")
    assert "another has written there" in caplog.text
    found = [codec.decode(one.value() or b"")[1] for one in read(topics, REQUESTS)]
    numbers = [one["version"] for one in found]
    assert numbers == sorted(numbers) and numbers[0] > 1_600_000_000_000
