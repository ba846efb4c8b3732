"""The predictors' fold: one update for every observation, and what it depends on."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.predictors.kernels import REASONS
from agents.predictors.state import DIM_MAX
from ops.prove import predict
from ops.prove.dozing import ACTIVE
from tests.unit.agents.predictors.harness import Harness, Record, observation
from tests.unit.agents.predictors.samples import records
from tests.unit.agents.predictors.samples import settings as valid

GRAPHS = ("none", "path", "ring", "star")
seeds = st.integers(0, 2**32 - 1)


def sample(seed: int, n: int = 60) -> list[Record]:
    return records(np.random.default_rng(seed), n)


def direct(given: list[Record], predictor: str, graph: str) -> list[float]:
    """The errors by the verifier's law, which shares no code with the processor's."""
    of = {"predictor": predictor, "graph": graph, "diffusion_time": 0.5, "forgetting": 0.01}
    of |= {"state": ACTIVE}
    held: dict[Any, predict.Series] = {}
    found = []
    for record in given:
        x = np.frombuffer(record["vector"], "<f4").astype(float)
        key = record["tenant"], record["domain"]
        before = held.get(key)
        if before is None or len(before.x) != len(x):
            held[key] = predict.begin(x, before)
            found.append(1.0)
        else:
            found.append(predict.step(before, x, of))
    return found


@pytest.mark.parametrize(
    ("predictor", "graph"),
    [("persistence", "path"), ("mahal", "path")] + [("heat", graph) for graph in GRAPHS],
)
@pytest.mark.parametrize("method", ["chebyshev", "lanczos"])
def test_errors_are_those_of_the_verifiers_law(predictor: str, graph: str, method: str) -> None:
    given = sample(1, 150)
    harness = Harness(predictor=predictor, graph=graph, heat_method=method, calibrate="off")
    found = harness.run(given)
    expected = direct(given, predictor, graph)
    np.testing.assert_allclose([u["error_metric"] for u in found], expected, rtol=1e-5)
    np.testing.assert_allclose(
        [u["confidence"] for u in found],
        [math.exp(-2 * e) for e in expected],
        rtol=1e-3,
        atol=1e-37,
    )


def test_an_update_says_what_it_comes_from() -> None:
    record = observation([1, 2, 3], "cpu", "agent", ts=1_700_000_000_123_456)
    harness = Harness()
    harness.offset = 10**15
    (update,) = harness.run([record | {"log_ms": 1_700_000_000_200}])
    assert update == {
        "tenant": "cpu", "domain": "agent", "predictor_type": "heat", "error_metric": 1.0,
        "prediction_latency_ms": float(np.float32(76.544)), "model_version": "1.0",
        "vector_dim": 3, "confidence": float(np.float32(math.exp(-2))),
        "observation_id": "0a1b2c3d-3-1000000000000000", "ts": 1_700_000_000_123_456,
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(seeds, st.lists(st.integers(0, 60), max_size=5), st.data())
def test_where_batches_are_cut_changes_nothing(seed: int, cuts: list[int], data: Any) -> None:
    given = sample(seed)
    changes = data.draw(st.lists(st.tuples(st.sampled_from(cuts or [0]), st.sampled_from(valid()))))
    results = []
    for edges in (cuts, range(0, 61, 7), range(61)):
        harness, found = Harness(), []
        places = sorted({0, 60, *edges, *(at for at, _ in changes)})
        for lo, hi in zip(places, [*places[1:], 60], strict=True):
            for at, (setting, value) in changes:
                if at == lo:
                    assert harness.set("tenant-1", setting, value) is None
                    harness.offset -= 1
            found += harness.run(given[lo:hi])
        results.append((found, harness.all()))
    assert results[0] == results[1] == results[2]


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(0, 60))
def test_state_survives_a_round_trip_at_any_point(seed: int, cut: int) -> None:
    given = sample(seed)
    whole, first, second = Harness(), Harness(), Harness()
    for harness in (whole, first):
        harness.set("tenant-1", "predictor", "mahal")
        harness.set("*", "alpha", "0.25")
    expected = whole.run(given[:cut]) + whole.run(given[cut:])
    found = first.run(given[:cut])
    rows = first.all()
    second.load(rows)
    assert second.all() == rows
    assert dict(sorted(first.changed().items())) == rows
    second.offset = first.offset
    assert found + second.run(given[cut:]) == expected
    assert second.all() == whole.all()


@settings(max_examples=25, deadline=None)
@given(seeds, st.permutations(range(15)))
def test_the_order_in_which_names_are_met_changes_nothing(seed: int, order: list[int]) -> None:
    given = sample(seed)
    plain, shuffled = Harness(), Harness()
    plain.run(given)
    other = Harness()
    names = sorted({(r["tenant"], r["domain"]) for r in given})
    met = [names[k] for k in order if k < len(names)]
    # met and forgotten again: the names stay interned, in another order
    early = 1_600_000_000_000_000
    shuffled.run([observation([1], t, d, ts=early) for t, d in met])
    shuffled.tick(early + 10**15)
    assert shuffled.fold.tenants() == 0
    assert set(shuffled.changed().values()) <= {None}
    shuffled.offset = other.offset = 0
    assert shuffled.run(given) == other.run(given)
    assert shuffled.all() == plain.all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_tenants_and_domains_never_mix(seed: int) -> None:
    given = sample(seed)
    together = Harness().run(given)
    for key in {(r["tenant"], r["domain"]) for r in given}:
        mine = [k for k, r in enumerate(given) if (r["tenant"], r["domain"]) == key]
        alone = Harness().run([given[k] for k in mine])
        for k, update in zip(mine, alone, strict=True):
            assert together[k] | {"observation_id": ""} == update | {"observation_id": ""}


def test_names_that_run_together_are_two() -> None:
    harness = Harness()
    harness.run([observation([1], "ab", "c"), observation([1], "a", "bc")])
    assert list(harness.all()) == [b"a\x1fbc", b"ab\x1fc"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_any_bytes_are_a_vector_or_a_dead_letter(vectors: list[bytes]) -> None:
    harness = Harness()
    found = harness.run([observation([]) | {"vector": vector} for vector in vectors])
    good = [
        v for v in vectors
        if v and len(v) % 4 == 0 and np.isfinite(np.frombuffer(v, "<f4")).all()
    ]  # fmt: skip
    assert [u["vector_dim"] for u in found] == [len(v) // 4 for v in good]
    assert len(harness.reasons) == len(vectors) - len(good)
    assert harness.fold.tenants() == bool(good)
    for update in found:
        assert 0.0 <= update["error_metric"] < math.inf
        assert 0.0 < update["confidence"] <= 1.0


def test_why_a_vector_is_refused() -> None:
    harness = Harness()
    bad = [b"", b"12345", bytes(4 * DIM_MAX + 4)]
    bad += [np.array([0, value], "<f4").tobytes() for value in (np.nan, np.inf, -np.inf)]
    assert harness.run([observation([]) | {"vector": vector} for vector in bad]) == []
    assert harness.reasons == [*REASONS, *[list(REASONS)[-1]] * 2]
    assert harness.all() == {}
    assert harness.changed() == {}
    assert harness.fold.deadline() is None


def test_the_longest_vector_and_the_largest_numbers() -> None:
    longest = np.full(DIM_MAX, 3.4e38)
    longest[::2] *= -1
    found = Harness().run([observation(longest), observation(-longest), observation([3.4e38])])
    assert [u["vector_dim"] for u in found] == [DIM_MAX, DIM_MAX, 1]
    assert all(math.isfinite(u["error_metric"]) for u in found)


def test_another_dimension_begins_anew() -> None:
    harness = Harness()
    dims = [3, 3, 5, 5, 2, 2, 5]
    found = harness.run([observation(np.arange(n) * (k + 1)) for k, n in enumerate(dims)])
    assert [u["error_metric"] == 1.0 for u in found] == [k in (0, 2, 4, 6) for k in range(7)]
    (row,) = harness.all().values()
    assert row is not None
    assert (row["restarts"], row["n"], row["dim"], row["step"]) == (3, 1, 5, bytes(40))


def test_settings_act_from_their_place_on_for_their_tenant() -> None:
    harness = Harness()
    two = [observation([1, 2], "a"), observation([1, 2], "b")]
    harness.run(two)
    assert harness.set("a", "predictor", "mahal") is None
    assert [u["predictor_type"] for u in harness.run(two)] == ["mahal", "heat"]
    assert harness.set("*", "predictor", "persistence") is None
    assert [u["predictor_type"] for u in harness.run(two)] == ["mahal", "persistence"]
    assert harness.set("a", "predictor", "") is None
    assert [u["predictor_type"] for u in harness.run(two)] == ["persistence", "persistence"]
    rows = harness.changed()
    assert rows[b"a"] is None
    assert rows[b"*"] is not None
    assert rows[b"*"]["settings"] == {"predictor": 1.0}
    assert "no setting 'colour'" in str(harness.set("a", "colour", ""))
    assert "alpha" in str(harness.set("a", "alpha", "-3"))
    assert harness.changed() == {}


def test_an_impossible_row_is_an_error() -> None:
    harness = Harness()
    harness.run([observation([1, 2])])
    ((key, row),) = harness.all().items()
    assert row is not None
    worse: list[Record] = [
        {"dim": 3}, {"dim": 0}, {"n": 0}, {"x": b"1234"}, {"level": b""}, {"step": b""},
        {"ratio": bytes(16)}, {"runs": b"\x10\0\0\0"}, {"runs": b"\0\x31\0\0"},
        {"level": np.array([0.0, np.inf]).tobytes()}, {"step": np.array([-1.0, 1.0]).tobytes()},
        {"step": b"", "m2": bytes(16), "weight": 0.5},
    ]  # fmt: skip
    for wrong in worse:
        with pytest.raises(ValueError, match="contradicts itself"):
            Harness().load({key: row | wrong})
    with pytest.raises(ValueError, match="colour"):
        Harness().load({b"t": row | {"dim": 0, "settings": {"colour": 1.0}}})


def test_a_row_of_law_1_is_read() -> None:
    """Its variance becomes a scale, as of white noise; what it learned is dropped."""
    harness, n = Harness(predictor="persistence"), 400
    x = np.random.default_rng(1).normal(5.0, 3.0, size=(n, 2))
    harness.run([observation(row) for row in x])
    ((key, now),) = harness.all().items()
    assert now is not None
    variance = 100.0 * x.var(axis=0)
    former = now | {
        "step": b"", "ratio": b"", "runs": b"", "weight": 100.0, "m2": variance.tobytes(),
        "slope": 1.0, "bias": 0.0, "info_slope": 1.25, "info_both": 0.0, "info_bias": 1.25,
        "logit": None, "median_run": 0, "bins": [], "sums": [],
    }  # fmt: skip
    again = Harness(predictor="persistence")
    again.load({key: former})
    more = [observation(row) for row in np.random.default_rng(2).normal(5.0, 3.0, size=(200, 2))]
    errors = [[u["error_metric"] for u in one.run(more)] for one in (harness, again)]
    assert np.median(errors[1]) == pytest.approx(np.median(errors[0]), rel=0.2)
    row = again.all()[key]
    assert row is not None
    assert (row["m2"], row["weight"], len(row["runs"])) == (b"", 0.0, 4)
    assert row["samples"] == now["samples"] + 199
