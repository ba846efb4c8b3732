"""bocpd and hmm against plain filters written from the papers (`reference`)."""

import numpy as np
import pytest

from agents.segmentation.bocpd import ALPHA, BETA, KAPPA
from agents.segmentation.hmm import CLIP, FIRST
from agents.segmentation.rule import RUNS, Floats
from agents.segmentation.series import Series
from agents.segmentation.state import S
from tests.unit.agents.segmentation.reference import forward, run_lengths

pytestmark = pytest.mark.kernel


def standardised(series: Series, x: Floats) -> Floats:
    """The points as bocpd counts them, from where it began."""
    floats, unit = series._bank.floats[0], int(series._bank.ints[0, S.unit])
    return np.asarray((np.ldexp(x, -unit) - floats[S.b_mean]) / floats[S.b_scale])


@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_are_those_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=90), 3)
    x[50:] += 3.0
    series = Series({"cpd": "bocpd", "bocpd_hazard": "100"})
    series.extend(x)
    assert len(x) < RUNS
    expected = run_lengths(standardised(series, x), 100.0, KAPPA, ALPHA, BETA)
    got = series._bank.runs[0, 0, : len(expected)]
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert got.sum() == pytest.approx(1.0)


def test_bocpd_declares_when_nine_tenths_say_so() -> None:
    """The first declaration is where the paper's posterior first gives a new run more than 0.9."""
    x = np.round(np.random.default_rng(7).normal(size=80), 3)
    x[40:] += 4.0
    series = Series({"cpd": "bocpd"})
    first = next(one for value in x for one in series.push(float(value)))
    z = standardised(series, x)
    for n in range(11, first.at + 2):
        mass = run_lengths(z[:n], 250.0, KAPPA, ALPHA, BETA)[5 : n - 4]
        assert (mass.sum() > 0.9) == (n == first.at + 1)
    assert first.index == first.at + 1 - (5 + int(mass.argmax()))
    assert first.score == pytest.approx(mass.sum(), rel=1e-9)


def test_the_filter_is_rabiners_forward_variable() -> None:
    rng = np.random.default_rng(3)
    x = np.round(rng.normal(size=120), 3)
    x[60:] *= 4.0
    series = Series({"cpd": "off", "hmm": "on"})
    series.extend(x[: FIRST + 1])
    bank = series._bank
    start, got, likelihoods = bank.floats[0, S.h_p], [], []
    for value in x[FIRST + 1 :]:
        z = np.ldexp(value, -int(bank.ints[0, S.unit]))
        mean = bank.floats[0, [S.h_level, S.h_high]]
        var = bank.floats[0, [S.h_variance, S.h_wide]]
        ratio = -0.5 * np.diff((z - mean) ** 2 / var + np.log(var))[0]
        likelihoods.append([1.0, np.exp(np.clip(ratio, -CLIP, CLIP))])
        series.push(float(value))
        got.append(bank.floats[0, S.h_p])
    expected = forward(np.array(likelihoods), 0.99999, start)
    assert np.array(got) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert got[-1] > 0.99
