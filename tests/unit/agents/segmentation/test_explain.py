"""What is said of a frame: evidence and bar as the detector has them, boundaries as written."""

from typing import Any

import numpy as np
import pytest

from agents.kit.explaining import Case
from agents.segmentation.explain import SEGMENTS, explain
from tests.contract.harness import LOG_MS
from tests.unit.agents.explaining import at_the_last, line, numbers

T0 = LOG_MS * 1000 - 600_000_000
SECOND = 1_000_000


def frame(k: int, error: float, leader: str = "state", **more: Any) -> dict[str, Any]:
    return {
        "frame_id": f"0123abcd-0-{k}", "tenant": "t", "ts": T0 + k * SECOND, "domain": "state",
        "leader": leader, "weights": {leader: 0.8}, "errors": {"state": error}, "confidence": 0.8,
        "entropy": 0.1, "regret_bound": float("nan"), "dwell_ms": 0, "veto": "none",
        "rationale": "", "observation_id": "", "config_version": 0, "policy": "",
    } | more  # fmt: skip


def stepped(n: int) -> list[dict[str, Any]]:
    """Forty frames of noise, then the level moves by 5."""
    noise = np.random.default_rng(1).normal(0, 1, n)
    return [frame(k, float(v) + (5.0 if k >= 40 else 0.0)) for k, v in enumerate(noise)]


def case(records: list[dict[str, Any]], **values: str) -> Case:
    return at_the_last("segmentation", records, **values)[0]


def test_glr_s_evidence_grows_past_its_bar_until_the_boundary() -> None:
    shown: list[tuple[float, float, float]] = []
    for n in range(41, 60):
        one = case(stepped(n))
        words = explain(one)
        if one.outputs[SEGMENTS]:
            break
        _, gain, bar, length, _, persistence, row = numbers(line(words, "glr:"))
        assert (length, persistence) == (n, 4)
        assert bar == pytest.approx(2.3 + np.log(n), rel=1e-3)
        shown.append((gain, bar, row))
        assert "No boundary" in words[-1]
    # It is asked for in four frames in a row: three were shown above the bar without a boundary.
    assert [row for *_, row in shown][-4:] == [0, 1, 2, 3]
    assert all((gain > bar) == (row > 0) for gain, bar, row in shown)
    (segment,) = one.outputs[SEGMENTS]
    assert segment["score"] > shown[-1][1] and segment["frames"] == 40
    said = line(words, "Boundary of state at ")
    assert f"(cpd, evidence {segment['score']:.4g}): its segment had 40 frames" in said


def test_a_change_nearer_than_min_gap_is_said_to_be_left_out() -> None:
    records = stepped(60)
    ended = next(n for n in range(41, 60) if case(records[:n]).outputs[SEGMENTS])
    noise = np.random.default_rng(2).normal(0, 1, 60)
    for k in range(ended, ended + 60):
        records[k:] = [frame(k, float(noise[k - ended]) - 20.0)]
        one = case(records[: k + 1], min_gap_ms="3600000")
        if any("a change, but too near" in word for word in explain(one)):
            break
    else:
        pytest.fail("no change was left out")
    assert not one.outputs[SEGMENTS]


def test_the_other_laws_say_how_near_they_are() -> None:
    records = stepped(40)
    values = {"cpd": "bocpd", "hmm": "on", "threshold": "on", "gradient": "100",
              "max_dwell_ms": "3600000"}  # fmt: skip
    one = case(records, **values)
    words = explain(one)
    assert 0 <= numbers(line(words, "bocpd:"))[0] <= 0.9
    assert "it is STABLE; the probability of VOLATILE is" in line(words, "hmm:")
    moved = abs(records[-1]["errors"]["state"] - records[-2]["errors"]["state"])
    assert numbers(line(words, "threshold:")) == pytest.approx([moved, 100], rel=1e-3)
    lasted = (records[-1]["ts"] - one.after["state"]["start_ts"]) / 1e6
    assert numbers(line(words, "max_dwell:"))[0] == lasted
    assert line(explain(case(records, cpd="off")), "cpd is off")
    assert "No law is asked before its frame 101" in explain(case(records, warmup="100"))[-1]


def test_a_leader_s_change_and_why_it_gives_no_boundary() -> None:
    records = [*stepped(10), frame(10, 0.0, "agent", weights={"agent": 0.8, "state": 0.1})]
    words = explain(case(records))
    assert words[0] == "agent leads instead of state."
    assert "(leader_change, the new leader's weight above the old one's 0.7)" in words[1]
    assert "without a boundary: `leader` is off" in explain(case(records, leader="off"))[0]
    assert "too few frames yet" in explain(case(records, warmup="50"))[0]


def test_a_frame_without_its_domain_s_error_feeds_nothing() -> None:
    records = [*stepped(3), frame(3, 0.0, errors={"agent": 1.0})]
    assert explain(case(records)) == ["The frame has no error of state: its series stays as it is."]
