"""The sequential test of canaries: against SciPy, and by how often it is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from agents.canary.blocks import ALONE
from agents.canary.law import (
    BETTER,
    METRICS,
    PHI,
    WORSE,
    Apart,
    Sums,
    bar,
    evidence,
    p_value,
    verdict,
)

BEFORE, AFTER, RUNS = 60, 300, 400
VALUES = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=30)


def sums(values: NDArray[np.float64] | list[float]) -> Sums:
    found = Sums()
    for one in values:
        found.add(float(one))
    return found


def ever(series: NDArray[np.float64], alpha: float, quantum: float = 0.0) -> str:
    """The first verdict of a series, looked at after each block."""
    before, after = sums(series[:BEFORE]), Sums()
    for one in series[BEFORE:]:
        after.add(float(one))
        if said := verdict(evidence(before, after, quantum), before, after, alpha):
            return said
    return ""


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_bayes_factor_that_scipy_integrates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(3, 2, 20), rng.normal(3 + seed, 2, 5 + seed)
    y[1::2] -= 3.0  # neighbours that differ: nothing is taken off for being alike
    x[1::2] += 3.0
    x[::2] -= 3.0
    t, freedom = stats.ttest_ind(y, x).statistic, len(x) + len(y) - 2
    n = len(x) * len(y) / (len(x) + len(y))

    def weighed(d: float) -> float:
        return float(stats.nct.pdf(t, freedom, d * math.sqrt(n)) * stats.norm.pdf(d, 0, PHI**-0.5))

    whole = integrate.quad(weighed, -8, 8, epsabs=1e-13)[0] / stats.t.pdf(t, freedom)
    assert evidence(sums(x), sums(y)) == pytest.approx(math.log(whole), rel=1e-6, abs=1e-8)


@given(VALUES, VALUES, st.floats(-100, 100), st.sampled_from((0.25, 4.0, -2.0)))
def test_neither_unit_nor_level_matter(
    x: list[float], y: list[float], level: float, unit: float
) -> None:
    known = evidence(sums(x), sums(y))
    if sums(x).spread + sums(y).spread < 1e-2:
        return  # rounding of the level decides
    moved = evidence(sums([unit * v + level for v in x]), sums([unit * v + level for v in y]))
    assert moved == pytest.approx(known, rel=1e-4, abs=1e-4)


@given(VALUES, VALUES)
def test_sums_are_those_of_the_values_and_survive_their_row(x: list[float], y: list[float]) -> None:
    one = sums(x)
    mean = np.mean(x)
    assert one.mean == pytest.approx(mean, abs=1e-9)
    assert one.spread == pytest.approx(((np.array(x) - mean) ** 2).sum(), abs=1e-6)
    near = float(((np.array(x)[1:] - mean) * (np.array(x)[:-1] - mean)).sum())
    assert one.neighbours == pytest.approx(near, abs=1e-6)
    assert Sums.of(one.numbers) == one
    assert math.isfinite(evidence(one, sums(y)))


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.8])
def test_where_nothing_changes_it_is_said_to_at_most_as_often_as_promised(rho: float) -> None:
    rng = np.random.default_rng(7)
    wrong, alpha = 0, 0.05
    for _ in range(RUNS):
        noise = rng.normal(size=BEFORE + AFTER)
        for k in range(1, len(noise)):
            noise[k] = rho * noise[k - 1] + math.sqrt(1 - rho**2) * noise[k]
        wrong += bool(ever(noise, alpha * len(METRICS)))  # one metric with all of alpha
    assert wrong <= stats.binom.ppf(0.99, RUNS, alpha), f"{wrong} of {RUNS}"


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.1, 0.5, 3.0])
def test_nor_does_it_of_rare_events(rate: float) -> None:
    rng = np.random.default_rng(8)
    wrong, alpha, few, many = 0, 0.05, 4, 16
    for _ in range(RUNS):
        counts = rng.poisson(rate, (BEFORE + AFTER, few + many))
        d = counts[:, :few].mean(1) - counts[:, few:].mean(1)
        wrong += bool(ever(d, alpha * len(METRICS), 1 / few))
    assert wrong <= stats.binom.ppf(0.99, RUNS, alpha), f"{wrong} of {RUNS}"


def test_nor_of_heavy_tails() -> None:
    rng = np.random.default_rng(9)
    wrong = sum(bool(ever(rng.standard_t(3, BEFORE + AFTER), 0.2)) for _ in range(RUNS))
    assert wrong <= stats.binom.ppf(0.99, RUNS, 0.05), f"{wrong} of {RUNS}"


@pytest.mark.parametrize(("sign", "said"), [(1, WORSE), (-1, BETTER)])
def test_a_difference_is_found_within_half_a_minute(sign: int, said: str) -> None:
    rng = np.random.default_rng(10)
    for _ in range(50):
        noise = rng.normal(size=BEFORE + 28)
        noise[BEFORE:] += sign * 2.0
        assert ever(noise, 0.01) == said


@pytest.mark.parametrize(("few", "many"), [(2, 3), (4, 12)])
def test_nor_where_single_tenants_change_for_good(few: int, many: int) -> None:
    """Each may get better or worse for another reason, and stay so."""
    rng = np.random.default_rng(11)
    wrong, groups = 0, [slice(0, few), slice(few, None)]
    for _ in range(RUNS):
        x = rng.normal(size=(BEFORE + 120, few + many)) * 0.3
        for tenant in range(few + many):
            x[int(rng.integers(BEFORE + 120)) :, tenant] += rng.normal()
        x -= x[:BEFORE].mean(0)
        d = x[:, groups[0]].mean(1) - x[:, groups[1]].mean(1)
        before, after = sums(d[:BEFORE]), Sums()
        for k in range(BEFORE, len(d)):
            after.add(float(d[k]))
            moved = x[BEFORE : k + 1].mean(0)
            telling = groups[1:] if many >= ALONE * few else groups
            within = sum(((moved[g] - moved[g].mean()) ** 2).sum() for g in telling)
            freedom = many - 1 if len(telling) == 1 else few + many - 2
            apart = Apart(float(within / freedom * (1 / few + 1 / many)), freedom)
            if verdict(evidence(before, after, 0.0, apart), before, after, 0.05 * len(METRICS)):
                wrong += 1
                break
    assert wrong <= stats.binom.ppf(0.99, RUNS, 0.05), f"{wrong} of {RUNS}"


def test_what_never_moves_says_nothing_and_the_first_event_isnt_enough() -> None:
    still, one = sums([0.0] * BEFORE), sums([0.25])
    assert evidence(still, sums([0.0] * 9)) == 0.0 and evidence(still, Sums()) == 0.0
    assert 0.0 < evidence(still, one, 0.25) < bar()


def test_the_p_value_is_of_all_metrics() -> None:
    assert p_value(-3.0) == 1.0 and p_value(0.0) == 1.0
    assert p_value(bar(0.01)) == pytest.approx(0.01)
