"""The verifier's laws against hand calculations and each other."""

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.prove import hedging
from ops.prove.compare import differs, near
from ops.prove.fuse import FRAMES, NEAR, Fusion, elect
from ops.prove.law import Law, RefusedError
from ops.prove.predict import Prediction, heat
from tests.unit.ops.prove.stages import DEFAULTS

weights = st.dictionaries(st.sampled_from("abcde"), st.floats(1e-6, 1.0), min_size=2).map(
    hedging.normalised
)


def update(domain: str, error: float, ms: int, **more: Any) -> dict[str, Any]:
    return {"tenant": "t", "domain": domain, "error_metric": error, "ts": ms * 1000,
            "observation_id": ""} | more  # fmt: skip


def fusion(**settings: str) -> Fusion:
    law = Fusion()
    law.epoch(DEFAULTS["integrator"] | settings)
    return law


def folded(law: Law, record: dict[str, Any], place: str, log_ms: int) -> dict[str, Any]:
    """The one record to the law's first sink."""
    (row,) = law.fold(record, place, log_ms, {})[law.sinks[0].topic]
    return row


def test_heat_keeps_the_sum_and_evens_out() -> None:
    x = np.array([1.0, 0.0, 0.0, 0.0])
    for graph in ("path", "ring", "star"):
        y = heat(graph, 4, 50.0) @ x
        assert y == pytest.approx([0.25] * 4, abs=1e-9)
    assert heat("none", 4, 50.0) @ x == pytest.approx(x)


def test_a_first_observation_has_the_neutral_error_and_a_constant_one_none() -> None:
    law = Prediction()
    law.epoch(DEFAULTS["predictors"] | {"predictor": "persistence"})
    row = {"tenant": "t", "domain": "d", "ts": 0, "vector": struct.pack("<2f", 1.0, 2.0)}
    first = folded(law, row, "x-0-0", 7)
    second = folded(law, row, "x-0-1", 7)
    assert first["error_metric"] == 1.0 and first["confidence"] == pytest.approx(math.exp(-2.0))
    assert second["error_metric"] == 0.0 and second["confidence"] == 1.0
    assert first["prediction_latency_ms"] == 7.0


def test_another_dimension_begins_anew_and_is_counted_but_moves_no_clock_back() -> None:
    law = Prediction()
    law.epoch(DEFAULTS["predictors"])
    row = {"tenant": "t", "domain": "d", "ts": 9, "vector": struct.pack("<2f", 1.0, 2.0)}
    law.fold(row, "x-0-0", 7, {})
    out = folded(law, row | {"ts": 5, "vector": struct.pack("<3f", 1, 2, 3)}, "x-0-1", 7)
    (state,) = law.rows().values()
    assert out["error_metric"] == 1.0 and out["vector_dim"] == 3
    assert (state["restarts"], state["n"], state["ts"]) == (1, 1, 9)


@pytest.mark.parametrize("vector", [b"", b"abc", struct.pack("<f", math.nan)])
def test_a_bad_vector_is_refused_and_leaves_no_trace(vector: bytes) -> None:
    law = Prediction()
    law.epoch(DEFAULTS["predictors"])
    with pytest.raises(RefusedError):
        law.fold({"tenant": "t", "domain": "d", "ts": 0, "vector": vector}, "x-0-0", 7, {})
    assert law.rows() == {}


def test_one_domain_has_all_the_weight() -> None:
    frame = folded(fusion(), update("agent", 3.0, 0), "x-0-0", 0)
    assert frame["weights"] == {"agent": 1.0} and frame["leader"] == "agent"
    assert frame["entropy"] == 0.0 and math.isnan(frame["regret_bound"])


def test_the_first_gap_of_hedge_by_hand() -> None:
    """Δ = h - m = ℓ/2, η = ln 2 / Δ = 2 ln 2 / ℓ: the loser has 2^-2 of the winner's weight."""
    law = fusion(fusion="hedge")
    law.fold(update("state", 1.0, 0), "x-0-0", 0, {})
    frame = folded(law, update("agent", 0.0, 1), "x-0-1", 0)
    assert frame["weights"] == pytest.approx({"state": 0.2, "agent": 0.8})
    assert frame["regret_bound"] == pytest.approx(
        math.sqrt(2 * math.log(2)) + 16 / 3 * math.log(2) + 2
    )


def test_a_stale_domain_takes_no_part_until_it_returns() -> None:
    law = fusion()
    law.fold(update("state", 0.1, 0), "x-0-0", 0, {})
    law.fold(update("agent", 0.1, 1), "x-0-1", 0, {})
    alone = folded(law, update("agent", 0.1, 20_000), "x-0-2", 0)
    assert list(alone["weights"]) == ["agent"]
    again = folded(law, update("state", 0.1, 20_001), "x-0-3", 0)
    assert again["weights"]["state"] < 0.01 and set(again["weights"]) == {"state", "agent"}


def test_a_leader_stays_for_its_dwell() -> None:
    law = fusion(fusion="softmax", temperature="0.1", min_dwell_ms="100")
    law.fold(update("state", 1.0, 0), "x-0-0", 0, {})
    soon = folded(law, update("agent", 0.0, 50), "x-0-1", 0)
    later = folded(law, update("agent", 0.0, 100), "x-0-2", 0)
    assert (soon["leader"], soon["dwell_ms"]) == ("state", 50)
    assert (later["leader"], later["dwell_ms"]) == ("agent", 0)


def test_ties_and_margins_within_rounding_leave_the_choice_open() -> None:
    assert elect({"a": 0.5, "b": 0.5}, "", 0.05, NEAR, dwelt=True) == ["a", "b"]
    assert elect({"a": 0.6, "b": 0.4}, "", 0.05, NEAR, dwelt=True) == ["a"]
    assert elect({"a": 0.6, "b": 0.4}, "b", 0.05, NEAR, dwelt=False) == ["b"]
    assert elect({"a": 0.525, "b": 0.475}, "b", 0.05, NEAR, dwelt=True) == ["b", "a"]


def test_a_tie_that_the_log_settles_otherwise_is_followed_and_counted() -> None:
    law = fusion(fusion="softmax", min_dwell_ms="0")
    law.fold(update("agent", 1.0, 0), "x-0-0", 0, {})
    row = update("state", 1.0, 1)
    (frame,) = law.fold(row, "x-0-1", 0, {FRAMES: [{"leader": "state"}]})[FRAMES]
    assert frame["leader"] == "agent" and law.near_ties == 0, "the margin is far away"
    law.control("t", "margin", "0.0")
    (frame,) = law.fold(row, "x-0-2", 0, {FRAMES: [{"leader": "state"}]})[FRAMES]
    assert frame["leader"] == "state" and law.near_ties == 1


@given(weights, st.floats(0.05, 1.0))
def test_a_capped_entropy_is_at_the_cap_and_keeps_the_order(
    w: dict[str, float], cap: float
) -> None:
    out = hedging.capped(w, cap, max(w, key=lambda name: w[name]))
    assert hedging.entropy(out) <= cap + 1e-9
    assert sum(out.values()) == pytest.approx(1.0)
    if hedging.entropy(w) > cap + 1e-6:
        assert hedging.entropy(out) == pytest.approx(cap, abs=1e-6)
    pairs = ((a, b) for a in w for b in w if w[a] < w[b])
    assert all(out[a] <= out[b] + 1e-12 for a, b in pairs)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_hedge_keeps_its_bound(rounds: list[tuple[float, float, float]]) -> None:
    cumulative = dict.fromkeys("abc", 0.0)
    played, total, delta = hedging.hedge_weights(cumulative, math.inf), 0.0, 0.0
    for losses in rounds:
        named = dict(zip("abc", losses, strict=True))
        total += sum(played[name] * named[name] for name in named)
        cumulative, played, delta = hedging.hedge_round(cumulative, named, delta)
    assert total <= min(cumulative.values()) + hedging.regret_bound(len(rounds), 3) + 1e-9


def test_numbers_are_compared_with_a_tolerance_and_texts_exactly() -> None:
    assert near(1e6, 1e6 + 0.5, 1e-6) and not near(0.5, 0.5 + 2e-6, 1e-6)
    assert near(math.nan, math.nan, 0.0) and not near(math.nan, 0.0, 1.0)
    assert not differs({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 + 1e-9]}, 1e-6)
    assert differs({"a": 1.0}, {"b": 1.0}, 1.0) and differs("x", "y", 1.0)
    assert differs([1.0], [1.0, 2.0], 1.0)
