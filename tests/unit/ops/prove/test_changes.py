"""The verifier's change point laws: sums by least squares, changes where they were put."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from agents.segmentation.series import Series
from ops.prove.changes import Glr, Points, residual
from ops.prove.regimes import BETA, Bocpd, Hmm
from ops.prove.segment import Segmentation

GLR = (2.0, 1.4, 0.2, 1000.0, 4)
series = st.lists(st.floats(-50, 50), min_size=3, max_size=40)


def sums(pairs: list[tuple[float, float]]) -> np.ndarray:
    f, y = np.array(pairs).T
    return np.array([[len(f), f.sum(), y.sum(), f @ f, f @ y, y @ y]])


@given(series)
def test_a_residual_is_that_of_least_squares_with_a_bounded_slope(values: list[float]) -> None:
    pairs = list(pairwise(values))
    f, y = np.array(pairs).T
    spread = float(((f - f.mean()) ** 2).sum())
    if spread < 1e-6:
        return
    slope = float(np.clip(((f - f.mean()) * (y - y.mean())).sum() / spread, -1, 1))
    left = y - y.mean() - slope * (f - f.mean())
    assert residual(sums(pairs), 0.0)[0] == pytest.approx(float(left @ left), abs=1e-6)


def test_a_step_is_declared_where_it_was_and_not_before_it_lasts() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate((rng.normal(0, 1, 60), rng.normal(6, 1, 20)))
    points, glr = Points(), Glr()
    found = []
    for at, value in enumerate(values):
        points.push(float(value))
        glr.add(points, at)
        change = glr.step(points, *GLR, None)
        found += [(at, change)] if change else []
    assert len(found) == 1
    at, change = found[0]
    assert abs(change.point - 60) <= 1 and 63 <= at <= 70
    assert glr.start == change.point and glr.count == 1.0


@pytest.mark.kernel
@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e2, 1e5))
def test_it_agrees_with_the_processor_where_points_are_wild(seed: int, size: float) -> None:
    """Two programs that share no line: the same places, at the same points."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, 700)
    values[rng.integers(0, 700, 6)] += rng.choice([-1, 1], 6) * size
    values[rng.integers(100, 300) :] += 6.0
    values[rng.integers(350, 600) :] *= 3.0
    points, glr, found = Points(), Glr(), []
    for at, value in enumerate(values):
        glr.leave(points)
        points.push(float(value))
        glr.add(points, at)
        if change := glr.step(points, 2.3, 1.4, 0.2, 1000.0, 4, None):
            found.append((change.point, at))
    changes = Series({}).extend(values)
    assert [(one.index, one.at) for one in changes] == found


@pytest.mark.kernel
@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from(["bocpd", "hmm"]), st.integers(0, 2**32 - 1),
    st.sampled_from([1e2, 1e4, 1e6]), st.booleans(),
)  # fmt: skip
def test_bocpd_and_hmm_agree_where_they_measure_anew(
    law: str, seed: int, size: float, calm: bool
) -> None:
    """A level far off, or a noise so much less, glitches, and a step."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, 500)
    values[200:] *= 1.0 / size if calm else 1.0
    values[200:] += 0.0 if calm else size
    values[rng.integers(0, 500, 3)] = 1e5
    values[400:] += 6.0 * (1.0 / size if calm else 1.0)
    points, found = Points(), []
    bocpd, hmm = Bocpd(), Hmm()
    for at, value in enumerate(values):
        points.push(float(value))
        if law == "bocpd":
            change = bocpd.step(points, 250.0, None)
        else:
            change = hmm.step(points, 0.99999, 0.6, 0.4, None)
        if change and (not found or change.point >= found[-1][0] + 5):
            found.append((change.point, at))
    own = {"cpd": "bocpd"} if law == "bocpd" else {"cpd": "off", "hmm": "on"}
    assert [(one.index, one.at) for one in Series(own).extend(values)] == found


def test_a_constant_series_never_changes() -> None:
    points, glr, hmm, bocpd = Points(), Glr(), Hmm(), Bocpd()
    for at in range(200):
        points.push(3.0)
        glr.add(points, at)
        assert glr.step(points, *GLR, None) is None
        assert hmm.step(points, 0.997, 0.6, 0.4, None) is None
        assert bocpd.step(points, 250.0, None) is None


def test_a_declared_change_fades_by_its_half_life() -> None:
    glr = Glr(count=2.0, changed=100)
    assert glr.faded(1100, 1000.0) == 1.0


def test_the_hidden_states_change_and_return() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate((rng.normal(0, 1, 100), rng.normal(0, 5, 60), rng.normal(0, 1, 100)))
    points, hmm, found = Points(), Hmm(), []
    for value in values:
        points.push(float(value))
        change = hmm.step(points, 0.997, 0.6, 0.4, None)
        found += [change.point] if change else []
    assert len(found) % 2 == 0 and not hmm.on
    assert abs(found[0] - 100) <= 12 and abs(found[-1] - 160) <= 12


def test_run_lengths_sum_to_one_and_the_first_density_is_students() -> None:
    bocpd = Bocpd(p=np.ones(1), means=np.zeros(1), betas=np.full(1, BETA), scale=1.0)
    bocpd._grow(0.7, 1 / 250)
    assert bocpd.p.sum() == pytest.approx(1.0)
    assert bocpd.p[0] == pytest.approx(1 / 250)
    bocpd._grow(0.1, 1 / 250)
    # Predictive densities by SciPy: after no point, and after the point 0.7.
    kappa, alpha, beta = 2.0, 3.5, 1.0 + 0.5 * 0.7**2 / 2.0
    fresh = student.pdf(0.1, 6.0, 0.0, math.sqrt(1.0 * 2.0 / (3.0 * 1.0)))
    old = student.pdf(0.1, 7.0, 0.7 / 2.0, math.sqrt(beta * (kappa + 1) / (alpha * kappa)))
    want = np.array([fresh * 1 / 250, old * 249 / 250])
    assert bocpd.p[1:] == pytest.approx(want / want.sum() * 249 / 250)


def test_run_lengths_find_a_step_and_are_bounded() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate((rng.normal(0, 1, 260), rng.normal(6, 1, 30)))
    points, bocpd, found = Points(), Bocpd(), []
    for value in values:
        points.push(float(value))
        change = bocpd.step(points, 250.0, None)
        found += [change.point] if change else []
    assert found and abs(found[-1] - 260) <= 1
    assert len(bocpd.p) <= 200 and bocpd.p.sum() == pytest.approx(1.0)


def test_a_tie_at_the_threshold_follows_the_log_and_is_counted() -> None:
    hmm = Hmm(p=0.6 + 1e-12)
    assert not hmm._crossed(0.6, None) and hmm.ties == 1
    assert hmm._crossed(0.6, 3) and hmm.ties == 1
    assert not Hmm(p=0.59)._crossed(0.6, 3), "the log can't overrule what isn't a tie"


def frame(number: int, error: float, **more: object) -> dict[str, object]:
    return {
        "frame_id": f"f-0-{number}", "tenant": "t", "ts": number * 1000, "domain": "state",
        "leader": "state", "weights": {"state": 1.0}, "errors": {"state": error},
        "confidence": 1.0,
    } | more  # fmt: skip


def test_a_change_of_leader_ends_the_tenants_segment() -> None:
    law = Segmentation()
    law.epoch({})
    law.fold(frame(0, 0.2), "", 0, {})
    law.fold(frame(1, 0.4), "", 0, {})
    other = frame(2, 0.1, leader="agent", weights={"state": 0.25, "agent": 0.75}, confidence=0.75)
    (boundary,) = law.fold(other, "", 0, {})["cog.segments"]
    assert boundary["segment_id"] == "f-0-2:state:leader_change"
    assert (boundary["frames"], boundary["dwell_ms"], boundary["score"]) == (2, 2, 0.5)
    assert boundary["mean_error"] == pytest.approx(0.3) and boundary["peak_error"] == 0.4


def test_thresholds_and_dwell_end_a_domains_segment_by_settings_of_the_domain() -> None:
    law = Segmentation()
    law.epoch({})
    law.control("t", "threshold@state", "on")
    law.control("t", "gradient", "0.5")
    law.control("t", "max_dwell_ms", "3")
    law.fold(frame(0, 0.2), "", 0, {})
    (moved,) = law.fold(frame(1, 0.9), "", 0, {})["cog.segments"]
    assert (moved["evidence"], moved["score"]) == ("threshold", pytest.approx(0.7))
    law.fold(frame(2, 0.9), "", 0, {})
    (dwelt,) = law.fold(frame(4, 0.9), "", 0, {})["cog.segments"]
    assert (dwelt["evidence"], dwelt["frames"], dwelt["score"]) == ("max_dwell", 2, 3.0)
    assert law.rows()[b"t\x1fstate"]["boundaries"] == 2
