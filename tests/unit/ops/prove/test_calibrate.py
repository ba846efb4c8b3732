"""The verifier's calibration and drift, against known temperatures and by hand."""

import math
from typing import Any

import numpy as np
import pytest

from ops.prove.calibrate import PRIOR, START, Calibration, Told, logit, newton, probability
from ops.prove.drifting import KNOWN, Watch

SETTINGS = {"alpha": 2.0, "calibrate_every": 100.0}
CALM: dict[str, Any] = {"drift_entropy": 0.8, "drift_regret": 0.1, "drift_cooldown_s": 1.0}


@pytest.mark.parametrize(("slope", "bias"), [(2.0, 0.0), (1.0, 0.0), (0.3, -1.0)])
def test_a_known_slope_and_bias_are_found(slope: float, bias: float) -> None:
    rng = np.random.default_rng(3)
    weights, information, found = START, PRIOR, []
    for z in np.clip(rng.normal(0.0, 3.0, 4000), -6.0, 6.0).tolist():
        truth = float(rng.random() < probability(slope * z + bias))
        weights, information = newton(weights, information, z, truth)
        found.append(weights)
    assert np.mean(found[1000:], axis=0) == pytest.approx((slope, bias), abs=0.2)


def test_a_slope_and_bias_stay_within_their_bounds() -> None:
    for sign in (1.0, -1.0):
        weights, information = START, PRIOR
        for k in range(3000):
            z = 6.0 if k % 2 else -6.0
            weights, information = newton(weights, information, z, float(z * sign > 0.0))
            assert 0.0 <= weights[0] <= 5.0 and abs(weights[1]) <= 6.0
        assert weights[0] > 1.0 if sign > 0.0 else weights[0] == 0.0


def test_figures_by_hand() -> None:
    """Four samples of one logit, three came true."""
    told, z = Told(), 1.0
    for truth in (1.0, 1.0, 0.0, 1.0):
        told.take(z, truth)
    p, found = probability(z), told.figures("post")
    assert found["ece_post"] == pytest.approx(abs(p - 0.75), abs=1e-4)
    assert found["brier_post"] == pytest.approx((3 * (1 - p) ** 2 + p**2) / 4)
    assert found["nll_post"] == pytest.approx(-(3 * math.log(p) + math.log(1 - p)) / 4)
    assert sum(found["bin_count_post"]) == 4 and max(found["bin_accuracy_post"]) == 0.75


def test_a_logit_is_that_of_the_confidence_and_clipped() -> None:
    p = math.exp(-0.6)
    assert logit(0.3, 2.0) == pytest.approx(math.log(p / (1 - p)))
    assert (logit(0.0, 2.0), logit(1e9, 2.0)) == (6.0, -6.0)


def test_a_record_comes_every_so_many_samples() -> None:
    rng = np.random.default_rng(1)
    law, records = Calibration(), []
    for n, error in enumerate(rng.exponential(0.5, 301), 2):
        row = law.take(float(error), n, SETTINGS)
        records += [row] if row else []
    assert [row["samples"] for row in records] == [100, 200, 300]
    assert all(sum(row["bin_count"]) == 100 for row in records)


def watched(watch: Watch, count: int, entropy: float, since_s: int = 0) -> list[str]:
    """Kinds of the events of so many frames, one a second."""
    found = []
    for k in range(count):
        numbers = {"entropy": entropy, "regret": 0.0}
        event = watch.frame(numbers, (since_s + k + 1) * 1_000_000, CALM, {"a": 1.0}, None)
        found += [event[0]] if event else []
    return found


def test_a_rise_of_the_entropy_is_a_drift_once_the_tenant_is_known() -> None:
    watch = Watch()
    assert watched(watch, KNOWN - 1, 0.95) == [], "nothing is usual yet"
    watch = Watch()
    assert watched(watch, 1000, 0.3) == []
    assert watch.baseline == {"a": 1.0} and watch.calm == 100
    assert "entropy" in watched(watch, 100, 1.0, 1000)
    frozen = watch.figures["entropy"].usual
    watched(watch, 20, 1.0, 1100)
    assert watch.figures["entropy"].usual == frozen, "what is usual stays while drifting"


def test_a_rollback_gives_back_what_shapes_the_fusion_only() -> None:
    watch = Watch(baseline={"alpha": 1.5})
    own = {"alpha": 2.0, "margin": 0.2, "forget_after_s": 60.0}
    before, after = watch.roll_back(own)
    assert before == {"alpha": "2.0", "margin": "0.2"} and after == {"alpha": "1.5", "margin": ""}
    assert own == {"alpha": 1.5, "forget_after_s": 60.0}
    assert watch.roll_back(own) == ({}, {})
