"""Which frames the learner hears of."""

from agents.kit import Driver
from agents.lessons.agent import LEARNING, PROCESSOR
from tests.unit.agents.lessons.samples import frame


def brought(driver: Driver) -> list[tuple[str, bool]]:
    return [(one.record["tenant"], one.record["ended"]) for one in driver.take() if one.record]


def test_nobody_learns_who_doesn_t_want_to() -> None:
    driver = Driver(PROCESSOR)
    driver.send_all([frame(1), frame(2, "b")])
    assert brought(driver) == [] and driver.rows == {} and not driver.dead_letters


def test_frames_of_those_who_do_are_brought_and_the_end_is_told_once() -> None:
    driver = Driver(PROCESSOR)
    driver.setting(LEARNING, "on", "a")
    driver.send_all([frame(1), frame(2, "b"), frame(3)])
    assert brought(driver) == [("a", False), ("a", False)]
    driver.restart()
    driver.setting(LEARNING, "off", "a")
    driver.send_all([frame(4), frame(5)])
    assert brought(driver) == [("a", True)]
    driver.setting(LEARNING, "on")  # for all, but for a
    driver.send_all([frame(6), frame(7, "b")])
    assert brought(driver) == [("b", False)]


def test_a_lesson_has_what_the_learner_needs_of_the_frame() -> None:
    driver = Driver(PROCESSOR)
    driver.setting(LEARNING, "on")
    driver.send(frame(1, errors={"state": 0.5}))
    (one,) = driver.outputs
    assert one.record == {
        "frame_id": "0123abcd-0-1", "tenant": "a", "leader": "state", "errors": {"state": 0.5},
        "ended": False, "ts": frame(1)["ts"],
    }  # fmt: skip
