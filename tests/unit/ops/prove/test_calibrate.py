"""The verifier's calibration and drift, against known temperatures and by hand."""

import math
from typing import Any

import numpy as np
import pytest

from ops.prove.calibrate import LOGITS, Calibration, figures, likeliest, logit
from ops.prove.drifting import KNOWN, Watch

SETTINGS = {"alpha": 2.0, "calibrate_every": 100.0}
CALM: dict[str, Any] = {"drift_entropy": 0.8, "drift_regret": 0.1, "drift_cooldown_s": 1.0}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    true = 1e9 / (1.0 + np.exp(-LOGITS / temperature))
    counts = np.stack((1e9 - true, true), axis=1).astype(np.int64)
    assert likeliest(counts) == pytest.approx(temperature, rel=1e-5)


def test_a_temperature_stays_within_its_bounds() -> None:
    sure = np.stack((np.where(LOGITS < 0, 9, 0), np.where(LOGITS > 0, 9, 0)), axis=1)
    assert likeliest(sure) == pytest.approx(0.1)
    assert likeliest(sure[:, ::-1]) == pytest.approx(5.0)


def test_figures_by_hand() -> None:
    """Four samples of one level (p = σ(z)), three came true."""
    counts = np.zeros((len(LOGITS), 2), np.int64)
    counts[20] = 1, 3
    p = 1.0 / (1.0 + math.exp(-LOGITS[20]))
    found = figures(counts, 1.0)
    assert found.ece == pytest.approx(abs(p - 0.75))
    assert found.brier == pytest.approx((3 * (1 - p) ** 2 + p**2) / 4)
    assert found.nll == pytest.approx(-(3 * math.log(p) + math.log(1 - p)) / 4)
    assert sum(found.count) == 4 and max(found.accuracy) == 0.75


def test_a_logit_is_that_of_the_confidence_and_clipped() -> None:
    p = math.exp(-0.6)
    assert logit(0.3, 2.0) == pytest.approx(math.log(p / (1 - p)))
    assert (logit(0.0, 2.0), logit(1e9, 2.0)) == (6.0, -6.0)


def test_a_refit_comes_every_so_many_samples_and_follows_a_log_that_agrees() -> None:
    rng = np.random.default_rng(1)
    law, fits = Calibration(), []
    for n, error in enumerate(rng.exponential(0.5, 301), 2):
        row = law.take(float(error), n, SETTINGS, None)
        fits += [row] if row else []
    assert [row["samples"] for row in fits] == [100, 200, 300]
    again = Calibration()
    for n, error in enumerate(rng.exponential(0.5, 100), 2):
        again.take(float(error), n, SETTINGS, None)
    own = likeliest(again.counts[:, 0])
    claim = {"fitted": own * (1 + 1e-9), "kept": True, "temperature": own}
    assert again._refit(claim)["fitted"] == claim["fitted"]
    assert again._refit(claim | {"fitted": own * 1.01})["fitted"] == pytest.approx(own)


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
