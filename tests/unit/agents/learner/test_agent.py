"""What the learner says of rewards and lessons, of what it refuses, and while a tenant sleeps."""

import math
from typing import Any

import pytest

from agents.kit import Driver
from agents.kit.asleep import ACTIVE, DEEP, FREEZE, LIGHT, STATES
from agents.learner import law
from agents.learner.agent import PROCESSOR, SOURCE, UPDATES
from tests.unit.agents.learner.samples import PLACE, START, lesson, reward
from topics import codec

SECOND = 1_000_000
BOTH = {"x": 0.1, "y": 2.0}


def driven(**settings: str) -> Driver:
    return Driver(PROCESSOR, settings={"every_s": "0", "anneal": "none"} | settings)


def teach(driver: Driver, *lessons: dict[str, Any]) -> None:
    driver.send_all(lessons, schema="lesson")


def said(driver: Driver) -> list[tuple[str, float | None]]:
    """The changes of settings since the last call."""
    found = [one for one in driver.take() if one.topic == UPDATES and one.record is not None]
    for one in found:
        assert one.record is not None and one.record["author"] == "learner"
        assert one.key == f"{one.record['tenant']}\x1fintegrator.{one.record['setting']}"
    each = [one.record for one in found if one.record is not None]
    return [(one["setting"], float(one["value"]) if one["value"] else None) for one in each]


def sleep(driver: Driver, state: int, tenant: str = "a") -> None:
    record = {"tenant": tenant, "state": STATES[state], "version": 3, "ts": START}
    driver.send_bytes([(tenant.encode(), codec.encode("control_sleep", record | {
        "wake_on_traffic": False,
    }))])  # fmt: skip


def loop(driver: Driver) -> None:
    """Bring what the learner sent to itself back to it, as its topic does."""
    mine = [one.record for one in driver.outputs if one.topic == SOURCE]
    driver.send_all([one for one in mine if one is not None])


def test_a_domain_that_loses_more_gets_a_lower_prior_as_the_law_says() -> None:
    driver = driven()
    teach(driver, *(lesson(k, BOTH, leader="y") for k in range(5)))
    regret = law.loss(2.0, 2.0) - law.loss(0.1, 2.0)
    assert said(driver) == [("prior@y", pytest.approx(1 - regret, rel=1e-5))]
    # The frame before says who was followed: 4 of 5 have one.
    expected = 0.0
    for _ in range(4):
        expected += 0.15 * (regret - expected)
    assert driver.rows["a"]["regret"] == pytest.approx(expected)
    assert not driver.dead_letters


def test_a_reward_moves_the_temperature() -> None:
    driver = driven()
    teach(driver, lesson(1, {"x": 0.1}), lesson(2, {"x": 0.1}))
    driver.send_all([reward(1, total=1.0), reward(2, r_task=2.0, r_user=0.5, r_cost=0.5)])
    expected = [0.2, 0.2 + 0.2 * 0.8]  # a reward counts as 1 at most
    assert driver.rows["a"]["reward"] == pytest.approx(expected[-1])
    taus = [law.temperature(one) for one in expected]
    assert said(driver) == [("learned_temperature", pytest.approx(one, rel=1e-5)) for one in taus]


def test_a_change_of_a_hundredth_isn_t_worth_saying() -> None:
    driver = driven()
    teach(driver, lesson(1, {"x": 0.1, "y": 0.1045}))
    assert said(driver) == [] and driver.rows["a"]["losses"]["y"] > driver.rows["a"]["losses"]["x"]


def test_changes_keep_their_distance() -> None:
    driver = driven(every_s="5")
    teach(driver, lesson(1, BOTH), lesson(2, {"x": 2.0, "y": 0.1}), lesson(3, {"x": 3.0, "y": 0.0}))
    assert [name for name, _ in said(driver)] == ["prior@y"]
    driver.time += 5 * SECOND
    teach(driver, lesson(4, BOTH))
    assert said(driver)


def test_a_reward_waits_for_its_frame_and_meets_it() -> None:
    driver = driven()
    driver.send_all([reward(5, total=1.0), reward(5, total=1.0, source="teach"), reward(9)])
    assert not driver.dead_letters and len(driver.rows["a"]["waiting"]) == 3
    driver.restart()
    teach(driver, lesson(5, {"x": 0.1}))
    loop(driver)
    assert driver.rows["a"]["rewards"] == 2 and len(driver.rows["a"]["waiting"]) == 1
    assert not driver.dead_letters


def test_a_reward_that_waits_in_vain_is_a_dead_letter_of_its_own() -> None:
    driver = driven(wait_s="60")
    driver.send(reward(5, r_task=0.25, components={"style": 1.0}))
    driver.tick(driver.time + 59 * SECOND)
    assert driver.rows["a"]["waiting"]
    driver.tick(driver.time + SECOND)
    driver.send_all([])
    assert not driver.rows["a"]["waiting"]
    loop(driver)
    (letter,) = driver.dead_letters
    assert letter.reason == "not_learning" and "`learning`" in letter.detail
    record = codec.decode(letter.value or b"")[1]
    assert record == reward(5, r_task=0.25, components={"style": 1.0}, waited=True)
    teach(driver, lesson(1, {"x": 0.1}))
    driver.send(reward(5, waited=True))
    assert driver.dead_letters[-1].reason == "no_frame"


def test_only_so_many_wait_and_the_oldest_goes_first() -> None:
    driver = driven()
    driver.send_all([reward(k) for k in range(law.WAITING + 3)])
    assert len(driver.rows["a"]["waiting"]) == law.WAITING
    sent = [one.record["frame_id"] for one in driver.outputs if one.record is not None]
    assert sent == [f"{PLACE}{k}" for k in range(3)]


def test_what_can_t_be_learned_from_is_refused_by_name_and_nothing_stops() -> None:
    driver = driven(window_s="1")
    many = [lesson(k, {"x": 0.1}, ts=START + k * SECOND) for k in range(10, 14)]
    teach(driver, *many[:2], *many[3:])
    driver.send_all([
        reward(13), reward(13), reward(13, source="teach"), reward(13, source="teach"),
        reward(10), reward(12), reward(13, total=math.nan), reward(13, r_cost=math.inf),
        reward(1, frame_id="nonsense"), reward(1, frame_id="a-1-²"), reward(1, frame_id=""),
    ])  # fmt: skip
    assert [one.reason for one in driver.dead_letters] == [
        "rewarded_before", "rewarded_before", "after_window", "after_window", "not_finite",
        "not_finite", "no_frame_id", "no_frame_id", "no_frame_id",
    ]  # fmt: skip
    assert driver.rows["a"]["rewards"] == 2


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_a_rewarder_s_clock_an_hour_off_makes_no_reward_late(off_s: int) -> None:
    """A reward's own time counts nowhere: frames are in the window by theirs."""
    driver = driven(window_s="1")
    teach(driver, lesson(10, {"x": 0.1}))
    driver.send_all([reward(10, ts=START + off_s * SECOND), reward(11, ts=START + off_s * SECOND)])
    assert driver.rows["a"]["rewards"] == 1 and not driver.dead_letters
    assert len(driver.rows["a"]["waiting"]) == 1


def test_a_frame_that_never_was_is_told_from_one_that_is_too_old() -> None:
    driver = driven()
    teach(driver, lesson(10, {"x": 0.1}), lesson(12, {"x": 0.1}))
    driver.send_all([reward(11), reward(9)])
    assert [one.reason for one in driver.dead_letters] == ["no_frame", "after_window"]


@pytest.mark.parametrize("state", [DEEP, FREEZE])
def test_nothing_is_learned_in_deep_sleep(state: int) -> None:
    driver = driven()
    teach(driver, lesson(1, {"x": 0.1}))
    sleep(driver, state)
    driver.restart()
    before = driver.rows["a"]
    teach(driver, *(lesson(k, BOTH, leader="y") for k in range(2, 6)))
    driver.send(reward(3, total=1.0))
    after = driver.rows["a"]
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"frames", "times", "had"} and said(driver) == []
    sleep(driver, ACTIVE)
    driver.send_all([reward(4, total=1.0), reward(3, total=1.0)])
    assert said(driver) == [("learned_temperature", pytest.approx(0.95))]
    assert [one.reason for one in driver.dead_letters] == ["rewarded_before"]


def test_light_sleep_halves_what_is_learned() -> None:
    driver = driven()
    teach(driver, lesson(1, {"x": 0.1}), lesson(1, {"x": 0.1}, "b"))
    sleep(driver, LIGHT)
    driver.send_all([reward(1, total=1.0), reward(1, "b", total=1.0)])
    assert driver.rows["a"]["reward"] == pytest.approx(0.1)
    assert driver.rows["b"]["reward"] == pytest.approx(0.2)


def test_whoever_learns_no_longer_has_it_taken_back() -> None:
    driver = driven()
    teach(driver, lesson(1, BOTH))
    driver.send(reward(1, total=1.0))
    driver.send(reward(7))
    assert [name for name, _ in said(driver)] == ["prior@y", "learned_temperature"]
    teach(driver, lesson(8, {}, ended=True))
    assert said(driver) == [("prior@y", None), ("learned_temperature", None)]
    assert driver.rows == {}
    loop(driver)
    assert [one.reason for one in driver.dead_letters] == ["not_learning"]


def test_a_domain_too_many_goes_and_its_prior_with_it() -> None:
    driver = driven()
    teach(driver, lesson(0, BOTH))
    said(driver)
    names = [f"d{k}" for k in range(law.DOMAINS)]
    teach(driver, lesson(1, dict.fromkeys(names, 0.1)))
    assert said(driver) == [("prior@y", None)]
    assert sorted(driver.rows["a"]["losses"]) == sorted(names)


def test_annealing_lets_the_temperature_fall() -> None:
    driver = driven(anneal="linear", anneal_rate="0.5", tau_min="0.2")
    teach(driver, lesson(1, {"x": 0.1}), lesson(2, {"x": 0.1}))
    driver.send(reward(1, total=0.0))
    assert said(driver) == [("learned_temperature", pytest.approx(0.6))]
    driver.send(reward(2, total=0.0))
    assert said(driver) == [("learned_temperature", pytest.approx(0.2))]
