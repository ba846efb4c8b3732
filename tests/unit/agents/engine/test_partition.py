"""A partition's life on a log in memory: whatever happens, every record counts exactly once."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine import partition as module
from agents.engine.digest import rows_of
from agents.engine.errors import Fenced
from agents.engine.plan import Plan
from agents.engine.position import Position, read_position
from agents.engine.processor import Processor
from agents.engine.warm import warm
from agents.engine.work import POSITION_KEY
from tests.contract.harness import (
    LOG_MS,
    PROCESSORS,
    SETTINGS,
    Message,
    Run,
    Sent,
    messages,
    plan_of,
    samples,
    setting,
)  # fmt: skip
from tests.unit.agents.engine.memory import AFTER, BEFORE, Log, Owner
from topics import codec

each = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)
LIMIT_S = 45.0
DAY_MS = 86_400_000


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Short pauses, an overlap of folds and commits at loads that tests can make, and kernels
    compiled before the clocks of the tests run."""
    for processor in PROCESSORS:
        plan = plan_of(processor)
        warm(plan, SETTINGS)
        tick = codec.encode("control_tick", {"ts": LOG_MS * 1000})
        part = [*mixed(plan, np.random.default_rng(1), 60), Message(0, None, tick)]
        Run(plan).feed([[Message(i, m.key, m.value) for i, m in enumerate(part)]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "OVERLAP_RECORDS", 20)
        patch.setattr(module, "RETRY_S_MAX", 0.01)
        patch.setattr(module, "TICK_S", 0.02)
        yield


def at_log_time() -> int:
    return LOG_MS


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.001)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 3 * LIMIT_S))


def mixed(plan: Plan, rng: np.random.Generator, n: int) -> list[Message]:
    """Samples, and between them settings, junk and records of others' partitions."""
    part = messages(plan, samples(plan.processor).records(rng, n))
    for at in rng.integers(0, n, n // 20):
        part[at] = Message(0, b"k", b"\0junk")
    for at in rng.integers(0, n, n // 20):
        part[at] = Message(0, None, part[at].value)  # forwarded to where it came from, with its key
    name, value = samples(plan.processor).settings()[0]
    part[n // 2] = setting(0, "*", name, value)
    return part


def straight(log: Log, plan: Plan) -> Run:
    """The whole input in one go, as it now stands in the log."""
    one = Run(plan)
    for batch in log.batches[TP(plan.source, 0)]:
        one.transaction([batch])
    return one


def position(log: Log, plan: Plan) -> Position | None:
    row = log.rows(TP(plan.state, 0)).get(POSITION_KEY)
    return read_position(row, plan.state) if row else None


def caught_up(log: Log, owner: Owner) -> Callable[[], bool]:
    plan = owner.plan

    def there() -> bool:
        assert owner.failed is None, owner.failed
        owner.deliver(3)
        at = position(log, plan)
        if at is None or at.topic_id != log.topic_id:
            return False
        return at.seen >= log.ends[TP(plan.source, 0)]

    return there


def check(log: Log, plan: Plan) -> None:
    """What stands in the log is what one straight run over the input gives, once."""
    one = straight(log, plan)
    for sink in plan.sinks:
        assert log.sent[TP(sink.topic, 0)] == one.of(sink.topic)
    assert log.sent[TP(plan.dlq, 0)] == one.of(plan.dlq)
    rows = log.rows(TP(plan.state, 0))
    del rows[POSITION_KEY]
    assert rows == one.rows() == rows_of(plan, one.fold)
    origins = [dict(m.headers).get("soma-origin") for m in sent_on(log, plan)]
    assert len(set(origins)) == len(origins), "forwarded twice"


def sent_on(log: Log, plan: Plan) -> list[Sent]:
    """Records that were forwarded into the input."""
    return [s for s in log.sent[TP(plan.source, 0)] if s.headers]


@each
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_crashes_takeovers_and_unknown_outcomes_lose_and_double_nothing(
    processor: Processor, seed: int
) -> None:
    small = SETTINGS.model_copy(update={"batch_records_max": 12})  # less than some batches hold
    run(_hard_times(Plan(processor, small, 1), np.random.default_rng(seed)))


async def _hard_times(plan: Plan, rng: np.random.Generator) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    part = mixed(plan, rng, 200)
    owner, zombies = Owner(log, plan), []
    while part:
        what = rng.random()
        if what < 0.5:
            size = int(rng.integers(1, 20))
            log.write(tp, part[:size])
            del part[:size]
        elif what < 0.6:
            log.faults.append(BEFORE if rng.random() < 0.5 else AFTER)
        elif what < 0.65:
            zombies.append(owner)
            owner = Owner(log, plan)
        elif what < 0.7:
            await owner.partition.close(1.0)
            owner = Owner(log, plan)
        elif what < 0.75:
            owner.partition.take_anew("of a test")
        for one in [owner, *zombies]:
            one.deliver(int(rng.integers(1, 4)), late=rng.random() < 0.3)
        await asyncio.sleep(float(rng.choice([0.0, 0.002, 0.01])))
    log.faults.clear()
    while isinstance(owner.partition.stopped, Fenced) or not caught_up(log, owner)():
        if owner.partition.phase == "stopped":  # a zombie took it back: the group assigns it anew
            zombies.append(owner)
            owner = Owner(log, plan)
        await asyncio.sleep(0.001)
    await owner.partition.close(1.0)
    check(log, plan)
    for zombie in zombies:
        await zombie.partition.close(1.0)
        assert zombie.failed is None
    check(log, plan)


@each
def test_a_first_start_notes_its_epoch_and_a_restart_does_not(processor: Processor) -> None:
    run(_epochs(plan_of(processor)))


async def _epochs(plan: Plan) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    part = messages(plan, samples(plan.processor).records(np.random.default_rng(1), 30))
    for lo in range(0, 30, 10):
        log.write(tp, part[lo : lo + 10])
        owner = Owner(log, plan)
        if lo == 20:
            owner.schema_digest = "another"  # as after an upgrade
        await until(caught_up(log, owner), "the input's end")
        await owner.partition.close(1.0)
        assert owner.partition.phase == "closed" and owner.recoveries == 1
    notes = [codec.decode(s.value or b"")[1] for s in log.sent[TP(plan.epochs, 0)]]
    assert [note["number"] for note in notes] == [1, 2]
    assert notes[0]["from_offset"] == 0 and notes[1]["from_offset"] == 20
    assert {note["law"] for note in notes} == {plan.processor.law}
    at = position(log, plan)
    assert at is not None and at.epoch == 2
    check(log, plan)


@each
def test_who_was_fenced_stops_for_good(processor: Processor) -> None:
    run(_fenced(plan_of(processor)))


async def _fenced(plan: Plan) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    first = Owner(log, plan)
    await until(lambda: first.partition.phase == "running", "the first owner runs")
    second = Owner(log, plan)
    await until(lambda: second.partition.phase == "running", "the second owner runs")
    log.write(tp, messages(plan, samples(plan.processor).records(np.random.default_rng(1), 10)))
    first.deliver(9)
    await until(lambda: first.partition.phase == "stopped", "the first owner is fenced")
    assert first.partition.stopped is not None and first.partition.stopped.name == "fenced"
    assert log.transactions == 0
    await until(caught_up(log, second), "the input's end")
    assert first.recoveries == 1 and second.partition.phase == "running"
    await second.partition.close(1.0)
    await first.partition.close(1.0)
    check(log, plan)


@each
def test_many_small_batches_are_one_transaction(processor: Processor) -> None:
    run(_grouped(plan_of(processor)))


async def _grouped(plan: Plan) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    owner = Owner(log, plan)
    await until(lambda: owner.partition.phase == "running", "it runs")
    part = messages(plan, samples(plan.processor).records(np.random.default_rng(1), 200))
    for message in part:
        log.write(tp, [message])
    owner.deliver(1000)
    await until(caught_up(log, owner), "the input's end")
    await owner.partition.close(1.0)
    assert log.transactions <= 3
    check(log, plan)


@each
def test_markers_alone_move_what_was_seen_and_end_there(processor: Processor) -> None:
    run(_markers(plan_of(processor)))


async def _markers(plan: Plan) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    owner = Owner(log, plan)
    log.write(tp, messages(plan, samples(plan.processor).records(np.random.default_rng(1), 5)))
    log.ends[tp] += 7  # markers of others' transactions
    await until(caught_up(log, owner), "the input's end")
    done = log.transactions
    for _ in range(20):
        owner.deliver(3)
        await asyncio.sleep(0.005)
    assert log.transactions == done, "a position that is known is not written again"
    assert position(log, plan) == Position(5, 12, log.topic_id, 1)
    await owner.partition.close(1.0)


@each
def test_time_itself_makes_a_state_forget(processor: Processor) -> None:
    run(_forgetting(plan_of(processor)))


async def _forgetting(plan: Plan) -> None:
    clock = [int(time.time() * 1000) - 40 * DAY_MS]
    log, tp = Log(lambda: clock[0]), TP(plan.source, 0)
    owner = Owner(log, plan)
    log.write(tp, messages(plan, samples(plan.processor).records(np.random.default_rng(1), 20)))
    clock[0] += 40 * DAY_MS
    await until(caught_up(log, owner), "the input's end")

    def forgotten() -> bool:
        caught_up(log, owner)()
        return set(log.rows(TP(plan.state, 0))) == {POSITION_KEY}

    await until(forgotten, "all rows are gone")
    ticks = len(log.sent[tp])
    assert ticks >= 1 and codec.decode(log.sent[tp][0].value or b"")[0] == "control_tick"
    for _ in range(20):
        owner.deliver(3)
        await asyncio.sleep(0.005)
    assert len(log.sent[tp]) <= ticks + 1, "no tick without a deadline"
    await owner.partition.close(1.0)
    check(log, plan)


@each
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda log, plan: log.sent[TP(plan.state, 0)].clear(), "state_lost"),
        (lambda log, plan: setattr(log, "low", 500), "records_gone"),
        (lambda log, plan: log.ends.__setitem__(TP(plan.source, 0), 3), "records_gone"),
    ],
    ids=["rows lost", "records deleted", "log cut"],
)
def test_what_must_not_be_papered_over_stops_the_partition(
    processor: Processor, change: Callable[[Log, Plan], None], error: str
) -> None:
    run(_named(plan_of(processor), change, error))


async def _named(plan: Plan, change: Callable[[Log, Plan], None], error: str) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    log.write(tp, messages(plan, samples(plan.processor).records(np.random.default_rng(1), 10)))
    owner = Owner(log, plan)
    await until(caught_up(log, owner), "the input's end")
    await owner.partition.close(1.0)
    change(log, plan)
    done = log.transactions
    again = Owner(log, plan)
    await until(lambda: again.partition.phase == "stopped", "it stops")
    assert again.partition.stopped is not None and again.partition.stopped.name == error
    assert log.transactions == done
    await again.partition.close(1.0)


@each
def test_a_recreated_topic_is_read_from_its_start(processor: Processor) -> None:
    run(_recreated(plan_of(processor)))


async def _recreated(plan: Plan) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    part = messages(plan, samples(plan.processor).records(np.random.default_rng(1), 20))
    log.write(tp, part[:10])
    owner = Owner(log, plan)
    await until(caught_up(log, owner), "the input's end")
    outputs = len(log.sent[TP(plan.sinks[0].topic, 0)])
    log.topic_id = "feedbeef" * 4
    log.batches[tp].clear()
    log.ends[tp] = 0
    owner.partition.take_anew("its topic was recreated")
    await until(lambda: owner.recoveries == 2, "it is taken anew")
    log.write(tp, part[10:])
    await until(caught_up(log, owner), "the new input's end")
    assert len(log.sent[TP(plan.sinks[0].topic, 0)]) > outputs
    at = position(log, plan)
    assert at is not None and (at.next_offset, at.topic_id) == (10, log.topic_id)
    await owner.partition.close(1.0)


@each
def test_a_defect_is_reported_and_nothing_is_committed(processor: Processor) -> None:
    run(_defect(plan_of(processor)))


async def _defect(plan: Plan) -> None:
    log, tp = Log(at_log_time), TP(plan.source, 0)
    owner = Owner(log, plan)
    await until(lambda: owner.partition.phase == "running", "it runs")
    owner.space.outputs = ()  # a broken promise inside
    log.write(tp, messages(plan, samples(plan.processor).records(np.random.default_rng(1), 5)))
    owner.deliver(1)
    await until(lambda: owner.failed, "the defect is reported")
    assert log.transactions == 0
    await owner.partition.close(1.0)
    assert owner.partition._task.exception() is owner.failed
