"""Traffic wakes, once a sleep: beside a worker that runs the whole chain, and is killed."""

import json
from typing import Any

import pytest

from agents.settings import Settings
from agents.sleep.agent import REQUESTS, STATUS
from tests.live.agents.sleep.test_acting import (
    FRAMES,
    TS,
    UPDATES,
    WAIT_S,
    await_told,
    observe,
    told,
)
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of
from topics import codec

MADE = topics_of("predictors", "integrator", "segmentation", "sleep", "control")

TENANTS = tuple(f"t{k}" for k in range(8))


def freeze(settings: Settings, tenants: tuple[str, ...], version: int) -> None:
    """Let tenants be frozen until traffic wakes them, and wait until it is so."""
    asked = {"request_id": "f", "target": "freeze", "wake_on_traffic": True, "ts": TS}
    each = [(name.encode(), json.dumps(asked | {"tenant": name}).encode()) for name in tenants]
    produce(settings, REQUESTS, each)
    await_state(settings, tenants, "freeze", version)


def await_state(settings: Settings, tenants: tuple[str, ...], state: str, version: int) -> None:
    """Wait until each is in a state, as of a version."""

    def there() -> bool:
        last = {one["tenant"]: (one["state"], one["version"]) for one in states(settings)}
        return all(last.get(name) == (state, version) for name in tenants)

    eventually(there, WAIT_S, f"{state} of all, as version {version}")


def states(settings: Settings) -> list[dict[str, Any]]:
    """All states that were entered, a tenant's in their order."""
    return [codec.decode(one.value() or b"")[1] for one in read(settings, STATUS)]


def wakes(settings: Settings) -> list[tuple[str, int, str]]:
    """What traffic asked for: tenant, version, id."""
    each = [one.value() or b"" for one in read(settings, REQUESTS)]
    found = [codec.decode(value)[1] for value in each if not value.startswith(b"{")]
    mine = [one for one in found if one["kind"] == "traffic"]
    return sorted((one["tenant"], one["version"], one["request_id"]) for one in mine)


@pytest.mark.timeout(600)
def test_an_observation_wakes_and_is_the_first_that_speaks(
    topics: Settings, worker: WorkerFactory
) -> None:
    run = {"SOMA_AGENTS": "predictors,integrator,segmentation,sleep"}
    first = worker(**run)
    env = environment(topics)
    observe(topics, "cold", 1)
    await_told(topics, UPDATES, "cold", 1)
    frozen = soma("sleep", "set", "cold", "freeze", env=env)
    assert frozen.returncode == 0, frozen.stderr
    freeze(topics, TENANTS, 3)
    for tenant in (*TENANTS, "cold"):
        observe(topics, tenant, 3)
    for tenant in TENANTS:
        await_told(topics, UPDATES, tenant, 3)
    await_state(topics, TENANTS, "active", 4)
    by = {(one["tenant"], one["reason"]): one for one in states(topics) if one["version"] == 4}
    asked = wakes(topics)
    assert [(tenant, version) for tenant, version, _ in asked] == [(one, 3) for one in TENANTS]
    for tenant, _, request_id in asked:
        ids = [one["observation_id"] for one in told(topics, UPDATES, tenant)]
        assert len(ids) == 3 and request_id == ids[0] == by[tenant, "traffic"]["request_id"]
    # Once more, in another process: the request of a sleep follows from the state's rows.
    first.kill()
    observe(topics, "t0", 1)
    worker(**run)
    freeze(topics, TENANTS, 7)
    for tenant in TENANTS:
        observe(topics, tenant, 2)
    await_state(topics, TENANTS, "active", 8)
    assert [one[:2] for one in wakes(topics)] == [
        (tenant, version) for tenant in TENANTS for version in (3, 7)
    ]
    for tenant in TENANTS:
        observe(topics, tenant, 1)  # behind the waking in each log: now it has a frame, too
        last = await_told(topics, UPDATES, tenant, 6 + (tenant == "t0"))[-1]["observation_id"]

        def framed(tenant: str = tenant, last: str = last) -> bool:
            return any(one["observation_id"] == last for one in told(topics, FRAMES, tenant))

        eventually(framed, WAIT_S, f"a frame of {tenant}")
    assert len(told(topics, UPDATES, "cold")) == 1
    for processor in ("predictors", "integrator", "sleep"):
        again = soma("digest", processor, "--rebuild", env=env, timeout=240)
        assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.timeout(600)
def test_the_silent_sleep_by_themselves_where_a_setting_says_so(
    topics: Settings, worker: WorkerFactory
) -> None:
    worker(SOMA_AGENTS="predictors,integrator,sleep,control")
    env = environment(topics)
    for name in ("quiet", "restless"):
        observe(topics, name, 1)
        await_told(topics, UPDATES, name, 1)
    done = soma("sleep", "policy", "quiet", "1", env=env)
    assert done.returncode == 0, done.stderr
    said = [soma("sleep", "policy", name, env=env).stdout for name in ("quiet", "restless")]
    assert said == [
        "quiet: sleeps lightly after 1 s of silence (own)\n",
        "restless: sleeps never by itself (default)\n",
    ]
    for version in (1, 3):
        await_state(topics, ("quiet",), "light", version)
        observe(topics, "quiet", 1)
        eventually(
            lambda v=version: any(
                (one["version"], one["reason"]) == (v + 1, "traffic") for one in states(topics)
            ),
            WAIT_S, f"waking as version {version + 1}",
        )  # fmt: skip
    await_state(topics, ("quiet",), "light", 5)
    # Whoever is woken by an operator is given its time anew.
    assert soma("sleep", "set", "quiet", "active", env=env).returncode == 0
    await_state(topics, ("quiet",), "light", 7)
    since = {one["version"]: one["since"] for one in states(topics)}
    assert since[7] - since[6] >= 1_000_000
    assert {one["tenant"] for one in states(topics)} == {"quiet"}
    assert {one["cause"] for one in states(topics)} == {"policy", ""}
    for processor in ("predictors", "sleep"):
        again = soma("digest", processor, "--rebuild", env=env, timeout=240)
        assert again.returncode == 0, again.stdout + again.stderr
