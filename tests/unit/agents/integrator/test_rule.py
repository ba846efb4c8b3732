"""The law's formulas: against SciPy, against their bounds, and at the edges of the numbers.

These tests also run with NUMBA_DISABLE_JIT=1 (see test_plain_python): the formulas as plain Python.
"""

import math
import os
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from agents.integrator import order, rule
from tests.unit.agents.integrator import reference
from topics.compiled import entry

Floats = NDArray[np.float64]
settings.register_profile("law", max_examples=40, deadline=None)
settings.load_profile("law")

unit = st.floats(0, 1)
sizes = st.integers(1, 16)
rates = st.floats(1e-9, 1e9)


def vectors(of: st.SearchStrategy[float], least: int = 1) -> st.SearchStrategy[Floats]:
    return st.lists(of, min_size=least, max_size=16).map(np.array)


def weights(least: int = 1) -> st.SearchStrategy[Floats]:
    some = vectors(st.floats(1e-12, 1), least)
    return some.map(lambda x: x / x.sum())


def is_distribution(p: Floats) -> bool:
    return bool((p >= 0).all() and abs(p.sum() - 1) < 1e-12)


@given(error=st.floats(0, 1e300), alpha=st.floats(0, 1e6))
def test_a_loss_lies_in_0_1_and_grows_with_the_error(error: float, alpha: float) -> None:
    assert 0 <= rule.loss(error, alpha) <= 1
    assert rule.loss(error, alpha) <= rule.loss(2 * error, alpha)
    assert rule.loss(error, 2.0) == pytest.approx(1 - math.exp(-2 * error), abs=1e-15)


def test_without_a_gap_the_rate_is_infinite() -> None:
    assert rule.eta(0.0, 3) == math.inf
    assert rule.eta(1e-320, 3) == math.inf
    assert rule.eta(2.0, 3) == pytest.approx(math.log(3) / 2)


@given(data=st.data(), rate=rates)
def test_the_gap_is_what_logsumexp_says(data: st.DataObject, rate: float) -> None:
    w = data.draw(weights())
    x = np.array(data.draw(st.lists(unit, min_size=len(w), max_size=len(w))))
    m = -logsumexp(-rate * x, b=w) / rate
    tolerance = 1e-14 + 4e-15 / min(rate, 1)  # what the oracle itself loses
    assert rule.mix_gap(w, x, rate) == pytest.approx(max(0.0, w @ x - m), abs=tolerance, rel=1e-9)
    assert 0 <= rule.mix_gap(w, x, rate) <= 1 + 1e-12


@given(data=st.data(), rate=st.floats(1e-12, 1e-6))
def test_a_small_rate_leaves_the_gap_its_digits(data: st.DataObject, rate: float) -> None:
    """For η → 0 the gap is η·Var/2: a plain logarithm would have lost it.

    What is mixed lies near 1, whose last bit is 2.2e-16.
    """
    w = data.draw(weights(2))
    x = np.array(data.draw(st.lists(unit, min_size=len(w), max_size=len(w))))
    variance = float(w @ (x - w @ x) ** 2)
    assert rule.mix_gap(w, x, rate) == pytest.approx(rate * variance / 2, rel=1e-5, abs=4.4e-16)


@given(data=st.data())
def test_an_infinite_rate_is_the_limit_of_large_ones(data: st.DataObject) -> None:
    w = data.draw(weights())
    levels = st.integers(0, 10).map(lambda k: k / 10)
    x = np.array(data.draw(st.lists(levels, min_size=len(w), max_size=len(w))))
    assert rule.mix_gap(w, x, math.inf) == pytest.approx(w @ (x - x.min()), abs=1e-15)
    assert rule.mix_gap(w, x, 1e12) == pytest.approx(rule.mix_gap(w, x, math.inf), abs=1e-9)


def test_a_gap_with_nearly_all_weight_on_the_loser_is_finite() -> None:
    w = np.array([1.0, 1e-300, 0.0])
    gap = rule.mix_gap(w, np.array([1.0, 0.0, 0.0]), 1e3)
    assert gap == pytest.approx(1 + math.log(1e-300) / 1e3, rel=1e-9)


@given(excess=vectors(st.floats(0, 1e9)), rate=rates)
def test_hedge_weights_are_a_softmax(excess: Floats, rate: float) -> None:
    w = np.zeros(len(excess))
    rule.hedge(excess, rate, w)
    assert is_distribution(w)
    np.testing.assert_allclose(w, softmax(-rate * (excess - excess.min())), rtol=1e-6, atol=1e-15)
    rule.hedge(excess, math.inf, w)
    np.testing.assert_array_equal(w, reference.limit(-excess))


@given(data=st.data(), rate=rates)
def test_hedge_gap_counts_weights_too_small_for_a_float(data: st.DataObject, rate: float) -> None:
    excess = data.draw(vectors(st.floats(0, 2), 2))
    x = np.array(data.draw(st.lists(unit, min_size=len(excess), max_size=len(excess))))
    w = np.zeros(len(excess))
    rule.hedge(excess, rate, w)
    m = -(logsumexp(-rate * (excess + x)) - logsumexp(-rate * excess)) / rate
    tolerance = 1e-14 + 1e-14 / min(rate, 1)
    assert rule.hedge_gap(excess, x, w, rate) == pytest.approx(
        max(0.0, w @ x - m), abs=tolerance, rel=1e-9
    )
    rule.hedge(excess, math.inf, w)
    least = (excess + x).min() - excess.min()
    assert rule.hedge_gap(excess, x, w, math.inf) == pytest.approx(w @ x - least, abs=1e-12)


def play(mode: str, losses: Floats, share: float = 0.001) -> tuple[float, Floats]:
    """(Σ w·ℓ, the last weights) over rounds of losses [T, N]."""
    n = losses.shape[1]
    w, excess, delta, total = np.full(n, 1 / n), np.zeros(n), 0.0, 0.0
    for row in losses:
        total += w @ row
        if mode == "hedge":
            delta = rule.hedge_round(excess, row, w, delta)
        else:
            delta = rule.share_round(w, row, share, delta)
        assert is_distribution(w) and delta >= 0
    return total, w


def streams(kind: str, rng: np.random.Generator, rounds: int, n: int) -> Floats:
    """Losses [rounds, n] of one kind."""
    if kind == "random":
        return rng.random((rounds, n))
    if kind == "binary":
        return rng.integers(0, 2, (rounds, n)).astype(np.float64)
    if kind == "one best":
        return np.clip(rng.normal(0.5, 0.2, (rounds, n)) - 0.2 * (np.arange(n) == n - 1), 0, 1)
    if kind == "alternating":
        return np.eye(n)[np.arange(rounds) % n]
    if kind == "equal":
        return np.repeat(rng.random((rounds, 1)), n, axis=1)
    if kind == "tiny":
        return rng.random((rounds, n)) * 1e-12
    return np.eye(n)[(np.arange(rounds) * n // rounds)]  # switching


KINDS = ("random", "binary", "one best", "alternating", "equal", "tiny", "switching")


@pytest.mark.parametrize("kind", KINDS)
@given(n=sizes, rounds=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=12)
def test_hedge_keeps_its_bound(kind: str, n: int, rounds: int, seed: int) -> None:
    losses = streams(kind, np.random.default_rng(seed), rounds, n)
    total, _ = play("hedge", losses)
    assert total <= losses.sum(axis=0).min() + rule.regret_bound(rounds, n) + 1e-9


@pytest.mark.parametrize("mode", ["leader", "weights"])
@given(n=st.integers(2, 8), rounds=st.integers(1, 300))
@settings(max_examples=10)
def test_hedge_keeps_its_bound_against_an_adversary(mode: str, n: int, rounds: int) -> None:
    """Who knows the weights beforehand and hits where most lies, or in proportion."""
    w, excess, sums, delta, total = np.full(n, 1 / n), np.zeros(n), np.zeros(n), 0.0, 0.0
    for _ in range(rounds):
        hit = np.zeros(n)
        if mode == "leader":
            hit[np.argmax(w)] = 1.0
        else:
            hit = w / w.max()
        total += w @ hit
        sums += hit
        delta = rule.hedge_round(excess, hit, w, delta)
    assert total <= sums.min() + rule.regret_bound(rounds, n) + 1e-9


def test_hedge_forgets_nothing_over_large_differences() -> None:
    """A domain 10,000 behind has weight 0, not NaN; it comes back when the others lose."""
    w, excess = np.zeros(2), np.array([0.0, 1e4])
    delta = rule.hedge_round(excess, np.array([1.0, 0.0]), w, 5.0)
    assert w.tolist() == [1.0, 0.0] and delta == 5.0
    rule.hedge_round(excess, np.array([1.0, 0.0]), w, 0.0)
    assert w.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
@given(n=sizes, seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
@settings(max_examples=12)
def test_fixed_share_leaves_everyone_a_share(kind: str, n: int, seed: int, share: float) -> None:
    losses = streams(kind, np.random.default_rng(seed), 120, n)
    _, w = play("share", losses, share)
    assert (w >= share / n * (1 - 1e-12)).all()


def test_fixed_share_follows_switches_and_an_endless_stream() -> None:
    """A switch every 500 rounds: the last tenth is as good as the first.

    `soma bench fusion` plays a million rounds.
    """
    rounds, n = 20_000, 3
    best = (np.arange(rounds) // 500) % n
    spread = np.where(np.arange(n) == best[:, None], 0.5, 1.0)
    errors = np.abs(np.random.default_rng(5).normal(0, spread))
    losses = 1 - np.exp(-2 * errors)
    w, delta, over = np.full(n, 1 / n), 0.0, np.zeros(rounds)
    for t, row in enumerate(losses):
        over[t] = w @ row - row[best[t]]
        delta = rule.share_round(w, row, 0.001, delta)
    tenth = rounds // 10
    assert over[-tenth:].mean() < 1.2 * over[:tenth].mean() + 1e-3


@given(losses=vectors(unit), temperature=st.floats(0.05, 20))
def test_softmax_and_temperature_give_the_seed_law(losses: Floats, temperature: float) -> None:
    w, p = np.zeros((2, len(losses)))
    rule.softmax_round(losses, w)
    rule.temper(w, temperature, p)
    np.testing.assert_allclose(p, softmax((1 - losses) / temperature), rtol=1e-9, atol=1e-300)


@given(w=weights(), temperature=st.floats(1e-6, 1e6))
def test_temperature_keeps_order_and_sum(w: Floats, temperature: float) -> None:
    p = np.zeros(len(w))
    rule.temper(w, temperature, p)
    assert is_distribution(p)
    assert (np.diff(p[np.argsort(w, kind="stable")]) >= -1e-15).all()
    rule.temper(w, 1.0, p)
    assert p.tolist() == w.tolist()


def test_temperature_leaves_nothing_where_there_was_nothing() -> None:
    p = np.zeros(3)
    rule.temper(np.array([0.0, 1.0, 0.0]), 3.0, p)
    assert p.tolist() == [0.0, 1.0, 0.0]


@given(p=weights())
def test_entropy_is_a_part_of_its_most(p: Floats) -> None:
    assert 0 <= rule.entropy(p) <= 1
    assert rule.entropy(p) == pytest.approx(reference.entropy(p), abs=1e-12)
    n = len(p)
    assert rule.entropy(np.full(n, 1 / n)) == pytest.approx(float(n > 1))


@given(p=weights(2), cap=unit)
def test_the_entropy_cap_is_kept_and_reached(p: Floats, cap: float) -> None:
    before, spare = p.copy(), np.zeros(len(p))
    first = int(np.argmax(p))
    h = rule.cap_entropy(p, cap, first, spare)
    assert is_distribution(p)
    assert h == pytest.approx(rule.entropy(p), abs=1e-15)
    if rule.entropy(before) <= cap:
        assert p.tolist() == before.tolist()
    else:
        assert cap - 1e-9 <= h <= cap
        assert p[first] == p.max()
        if before[first] > np.delete(before, first).max():
            assert (np.diff(p[np.argsort(before, kind="stable")]) >= -1e-12).all()


@given(p=weights(2), cap=st.floats(0.01, 0.99))
def test_the_cap_is_a_lower_temperature(p: Floats, cap: float) -> None:
    assume(np.sort(p)[-1] > 1.001 * np.sort(p)[-2])
    expected = reference.capped(p, cap)
    rule.cap_entropy(p, cap, int(np.argmax(p)), np.zeros(len(p)))
    assert abs(reference.entropy(p) - reference.entropy(expected)) < 2e-9
    np.testing.assert_allclose(p, expected, atol=1e-4)


@given(n=st.integers(2, 16), cap=unit, first=st.integers(0, 15))
def test_equals_are_capped_in_favour_of_the_first(n: int, cap: float, first: int) -> None:
    assume(first < n)
    p = np.full(n, 1 / n)
    h = rule.cap_entropy(p, cap, first, np.zeros(n))
    assert is_distribution(p) and h <= cap
    assert h >= cap - 1e-9
    if cap < 0.999:
        assert np.argmax(p) == first
        assert len({x for k, x in enumerate(p) if k != first}) == 1


@given(p=weights(), data=st.data(), margin=unit, dwelt=st.booleans())
def test_a_leader_is_only_left_for_a_clearly_better_one(
    p: Floats, data: st.DataObject, margin: float, dwelt: bool
) -> None:
    n = len(p)
    rank = np.array(data.draw(st.permutations(range(n))))
    leader = data.draw(st.integers(-1, n - 1))
    chosen = rule.elect(p, rank, leader, margin, dwelt)
    best = rule.top(p, rank)
    assert p[best] == p.max()
    assert all(rank[best] <= rank[k] for k in range(n) if p[k] == p.max())
    if leader < 0:
        assert chosen == best
    elif chosen != leader:
        assert dwelt and p[chosen] - p[leader] > margin


def name(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytearray(text.encode()), np.uint8)


names = st.one_of(
    st.sampled_from(["state", "agent", "action", "stat", "states", "a", "b"]),
    st.text("ab._-Z", min_size=1, max_size=6),
)


@given(a=names, b=names)
def test_ties_go_to_state_agent_action_then_by_bytes(a: str, b: str) -> None:
    senior = ["state", "agent", "action"]

    def key(x: str) -> tuple[int, bytes]:
        return (senior.index(x) if x in senior else 3, x.encode())

    assert order.precedes(name(a), name(b)) == (key(a) < key(b))


@given(
    data=st.data(),
    n=st.integers(1, 8),
    share=st.floats(0, 1),
)
def test_who_enters_is_neither_favoured_nor_ruined(
    data: st.DataObject, n: int, share: float
) -> None:
    new = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    published = np.where(new, -1.0, 0.5)
    w = np.where(new, 0.0, np.array(data.draw(st.lists(unit, min_size=n, max_size=n))) + 0.01)
    before = w.copy()
    rule.enter_share(w, published, share)
    assert is_distribution(w)
    if not new.all():
        np.testing.assert_allclose(w[new], share / n)
        np.testing.assert_allclose(w[~new] / w[~new].sum(), before[~new] / before[~new].sum())
    excess = np.where(new, 7.0, np.array(data.draw(st.lists(unit, min_size=n, max_size=n))))
    kept = excess[~new]
    rule.enter_hedge(excess, published)
    assert (excess[new] == (kept.min() if len(kept) else 0.0)).all()


@entry
def allocating(n: int) -> Floats:
    return np.zeros(n)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="numba's compiler is off")
def test_kernels_borrow_their_arrays_and_allocate_none() -> None:
    """What `_nrt`, a private option of numba, does: it goes, or changes, loudly here."""
    w, excess = np.full(3, 1 / 3), np.zeros(3)
    before = sys.getrefcount(w)
    for _ in range(100):
        rule.hedge_round(excess, w, w, 1.0)
    assert sys.getrefcount(w) == before
    with pytest.raises(Exception, match="zeros"):
        allocating(3)
