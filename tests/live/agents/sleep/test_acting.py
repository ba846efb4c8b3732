"""What a sleep does to a stream: each depth beside a worker that runs the whole chain."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.linalg import expm

from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from topics import codec

OBSERVATIONS, UPDATES, FRAMES = "cog.observations", "cog.predictor.updates", "cog.global.frame"
NEXT = "cog.next.events"
PATH = np.array([[1, -1, 0], [-1, 2, -1], [0, -1, 1]])  # its Laplacian
FIRST = [1.0, 0.0, 0.0]
ERRORS = (0.2, 0.5, 0.2, 0.9, 0.3)
TS = "2026-01-31T12:00:00Z"  # of all: none is stale
WAIT_S = 120.0  # for records of a worker on a busy machine


def observe(settings: Settings, tenant: str, count: int) -> None:
    """So many observations of a tenant, all alike."""
    record = {"tenant": tenant, "domain": "state", "vector": FIRST, "ts": TS}
    produce(settings, OBSERVATIONS, [(tenant.encode(), json.dumps(record).encode())] * count)


def update(settings: Settings, tenant: str) -> None:
    """Updates of two domains, as a user writes them."""
    each = [
        {
            "tenant": tenant, "domain": ("x", "y")[k % 2], "predictor_type": "mine",
            "error_metric": error, "prediction_latency_ms": 0.0, "vector_dim": 1, "ts": TS,
        }
        for k, error in enumerate(ERRORS)
    ]  # fmt: skip
    produce(settings, UPDATES, [(tenant.encode(), json.dumps(one).encode()) for one in each])


def told(settings: Settings, topic: str, tenant: str) -> list[dict[str, Any]]:
    """What processors say of a tenant on a topic: not control records, nor what a user wrote."""
    each = [one.value() or b"" for one in read(settings, topic)]
    found = [codec.decode(value) for value in each if not value.startswith(b"{")]
    mine = [record for name, record in found if not name.startswith("control_")]
    return [one for one in mine if one["tenant"] == tenant]


def await_told(settings: Settings, topic: str, tenant: str, count: int) -> list[dict[str, Any]]:
    """The same, once there are so many."""
    what = f"{count} records of {tenant} on {topic}"
    eventually(lambda: len(told(settings, topic, tenant)) >= count, WAIT_S, what)
    return told(settings, topic, tenant)


@pytest.mark.timeout(600)
def test_a_sleep_acts_from_its_place_in_the_log_on(topics: Settings, worker: WorkerFactory) -> None:
    worker(SOMA_AGENTS="predictors,integrator,segmentation,sleep")
    env = environment(topics)

    def let(tenant: str, state: str) -> None:
        done = soma("sleep", "set", tenant, state, env=env)
        assert done.returncode == 0, done.stderr

    observe(topics, "cold", 2)
    await_told(topics, FRAMES, "cold", 2)
    for tenant, state in (("cold", "freeze"), ("dim", "light"), ("low", "deep")):
        let(tenant, state)
    # It is no setting, though it lies beside them.
    got = soma("config", "get", "cold", "--json", env=env)
    assert json.loads(got.stdout)["processors"]["predictors"] == {}, got.stdout + got.stderr
    # What is written now stands behind the sleep in each log.
    for tenant in ("cold", "dim", "awake"):
        observe(topics, tenant, 3)
    for tenant in ("cold", "low", "plain"):
        update(topics, tenant)

    # t: heat spreads for .75 of its time.
    for tenant, part in (("dim", 0.75), ("awake", 1.0)):
        last = await_told(topics, NEXT, tenant, 3)[-1]
        seen = np.frombuffer(last["predicted_state"], "<f4")
        assert seen == pytest.approx(expm(-0.5 * part * PATH) @ FIRST, abs=1e-6)
    # τ: weights to the power of 1 / .5.
    low, plain = (
        [one["weights"] for one in await_told(topics, FRAMES, name, len(ERRORS))]
        for name in ("low", "plain")
    )
    for sharp, usual in zip(low, plain, strict=True):
        total = sum(weight**2 for weight in usual.values())
        assert sharp == {name: pytest.approx(weight**2 / total) for name, weight in usual.items()}
    assert low[-1]["x"] > plain[-1]["x"] > 0.5
    # Frozen: nothing, though what is behind it in the same logs has come.
    let("cold", "active")
    observe(topics, "cold", 1)
    frames = await_told(topics, FRAMES, "cold", 3)
    assert len(frames) == 3 and len(told(topics, UPDATES, "cold")) == 3
    assert set(frames[-1]["errors"]) == {"state", "x", "y"}  # it was taken into the state

    for processor in ("predictors", "integrator"):
        again = soma("digest", processor, "--rebuild", env=env, timeout=240)
        assert again.returncode == 0, again.stdout + again.stderr
