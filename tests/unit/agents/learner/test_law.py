"""The law of learning: what holds whatever comes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kit.asleep import STATES
from agents.learner import law
from agents.learner.law import Learning

rewards = st.floats(-5, 5)
errors = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e9), min_size=1)
anneals = st.sampled_from(law.ANNEALS)
parts = st.floats(0, 1)
SECOND = 1_000_000


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_temperature_is_bounded_and_falls_with_the_reward(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert 0.1 <= law.temperature(high) <= law.temperature(low) <= 1.0


def test_temperature_has_the_numbers_of_the_law() -> None:
    table = {-1: 1.0, 0: 1.0, 0.1: 1.0, 0.5: 0.8, 1: 0.55, 1.5: 0.3, 1.9: 0.1, 5: 0.1}
    assert {e: pytest.approx(law.temperature(e)) for e in table} == table


@given(st.floats(0.1, 1), st.integers(0, 10**6), anneals, st.floats(0, 1), st.floats(1e-3, 1))
def test_annealing_never_raises_and_ends_at_the_least(
    tau: float, n: int, how: str, rate: float, least: float
) -> None:
    now, later = (law.annealed(tau, k, how, rate, least) for k in (n, n + 1))
    assert min(tau, least) - 1e-12 <= later <= now + 1e-12 <= tau + 2e-12
    assert law.annealed(tau, 0, how, rate, least) == pytest.approx(tau)
    if how != law.NONE and rate > 0.01 and least < tau:
        assert law.annealed(tau, 10**5, how, rate, least) == pytest.approx(least)


@given(st.lists(st.tuples(errors, st.sampled_from("abcdef")), min_size=1, max_size=30), parts)
def test_regret_and_priors_are_bounded_and_somebody_has_none(
    frames: list[tuple[dict[str, float], str]], part: float
) -> None:
    row = Learning()
    for each, leader in frames:
        law.observe(row, leader, each, part, 2.0)
        found = law.priors(row.losses, list(row.losses))
        assert all(0.1 <= one <= 1.0 for one in found.values()) and max(found.values()) == 1.0
        assert all(0.0 <= one <= 1.0 for one in row.losses.values())
        assert -1.0 <= row.regret <= 1.0
        assert len(row.losses) <= law.DOMAINS and row.leader == leader


@given(st.lists(rewards, max_size=50))
def test_the_mean_reward_is_the_exponential_mean(given_: list[float]) -> None:
    row = Learning()
    for one in given_:
        law.reward(row, one, 1.0)
    n, clipped = len(given_), np.clip(given_, -1, 1)
    expected = float((0.2 * 0.8 ** np.arange(n - 1, -1, -1) * clipped).sum()) if n else 0.0
    assert row.reward == pytest.approx(expected, abs=1e-12) and row.rewards == n


@given(st.lists(st.tuples(errors, rewards), max_size=20))
def test_nothing_moves_where_no_part_of_the_rates_is_left(
    steps: list[tuple[dict[str, float], float]],
) -> None:
    row = Learning(losses=dict.fromkeys("abcdef", 0.5), reward=0.25, regret=0.125)
    for each, value in steps:
        law.observe(row, "", each, 0.0, 2.0)
        law.reward(row, value, 0.0)
    assert (row.reward, row.regret, row.rewards) == (0.25, 0.125, 0)
    assert set(row.losses.values()) == {0.5}


def test_less_is_learned_the_deeper_a_tenant_sleeps() -> None:
    assert [law.awake(state) for state in range(len(STATES))] == [1.0, 0.5, 0.0, 0.0]


def test_a_better_domain_has_the_higher_prior_and_the_better_leader_less_regret() -> None:
    good, bad = Learning(), Learning()
    for _ in range(50):
        law.observe(good, "a", {"a": 0.1, "b": 1.0}, 1.0, 2.0)
        law.observe(bad, "b", {"a": 0.1, "b": 1.0}, 1.0, 2.0)
    assert good.regret == pytest.approx(0.0) and bad.regret > 0.5
    found = law.priors(bad.losses, ["a", "b"])
    assert found["a"] == 1.0 and found["b"] == pytest.approx(1 - (math.exp(-0.2) - math.exp(-2.0)))


@given(st.floats(-9, 9), st.floats(-9, 9))
def test_what_is_worth_saying_is_more_than_a_hundredth(said: float, value: float) -> None:
    assert law.worth_saying(said, value) == (abs(value - said) > 0.01 * abs(said))
    assert not law.worth_saying(said, said)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-30, 60)), min_size=1, max_size=400))
def test_the_window_has_the_newest_frames_in_their_order_and_no_more(
    steps: list[tuple[int, int]],
) -> None:
    row, number, clock = Learning(), 0, 0
    for step, more in steps:
        number, clock = number + step, clock + more
        law.note(row, f"0123abcd-0-{number}", clock * SECOND, 60 * SECOND)
        assert 1 <= len(row.frames) == len(row.times) == len(row.had) <= law.FRAMES
        assert row.frames == sorted(row.frames) and row.frames[-1] == number
        assert row.times[0] >= max(row.times) - 60 * SECOND or len(row.frames) == 1


def test_a_topic_made_anew_begins_a_new_window() -> None:
    row = Learning()
    law.note(row, "0123abcd-0-7", SECOND, SECOND)
    law.note(row, "99999999-0-3", SECOND, SECOND)
    assert (row.place, row.frames) == ("99999999-0-", [3])


@given(st.lists(st.tuples(st.sampled_from(["w", "t", "f"]), st.integers(0, 40)), max_size=60))
def test_every_reward_that_waits_is_sent_on_once(steps: list[tuple[str, int]]) -> None:
    row, sent, given_ = Learning(), [], 0
    for k, (what, at) in enumerate(steps):
        if what == "w":
            sent += law.wait(row, f'{{"frame_id": "f{at}", "k": {k}}}', at)
            given_ += 1
        else:
            sent += law.take_over(row, at) if what == "t" else law.take_waiting(row, f"f{at}")
        assert len(row.waiting) == len(row.until) <= law.WAITING
        assert row.due == min(row.until, default=None)
    assert sorted(sent + row.waiting) == sorted(set(sent + row.waiting))
    assert len(sent) + len(row.waiting) == given_


@pytest.mark.parametrize("bad", ["", "7", "-7", "a-", "a-1-x", "a-1-²", f"a-1-{10**30}", "a-1-+7"])
def test_what_is_no_id_of_a_frame_has_no_number(bad: str) -> None:
    assert law.number_of(bad) == ("", -1)
