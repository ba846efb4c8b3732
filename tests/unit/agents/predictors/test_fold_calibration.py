"""Calibration and next events through the fold: against a plain reference, and on real series."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.predictors import calibration as cal
from agents.tools import series
from ops.prove.calibrate import Calibration
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


def confidences(updates: list[Record], every: int, alpha: float) -> list[float]:
    """Those that the updates should have, from their errors alone, by the verifier's law."""
    held: dict[Any, tuple[int, int, Calibration]] = {}
    found, of = [], {"alpha": alpha, "calibrate_every": every}
    for update in updates:
        key, error = (update["tenant"], update["domain"]), update["error_metric"]
        dim, n, law = held.get(key, (0, 0, Calibration()))
        if dim != update["vector_dim"]:
            dim, n, law = update["vector_dim"], 0, Calibration()
        held[key] = dim, n + 1, law
        if n > 0:
            law.take(error, n + 1, of)
        found.append(max(law.confidence(error, alpha, on=True), 2.0**-126))
    return found


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_confidences_are_those_of_the_verifiers_law(alpha: float) -> None:
    given = (
        records(np.random.default_rng(5), 2000) + swinging(3000, 2) + swinging(1000, 3, 0.5, "u")
    )
    harness = Harness(calibrate_every="50", alpha=str(alpha), predictor="mahal")
    found = harness.run(given)
    expected = confidences(found, 50, alpha)
    np.testing.assert_allclose([u["confidence"] for u in found], expected, rtol=1e-5, atol=1e-37)
    assert len({record["slope"] for record in harness.calibrations}) > 10


def test_a_record_tells_of_the_samples_since_the_last() -> None:
    harness = Harness(predictor="persistence")
    found = harness.run(noise(1000))
    assert [r["samples"] for r in harness.calibrations] == [200, 400, 600, 800]
    said = [u["confidence"] for u in found]
    for record in harness.calibrations:
        # the first has no prediction, the second nothing before it
        end = record["samples"] + 1
        cause = found[end]
        assert record["observation_id"] == cause["observation_id"]
        assert (record["tenant"], record["domain"], record["ts"]) == ("t", "state", cause["ts"])
        for suffix in ("", "_post"):
            assert sum(record[f"bin_count{suffix}"]) == 200
            assert len(record[f"bin_confidence{suffix}"]) == 10
            assert len(record[f"bin_accuracy{suffix}"]) == 10
        bins = np.minimum((10 * np.array(said[end - 200 : end])).astype(int), 9)
        if record["samples"] > 200:  # of the first, the earliest was published raw
            assert record["bin_count_post"] == np.bincount(bins, minlength=10).tolist()
        z = cal.logit_of(cause["error_metric"], 2.0)
        after = cal.sure(record["slope"] * z + record["bias"])
        assert cause["confidence"] == pytest.approx(after, rel=1e-6)
        assert record["brier_post"] < record["brier_pre"]
    row = harness.all()[b"t\x1fstate"]
    assert row is not None
    assert (row["samples"], sum(row["bins"][:10]), sum(row["bins"][30:40])) == (998, 198, 198)
    assert len(row["bins"]) == 60
    assert len(row["sums"]) == 4


def test_fewer_samples_for_a_record_are_heard_of_at_once() -> None:
    harness = Harness(calibrate_every="100000")
    harness.run(noise(302))
    assert harness.calibrations == []
    assert harness.set("t", "calibrate_every", "50") is None
    harness.run(noise(120, 2))
    assert [r["samples"] for r in harness.calibrations] == [301, 351, 401]
    assert [sum(r["bin_count"]) for r in harness.calibrations] == [301, 50, 50]


LEARNED = ("slope", "bias", "info_slope", "info_both", "info_bias", "samples", "bins", "sums")


def test_switched_off_nothing_is_calibrated_and_what_was_learned_stays() -> None:
    harness, plain = Harness(), Harness(calibrate="off")
    given = noise(1000)
    harness.run(given[:800])
    plain.run(given[:800])
    row = harness.all()[b"t\x1fstate"]
    assert row is not None
    assert row["slope"] < 0.5
    assert harness.set("t", "calibrate", "off") is None
    plain.offset = harness.offset
    assert harness.run(given[800:]) == plain.run(given[800:])
    off = harness.all()[b"t\x1fstate"]
    assert off is not None
    same = (*LEARNED, "median", "median_run")
    assert {name: off[name] for name in same} == {name: row[name] for name in same}
    assert off["logit"] is None
    blank = plain.all()[b"t\x1fstate"]
    assert blank is not None
    assert (blank["samples"], blank["bins"], blank["median"]) == (0, [], 0.0)


def test_another_dimension_forgets_what_was_learned() -> None:
    harness = Harness()
    harness.run(noise(500))
    harness.run([observation([1, 2, 3])])
    row = harness.all()[b"t\x1fstate"]
    assert row is not None
    assert [row[name] for name in LEARNED] == [1.0, 0.0, 1.25, 0.0, 1.25, 0, [], []]
    assert row["logit"] is None


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
        again = Harness(predictor=predictor, graph=graph, forgetting="0")
        again.run(given[: k + 1])
        (row,) = again.all().values()
        assert row is not None
        step, ratio = np.frombuffer(row["step"]), np.frombuffer(row["ratio"])
        guess = np.frombuffer(events[k - 1]["predicted_state"], "<f4").astype(float)
        off = (x[k] - guess) ** 2
        error = np.mean(off / ((1.4826 * step * ratio) ** 2 + off / 100.0))
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
        {"median": -1.0}, {"median": math.nan}, {"slope": -0.1}, {"slope": 5.1}, {"bias": 6.1},
        {"slope": math.nan}, {"logit": 6.1}, {"logit": math.nan}, {"samples": -1},
        {"info_slope": 0.0}, {"info_bias": math.inf}, {"info_both": 1e9}, {"median_run": 17},
        {"bins": row["bins"][:-1]}, {"bins": [-1, *row["bins"][1:]]}, {"bins": [], "sums": [0.0]},
        {"bins": [100_001, *row["bins"][1:]]}, {"bins": [0] * 60}, {"sums": row["sums"][1:]},
        {"sums": [math.nan] * 4}, {"sums": []},
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


def judged(updates: list[Record]) -> list[tuple[float, float, bool]]:
    """(raw, published, came true) of all confidences behind each domain's first 50."""
    rows = []
    held: dict[Any, tuple[int, float, int]] = {}  # number, median, its run
    waiting: dict[Any, tuple[float, float]] = {}
    for u in updates:
        key, error = (u["tenant"], u["domain"]), u["error_metric"]
        n, median, run = held.get(key, (0, 0.0, 0))
        n += 1
        if key in waiting:
            raw, said = waiting.pop(key)
            if n > 52:
                rows.append((raw, said, error <= median))
        if n > 1:
            median, run = cal.median_after(median, run, error, n)
            waiting[key] = cal.sure(cal.logit_of(error, 2.0)), u["confidence"]
        held[key] = n, median, run
    return rows


def scores(rows: list[tuple[float, float, bool]]) -> tuple[list[float], list[float]]:
    """(NLL, ECE), each of raw and of published confidences."""
    raw, published, true = (np.array(part, float) for part in zip(*rows, strict=True))
    both = [np.clip(p, 1e-4, 1.0 - 1e-4) for p in (raw, published)]
    nll = [float(-np.log(np.where(true > 0, p, 1 - p)).mean()) for p in both]
    return nll, [_ece(p, true) for p in both]


def _ece(p: Any, y: Any) -> float:
    bins = np.minimum((10 * p).astype(int), 9)
    return sum(abs(float((p - y)[bins == b].sum())) for b in range(10)) / len(p)


@pytest.mark.parametrize("predictor", ["heat", "persistence", "mahal"])
@pytest.mark.parametrize("source", [machine, turing])
def test_on_real_series_the_published_is_never_worse(source: Any, predictor: str) -> None:
    found = {}
    for name, given in source():
        harness = Harness(predictor=predictor, next_events="off")
        found[name] = judged(harness.run(given))
    if not found:
        pytest.skip("no Turing data: SOMA_TEST_TCPD names its folder")
    # A series that ends after a few points says nothing by itself.
    parts = {name: rows for name, rows in found.items() if len(rows) >= 200}
    parts["all"] = [row for rows in found.values() for row in rows]
    for name, rows in parts.items():
        nll, ece = scores(rows)
        assert nll[1] <= nll[0], (name, len(rows), nll)
        assert ece[1] <= ece[0], (name, len(rows), ece)
