"""A cycle alone is no change; on top of one a step is found; where there is none, none is taken."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.segmentation.series import Series
from agents.tools.season import (
    AUTO_POINTS,
    LEARNED,
    Cycles,
    Floats,
    Level,
    Season,
    Value,
    candidates,
    chosen,
)

HOUR = 3_600_000_000
SERIES = 20  # of one rate
SHAPES = {
    "sine": lambda phase: np.sin(2 * np.pi * phase),
    "work": lambda phase: ((phase > 0.35) & (phase < 0.75)) * 1.0,
    "peak": lambda phase: np.exp(-((phase - 0.5) ** 2) / 0.005),
}


def judge(values: Floats) -> int:
    return len(Series().extend(values))


def cycle(seed: int, shape: str, period: int, size: float, cycles: int = 14) -> Floats:
    t = np.arange(cycles * period)
    noise = np.random.default_rng(seed).normal(size=len(t))
    return np.asarray(size * SHAPES[shape](t % period / period) + noise)


def run(
    x: Floats, period: int | None, step: int = HOUR
) -> tuple[int | None, list[tuple[int, int]]]:
    """(the period taken out, (index, at) of the changes)."""
    season, law, found = Season(period, judge, True), Series(), []
    for at in range(len(x) + 1):
        last = at == len(x)
        given = season.finish() if last else season.push(Value(at, at, at * step, float(x[at])))
        for value in given:
            found += [(c.index, min(at, len(x) - 1)) for c in law.push(value.value, value.ts)]
    return season.period, found


SEEDS = {24: 3, 96: 2, 288: 1}  # by period: the long ones take long


@pytest.mark.kernel
@pytest.mark.parametrize("period", SEEDS)
@pytest.mark.parametrize("size", [3.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cycle_alone_draws_none_and_a_step_on_it_is_found(
    shape: str, size: float, period: int
) -> None:
    for seed in range(SEEDS[period]):
        x = cycle(seed, shape, period, size)
        _, found = run(x, None, 24 * HOUR // period)
        assert found == []
        assert len(run(x, period, 24 * HOUR // period)[1]) <= 1
        for where in (2 * period + period // 3, 9 * period + period // 3):
            y = x + 3.0 * (np.arange(len(x)) >= where)
            _, found = run(y, None, 24 * HOUR // period)
            assert sum(abs(index - where) <= 5 for index, _ in found) == 1, (seed, where)
            assert len(found) <= 2


@pytest.mark.kernel
@pytest.mark.parametrize("size", [10.0, 30.0, 100.0])
def test_a_cycle_draws_no_more_than_its_noise_alone(size: float) -> None:
    """False boundaries per series of 21 days at 5 minutes, beside those of the noise itself."""
    alone = within = 0
    for seed in range(SERIES):
        x = cycle(seed, "sine", 288, size, 21)
        noise = cycle(seed, "sine", 288, 0.0, 21)
        season = Cycles(288)
        learned = season.learn(x[: 7 * 288])
        alone += judge(noise)
        within += judge(np.append(learned, [season.push(value) for value in x[7 * 288 :].tolist()]))
    assert alone <= 0.2 * SERIES
    assert within <= alone + 0.1 * SERIES


@pytest.mark.kernel
def test_without_it_the_same_cycles_draw_many() -> None:
    assert judge(cycle(0, "work", 288, 3.0)) > 20


@pytest.mark.kernel
def test_noise_has_no_season() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        white, heavy = rng.normal(size=AUTO_POINTS), rng.standard_t(3, AUTO_POINTS)
        for x in (white, heavy, np.cumsum(white), np.zeros(500), np.full(500, math.nan)):
            assert chosen(x, judge, 24) == 0


@pytest.mark.kernel
def test_wild_values_and_gaps_hide_no_season() -> None:
    x = cycle(1, "sine", 96, 5.0, 21)
    x[[100, 900]] = 1e200, -1e300
    x[300:310] = math.nan
    assert chosen(x, judge) == 96
    assert all(abs(index - 100) < 9 or abs(index - 900) < 9 for index, _ in run(x, 96)[1])


@pytest.mark.kernel
def test_what_is_declared_of_a_season_was_declared_with_what_was_known_by_then() -> None:
    x = cycle(2, "work", 96, 4.0) + 3.0 * (np.arange(14 * 96) >= 900)
    _, whole = run(x, 96)
    _, part = run(x[:1000], 96)
    assert whole and part == [one for one in whole if one[1] < 1000]
    assert all(at >= LEARNED * 96 - 1 and at >= index for index, at in whole)


def test_too_few_cycles_take_nothing_out() -> None:
    season = Season(50, judge)
    values = [Value(k, k, k, float(k)) for k in range(99)]
    assert [one for value in values for one in season.push(value)] == []
    assert season.finish() == values and season.period == 0
    assert season.finish() == () and season.push(values[0]) == (values[0],)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=60), st.integers(1, 9)
)
def test_a_level_is_the_median_of_the_last(values: list[float], size: int) -> None:
    level = Level(size)
    for k, value in enumerate(values):
        found = level.push(value)
        last = np.array(values[max(0, k - size + 1) : k + 1])
        there = last[np.isfinite(last)]
        if len(there):
            assert found == pytest.approx(float(np.median(there)), rel=1e-12, abs=1e-9)
        else:
            assert math.isnan(found)


def test_an_exact_cycle_leaves_nothing() -> None:
    wave = np.tile([0.0, 5.0, 1.0, 7.0, 2.0], 8)
    cycles = Cycles(5)
    left = [*cycles.learn(wave[:25]), *(cycles.push(float(x)) for x in wave[25:])]
    assert left == pytest.approx([2.0] * 40)
    assert candidates(wave)[:1] == [5]
