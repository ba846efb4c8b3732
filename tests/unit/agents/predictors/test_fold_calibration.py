"""Calibration and next events through the fold: against a plain reference, and on real series."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from agents.tools import series
from tests.unit.agents.predictors import reference
from tests.unit.agents.predictors.harness import Harness, Record, observation
from tests.unit.agents.predictors.samples import records

TS = 1_700_000_000_000_000
# The Turing data: where SOMA_TEST_TCPD says (read now, for tests run without SOMA_ variables), or
# beside the checkout.
BESIDE = Path(__file__).resolve().parents[4] / "../shared/data/change_points"
TURING = Path(os.environ.get("SOMA_TEST_TCPD", BESIDE))


def noise(n: int, seed: int = 1, dim: int = 2, tenant: str = "t") -> list[Record]:
    """White noise: the last value predicts badly, and confidences are far too low."""
    rng = np.random.default_rng(seed)
    return [observation(rng.normal(size=dim), tenant, ts=TS + k) for k in range(n)]


def swinging(n: int, seed: int, pace: float = 0.95, tenant: str = "t") -> list[Record]:
    """Noise that is loud for a while, and quiet: an error says something of the next one."""
    rng = np.random.default_rng(seed)
    loud, found = 0.0, []
    for k in range(n):
        loud = pace * loud + math.sqrt(1 - pace**2) * rng.normal()
        found.append(observation(math.exp(1.5 * loud) * rng.normal(size=8), tenant, ts=TS + k))
    return found


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_confidences_are_those_of_the_reference(alpha: float) -> None:
    given = (
        records(np.random.default_rng(5), 2000) + swinging(6000, 2) + swinging(2000, 3, 0.5, "u")
    )
    harness = Harness(calibrate_every="50", alpha=str(alpha), predictor="mahal")
    found = harness.run(given)
    expected = reference.confidences(found, 50, alpha)
    np.testing.assert_allclose([u["confidence"] for u in found], expected, rtol=1e-5, atol=1e-37)
    assert any(record["kept"] for record in harness.calibrations)
    assert len({record["temperature"] for record in harness.calibrations}) > 10


def test_a_refit_is_recorded_by_the_observation_that_completed_the_window() -> None:
    harness = Harness(predictor="persistence")
    found = harness.run(noise(1000))
    assert [r["samples"] for r in harness.calibrations] == [200, 400, 600, 800]
    for record in harness.calibrations:
        # the first has no prediction, the second nothing before it
        cause = found[record["samples"] + 1]
        assert record["observation_id"] == cause["observation_id"]
        assert (record["tenant"], record["domain"], record["ts"]) == ("t", "state", cause["ts"])
        for suffix in ("", "_post"):
            assert sum(record[f"bin_count{suffix}"]) == record["samples"] // 2
            assert len(record[f"bin_confidence{suffix}"]) == 10
            assert len(record[f"bin_accuracy{suffix}"]) == 10
        assert record["kept"] == (
            record["ece_post"] <= 0.7 * record["ece_pre"]
            and record["nll_post"] <= record["nll_pre"]
        )
    for before, after in zip(harness.calibrations, harness.calibrations[1:], strict=False):
        assert after["previous"] == before["temperature"]
    last = harness.calibrations[-1]
    assert last["kept"]
    assert last["temperature"] == last["fitted"] > 2.0
    row = harness.all()[b"t\x1fstate"]
    assert row is not None
    assert (row["temperature"], row["samples"]) == (last["temperature"], 998)
    assert sum(row["counts"]) == 998
    z = reference.logit(found[-1]["error_metric"], 2.0)
    assert found[-1]["confidence"] == pytest.approx(expit(z / last["temperature"]), rel=1e-6)


def test_switched_off_nothing_is_calibrated_and_what_was_learned_stays() -> None:
    harness, plain = Harness(), Harness(calibrate="off")
    given = noise(1000)
    harness.run(given[:800])
    plain.run(given[:800])
    row = harness.all()[b"t\x1fstate"]
    assert row is not None
    assert row["temperature"] > 2.0
    assert harness.set("t", "calibrate", "off") is None
    plain.offset = harness.offset
    assert harness.run(given[800:]) == plain.run(given[800:])
    off = harness.all()[b"t\x1fstate"]
    assert off is not None
    same = ("temperature", "samples", "counts", "lowest", "median")
    assert {name: off[name] for name in same} == {name: row[name] for name in same}
    assert off["waiting"] == 0
    blank = plain.all()[b"t\x1fstate"]
    assert blank is not None
    assert (blank["samples"], blank["counts"], blank["median"]) == (0, [], 0.0)


def test_another_dimension_forgets_what_was_learned() -> None:
    harness = Harness()
    harness.run(noise(500))
    harness.run([observation([1, 2, 3])])
    row = harness.all()[b"t\x1fstate"]
    assert row is not None
    assert (row["temperature"], row["samples"], row["counts"], row["waiting"]) == (1.0, 0, [], 0)


@pytest.mark.parametrize("graph", ["none", "path", "star"])
@pytest.mark.parametrize("predictor", ["heat", "persistence", "mahal"])
def test_a_next_event_is_what_the_next_error_is_measured_against(
    predictor: str, graph: str
) -> None:
    given = noise(30, dim=5)
    harness = Harness(predictor=predictor, graph=graph, forgetting="0")
    found = harness.run(given)
    events = harness.next_events
    assert [e["observation_id"] for e in events] == [u["observation_id"] for u in found]
    for event, update in zip(events, found, strict=True):
        assert event["confidence"] == update["confidence"]
        assert (event["tenant"], event["domain"], event["ts"]) == ("t", "state", update["ts"])
        assert (event["regret"], event["metadata"]) == (None, {})
    x = np.array([np.frombuffer(r["vector"], "<f4") for r in given], float)
    for k in range(1, 30):
        guess = np.frombuffer(events[k - 1]["predicted_state"], "<f4").astype(float)
        error = np.mean((x[k] - guess) ** 2 / (x[: k + 1].var(axis=0) + 1e-12))
        assert found[k]["error_metric"] == pytest.approx(error, rel=1e-4)


def test_next_events_are_switched_per_tenant_and_change_no_update() -> None:
    given = [r for pair in zip(noise(40), noise(40, tenant="u"), strict=True) for r in pair]
    harness, off = Harness(), Harness(next_events="off")
    assert harness.set("u", "next_events", "off") is None
    off.offset = harness.offset
    assert harness.run(given) == off.run(given)
    assert {e["tenant"] for e in harness.next_events} == {"t"}
    assert len(harness.next_events) == 40
    assert off.next_events == []
    ids = [r["observation_id"] for r in harness.next_events]
    assert harness.all() == off.all() | {b"u": harness.all()[b"u"]}
    assert len(set(ids)) == 40


def test_a_prediction_that_was_kept_is_the_one_that_would_be_made_again() -> None:
    """With changes of settings between, which make what was kept worthless."""
    given, kept, anew = noise(60, dim=9), Harness(), Harness()
    for k, record in enumerate(given):
        if k % 7 == 3:
            setting = (("graph", "ring"), ("diffusion_time", "3"), ("predictor", "mahal"))[k % 3]
            for harness in (kept, anew):
                harness.set("t", *setting)
        again = Harness()
        again.load(anew.all())
        again.offset, anew = anew.offset, again
        assert kept.run([record]) == anew.run([record])
        assert kept.next_events == anew.next_events
    assert kept.all() == anew.all()


def test_a_row_with_an_impossible_calibration_is_an_error() -> None:
    harness = Harness()
    harness.run(noise(300))
    ((key, row),) = harness.all().items()
    assert row is not None
    wrong: list[Record] = [
        {"median": -1.0}, {"median": math.nan}, {"temperature": 0.0}, {"temperature": 5.1},
        {"waiting": 33}, {"waiting": -1}, {"samples": -1}, {"lowest": 32}, {"lowest": -1},
        {"counts": row["counts"][:-1]}, {"counts": [-1, 0, 0, 0]}, {"counts": [65536, 0, 0, 0]},
        {"counts": [0] * 132},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ValueError, match="contradicts itself"):
            Harness().load({key: row | change})


def machine() -> Iterator[tuple[str, list[Record]]]:
    """The recorded machine, played three times over."""
    rows = series.recorded()
    yield (
        "machine",
        [
            observation(
                row.vector, row.tenant, row.domain, TS + int(1e6 * (row.second + 600 * again))
            )
            for again in range(3)
            for row in rows
        ],
    )


def turing() -> Iterator[tuple[str, list[Record]]]:
    """The series of the Turing dataset; none where it isn't."""
    for path in sorted(TURING.glob("*.json")):
        raw = json.loads(path.read_text())
        if isinstance(raw, dict) and "series" in raw:
            values = np.array([one["raw"] for one in raw["series"]], float).T
            values = values[np.isfinite(values).all(axis=1)]
            yield path.stem, [observation(v, ts=TS + k) for k, v in enumerate(values)]


def judged(updates: list[Record], calibrations: list[Record]) -> list[tuple[float, float, bool]]:
    """(raw, published, came true) of all confidences from each domain's first kept fit on."""
    ids = {r["observation_id"] for r in calibrations if r["kept"]}
    fitted, rows = set(), []
    held: dict[Any, reference.One] = defaultdict(lambda: reference.One(0))
    waiting: dict[Any, tuple[float, float]] = {}
    for u in updates:
        key = (u["tenant"], u["domain"])
        one = held[key]
        one.n += 1
        if key in waiting:
            rows.append((*waiting.pop(key), u["error_metric"] <= one.median))
        z = reference.logit(u["error_metric"], 2.0)
        if one.n > 1:
            reference.follow(one, u["error_metric"], z, 10**9)
        if u["observation_id"] in ids:
            fitted.add(key)
        if key in fitted:
            raw = float(expit(z))  # clipped, as the law's is
            changed = abs(u["confidence"] - math.exp(-2 * u["error_metric"])) > 1e-6
            waiting[key] = (raw, u["confidence"] if changed else raw)
    return rows


def scores(rows: list[tuple[float, float, bool]]) -> tuple[list[float], list[float]]:
    """(NLL, ECE), each of raw and of published confidences."""
    raw, published, true = (np.array(part, float) for part in zip(*rows, strict=True))
    both = (raw, published)
    nll = [float(-np.log(np.where(true > 0, p, 1 - p)).mean()) for p in both]
    return nll, [_ece(p, true) for p in both]


def _ece(p: Any, y: Any) -> float:
    bins = np.minimum((10 * p).astype(int), 9)
    return sum(abs(float((p - y)[bins == b].sum())) for b in range(10)) / len(p)


@pytest.mark.parametrize("predictor", ["heat", "persistence", "mahal"])
@pytest.mark.parametrize("source", [machine, turing])
def test_on_real_series_what_comes_after_a_fit_is_never_worse(source: Any, predictor: str) -> None:
    found = {}
    for name, given in source():
        harness = Harness(predictor=predictor, next_events="off")
        found[name] = judged(harness.run(given), harness.calibrations)
    if not found:
        pytest.skip("no Turing data: SOMA_TEST_TCPD names its folder")
    # A series that ends a few points after its first fit says nothing by itself.
    parts = {name: rows for name, rows in found.items() if len(rows) >= 200}
    parts["all"] = [row for rows in found.values() for row in rows]
    for name, rows in parts.items():
        nll, ece = scores(rows)
        assert nll[1] <= nll[0], (name, len(rows), nll)
        assert ece[1] <= ece[0], (name, len(rows), ece)
