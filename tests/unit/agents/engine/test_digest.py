"""Digests of states: equal for equal rows, different for any other byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.digest import digest, rows_of
from agents.engine.processor import Processor
from tests.contract.harness import (
    FORGETFUL,
    PROCESSORS,
    Message,
    Run,
    loaded,
    messages,
    plan_of,
    samples,
    setting,
)  # fmt: skip
from topics import codec

REFUSES = ("replay", "sleep", "control", "canary", "lessons", "memory", *FORGETFUL)  # no trace
each = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)


def part(processor: Processor, n: int = 60) -> list[Message]:
    return messages(plan_of(processor), samples(processor).records(np.random.default_rng(1), n))


@each
def test_an_empty_state_has_the_digest_of_nothing(processor: Processor) -> None:
    plan = plan_of(processor)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of b""
    assert digest(plan, Run(plan).fold) == empty and rows_of(plan, Run(plan).fold) == {}


@each
@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_the_way_there_does_not_show(processor: Processor, seed: int) -> None:
    plan = plan_of(processor)
    run = Run(plan).feed([part(processor)])
    again = loaded(plan, run.rows(), np.random.default_rng(seed))
    assert digest(plan, again.fold) == digest(plan, run.fold)
    assert len(digest(plan, run.fold)) == 64


@each
def test_one_record_more_shows(processor: Processor) -> None:
    plan = plan_of(processor)
    run = Run(plan)
    seen, states = {digest(plan, run.fold)}, [run.rows()]
    for i, message in enumerate(part(processor, 20)):
        run.feed([[message]])
        seen.add(digest(plan, run.fold))
        states += [rows for rows in (run.rows(),) if rows not in states]
        assert len(seen) == len(states)
        assert len(states) == i + 2 or processor.name in REFUSES
    assert len(states) > 2 or processor.name in FORGETFUL


@each
def test_a_setting_shows_until_it_is_taken_back_only_in_its_own_row(processor: Processor) -> None:
    plan = plan_of(processor)
    name, value = samples(processor).settings()[0]
    run = Run(plan).feed([part(processor)])
    before = rows_of(plan, run.fold)
    run.feed([[setting(60, "tenant-0", name, value)]])
    after = rows_of(plan, run.fold)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert len(changed) == 1 and changed.pop().split(b"\x1f")[0] == b"tenant-0"


@each
def test_rows_are_what_the_state_topic_holds(processor: Processor) -> None:
    plan = plan_of(processor)
    run = Run(plan).feed([part(processor)])
    rows = rows_of(plan, run.fold)
    assert rows == run.rows()
    for value in rows.values():
        name, _ = codec.decode(value)
        assert name == processor.state_schema
