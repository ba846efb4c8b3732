"""Wild values, glitches, noises that shrink: whatever came, what comes later is found."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.engine.errors import UnknownVersion
from agents.engine.recovery import Loader
from agents.segmentation.points import FAR, MEMORY, REACH
from agents.segmentation.rule import RING
from agents.segmentation.scale import UPPER, ring_of
from agents.segmentation.series import Series
from agents.segmentation.state import S
from tests.contract.harness import Run, messages
from tests.unit.agents.segmentation.samples import records
from tests.unit.agents.segmentation.test_corrupt import PLAN
from topics import codec

pytestmark = pytest.mark.kernel
Floats = np.ndarray[Any, np.dtype[np.float64]]
BOCPD = {"cpd": "bocpd"}
HMM = {"cpd": "off", "hmm": "on"}
numbers = st.floats(allow_nan=False, allow_infinity=False)
seeds = st.integers(0, 2**32 - 1)
each_cpd = pytest.mark.parametrize("mode", [{}, BOCPD], ids=["glr", "bocpd"])


def finds(x: Floats, at: int, mode: dict[str, str], near: int = 10) -> bool:
    return any(abs(change.index - at) <= near for change in Series(mode).extend(x))


def found(make: Callable[[np.random.Generator], tuple[Floats, int]], mode: dict[str, str]) -> int:
    """In how many of 20 series the change is found."""
    return sum(finds(*make(np.random.default_rng(seed)), mode) for seed in range(20))


@each_cpd
@settings(max_examples=60, deadline=None)
@given(seeds, numbers, st.integers(0, 280))
def test_after_any_one_value_a_later_step_is_found(
    mode: dict[str, str], seed: int, value: float, where: int
) -> None:
    x = np.random.default_rng(seed).normal(size=450)
    x[400:] += 6.0
    x[where] = value
    assert finds(x, 400, mode, near=5)


@settings(max_examples=60, deadline=None)
@given(numbers, st.integers(0, 280))
def test_hmm_hears_of_any_one_value_what_it_hears_of_ten_deviations(
    value: float, where: int
) -> None:
    """It misses a step now and then (where it is on by chance), with or without a wild value."""

    def one(rng: np.random.Generator) -> tuple[Floats, int]:
        x = rng.normal(size=450)
        x[400:] += 6.0
        x[where] = value if abs(value) > 10.0 else 10.0
        return x, 400

    assert found(one, HMM) >= 15


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(20, 400), st.lists(numbers, min_size=1, max_size=3))
def test_values_move_what_a_series_is_measured_by_by_bounded_factors(
    seed: int, n: int, values: list[float]
) -> None:
    """Three in a row, whatever they are: the unit stays, and the spread hears 8, 32, 128 spreads
    of distance at most.
    """
    series = Series()
    series.extend(np.random.default_rng(seed).normal(size=n))
    for value in values:
        before = series._bank.floats[0].copy()
        run = int(series._bank.ints[0, S.wild])
        series.push(value)
        after = series._bank.floats[0]
        weight = 1.0 / min(n, MEMORY)
        most = REACH * 4.0**run * before[S.spread]
        assert abs(after[S.mean] - before[S.mean]) <= weight * most * (1 + 1e-9)
        ratio = after[S.spread] / before[S.spread]
        assert (
            math.sqrt(1 - 1 / n) * (1 - 1e-9) <= ratio <= math.sqrt(1 + weight * (8 * 4**run) ** 2)
        )
    assert series._bank.ints[0, S.unit] in (-64, 0)


def spikes(rng: np.random.Generator) -> tuple[Floats, int]:
    """2,000 points with 5 % spikes of 100 deviations, 300 without, and then a step of 3."""
    x = rng.normal(size=2600)
    there = (rng.random(2600) < 0.05) & (np.arange(2600) < 2000)
    x[there] += 100.0 * rng.choice([-1, 1], there.sum())
    x[2300:] += 3.0
    return x, 2300


def two(rng: np.random.Generator) -> tuple[Floats, int]:
    x = rng.normal(size=700)
    x[200:202] = 1e200
    x[500:] += 3.0
    return x, 500


def six(rng: np.random.Generator) -> tuple[Floats, int]:
    x = rng.normal(size=1100)
    x[200:206] = 1e200
    x[800:] += 3.0
    return x, 800


def still(rng: np.random.Generator) -> tuple[Floats, int]:
    """Four of five points stand still, one is wild."""
    x = np.where(rng.random(1400) < 0.2, rng.normal(size=1400), 0.0)
    x[900:] += 3.0
    x[300] = 1e200
    return x, 900


def constant(rng: np.random.Generator) -> tuple[Floats, int]:
    x = np.zeros(1000)
    x[rng.integers(1, 500)] = 1e200
    x[700:] = 1.0
    return x, 700


@pytest.mark.parametrize("make", [spikes, two, six, still, constant])
@each_cpd
def test_after_glitches_of_many_kinds_a_step_is_found(
    make: Callable[[np.random.Generator], tuple[Floats, int]], mode: dict[str, str]
) -> None:
    assert found(make, mode) == 20


def test_a_noise_that_shrinks_by_a_million_leaves_glr_able_to_hear() -> None:
    def one(rng: np.random.Generator) -> tuple[Floats, int]:
        x = rng.normal(size=1400)
        x[300:] *= 1e-6
        x[900:] += 3e-6
        return x, 900

    assert found(one, {}) == 20


@pytest.mark.parametrize("mode", [{}, BOCPD, HMM], ids=["glr", "bocpd", "hmm"])
@pytest.mark.parametrize("size", [1e3, 1e6])
def test_a_level_that_moves_by_a_million_is_a_change_like_others(
    mode: dict[str, str], size: float
) -> None:
    """A hundred points later: hmm misses steps now and then by chance, in plain noise too."""

    def one(rng: np.random.Generator) -> tuple[Floats, int]:
        x = rng.normal(size=500)
        x[300:] += size
        x[400:] += 5.0
        return x, 400

    assert found(one, mode) >= (18 if mode is HMM else 20)


@pytest.mark.parametrize("mode", [BOCPD, HMM], ids=["bocpd", "hmm"])
def test_a_noise_of_a_million_for_a_while_leaves_able_to_hear(mode: dict[str, str]) -> None:
    def one(rng: np.random.Generator) -> tuple[Floats, int]:
        x = rng.normal(size=1000)
        x[300:500] *= 1e6
        x[900:] += 5.0
        return x, 900

    assert found(one, mode) >= 18


@pytest.mark.parametrize("mode", [BOCPD, HMM], ids=["bocpd", "hmm"])
def test_a_noise_that_shrinks_by_a_million_leaves_able_to_hear(mode: dict[str, str]) -> None:
    def one(rng: np.random.Generator) -> tuple[Floats, int]:
        x = rng.normal(size=1400)
        x[300:] *= 1e-6
        x[1300:] += 5e-6
        return x, 1300

    assert found(one, mode) >= 18


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(120, 400), st.lists(numbers, min_size=1, max_size=3))
def test_what_bocpd_and_hmm_measure_by_hears_of_values_by_bounded_factors(
    seed: int, n: int, values: list[float]
) -> None:
    """Three in a row, whatever they are: bocpd's unit stays; STABLE's variance grows by a factor of
    1 + 0.003·(9 - 1) a value at most, and shrinks by 1 - 0.003; VOLATILE's by 1 + 0.006·(25 - 1).
    """
    x = np.random.default_rng(seed).normal(size=n)
    both = Series(BOCPD | {"hmm": "on"})
    both.extend(x)
    for value in values:
        before = both._bank.floats[0].copy()
        both.push(value)
        after = both._bank.floats[0]
        assert (after[S.b_mean], after[S.b_scale]) == (before[S.b_mean], before[S.b_scale])
        ratio = after[S.h_variance] / before[S.h_variance]
        assert 1 - 0.003 - 1e-9 <= ratio <= 1 + 0.003 * 8 + 1e-9
        assert after[S.h_wide] <= before[S.h_wide] * (1 + 0.006 * 24) + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=150))
@example([0.0, 4.220403576899028e-263, 1.0, 1.0])  # two are further than FAR in its unit
def test_a_ring_is_known_by_its_quartiles_and_median_distance(values: list[float]) -> None:
    series = Series()
    series.extend(np.array(values))
    last = np.sort(np.ldexp(values[-RING:], -int(series._bank.ints[0, S.unit])))
    last = np.clip(last, -FAR, FAR)
    middle, quarter = np.median(last), len(last) // 4
    deviation = np.median(abs(last - middle)) / UPPER
    assert ring_of(series._bank, 0, np.zeros(RING)) == pytest.approx(
        (last[quarter], middle, last[-1 - quarter], deviation)
    )


def decoded(sent: Any) -> tuple[Any, ...]:
    record = codec.decode(sent.value)[1]
    return record["segment_id"], record["frames"], record["boundary_ts"]


def of_v1(row: dict[str, Any]) -> dict[str, Any]:
    """A row as v1 has it: mean and variance in the unit."""
    old = {name: value for name, value in row.items() if name != "wild"}
    if row["counts"]:
        unit = 2.0 ** row["counts"][0]
        mean, spread, *rest = row["numbers"]
        old["numbers"] = [mean / unit, (spread / unit) ** 2, *rest]
    return old


def test_rows_of_v1_are_read() -> None:
    """What goes on from them is what goes on from those of v2."""
    sent = messages(PLAN, records(np.random.default_rng(8), 1200))
    run = Run(PLAN).feed([sent[:700]])
    rows = {key: codec.decode(value)[1] for key, value in run.rows().items()}
    before = len(run.outputs())
    run.feed([sent[700:]])
    again = Run(PLAN)
    old = [codec.encode("segmentation_state", of_v1(row), 1) for row in rows.values()]
    loader = Loader(PLAN, 0, again.fold)
    loader.load([*rows], old, np.zeros(len(old), np.uint8))
    again.feed([sent[700:]])
    shown, wanted = (
        [decoded(one) for one in outputs] for outputs in (again.outputs(), run.outputs())
    )
    assert shown and shown == wanted[before:]
    series = {key: codec.decode(value)[1] for key, value in again.rows().items() if b"\x1f" in key}
    assert len(series) > 5
    for key, row in series.items():
        same = codec.decode(run.rows()[key])[1]
        assert (row["counts"], row["wild"]) == (same["counts"], same["wild"])
        assert row["numbers"] == pytest.approx(same["numbers"], rel=1e-9, abs=1e-12)


def test_a_row_of_v1_that_cannot_be_is_refused_by_name() -> None:
    run = Run(PLAN).feed([messages(PLAN, records(np.random.default_rng(8), 100))])
    key, row = next((k, codec.decode(v)[1]) for k, v in run.rows().items() if b"\x1f" in k)
    bad = of_v1(row) | {"numbers": [0.0, -1.0, *row["numbers"][2:]]}
    with pytest.raises(UnknownVersion, match="contradicts itself"):
        Loader(PLAN, 0, Run(PLAN).fold).load(
            [key], [codec.encode("segmentation_state", bad, 1)], np.zeros(1, np.uint8)
        )


@pytest.mark.parametrize("size", [1e3, 1e6, 1e200])
def test_a_glitch_is_no_change_and_hides_none_that_comes_right_after(size: float) -> None:
    false = 0
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=1000)
        x[500] = size
        false += len(Series().extend(x))
        x[510:] += 3.0
        assert any(abs(one.index - 510) <= 5 and one.at <= 530 for one in Series().extend(x)), seed
    assert false <= 1
