"""Ratings as rewards."""

import math

import pytest

from agents.feedback.agent import PROCESSOR, RATING, SINK
from agents.kit import Driver
from tests.unit.agents.feedback.samples import feedback


@pytest.mark.parametrize(("rating", "worth"), [(1, -1), (2, -0.5), (3, 0), (4.5, 0.75), (5, 1)])
def test_a_rating_is_a_reward_from_minus_1_to_1(rating: float, worth: float) -> None:
    driver = Driver(PROCESSOR)
    driver.send(feedback(rating))
    (one,) = driver.outputs
    assert (one.topic, one.key) == (SINK, "a") and one.record is not None
    assert one.record["r_user"] == worth and one.record["total"] is None
    assert (one.record["source"], one.record["frame_id"]) == ("teach", "0123abcd-0-7")
    assert driver.rows == {}  # nothing needs to be known


@pytest.mark.parametrize("rating", [7, 0.99, -1, math.nan, math.inf])
def test_what_is_no_rating_is_refused_by_name(rating: float) -> None:
    driver = Driver(PROCESSOR)
    driver.send_all([feedback(rating), feedback(4)])
    (letter,) = driver.dead_letters
    assert (letter.reason, letter.detail) == (RATING, f"rating: from 1 to 5, not {float(rating)}")
    assert len(driver.outputs) == 1
