"""When a partition stands still, when it is taken anew, and when that wouldn't help."""

from dataclasses import dataclass

import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from agents.engine.host import Part
from agents.engine.progress import FETCH, Progress
from agents.engine.watchdog import Watchdog
from agents.settings import Settings
from tests.contract.harness import PROCESSORS, plan_of

AFTER_S, STEP_S = 10.0, 20.0  # STEP_S: no step with a deadline of its own lasts longer
PLACE = TP("somewhere", 3)
PART = Part(*PLACE, "somebody")


@dataclass
class Standing:
    """A partition, as far as the watchdog sees it."""

    progress: Progress
    done: int = 5
    tp: TP = PLACE
    part: Part = PART
    resting: bool = False


class Watch:
    """A watchdog that is told where the log ends, and what it wants to be taken anew."""

    def __init__(self) -> None:
        settings = Settings(
            kafka_bootstrap="127.0.0.1:1",
            stalled_after_s=AFTER_S,
            commit_timeout_s=STEP_S,
            answer_timeout_s=STEP_S / 2,
        )
        self.renewed: list[bool] = []
        self.one = Standing(Progress(plan_of(PROCESSORS[0]), PLACE.partition))
        self.one.progress.advanced = self.one.progress.moved = 0.0
        self.dog = Watchdog(
            settings, lambda: [self.one], lambda *told: self.renewed.append(told[2])
        )

    def at(self, now: float, end: int) -> float:
        """Look; for how long it has stood still, 0.0 unless that is too long."""
        self.dog.look([self.one], {PLACE: end}, now)
        labels = dict(zip(("processor", "partition"), self.one.progress.labels, strict=True))
        shown = REGISTRY.get_sample_value("soma_partition_stalled_seconds", labels)
        stalled = self.dog.stalled.get(PART, 0.0)
        assert shown is not None and shown >= stalled
        return stalled


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_a_partition_without_work_never_stands_still(watch: Watch) -> None:
    assert [watch.at(now, 5) for now in (1.0, 100.0, 10_000.0)] == [0.0, 0.0, 0.0]
    assert watch.renewed == []


def test_work_is_counted_from_when_it_came_and_from_the_last_commit(watch: Watch) -> None:
    assert watch.at(1000.0, 5) == 0.0
    assert watch.at(1001.0, 6) == 0.0
    assert watch.at(1001.0 + AFTER_S, 6) == AFTER_S
    watch.one.progress.advanced = watch.one.progress.moved = 1020.0
    watch.one.progress.commits += 1
    assert watch.at(1021.0, 9) == 0.0
    assert watch.at(1020.0 + AFTER_S, 9) == AFTER_S
    watch.one.done = 9
    assert watch.at(1021.0 + AFTER_S, 9) == 0.0


def test_it_is_taken_anew_once_in_a_step_and_the_consumer_when_that_did_not_help(
    watch: Watch,
) -> None:
    watch.one.progress.doing = FETCH
    watch.at(0.0, 9)
    watch.at(AFTER_S + 1.0, 9)
    assert watch.renewed == [], "something with a deadline may be under way"
    for now in (STEP_S, STEP_S + 1.0, 2 * STEP_S - 1.0):
        watch.at(now, 9)
    assert watch.renewed == [False]
    watch.at(2 * STEP_S, 9)
    assert watch.renewed == [False, True]
    watch.one.progress.doing = "a commit"
    watch.at(3 * STEP_S, 9)
    assert watch.renewed == [False, True, False], "the consumer isn't what it waits for"


def test_a_long_recovery_is_no_standstill_but_one_after_another_is(watch: Watch) -> None:
    watch.one.done = -1
    for now in (0.0, AFTER_S - 1.0, 2 * AFTER_S - 2.0, 3 * AFTER_S - 3.0):
        watch.one.progress.advanced = watch.one.progress.moved = now
        assert watch.at(now + 1.0, 9) == 0.0
    watch.at(now + STEP_S, 9)
    assert watch.renewed == [False]
    watch.one.progress.advanced = now + STEP_S + 1.0
    assert watch.at(now + STEP_S + 2.0, 9) > STEP_S, "its state was read back, and nothing folded"


def test_a_fold_under_way_is_named_and_left_alone(watch: Watch) -> None:
    watch.one.progress.folding = True
    watch.at(0.0, 9)
    assert watch.at(10 * STEP_S, 9) == 10 * STEP_S
    assert watch.renewed == []


def test_a_partition_that_is_gone_is_not_shown_any_more(watch: Watch) -> None:
    watch.at(0.0, 9)
    watch.at(AFTER_S, 9)
    watch.dog.look([], {}, AFTER_S + 1.0)
    labels = dict(zip(("processor", "partition"), watch.one.progress.labels, strict=True))
    assert REGISTRY.get_sample_value("soma_partition_stalled_seconds", labels) is None
    assert watch.dog.stalled == {}


def test_one_that_waits_for_its_turn_is_not_taken_anew_while_others_get_on(watch: Watch) -> None:
    """A worker reads back a few partitions at a time: the last one's turn may come late."""
    tp = TP("somewhere", 4)
    other = Standing(Progress(plan_of(PROCESSORS[0]), 4), tp=tp, part=Part(*tp, "somebody"))
    watch.one.progress.queued = True
    ends = {PLACE: 9, other.tp: 9}
    for now in (1000.0, 1020.0, 1040.0, 1060.0):
        other.progress.advanced = other.progress.moved = now
        watch.dog.look([watch.one, other], ends, now)
        assert watch.dog.stalled == {}
    watch.dog.look([watch.one, other], ends, 1060.0 + AFTER_S)
    assert watch.dog.stalled == {PART: AFTER_S, other.part: AFTER_S}
    assert watch.renewed == []
    watch.one.progress.advances()
    assert not watch.one.progress.queued
