"""One partition's integrator through its columns: what a frame says, and when."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.processor import OWN_REASONS
from agents.integrator.loop import REASONS
from tests.unit.agents.integrator.harness import Record, Run, same, setting, update
from tests.unit.agents.integrator.reference import Tenant
from tests.unit.agents.integrator.samples import START, records
from tests.unit.agents.integrator.samples import settings as sample_settings

MS, SECOND = 1_000, 1_000_000
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None)


def reasons(run: Run) -> list[str]:
    return [list(REASONS)[s - OWN_REASONS] for s in run.status if s >= OWN_REASONS]


def test_the_first_record_of_the_first_domain_makes_a_frame() -> None:
    (frame,) = Run().feed([update("t", "agent", 0.25, START, observation_id="0a-1-2")])
    assert math.isnan(frame.pop("regret_bound"))
    assert frame == {
        "frame_id": "0011aabb-3-0",
        "tenant": "t",
        "ts": START,
        "domain": "agent",
        "leader": "agent",
        "weights": {"agent": 1.0},
        "errors": {"agent": 0.25},
        "confidence": 1.0,
        "entropy": 0.0,
        "dwell_ms": 0,
        "veto": "none",
        "rationale": "",
        "observation_id": "0a-1-2",
        "config_version": 0,
        "policy": "",
    }


options = st.fixed_dictionaries(
    {},
    optional={
        "fusion": st.sampled_from(["hedge", "fixed_share", "softmax"]),
        "alpha": st.floats(0.1, 5),
        "share": st.floats(1e-4, 0.5),
        "temperature": st.floats(0.2, 4),
        "entropy_cap": st.floats(0.05, 1),
        "margin": st.floats(0, 0.5),
        "min_dwell_ms": st.floats(0, 5000),
        "stale_after_ms": st.floats(100, 20_000),
        "forget_after_s": st.floats(1, 60),
    },
)


@given(seed=seeds, chosen=options)
@settings(max_examples=40, deadline=None)
def test_frames_are_what_the_plain_law_says(seed: int, chosen: dict[str, Any]) -> None:
    rng = np.random.default_rng(seed)
    part = [
        r | {"error_metric": r["error_metric"] + 1e-3 * rng.random()} for r in records(rng, 150)
    ]
    for record in part:  # no two errors alike: a tie broken by rounding isn't the law's
        record["error_metric"] = float(np.float32(record["error_metric"]))
    run = Run(**{name: str(value) for name, value in chosen.items()})
    plain: dict[str, Tenant] = {}
    for frame, record in zip(run.feed(part), part, strict=True):
        tenant = plain.setdefault(record["tenant"], Tenant(**chosen))
        expected = tenant.update(record["domain"], record["error_metric"], record["ts"])
        assert expected is not None
        compare(frame, expected, tenant)
    rows = run.rows()
    for name, tenant in plain.items():
        row = rows[name]
        assert row is not None
        assert row["domains"] == list(tenant.domains) and row["late"] == tenant.late
        assert row["rounds"] == tenant.rounds
        assert row["regret"] == pytest.approx(tenant.regret, abs=1e-4)


def compare(frame: Record, expected: dict[str, Any], tenant: Tenant) -> None:
    assert list(frame["weights"]) == list(expected["weights"])
    # Where the cap acts, a weight is only as sure as the square root of what bisection leaves.
    sure = 1e-7 if tenant.of["entropy_cap"] == 1.0 else 3e-4
    for name, weight in expected["weights"].items():
        assert frame["weights"][name] == pytest.approx(weight, abs=sure)
    assert frame["errors"] == expected["errors"]
    assert frame["entropy"] == pytest.approx(expected["entropy"], abs=max(sure, 3e-9))
    assert math.isnan(frame["regret_bound"]) == math.isnan(expected["regret_bound"])
    if frame["leader"] != expected["leader"] or frame["dwell_ms"] != expected["dwell_ms"]:
        gap = sorted(expected["weights"].values())[-2:]
        doubt = abs(gap[-1] - gap[0]), abs(gap[-1] - gap[0] - tenant.of["margin"])
        assert min(doubt) < 3 * sure, "another leader without being close"
        tenant.leader, tenant.since = frame["leader"], frame["ts"] - 1000 * frame["dwell_ms"]
        return
    assert frame["confidence"] == pytest.approx(expected["confidence"], abs=sure)


@given(seed=seeds)
@few
def test_where_batches_are_cut_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = records(rng, 120)
    whole, pieces = Run(), Run()
    frames = whole.feed(part)
    cuts = [0, *sorted(int(x) for x in rng.integers(0, 120, 5)), 120]
    cut = [f for lo, hi in pairwise(cuts) for f in pieces.feed(part[lo:hi])]
    assert same(cut, frames)
    assert same(pieces.rows(), whole.rows()) and same(pieces.changed(), whole.changed())


@given(seed=seeds)
@few
def test_recovering_in_any_order_changes_nothing(seed: int) -> None:
    """Names get other codes, and ties and sums still come out alike."""
    rng = np.random.default_rng(seed)
    part = [r | {"error_metric": float(rng.integers(0, 3))} for r in records(rng, 160)]
    live = Run()
    live.control(setting("*", "margin", "0.01"), setting("beta", "share", "0.2"))
    live.feed(part[:80])
    names = [int(k) for k in rng.permutation(len(live.rows()))]
    back = live.reborn(names)
    assert same(back.rows(), live.rows())
    assert same(back.feed(part[80:]), live.feed(part[80:]))
    assert same(back.rows(), live.rows())


@given(seed=seeds)
@few
def test_domains_in_another_order_give_the_same_law(seed: int) -> None:
    """Slots are in the order of appearance: names decide ties only."""
    rng = np.random.default_rng(seed)
    part = records(rng, 100)
    other = {"state": "zz", "agent": "state", "action": "q", "zeta": "agent", "eta.2": "b"}
    plain, renamed = (
        Run().feed(part),
        Run().feed([r | {"domain": other[r["domain"]]} for r in part]),
    )
    for a, b in zip(plain, renamed, strict=True):
        assert [other[d] for d in a["weights"]] == list(b["weights"])
        assert list(a["weights"].values()) == list(b["weights"].values())
        assert a["entropy"] == b["entropy"]


@given(seed=seeds)
@few
def test_weights_sum_to_one_under_any_settings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    run, some = Run(), sample_settings()
    for record in records(rng, 60):
        name, value = some[int(rng.integers(len(some)))]
        tenant = "*" if rng.random() < 0.5 else record["tenant"]
        assert run.control(setting(tenant, name, value)) == [None]
        (frame,) = run.feed([record])
        weights = np.array(list(frame["weights"].values()))
        assert (weights >= 0).all() and abs(weights.sum() - 1) < 1e-12
        assert frame["confidence"] == frame["weights"][frame["leader"]]
        assert record["domain"] in frame["weights"] and 0 <= frame["entropy"] <= 1
        assert frame["dwell_ms"] >= 0


def test_the_cap_shapes_frames_and_leaves_the_state() -> None:
    part = records(np.random.default_rng(2), 80)
    capped = Run(entropy_cap="0.3")
    assert all(f["entropy"] <= 0.3 for f in capped.feed(part))
    free = Run()
    free.feed(part)
    for key, row in free.rows().items():
        other = capped.rows()[key]
        assert row is not None and other is not None
        for field in ("weight", "excess", "delta", "loss", "seen"):
            assert row[field] == other[field]


def test_bad_errors_are_refused_and_leave_nothing_behind() -> None:
    run = Run()
    run.feed([update("t", "state", 0.5, START)])
    before = run.rows()
    bad = [math.nan, math.inf, -math.inf, -1e-9]
    assert run.feed([update("t", "new", error, START + SECOND) for error in bad]) == []
    assert reasons(run) == ["error_not_finite"] * 3 + ["error_negative"]
    run.feed([update("u", "state", -1.0, START)])
    assert same(run.rows(), before)


def test_a_domain_that_falls_silent_takes_no_part_until_it_returns() -> None:
    run = Run()
    run.feed([update("t", d, e, START) for d, e in (("state", 0.1), ("agent", 0.3), ("x", 0.5))])
    later = START + 10 * SECOND
    (frame,) = run.feed([update("t", "agent", 0.3, later)])
    assert set(frame["weights"]) == {"state", "agent", "x"}  # 10 s old, and not older
    (frame,) = run.feed([update("t", "agent", 0.3, later + 1)])
    assert frame["weights"] == {"agent": 1.0} and frame["leader"] == "agent"
    (frame,) = run.feed([update("t", "state", 0.1, later + 2)])
    assert set(frame["weights"]) == {"state", "agent"}


def test_late_records_move_no_clock_back() -> None:
    run = Run()
    run.feed([update("t", "state", 0.1, START), update("t", "agent", 0.3, START)])
    (frame,) = run.feed([update("t", "state", 0.7, START - 5 * SECOND)])
    assert frame["ts"] == START - 5 * SECOND and frame["dwell_ms"] == 0
    assert frame["errors"]["state"] == pytest.approx(0.7)
    row = run.rows()["t"]
    assert row is not None
    assert row["seen"] == [START, START] and row["late"] == 1


def test_one_wrong_clock_does_not_make_the_others_stale() -> None:
    run = Run()
    run.feed([update("t", d, 0.2, START) for d in ("state", "agent", "action")])
    run.feed([update("t", "agent", 0.2, START + 3600 * SECOND)])
    (frame,) = run.feed([update("t", "state", 0.2, START + SECOND)])
    assert set(frame["weights"]) == {"state", "agent", "action"}


def test_a_leader_stays_for_its_dwell_and_until_the_margin_is_passed() -> None:
    run = Run(fusion="softmax", margin="0.1", min_dwell_ms="50")
    first = run.feed([update("t", "state", 0.0, START), update("t", "agent", 0.0, START)])
    assert first[-1]["leader"] == "state"
    (frame,) = run.feed([update("t", "state", 0.05, START + 60 * MS)])
    assert frame["weights"]["agent"] > frame["weights"]["state"] and frame["leader"] == "state"
    (frame,) = run.feed([update("t", "state", 5.0, START + 70 * MS)])
    assert frame["leader"] == "agent" and frame["dwell_ms"] == 0
    (frame,) = run.feed([update("t", "agent", 9.0, START + 71 * MS)])
    assert frame["leader"] == "agent" and frame["dwell_ms"] == 1
    (frame,) = run.feed([update("t", "state", 0.0, START + 120 * MS - 1)])
    assert frame["leader"] == "agent" and frame["dwell_ms"] == 49
    (frame,) = run.feed([update("t", "state", 0.0, START + 120 * MS)])
    assert frame["leader"] == "state"


@pytest.mark.parametrize(
    ("domains", "winner"),
    [
        (["zeta", "action", "agent", "state"], "state"),
        (["zeta", "action", "agent"], "agent"),
        (["zeta", "action", "alpha"], "action"),
        (["zeta", "b", "ab", "a"], "a"),
    ],
)
def test_ties_go_by_name_whatever_came_first(domains: list[str], winner: str) -> None:
    run = Run(fusion="softmax", min_dwell_ms="0")
    run.feed([update("t", d, 0.5, START) for d in domains])
    (frame,) = run.feed([update("t", domains[0], 0.5, START + 20 * SECOND)])
    assert frame["leader"] == domains[0]
    row = run.rows()["t"]
    assert row is not None
    fresh = Run(fusion="softmax").load(
        [("t", row | {"leader": "", "seen": [START] * len(domains)})]
    )
    (frame,) = fresh.feed([update("t", domains[0], 0.5, START)])
    assert frame["leader"] == winner


def test_a_17th_domain_takes_the_stalest_stale_slot_or_none() -> None:
    run = Run()
    full = [update("t", f"d{k:02}", 0.5, START + (k * 7 % 16) * SECOND // 2) for k in range(16)]
    run.feed(full)
    assert run.feed([update("t", "one-more", 0.5, START + 8 * SECOND)]) == []
    assert reasons(run) == ["too_many_domains"]
    (frame,) = run.feed([update("t", "one-more", 0.5, START + 12 * SECOND)])
    row = run.rows()["t"]
    assert row is not None
    assert row["domains"] == ["one-more", *(f"d{k:02}" for k in range(1, 16))]
    assert "d00" not in frame["weights"] and "one-more" in frame["weights"]


def test_two_tenants_share_nothing() -> None:
    rng = np.random.default_rng(4)
    part = records(rng, 200)
    together = Run().feed(part)
    for tenant in {r["tenant"] for r in part}:
        alone = Run().feed([r for r in part if r["tenant"] == tenant])
        mine = [f for f in together if f["tenant"] == tenant]
        assert same([f | {"frame_id": ""} for f in mine], [f | {"frame_id": ""} for f in alone])


def test_hedge_frames_carry_their_bound_and_keep_it() -> None:
    rng, run = np.random.default_rng(9), Run(fusion="hedge")
    names = ["state", "agent", "action"]
    errors = rng.exponential(0.5, (400, 3))
    part = [
        update("t", names[k % 3], float(np.float32(errors[k // 3, k % 3])), START + k * MS)
        for k in range(1200)
    ]
    frames = run.feed(part)
    assert frames[-1]["regret_bound"] == pytest.approx(
        math.sqrt(1200 * math.log(3)) + 16 / 3 * math.log(3) + 2
    )
    row = run.rows()["t"]
    assert row is not None
    assert 0 <= row["regret"] <= frames[-1]["regret_bound"] and min(row["excess"]) == 0


def test_another_fusion_starts_the_learner_anew_but_keeps_the_leader() -> None:
    run = Run()
    run.feed([update("t", d, e, START + k) for k in range(50) for d, e in (("a", 0.1), ("b", 0.9))])
    assert run.control(setting("t", "fusion", "hedge")) == [None]
    (frame,) = run.feed([update("t", "b", 0.9, START + SECOND)])
    row = run.rows()["t"]
    assert row is not None
    assert row["rounds"] == 1 and row["fusion"] == 0
    assert frame["leader"] == "a" and frame["dwell_ms"] == 1000


def test_thousands_of_tenants_with_many_domains_fit_as_they_come() -> None:
    run = Run()
    part = [update(f"t{k % 700}", f"d{k % 13}", 0.1 * (k % 7), START + k) for k in range(3000)]
    assert len(run.feed(part)) == 3000
    assert run.fold.tenants() == 700 and len(run.rows()) == 700
    other = Run()
    assert sum(len(other.feed([r])) for r in part) == 3000
    assert same(other.rows(), run.rows())
