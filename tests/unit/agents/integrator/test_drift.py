"""Drift: an event when fusion gets worse than it was, none when it is as ever; and the way back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.agents.integrator.harness import Record, Run, same, setting, update
from tests.unit.agents.integrator.samples import START
from tests.unit.agents.integrator.watching import Watched

SECOND = 1_000_000
NAMES = ("state", "agent", "action", "d3", "d4", "d5", "d6", "d7")
Floats = NDArray[np.float64]


def updates(errors: Floats, first: int = 0, step: int = SECOND) -> list[Record]:
    """One update a step of event time, the domains by turns: errors[k, domain]."""
    n = errors.shape[1]
    return [
        update("t", NAMES[k % n], float(np.float32(errors[k - first, k % n])), START + k * step)
        for k in range(first, first + len(errors))
    ]


def good(seed: int, count: int) -> Floats:
    """Three noisy domains, one of them much better."""
    errors = np.random.default_rng(seed).exponential(0.4, (count, 3))
    errors[:, 0] *= 0.2
    return errors


def row(run: Run) -> Record:
    found = run.rows()["t"]
    assert found is not None
    return found


STEADY = {
    "equal and constant": lambda rng, n: np.full((n, 2), 0.5),
    "five equal and constant": lambda rng, n: np.full((n, 5), 0.5),
    "equal and noisy": lambda rng, n: rng.exponential(0.4, (n, 3)),
    "eight equal and noisy": lambda rng, n: rng.exponential(0.4, (n, 8)),
    "nearly without error": lambda rng, n: rng.exponential(0.01, (n, 2)),
    "heavy tails": lambda rng, n: np.abs(rng.standard_t(2, (n, 3))),
    "one a bit better": lambda rng, n: rng.exponential(0.4, (n, 3)) * [0.8, 1, 1],
    "one much better": lambda rng, n: rng.exponential(0.4, (n, 3)) * [0.1, 1, 1],
    "rare spikes": lambda rng, n: np.where(rng.random((n, 3)) < 0.02, 3.0, 0.0),
    "taking turns": lambda rng, n: (
        rng.exponential(0.4, (n, 3))
        * np.where(np.arange(n)[:, None] // 300 % 3 == np.arange(3), 0.1, 1.0)
    ),
}


@pytest.mark.parametrize("kind", STEADY)
def test_a_steady_stream_makes_no_event(kind: str) -> None:
    for seed in range(3):
        run = Run()
        run.feed(updates(STEADY[kind](np.random.default_rng(seed), 6000)))
        assert run.drifts == [] and run.rollbacks == []
        assert row(run)["frames"] == 1000 and row(run)["calm"] == 100


@pytest.mark.parametrize(
    ("name", "sound", "value"), [("temperature", "0.5", "50"), ("share", "0.002", "1")]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_bad_setting_is_seen_and_taken_back(name: str, sound: str, value: str, seed: int) -> None:
    errors = good(seed, 2000)
    run = Run(auto_rollback="on")
    run.control(setting("t", name, sound), setting("t", "margin", "0.1"))
    run.feed(updates(errors[:1000]))
    assert run.drifts == []
    run.control(setting("t", name, value), setting("t", "drift_entropy", "0.7"))
    frames = run.feed(updates(errors[1000:], 1000))
    (drift,) = run.drifts
    (back,) = run.rollbacks
    at = next(k for k, f in enumerate(frames) if f["frame_id"] == drift["frame_id"])
    assert 19 <= at <= 60, "judged from the 20th frame of the new settings on"
    assert drift["kind"] == "entropy" and drift["value"] > drift["threshold"] >= 0.7
    assert drift["samples"] == at + 1 and drift["window"] == 100 and drift["rolled_back"]
    assert drift["leader"] == frames[at]["leader"] and drift["ts"] == frames[at]["ts"]
    assert drift["config_version"] == frames[at]["config_version"] == 4
    assert back["frame_id"] == drift["frame_id"] and back["config_version"] == 5
    assert back["from"] == {name: repr(float(value))} and back["to"] == {name: sound}
    assert frames[at + 1]["config_version"] == 5 and frames[-1]["entropy"] < 0.7
    # What doesn't shape the fusion stays as it was set.
    assert row(run)["settings"] == {name: float(sound), "margin": 0.1, "drift_entropy": 0.7}


def test_without_auto_rollback_the_setting_stays_and_events_come_once_a_cooldown() -> None:
    errors = good(1, 2000)
    run = Run()
    run.feed(updates(errors[:1000]))
    run.control(setting("t", "temperature", "50"))
    run.feed(updates(errors[1000:1400], 1000))
    assert run.rollbacks == [] and not any(d["rolled_back"] for d in run.drifts)
    apart = np.diff([d["ts"] for d in run.drifts]) / SECOND
    assert len(apart) == 6 and (apart == 60).all()
    assert len({d["baseline_entropy"] for d in run.drifts}) == 1, "frozen while drifting"
    run.control(setting("t", "temperature", ""))
    run.feed(updates(errors[1400:], 1400))
    assert len(run.drifts) == 7 and row(run)["calm"] == 100


def test_a_drift_that_stays_becomes_the_baseline() -> None:
    errors = good(2, 4000)
    run = Run()
    run.feed(updates(errors[:1000]))
    run.control(setting("t", "temperature", "50"))
    run.feed(updates(errors[1000:], 1000))
    assert 15 <= len(run.drifts) <= 18
    last = (run.drifts[-1]["ts"] - START) // SECOND
    assert last <= 2060 and row(run)["calm"] == 100 and row(run)["usual_entropy"] > 0.95
    assert row(run)["baseline"] == {}, "as the settings"


def test_the_world_can_drift_too_and_then_there_is_nothing_to_take_back() -> None:
    rng = np.random.default_rng(5)
    errors = np.concatenate((good(5, 1000), np.full((400, 3), 0.5) + rng.normal(0, 0.01, (400, 3))))
    run = Run(auto_rollback="on", fusion="softmax", temperature="0.1")
    run.control(setting("t", "margin", "0.2"))
    run.feed(updates(errors))
    assert run.drifts and not any(d["rolled_back"] for d in run.drifts)
    assert run.rollbacks == [] and row(run)["settings"] == {"margin": 0.2}


def test_regret_above_its_threshold_is_a_drift() -> None:
    errors = good(3, 1400)
    run = Run(drift_entropy="1")
    run.feed(updates(errors[:1000]))
    run.control(setting("t", "share", "1"))
    run.feed(updates(errors[1000:], 1000))
    first = run.drifts[0]
    assert first["kind"] == "regret" and first["value"] > first["threshold"] >= 0.1
    assert abs(first["baseline_regret"]) < 0.02


def test_off_is_off_and_a_setting_of_all_is_not_taken_back() -> None:
    errors = good(4, 1400)
    quiet, all_ = Run(drift="off"), Run(auto_rollback="on")
    for run, tenant in ((quiet, "t"), (all_, "*")):
        run.feed(updates(errors[:1000]))
        run.control(setting(tenant, "temperature", "50"))
        run.feed(updates(errors[1000:], 1000))
        assert run.rollbacks == []
    assert quiet.drifts == [] and row(quiet)["frames"] == 0 and all_.drifts != []


def test_settings_of_the_first_frame_are_the_first_baseline() -> None:
    errors = good(6, 500)
    run = Run(auto_rollback="on")
    run.control(setting("t", "temperature", "0.7"))
    run.feed(updates(errors[:90]))
    run.control(setting("t", "temperature", "50"))
    run.feed(updates(errors[90:], 90))
    assert [back["to"] for back in run.rollbacks] == [{"temperature": "0.7"}]


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 999))
@settings(max_examples=15, deadline=None)
def test_events_and_state_are_what_the_plain_law_says(seed: int, cut: int) -> None:
    """Over settings that come and go, and a recovery in the middle."""
    rng = np.random.default_rng(seed)
    chosen = {
        "drift_entropy": float(rng.uniform(0, 0.9)),
        "drift_regret": float(rng.uniform(0, 0.2)),
        "drift_cooldown_s": float(rng.uniform(0, 90)),
    }
    run = Run(**{name: str(value) for name, value in chosen.items()})
    plain, errors = Watched(**chosen), good(seed, 1000) * rng.uniform(0.5, 2)
    expected, frames, regret = [], [], 0.0
    for k, record in enumerate(updates(errors, step=int(rng.integers(1, 3 * SECOND)))):
        if k == cut:
            run = run.reborn(**{name: str(value) for name, value in chosen.items()})
        if rng.random() < 0.005:
            run.control(setting("t", "temperature", str(rng.choice([0.5, 1, 50]))))
            plain.anew()
        frames += run.feed([record])
        total = row(run)["regret"]
        kind = plain.frame(record["ts"], entropy=frames[-1]["entropy"], regret=total - regret)
        regret = total
        expected += [(frames[-1]["frame_id"], kind)] if kind else []
        if run.drifts:
            expected_now, got = expected.pop(0), run.drifts.pop()
            assert expected_now == (got["frame_id"], got["kind"])
        assert not expected
    end = row(run)
    assert (end["frames"], end["samples"], end["calm"]) == (1000, plain.samples, plain.calm)
    for name in ("mean", "usual", "spread"):
        for what, value in getattr(plain, name).items():
            assert end[f"{name}_{what}"] == pytest.approx(value, abs=1e-9)


def states(run: Run, parts: list[list[Record]], change: Any) -> list[Any]:
    """Frames, events and rows, fed part by part, with a change before the second."""
    frames = run.feed(parts[0])
    run.control(change)
    for part in parts[1:]:
        frames += run.feed(part)
    return [frames, run.drifts, run.rollbacks, run.rows()]


@given(cuts=st.lists(st.integers(1001, 1399), max_size=4))
@settings(max_examples=8, deadline=None)
def test_where_batches_are_cut_around_a_rollback_changes_nothing(cuts: list[int]) -> None:
    errors, change = good(8, 1400), setting("t", "temperature", "50")
    records, ends = updates(errors), [1000, *sorted(set(cuts)), 1400]
    parts = [records[lo:hi] for lo, hi in zip([0, *ends], ends, strict=False)]
    whole = states(Run(auto_rollback="on"), [records[:1000], records[1000:]], change)
    assert len(whole[2]) == 1
    assert same(states(Run(auto_rollback="on"), parts, change), whole)
