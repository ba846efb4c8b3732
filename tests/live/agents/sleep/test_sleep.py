"""`soma sleep` beside a worker: states that are true, ends that come, answers that are audited."""

import json
from typing import Any

from agents.settings import Settings
from agents.sleep.agent import AUDIT, REQUESTS, STATUS
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of
from topics import codec

MADE = topics_of("sleep")


def states(settings: Settings, tenant: str) -> list[dict[str, Any]]:
    """The states that a tenant entered, in order."""
    found = [codec.decode(one.value() or b"")[1] for one in read(settings, STATUS)]
    return [one for one in found if one["tenant"] == tenant]


def answers(settings: Settings) -> list[dict[str, Any]]:
    """What the audit says of sleep."""
    found = [codec.decode(one.value() or b"")[1] for one in read(settings, AUDIT)]
    return [json.loads(one["detail"]) for one in found if one["action"] == "sleep"]


def test_a_tenant_sleeps_and_wakes_as_it_is_asked_to(
    topics: Settings, worker: WorkerFactory
) -> None:
    worker(SOMA_AGENTS="sleep")
    env = environment(topics)
    done = soma("sleep", "set", "acme", "deep", "--ttl", "600", "--actor", "eva", env=env)
    assert done.returncode == 0 and done.stdout.startswith("acme: deep, until "), done.stderr
    told = json.loads(soma("sleep", "status", "--json", env=env).stdout)["tenants"]
    assert [(one["tenant"], one["state"], one["k"]) for one in told] == [("acme", "deep", 20)]
    back = soma("sleep", "set", "acme", "light", env=env)
    assert back.returncode == 1 and "acme stays deep: no way leads" in back.stderr
    done = soma("sleep", "set", "acme", "active", "--json", env=env)
    assert json.loads(done.stdout)["outcome"] == "changed"
    assert soma("sleep", "status", env=env).stderr == "Nobody sleeps.\n"

    short = {"request_id": "s", "tenant": "acme", "target": "FREEZE", "ttl_seconds": 1}
    wrong = {"request_id": "w", "tenant": "acme", "target": "deep", "ttl_seconds": 1_000_000}
    ts = {"ts": "2026-01-31T12:00:00Z"}
    produce(topics, REQUESTS, [(b"acme", json.dumps(one | ts).encode()) for one in (short, wrong)])
    eventually(lambda: states(topics, "acme")[-1]["reason"] == "expiry", 60, "the sleep's end")
    entered = [(one["state"], one["version"]) for one in states(topics, "acme")]
    assert [state for state, _ in entered] == [
        "light", "deep", "active", "light", "deep", "freeze", "active",
    ]  # fmt: skip
    assert [version for _, version in entered] == [*range(1, 8)]
    last = states(topics, "acme")[-2:]
    assert last[1]["since"] >= last[0]["wake_at"] == last[0]["since"] + 1_000_000
    said = answers(topics)
    assert [one["outcome"] for one in said] == [
        "changed", "refused", "changed", "changed", "refused", "changed",
    ]  # fmt: skip
    assert [one["request_id"] for one in said][3:5] == ["s", "w"]
    both = soma("sleep", "set", "acme", "active", "--wake-on-traffic", env=env)
    assert both.returncode == 1 and "of a sleep: active has no end" in both.stderr
    assert soma("sleep", "set", "acme", "light", "--wake-on-traffic", env=env).returncode == 0
    assert states(topics, "acme")[-1]["wake_on_traffic"]
    assert said[4]["why"] == "malformed: ttl_seconds: from 1 to 3600, not 1000000"
