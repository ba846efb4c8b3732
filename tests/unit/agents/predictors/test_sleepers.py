"""What predictors count by the depth of sleep: each observation once, where its tenant stood."""

from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from agents.engine.by_sleep import Slept, TellingSleep
from agents.engine.sleep_metrics import show
from agents.kit.asleep import STATES
from agents.predictors.agent import PROCESSOR, UPDATES
from tests.contract.harness import LOG_MS, Run, messages, plan_of, sleep
from topics import codec

PLAN = plan_of(PROCESSOR)


def observed(tenant: str, k: int) -> dict[str, Any]:
    vector = np.array([k % 3, 1.0], np.float32).tobytes()
    return {"tenant": tenant, "domain": "cpu", "ts": LOG_MS * 1000 + k, "vector": vector,
            "sequence": None}  # fmt: skip


def fed(run: Run, records: list[dict[str, Any]]) -> dict[str, Slept]:
    run.feed([messages(PLAN, records, run.next)])
    return dict(run.last.by_sleep)


def test_each_observation_counts_in_its_tenants_state_and_once() -> None:
    run = Run(PLAN)
    assert isinstance(run.fold, TellingSleep)
    awake = fed(run, [observed("a", k) for k in range(5)])
    assert awake.keys() == {"active"} and awake["active"].records == 5
    assert awake["active"].newest_ts == LOG_MS * 1000 + 4 and awake["active"].errors > 0
    for tenant, state in zip("bcd", STATES[1:], strict=True):
        run.feed([[sleep(run.next, tenant, STATES.index(state))]])
    fed(run, [observed(tenant, k) for k in range(3) for tenant in "abcd"])
    by = fed(run, [observed(tenant, 9) for tenant in "abcdd"])
    assert [by[state].records for state in STATES] == [1, 1, 1, 2]
    assert by["freeze"].errors == 0.0 < by["light"].errors
    assert sum(one.errors for one in by.values()) == pytest.approx(
        sum(codec.decode(one.value or b"")[1]["error_metric"] for one in run.of(UPDATES)[-3:])
    )


def test_they_are_shown_by_state() -> None:
    def value(name: str) -> float:
        return REGISTRY.get_sample_value(name, {"state": "deep"}) or 0.0

    names = ("soma_sleep_observations_total", "soma_sleep_error_total",
             "soma_sleep_latency_seconds_sum")  # fmt: skip
    before = [value(name) for name in names]
    show({"deep": Slept(3, 5_000_000, 1.5)}, 7.0)
    assert [value(name) for name in names] == [one + more for one, more in zip(
        before, (3, 1.5, 2.0), strict=True)]  # fmt: skip
