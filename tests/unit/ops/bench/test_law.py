"""The peers' plain law: its invariants, and that frames survive the wire."""

import itertools
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ops.bench.filling import update
from ops.bench.law import MARGIN, SHARE, fold, new_state
from ops.bench.wire import decode_frame, encode_frame

rounds = st.lists(
    st.tuples(
        st.sampled_from(["state", "agent", "action", "mood"]),
        st.floats(0.0, 50.0, width=32),
        st.integers(0, 12_000_000),  # microseconds until the next: some domains go stale
    ),
    min_size=1,
    max_size=60,
)


def frames(given_rounds: list[tuple[str, float, int]]) -> list[dict[str, Any]]:
    state, ts, out = new_state(), 1_700_000_000_000_000, []
    for k, (domain, error, step) in enumerate(given_rounds):
        ts += step
        out.append(fold(state, update("t", domain, error, ts), f"0-0-{k}"))
    return out


@given(rounds)
def test_weights_sum_to_one_and_none_is_ruined(given_rounds: list[tuple[str, float, int]]) -> None:
    for frame in frames(given_rounds):
        weights = frame["weights"]
        n = len(weights)
        assert math.isclose(sum(weights.values()), 1.0, abs_tol=1e-9)
        assert min(weights.values()) >= (SHARE / n if n > 1 else 1.0) * (1 - 1e-9)
        assert frame["leader"] in weights
        assert -1e-9 <= frame["entropy"] <= 1.0 + 1e-9


@given(rounds)
def test_a_leader_falls_only_to_a_clearly_better_one(
    given_rounds: list[tuple[str, float, int]],
) -> None:
    out = frames(given_rounds)
    for before, after in itertools.pairwise(out):
        old = before["leader"]
        if after["leader"] != old and old in after["weights"]:
            assert after["weights"][after["leader"]] > after["weights"][old] + MARGIN


def test_the_better_domain_comes_to_lead() -> None:
    out = frames([("state", 1.0, 60_000), ("agent", 0.1, 60_000)] * 40)
    assert out[0]["leader"] == "state"
    assert out[-1]["leader"] == "agent"
    assert out[-1]["weights"]["agent"] > 0.9


def test_a_frame_survives_the_wire() -> None:
    frame = frames([("state", 1.0, 1), ("agent", 0.5, 1)])[-1]
    back = decode_frame(encode_frame(frame))
    assert math.isnan(back.pop("regret_bound"))
    assert back == {name: value for name, value in frame.items() if name != "regret_bound"}
