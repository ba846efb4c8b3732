"""What outputs come to: losses and regret by their definition, boundaries in pairs."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.plan import defaults_of
from agents.history.figures import (
    BINS,
    SHOWN,
    Boundaries,
    Calibrations,
    Frames,
    Predictions,
    figures_of,
    in_both,
    of_all,
    pairs,
)
from agents.history.refold import fold_of
from agents.kit.schema import SETTINGS as OWN
from tests.contract.harness import PROCESSORS, SETTINGS, Run, messages, plan_of, samples
from topics import codec

places = st.lists(st.integers(0, 60), max_size=6, unique=True).map(sorted)


@given(places, places, st.integers(0, 12))
def test_as_many_places_are_paired_as_can_be(a: list[int], b: list[int], near: int) -> None:
    found = pairs(a, b, near)
    assert all(abs(a[i] - b[j]) <= near for i, j in found)
    assert len({i for i, _ in found}) == len({j for _, j in found}) == len(found)
    # Of crossing pairs each can be uncrossed: it is enough to try those in order.
    best = max(
        size
        for size in range(min(len(a), len(b)) + 1)
        if any(
            all(abs(x - y) <= near for x, y in zip(some, more, strict=True))
            for some in combinations(a, size) for more in combinations(b, size)
        )
    )  # fmt: skip
    assert len(found) == best


def frame(
    errors: dict[str, float], weights: dict[str, float], ts: int, tenant: str = "t"
) -> dict[str, Any]:
    leader = max(weights, key=lambda d: weights[d])
    return {
        "tenant": tenant, "errors": errors, "weights": weights, "leader": leader, "ts": ts,
        "entropy": 0.5,
    }  # fmt: skip


def test_regret_is_the_loss_of_the_weights_above_that_of_the_best_in_hindsight() -> None:
    rng = np.random.default_rng(3)
    alpha, found, loss = 1.5, Frames(1.5), 0.0
    errors = rng.gamma(1.0, 0.5, (50, 3))
    weights = rng.dirichlet(np.ones(3), 50)
    losses = 1 - np.exp(-alpha * errors)
    for k in range(50):
        names = dict(zip("abc", errors[k], strict=True)), dict(zip("abc", weights[k], strict=True))
        found.add(frame(*names, 1000 * k), k / 50)
        loss += float(losses[k].mean() if k == 0 else weights[k - 1] @ losses[k])
    data = found.data()
    best = losses.sum(0).min()
    assert math.isclose(data["regret"], loss - best) and math.isclose(data["mean_loss"], loss / 50)
    assert data["best_domain"] == "abc"[int(losses.sum(0).argmin())]
    leaders = weights.argmax(1)
    assert data["leader_changes"] == (leaders[1:] != leaders[:-1]).sum()
    assert sum(one["frames"] for one in data["led"].values()) == data["frames"] == 50
    assert sum(one["ms"] for one in data["led"].values()) == 49
    assert len(data["losses"]) == len(data["leaders"]) == BINS


@pytest.mark.kernel
@pytest.mark.parametrize("fusion", ["hedge", "fixed_share", "softmax"])
def test_regret_is_the_one_that_the_integrator_keeps(fusion: str) -> None:
    integrator = next(p for p in PROCESSORS if p.name == "integrator")
    plan = plan_of(integrator)
    values = defaults_of(integrator, SETTINGS) | {"fusion": fusion, "drift": "off"}
    run = Run(plan, fold_of(plan, Run(plan).place, values, {}))
    run.feed([messages(plan, samples(integrator).records(np.random.default_rng(2), 400))])
    alone: dict[str, Frames] = {}
    for sent in run.of(plan.sinks[0].topic):
        record = codec.decode(sent.value or b"")[1]
        alone.setdefault(record["tenant"], Frames(2.0)).add(record, 0.5)
    rows = {key.decode(): codec.decode(value)[1] for key, value in run.rows().items()}
    kept = {name: row["regret"] for name, row in rows.items() if row["rounds"]}
    assert len(kept) > 1 and not any(row[OWN] for row in rows.values())
    found = {name: one.data()["regret"] for name, one in alone.items()}
    assert found == pytest.approx(kept, abs=1e-6)


def test_of_many_tenants_it_is_what_each_comes_to_together() -> None:
    rng = np.random.default_rng(4)
    together, alone = Frames(2.0), {name: Frames(2.0) for name in ("t", "u", "v")}
    for names in (("t", "u"), ("v",)):  # two partitions
        for k in range(80):
            tenant = names[k % len(names)]
            errors = dict(zip("abc", rng.gamma(1.0, 0.5, 3), strict=True))
            weights = dict(zip("abc", rng.dirichlet(np.ones(3)), strict=True))
            for one in (together, alone[tenant]):
                one.add(frame(errors, weights, 1000 * k, tenant), k / 80)
        for name in names:
            of, data = together.of(name), alone[name].data()
            assert of == pytest.approx({key: data[key] for key in of}) and len(of) == 4
        together.forget()
        assert together.of(names[0]) == {}
    each, found = [one.data() for one in alone.values()], together.data()
    for name in ("frames", "leader_changes", "regret"):
        assert math.isclose(found[name], sum(one[name] for one in each)), name
    assert math.isclose(found["mean_loss"] * 160, sum(o["mean_loss"] * o["frames"] for o in each))
    best = [one["best_domain"] for one in each]
    assert best.count(found["best_domain"]) == max(map(best.count, best))


def test_boundaries_of_tenants_are_apart_and_their_lists_stay_short() -> None:
    found: dict[str, Any] = {}
    for part in range(3):
        was, would = Boundaries(), Boundaries()
        for k in range(40):
            one = boundary("a", "cpd", 50) | {"tenant": f"t{part}-{k}"}
            was.add(one, 0.5)
            would.add(one | {"tenant": f"t{part}-{k + 30}"}, 0.5)
        now = in_both(was, would)
        found = of_all(found, now) if found else now
        assert was.of(f"t{part}-0") == {"boundaries": 1} and would.of(f"t{part}-0") == {}
        was.forget()
        assert not (was.said or was.places or was.of(f"t{part}-0")) and was.data()["boundaries"]
    assert (found["both"], found["only_was"], found["only_would"]) == (30, 90, 90)
    assert len(found["listed_was"]) == len(found["listed_would"]) == SHOWN


def boundary(domain: str, evidence: str, frames: int) -> dict[str, Any]:
    return {
        "tenant": "t", "domain": domain, "evidence": evidence, "frames": frames,
        "boundary_ts": 1_000_000, "detected_ts": 2_000_000,
    }  # fmt: skip


def test_boundaries_are_the_same_by_their_place_in_their_domains_frames() -> None:
    was, would = Boundaries(), Boundaries()
    for domain, evidence, frames in (("a", "cpd", 50), ("a", "cpd", 50), ("b", "cpd", 100)):
        was.add(boundary(domain, evidence, frames), 0.1)
    for domain, evidence, frames in (("a", "hmm", 55), ("b", "cpd", 70), ("a", "cpd", 45)):
        would.add(boundary(domain, evidence, frames), 0.9)
    would.add(boundary("a", "leader_change", 55), 1.0)
    found = in_both(was, would)
    assert (found["both"], found["only_was"], found["only_would"]) == (2, 1, 2)
    assert found["listed_was"][0]["domain"] == "b"
    assert found["listed_was"][0]["boundary_ts"] == "1970-01-01T00:00:01+00:00"
    data = would.data()
    assert data["by_evidence"] == {"hmm": 1, "cpd": 2, "leader_change": 1}
    assert data["counts"][-1] == 1 and sum(data["counts"]) == data["boundaries"] == 4


def test_updates_and_calibrations_are_means() -> None:
    one = Predictions()
    for domain, error in (("a", 1.0), ("a", 3.0), ("b", 2.0)):
        record = {"tenant": "t", "domain": domain, "error_metric": error, "confidence": 0.5}
        one.add(record, 0.0)
    data = one.data()
    assert (data["updates"], data["mean_error"], data["mean_confidence"]) == (3, 2.0, 0.5)
    assert data["domains"]["a"]["mean_error"] == data["errors"][0] == 2.0
    assert one.of("t") == {"updates": 3, "mean_error": 2.0} and one.of("u") == {}
    two = Calibrations()
    for n, ece in ((100, 0.1), (300, 0.3)):
        figures = {"ece_post": ece, "brier_post": 0.2, "nll_post": 0.4}
        two.add({"bin_count_post": [n, 0], **figures}, 0.0)
    assert two.data() == pytest.approx({"samples": 400, "ece": 0.25, "brier": 0.2, "nll": 0.4})
    assert figures_of("memory_event", 2.0) is None
