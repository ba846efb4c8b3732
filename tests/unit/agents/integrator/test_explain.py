"""What is said of an update: numbers are the frame's and SciPy's, reasons are the law's."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from agents.integrator.explain import FRAMES, challenger, domains, explain
from agents.kit.explaining import Case
from tests.contract.harness import LOG_MS
from tests.unit.agents.explaining import at_the_last, line, numbers
from tests.unit.agents.integrator.harness import update

T0 = LOG_MS * 1000 - 60_000_000
SECOND = 1_000_000


def case(errors: list[tuple[str, float]], step: int = SECOND, **values: str) -> Case:
    records = [update("t", name, e, T0 + k * step) for k, (name, e) in enumerate(errors)]
    found, fate = at_the_last("integrator", records, **values)
    assert fate.fate == "folded"
    return found


def test_softmax_weights_are_those_of_the_losses_as_scipy_has_them() -> None:
    one = case([("state", 0.1), ("agent", 0.7), ("action", 0.3)], fusion="softmax", alpha="1.5")
    words = explain(one)
    loss = 1 - np.exp(-1.5 * np.float32([0.1, 0.7, 0.3]))
    wanted = softmax(1 - loss)
    for k, name in enumerate(("state", "agent", "action")):
        error, said_loss, *_, weight, _ = numbers(line(words, f"{name}:"))
        assert error == pytest.approx([0.1, 0.7, 0.3][k], rel=1e-3)
        assert said_loss == pytest.approx(loss[k], rel=1e-3)
        assert weight == pytest.approx(wanted[k], rel=1e-3)
        assert one.outputs[FRAMES][0]["weights"][name] == pytest.approx(wanted[k])
    assert line(words, "Round 3 of softmax: action").endswith(f"= {loss[2]:.4g}.")
    assert "agent" in line(words, "state goes on leading") or "most weight" in words[-1]


def test_fixed_share_s_rate_and_weights_are_those_of_its_law() -> None:
    errors = [("state", 0.2), ("agent", 1.0), ("state", 0.1), ("agent", 0.9), ("state", 2.0)]
    one = case(errors)
    words, was, now = explain(one), domains(one.before[""]), domains(one.after[""])
    n, rate, before, after = numbers(line(words, "The learning rate is"))
    assert (n, before) == (2, pytest.approx(one.before[""]["delta"], rel=1e-3))
    assert rate == pytest.approx(math.log(2) / one.before[""]["delta"], rel=1e-3)
    assert after == pytest.approx(one.after[""]["delta"], rel=1e-3)
    w = np.array([was[k].weight for k in ("state", "agent")])
    loss = np.array([now[k].loss for k in ("state", "agent")])
    w = w * np.exp(-math.log(2) / one.before[""]["delta"] * loss)
    w = 0.999 * w / w.sum() + 0.001 / 2
    for k, name in enumerate(("state", "agent")):
        assert numbers(line(words, f"{name}:"))[3] == pytest.approx(w[k], rel=2e-3)


@pytest.mark.parametrize(
    ("errors", "values", "said"),
    [
        ([("state", 0.5)], {}, "state leads from now on with 1: nobody led before."),
        ([("state", 0.1), ("agent", 0.9)], {}, "state goes on leading, since 1 s: it has the most"),
        ([("state", 9.0), ("agent", 0.0)], {"fusion": "softmax", "min_dwell_ms": "5000"},
         "it leads for 1 s only, of 5000 ms at least."),
        ([("state", 9.0), ("agent", 0.0)], {"fusion": "softmax", "margin": "0.9"},
         "no more than the margin 0.9."),
        ([("state", 9.0), ("agent", 0.0)], {"fusion": "softmax"},
         "agent leads from now on with 0.7311: it is ahead of state by 0.4621"),
        ([("state", 0.1), ("agent", 0.5)], {"stale_after_ms": "500"},
         "agent leads from now on with 1: state, which led, has gone silent."),
    ],
)  # fmt: skip
def test_it_says_why_who_leads_leads(
    errors: list[tuple[str, float]], values: dict[str, str], said: str
) -> None:
    one = case(errors, **values)
    words = explain(one)
    assert said in words[-1], words
    assert words[-1].startswith(one.outputs[FRAMES][0]["leader"])
    if "stale_after_ms" in values:
        assert "takes no part: silent for 1 s, stale_after_ms is 500." in line(words, "state")


def test_ties_go_by_their_order() -> None:
    assert challenger({"zeta": 0.4, "action": 0.4, "alpha": 0.2}) == "action"
    assert challenger({"zeta": 0.5, "alpha": 0.5}) == "alpha"


@pytest.mark.parametrize(
    ("veto", "rationale", "said"),
    [
        ("none", "", "The policy (1a2b) may veto; it wasn't asked here."),
        ("deny", "too soon", "The policy (1a2b) says deny: too soon."),
        (
            "pending",
            "",
            "The policy (1a2b) is asked whether state may lead; its answer comes later.",
        ),
    ],
)
def test_it_names_the_policy_that_the_frame_names(veto: str, rationale: str, said: str) -> None:
    one = case([("state", 0.1)])
    frame = {**one.outputs[FRAMES][0], "veto": veto, "rationale": rationale, "policy": "1a2b"}
    assert line(explain(replace(one, outputs={FRAMES: [frame]})), said)
    assert not any("policy" in words for words in explain(one))
