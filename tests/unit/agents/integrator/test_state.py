"""What the integrator remembers: rows, settings, forgetting, and giving memory back."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.integrator.rows import State
from agents.integrator.settings import ALPHA
from agents.integrator.state import LISTS
from tests.unit.agents.integrator.harness import LOG_MS, Run, same, setting, tick, update
from tests.unit.agents.integrator.samples import DOMAINS, START, records
from tests.unit.agents.integrator.samples import settings as sample_settings

DAY_S = 86_400
NOW = LOG_MS * 1000  # wall time of the harness' records, µs
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


@given(seed=seeds)
@few
def test_rows_come_back_to_the_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    run, some = Run(), sample_settings()
    run.feed(records(rng, 100))
    for _ in range(6):
        name, value = some[int(rng.integers(len(some)))]
        run.control(setting(str(rng.choice(["*", "alpha", "new"])), name, value))
    run.feed(records(rng, 100))
    assert same(run.reborn().rows(), run.rows())


@given(seed=seeds)
@few
def test_changed_rows_are_the_state_in_pieces(seed: int) -> None:
    rng, run = np.random.default_rng(seed), Run()
    log: list[tuple[str, Any]] = []
    for k in range(6):
        run.feed(records(rng, 20))
        run.control(setting("beta", "alpha", "1.5"), tick(NOW + k * 10 * DAY_S * 10**6))
        log += run.changed().items()
    assert run.changed() == {}
    assert same(Run().load(log).rows(), run.rows())


def test_only_touched_tenants_are_written() -> None:
    run = Run()
    run.feed([update(t, "state", 0.1, START) for t in ("a", "b", "c")])
    assert list(run.changed()) == ["a", "b", "c"]
    run.feed([update(t, "state", 0.1, START + 1) for t in ("c", "a", "c")])
    assert list(run.changed()) == ["c", "a"]


def test_later_rows_replace_earlier_ones() -> None:
    run = Run()
    run.feed([update("t", f"d{k}", 0.1, START + k) for k in range(3)])
    old = run.rows()["t"]
    run.feed([update("t", f"d{k}", 0.1, START + k) for k in range(12)])
    new = run.rows()["t"]
    for rows in ([("t", old), ("t", new)], [("t", new), ("t", None), ("t", old), ("t", new)]):
        assert same(Run().load(rows).rows(), {"t": new})
    assert same(Run().load([("t", new), ("t", old)]).rows(), {"t": old})
    gone = Run().load([("t", new), ("u", None), ("t", None)])
    assert gone.rows() == {} and gone.fold.tenants() == 0 and gone.changed() == {}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"loss": [0.1]}, "contradicts itself"),
        ({name: [1] * 17 for name in LISTS} | {"domains": ["x"] * 17}, "contradicts itself"),
        ({"fusion": 3}, "contradicts itself"),
        ({"samples": -1}, "contradicts itself"),
        ({"settings": {"of_tomorrow": 1.0}}, "no setting 'of_tomorrow'"),
        ({"settings": {"margin": 5.0}}, "a number from 0 to 1, not '5.0'"),
        ({"settings": {"stale_after_ms": 0.0}}, "a number above 0 up to .*, not '0.0'"),
        ({"settings": {"fusion": 1.5}}, "one of .*, not number 1.5"),
        ({"settings": {"fusion": 3.0}}, "one of .*, not number 3.0"),
        ({"settings": {"alpha": float("nan")}}, "a number .*, not 'nan'"),
        ({"frames": 9, "calm": 0, "baseline": {"share": -0.1}}, "baseline: .* not '-0.1'"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(change: dict[str, Any], fault: str) -> None:
    run = Run()
    run.feed([update("t", "a", 0.1, START), update("t", "b", 0.1, START)])
    row = run.rows()["t"]
    assert row is not None
    with pytest.raises(ValueError, match=f"state row of b?'t'.*{fault}"):
        Run().load([("t", row | change)])


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("colour", "1", "no setting 'colour'; there are fusion, alpha"),
        ("fusion", "average", "fusion is one of hedge, fixed_share, softmax, not 'average'"),
        ("alpha", "much", "alpha is a number from 0 to 1000000, not 'much'"),
        ("alpha", "nan", "alpha is a number from 0 to 1000000, not 'nan'"),
        ("share", "1.5", "share is a number from 0 to 1, not '1.5'"),
        ("temperature", "0", "temperature is a number from 1e-06 to"),
        ("stale_after_ms", "0", "stale_after_ms is a number above 0 up to"),
        ("entropy_cap", "-0.1", "entropy_cap is a number from 0 to 1"),
        ("margin", "inf", "margin is a number from 0 to 1"),
    ],
)
def test_settings_are_checked_with_a_reason(name: str, value: str, why: str) -> None:
    run = Run()
    (refused,) = run.control(setting("t", name, value))
    assert refused is not None
    with pytest.raises(ValueError, match=why):
        raise ValueError(refused)
    assert run.rows() == {} and run.changed() == {}


def test_defaults_of_the_deployment_are_checked_too() -> None:
    assert State({"alpha": "3"}).settings.table[0, ALPHA] == 3.0
    with pytest.raises(ValueError, match="no setting 'alpah'"):
        State({"alpah": "3"})


def test_own_values_count_before_the_partitions_before_the_deployments() -> None:
    run = Run(alpha="1")

    def loss(tenant: str) -> float:
        run.feed([update(tenant, "state", 1.0, START)])
        row = run.rows()[tenant]
        assert row is not None
        return round(-float(np.log(1 - row["loss"][0])), 9)

    assert loss("t") == 1
    assert run.control(setting("*", "alpha", "2")) == [None] and loss("t") == 2
    assert run.control(setting("t", "alpha", "3")) == [None] and loss("t") == 3
    assert loss("other") == 2
    assert run.control(setting("*", "alpha", "4")) == [None] and loss("t") == 3
    assert run.reborn(alpha="1").rows() == run.rows()
    assert run.control(setting("t", "alpha", "")) == [None] and loss("t") == 4
    assert run.control(setting("*", "alpha", "")) == [None] and loss("t") == 1
    (frame,) = run.feed([update("t", "state", 1.0, START)])
    assert frame["config_version"] == 5  # one more with each
    (frame,) = run.feed([update("late", "state", 1.0, START)])
    assert frame["config_version"] == 5
    assert list(run.rows()) == ["*", "late", "other", "t"]


def test_frames_have_the_version_that_control_gave() -> None:
    """Of the tenant's or everyone's change, whichever is the later one."""
    run = Run()

    def version(tenant: str = "t") -> int:
        (frame,) = run.feed([update(tenant, "state", 1.0, START)])
        return int(frame["config_version"])

    assert version() == 0
    run.control(setting("t", "alpha", "2"))  # past control, before there was any
    assert version() == 1
    run.control(replace(setting("t", "alpha", "3"), version=1000))
    assert (version(), version("other")) == (1000, 0)
    run.control(replace(setting("*", "margin", "0"), version=1007))
    assert (version(), version("other")) == (1007, 1007)
    run.control(replace(setting("other", "margin", "0"), version=1005))  # it was said before
    assert (version(), version("other")) == (1007, 1007)
    assert run.reborn().rows() == run.rows()
    run.control(setting("t", "alpha", "4"))
    assert (version(), version("other")) == (1008, 1007)
    run.control(setting("*", "alpha", "4"))
    assert (version(), version("other")) == (1009, 1009)


def test_a_tombstone_of_everyones_settings_takes_them_back() -> None:
    run = Run()
    run.control(setting("*", "alpha", "4"))
    run.load([("*", None)])
    assert run.rows() == {}
    run.feed([update("t", "state", 1.0, START)])
    run.control(setting("*", "alpha", "3"))
    (frame,) = run.feed([update("t", "state", 1.0, START)])
    star, row = run.rows()["*"], run.rows()["t"]
    assert star is not None and star["settings"] == {"alpha": 3.0} and frame["config_version"] == 1
    assert row is not None and row["loss"] == [pytest.approx(1 - np.exp(-3))]


def test_settings_of_an_unknown_tenant_wait_for_it() -> None:
    run = Run()
    run.control(setting("t", "fusion", "softmax"))
    row = run.changed()["t"]
    assert row is not None
    assert row["settings"] == {"fusion": 2.0} and row["domains"] == [] and row["leader"] == ""
    again = Run().load([("t", row)])
    again.feed([update("t", "state", 1.0, START)])
    other = again.rows()["t"]
    assert other is not None and other["fusion"] == 2


def test_tenants_silent_for_long_leave_by_tombstone() -> None:
    run = Run(forget_after_s=str(DAY_S))
    assert run.fold.deadline() is None
    run.feed([update("old", "state", 0.1, START), update("a", "state", 0.1, START)])
    run.control(setting("*", "alpha", "2.5"))
    run.feed([update("new", "state", 0.1, START)], log_ms=LOG_MS + DAY_S * 500)
    run.changed()
    due = NOW + DAY_S * 10**6
    assert run.fold.deadline() == due
    run.control(tick(due - 1))
    assert run.changed() == {} and run.fold.tenants() == 3
    run.control(tick(due))
    assert run.fold.deadline() == due + DAY_S * 500_000
    assert run.fold.tenants() == 1
    assert list(run.rows()) == ["*", "new"]
    assert run.changed() == {"a": None, "old": None}
    run.control(tick(due * 2))
    assert run.fold.deadline() is None and list(run.rows()) == ["*"]


def test_who_comes_back_after_being_forgotten_is_new() -> None:
    run = Run(forget_after_s="10")
    first = run.feed([update("t", "b", 0.3, START)])
    run.control(setting("t", "alpha", "1"), tick(NOW + 11_000_000))
    again = run.feed([update("t", "b", 0.3, START)])
    assert same(again[0] | {"frame_id": ""}, first[0] | {"frame_id": ""})
    changed = run.changed()
    assert list(changed) == ["t"] and changed["t"] is not None
    assert changed["t"]["settings"] == {} and changed["t"]["config_version"] == 0


def test_a_domain_silent_for_long_leaves_its_tenant() -> None:
    run = Run(forget_after_s="60")
    run.feed([update("t", d, 0.1, START + k) for k, d in enumerate("abc")])
    run.feed([update("t", "b", 0.1, START + 60_000_001)])
    row = run.rows()["t"]
    assert row is not None
    assert row["domains"] == ["b", "c"]


def test_what_is_gone_gives_its_memory_back() -> None:
    """Tenants, refused names and domains come and go for ever; the arrays stay small."""
    run = Run(forget_after_s="1", stale_after_ms="1")
    for k in range(60):
        t, log = START + k * 10**9, LOG_MS + k * 10**6
        part = [update(f"t{k}-{j}", f"d{j % 3}", 0.1, t) for j in range(400)]
        part += [update("steady", f"x{k}-{j}", 0.1, t + j) for j in range(20)]
        part += [update(f"bad{k}-{j}", f"worse{k}-{j}", -1.0, t) for j in range(50)]
        run.control(tick(log * 1000))
        run.feed(part, log_ms=log)
        run.changed()
    names, table = run.fold.state.names, run.fold.state.table
    assert run.fold.tenants() == 401
    assert names.count < 9000 and len(table.rows) < 9000 and len(table.pool.data) < 30_000
    assert same(run.reborn().rows(), run.rows())


@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_tidying_up_changes_nothing_that_is_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = records(rng, 150)
    runs = Run(forget_after_s="100"), Run(forget_after_s="100")
    frames: list[Any] = [[], []]
    for k in range(3):
        for run, seen in zip(runs, frames, strict=True):
            run.feed([update(f"t{k}-{j}", "d", 0.1, START) for j in range(50)], LOG_MS)
            run.control(setting("beta", "share", "0.1"), tick(NOW + 10**11))
            seen += run.feed(part[50 * k :][:50], LOG_MS + k + 10**9)
            seen.append(run.changed())
        runs[0].fold.state._tidy_at = 0
    assert same(frames[0], frames[1]) and same(runs[0].rows(), runs[1].rows())
    assert runs[0].fold.state.names.count < runs[1].fold.state.names.count


@pytest.mark.parametrize("name", ["prior", f"prior@{DOMAINS[0]}", "learned_temperature"])
@pytest.mark.parametrize("tenant", ["t", "*"])
def test_what_was_learned_acts_the_same_behind_a_restart(tenant: str, name: str) -> None:
    run, plain = Run(), Run()
    errors = [(domain, 0.1 + 0.2 * k) for k, domain in enumerate(DOMAINS[:3])] * 4
    given = [update("t", one, error, START + k) for k, (one, error) in enumerate(errors)]
    assert run.control(setting(tenant, name, "0.3")) == [None]
    run.feed(given[:6])
    other = run.reborn()
    frames = run.feed(given[6:])
    assert same(other.feed(given[6:]), frames) and same(other.rows(), run.rows())
    usual = plain.feed(given)[6:]
    pairs = zip(frames, usual, strict=True)
    differs = any(a["weights"] != pytest.approx(b["weights"]) for a, b in pairs)
    assert differs == (name != "prior")  # the same for all domains changes nothing
