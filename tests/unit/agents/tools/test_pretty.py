"""A glance at a record: it says what matters, whatever its numbers are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.pretty import _FORMS, duration, glance
from topics import codec
from topics.schemas import schemas

TS = 1_769_860_800_000_000
BOUNDARY = {
    "segment_id": "f:cpu:cpd",
    "tenant": "cpu",
    "domain": "state",
    "boundary_ts": "2026-01-31T12:00:00Z",
    "detected_ts": "2026-01-31T12:00:00.750000Z",
    "dwell_ms": 90_000,
    "evidence": "cpd",
    "score": 23.456,
    "frame_id": "f",
    "start_ts": "2026-01-31T11:58:30Z",
    "frames": 360,
    "leader": "agent",
    "mean_error": 0.25,
    "mean_confidence": 0.6,
    "peak_error": 1.5,
}
DRIFT = {
    "tenant": "cpu",
    "ts": TS,
    "frame_id": "f",
    "kind": "regret",
    "value": 0.5,
    "threshold": 0.2,
    "baseline_entropy": 0.1,
    "baseline_regret": 0.01,
    "window": 256,
    "samples": 100,
    "rolled_back": True,
}


def shown(schema: str, record: dict[str, Any]) -> str:
    """The glance at a record that went through the wire."""
    _, decoded = codec.decode(codec.encode(schema, codec.from_json(schema, record)))
    text = glance(schema, codec.to_json(schema, decoded))
    assert text is not None
    return text.plain


def test_a_boundary_is_two_lines() -> None:
    text = glance("segment_boundary", BOUNDARY)
    assert text is not None
    assert text.plain == (
        "2026-01-31 12:00:00.000  cpu / state  cpd, score 23.5, seen 750 ms after\n"
        "    ends 1.5 min of 360 frames since 2026-01-31 11:58:30.000: error 0.25 (at most 1.5), "
        "confidence 0.6, led by agent"
    )


def test_a_drift_and_what_was_rolled_back() -> None:
    text = shown("fusion_drift_event", DRIFT)
    assert "cpu  regret drifted: 0.5 beyond 0.2 → rolled back" in text
    assert "over 100 of 256 frames; before: entropy 0.1, regret 0.01 a round; led by nobody" in text
    rollback = {"tenant": "cpu", "ts": TS, "frame_id": "f", "reason": "regret rose"}
    text = shown(
        "fusion_rollback_event",
        rollback | {"from": {"alpha": "9", "share": "0.5"}, "to": {"share": "0.1"}},
    )
    assert "cpu  rolled back: regret rose" in text
    assert "alpha 9 → (default), share 0.5 → 0.1" in text


def test_a_next_event() -> None:
    record = {
        "observation_id": "0-1-2", "tenant": "cpu", "domain": "state", "confidence": 0.5,
        "predicted_state": [1, 2.5, 3, 4, 5], "ts": TS,
    }  # fmt: skip
    text = shown("next_event", record)
    assert "cpu / state  next [1, 2.5, 3, 4, … 5 numbers], confidence 0.5" in text
    assert "after 0-1-2" in text


def test_a_calibration() -> None:
    fields = schemas().raw("predictor_calibration")["fields"]
    values: dict[str, Any] = {"string": "x", "double": 0.25, "long": 5_000}
    record = {f["name"]: values.get(str(f["type"]), []) for f in fields}
    record |= {"ts": TS, "slope": 0.5, "bias": -1.0}
    text = shown("predictor_calibration", record)
    assert "ECE 0.25 → 0.25" in text
    assert "5,000 samples, in force: slope 0.5, bias -1" in text
    former = shown("predictor_calibration", record | {"slope": None, "bias": None})
    assert "5,000 samples; Brier" in former


@pytest.mark.parametrize("form", sorted(set(_FORMS) - {"segment_boundary"}))
def test_every_form_is_of_a_schema(form: str) -> None:
    assert schemas().raw(form)["name"] == form


def test_others_have_no_form() -> None:
    assert glance("global_frame", {}) is None
    assert glance(None, {"value": "x"}) is None
    assert glance("segment_boundary", None) is None


@given(st.none() | st.floats(allow_nan=False), st.integers())
def test_any_number_and_any_time_is_shown(number: float | None, ts: int) -> None:
    odd = BOUNDARY | {"score": number, "mean_error": number, "boundary_ts": ts, "leader": ""}
    text = glance("segment_boundary", odd)
    assert text is not None and len(text.plain.splitlines()) == 2


def test_durations() -> None:
    given_ = [0, 999, 1_500, 90_000, 7_200_000, -1_500]
    assert [duration(ms) for ms in given_] == [
        "0 ms", "999 ms", "1.5 s", "1.5 min", "2.0 h", "-1.5 s",
    ]  # fmt: skip
