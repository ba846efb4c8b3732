"""The policies that we ship: their own tests, in the embedded Rego and in OPA itself."""

import re
from pathlib import Path

import numpy as np
import pytest

from agents.engine.processor import Decision
from agents.policy import rego
from agents.policy.policies import Embedded, load_policy
from tests.opa import run

SHIPPED = Path(__file__).resolve().parents[4] / "ops" / "policies"
TEXTS = {path.name: path.read_text() for path in sorted(SHIPPED.glob("*.rego"))}
TESTS = re.findall(r"(?m)^(test_\w+)", TEXTS["integrator_test.rego"])
NAMES = ("state", "agent", "action", "sleep", "1e5", "true")


@pytest.mark.parametrize("name", TESTS)
def test_in_the_embedded_rego(name: str) -> None:
    assert rego.Rego(TEXTS, f"soma/policy/integrator_test/{name}").query({}) is True


def test_in_opa() -> None:
    assert run("test", str(SHIPPED)).startswith("PASS")
    assert run("check", "--strict", str(SHIPPED)) == ""
    assert run("fmt", "--list", str(SHIPPED)) == ""


def test_the_default_allows_everyone() -> None:
    policy = load_policy(SHIPPED)
    rng = np.random.default_rng(4)
    for _ in range(50):
        shares = rng.dirichlet(np.ones(len(NAMES)))
        weights = dict(zip(NAMES, map(float, shares), strict=True))
        leader = str(rng.choice(NAMES))
        assert policy.decide("t", leader, weights) == Decision("allow")


def test_edited_lists_act() -> None:
    lists = """package soma.policy.lists
        never := {"*": {"sleep"}, "t": {"agent"}}
        least := {"v": 0.2}
        instead := {"t": {"action": "state"}}"""
    policy = Embedded(TEXTS | {"lists.rego": lists})
    weights = {"state": 0.6, "agent": 0.2, "action": 0.2, "sleep": 0.0}

    def told(tenant: str, leader: str) -> Decision:
        return policy.decide(tenant, leader, weights)

    assert told("t", "state") == Decision("allow")
    assert told("t", "agent") == Decision("deny", "", "agent may not lead t")
    assert told("v", "agent") == Decision("allow")
    assert told("u", "sleep") == Decision("deny", "", "sleep may not lead u")
    assert told("t", "action") == Decision("override", "state")
    light = policy.decide("v", "state", {"state": 0.199999, "agent": 0.800001})
    assert light == Decision("deny", "", "state is too light to lead v")
