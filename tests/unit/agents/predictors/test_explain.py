"""What is said of an observation: SciPy's prediction, and the law's error, scale and confidence."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from agents.kit.asleep import FREEZE, number
from agents.kit.explaining import FROZEN, Case
from agents.predictors.agent import NEXT_EVENTS, UPDATES
from agents.predictors.explain import explain, prediction, shares
from tests.contract.harness import LOG_MS
from tests.unit.agents.explaining import at_the_last, line, numbers

T0 = LOG_MS * 1000 - 60_000_000


def case(vectors: list[list[float]], **values: str) -> Case:
    records = [
        {"tenant": "t", "domain": "state", "ts": T0 + k, "vector": np.float32(v).tobytes(),
         "sequence": None}
        for k, v in enumerate(vectors)
    ]  # fmt: skip
    return at_the_last("predictors", records, **values)[0]


def noise(n: int) -> list[list[float]]:
    return np.random.default_rng(3).normal(5, 1, (n, 3)).tolist()


@pytest.mark.parametrize("method", ["chebyshev", "lanczos"])
def test_heat_s_prediction_is_scipy_s_and_a_glitch_is_named(method: str) -> None:
    vectors = [*noise(300), [5.0, 80.0, 5.0]]
    one = case(vectors, heat_method=method, diffusion_time="0.7")
    path = np.array([[1.0, -1, 0], [-1, 2, -1], [0, -1, 1]])
    last = np.float32(vectors[-2]).astype(float)
    wanted = expm(-0.7 * path) @ last
    assert prediction(one, one.before["state"]) == pytest.approx(wanted, abs=1e-9)
    (update,), words = one.outputs[UPDATES], explain(one)
    said = line(words, "heat (diffusion over a path for 0.7) predicted")
    assert numbers(said)[1:4] == pytest.approx(wanted, rel=1e-3)
    each = shares(one, one.before["state"], one.after["state"], np.array([5.0, 80.0, 5.0]))
    assert each.mean() == pytest.approx(update["error_metric"], rel=1e-6)
    assert numbers(line(words, "The error is"))[0] == pytest.approx(each.mean(), rel=1e-3)
    assert line(words, "Most wrong was number 2: off by").count(f"{80 - wanted[1]:.4g}") == 1
    confidence = numbers(line(words, "The confidence is"))
    assert confidence[0] == pytest.approx(update["confidence"], rel=1e-3)
    assert "learned from 299 samples" in line(words, "The confidence is")
    assert "was wrong: the error is above the usual" in line(words, "The confidence before it")


@pytest.mark.parametrize("name", ["persistence", "mahal"])
def test_the_other_predictors(name: str) -> None:
    vectors = noise(50)
    one = case(vectors, predictor=name, calibrate="off", alpha="3", next_events="on")
    words, (update,) = explain(one), one.outputs[UPDATES]
    level = np.frombuffer(one.before["state"]["level"])
    wanted = np.float32(vectors[-2]) if name == "persistence" else level
    assert numbers(line(words, f"{name} predicted"))[:3] == pytest.approx(wanted, rel=1e-3)
    e = update["error_metric"]
    assert f"exp(-3 · {e:.4g}) = {math.exp(-3 * e):.4g}, not calibrated" in words[-2]
    following = np.frombuffer(one.outputs[NEXT_EVENTS][0]["predicted_state"], "<f4")
    assert numbers(line(words, "Next it expects"))[:3] == pytest.approx(following, rel=1e-3)


def test_where_nothing_could_be_predicted_it_says_so() -> None:
    first = explain(case([[1.0, 2.0]]))
    assert first[0].startswith("It is the first observation of state") and "error is 1," in first[0]
    other = explain(case([[1.0, 2.0], [1.0, 2.0, 3.0]]))
    assert other[0].startswith("Vectors of state had 2 numbers and have 3 now: it begins anew")
    assert "not calibrated yet" in line(other, "The confidence is")


def test_a_record_that_wakes_says_so_and_is_explained_as_of_the_awake() -> None:
    one = case(noise(30), diffusion_time="0.7")
    slept = {"": {"settings": {"sleep": float(number(FREEZE, 3, wakes=True))}}}
    woken = replace(one, before={**one.before, **slept})
    words = explain(woken)
    assert words[0].startswith("It ends the tenant's sleep") and words[1:] == explain(one)
    frozen = explain(replace(woken, after={**one.after, **slept}))
    assert frozen == [FROZEN]
