"""A fold anew gives the state that the live one has, however it is cut; one tenant's alone too."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.batches import RawBatch
from agents.engine.plan import defaults_of
from agents.engine.processor import Processor
from agents.engine.transport import Fetched
from agents.history.epochs import Epoch, Stretch
from agents.history.errors import HistoryError
from agents.history.refold import Refolding, fold_of
from agents.history.rows import Digest, Rows, differing, only
from tests.contract.harness import (
    KEEPING,
    LOG_MS,
    PROCESSORS,
    SETTINGS,
    Message,
    Run,
    batch_of,
    messages,
    plan_of,
    samples,
    setting,
)
from topics import codec

N = 240
CHANGED = 150  # where the second epoch begins
OTHER = {"integrator": ("alpha", "0.7"), "predictors": ("alpha", "0.7")}
each = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)
keeping = pytest.mark.parametrize("processor", KEEPING, ids=lambda p: p.name)


def log(processor: Processor) -> list[Message]:
    """Records of several tenants, with settings, ticks and junk among them."""
    module = samples(processor)
    found = messages(plan_of(processor), module.records(np.random.default_rng(5), N))
    name, value = module.settings()[0]
    tick = codec.encode("control_tick", {"ts": LOG_MS * 1000 + 1})
    found[20] = setting(20, "tenant-0", name, value)
    found[60] = setting(60, "*", name, value)
    found[90] = Message(90, None, tick)
    found[120] = Message(120, b"tenant-1", b"no record")
    found[121] = Message(121, b"tenant-0", None)
    return found


def epochs(processor: Processor) -> list[Epoch]:
    """The deployment's values, and from CHANGED on other ones."""
    before = defaults_of(processor, SETTINGS)
    usual = [one for one in samples(processor).settings() if one[1] and "@" not in one[0]][-1]
    name, value = OTHER.get(processor.name, usual)
    after = before | {name: value}
    return [{"number": k + 1, "settings": one} for k, one in enumerate((before, after))]


def cut(log: Sequence[Message], places: Sequence[int]) -> list[RawBatch]:
    ends = [0, *sorted(set(places)), len(log)]
    parts = [log[a:b] for a, b in pairwise(ends) if a < b]
    return [batch_of(part) for part in parts]


def live(processor: Processor, log: Sequence[Message]) -> Rows:
    """The state as workers have it: record by record, one restarted under other values."""
    plan = plan_of(processor)
    first, second = epochs(processor)
    run = Run(plan, fold_of(plan, Run(plan).place, first["settings"], {}))
    run.feed([[one] for one in log[:CHANGED]])
    run.restart(fold_of(plan, run.place, second["settings"], run.rows()))
    return run.feed([[one] for one in log[CHANGED:]]).rows()


def anew(
    processor: Processor, batches: list[RawBatch], at_a_time: int = 3, tenant: str = ""
) -> Refolding:
    plan = plan_of(processor)
    first, second = epochs(processor)
    fold = Refolding(plan, Run(plan).place, {}, tenant, lambda: None)
    fold.at = 0
    fold.enter(first, {})

    def fetches() -> Iterator[Fetched]:
        for k in range(0, len(batches), at_a_time):
            part = batches[k : k + at_a_time]
            yield Fetched(0, part, part[-1].next_offset, N)

    fold.go_through([Stretch(first, 0, CHANGED), Stretch(second, CHANGED, N)], fetches())
    return fold


@each
@given(places=st.lists(st.integers(1, N - 1), max_size=12), at_a_time=st.integers(1, 5))
@settings(max_examples=8)
def test_folded_anew_in_other_cuts_the_rows_are_the_live_ones(
    processor: Processor, places: list[int], at_a_time: int
) -> None:
    found = log(processor)
    fold = anew(processor, cut(found, places), at_a_time)
    assert differing(live(processor, found), fold.rows()) == []
    assert (fold.at, fold.records) == (N, N)


@pytest.mark.parametrize("most", [1, 7, 100])
def test_no_more_is_folded_at_a_time_than_may_be_read(most: int) -> None:
    processor = PROCESSORS[0]
    found, seen = log(processor), [0]
    fold = Refolding(
        plan_of(processor), Run(plan_of(processor)).place, {}, "", lambda: seen.append(fold.records)
    )
    (first, second), fold.at, fold.most = epochs(processor), 0, most
    fold.enter(first, {})
    stretches = [Stretch(first, 0, CHANGED), Stretch(second, CHANGED, N)]
    fold.go_through(stretches, iter([Fetched(0, cut(found, [50, 51, 90]), N, N)]))
    assert max(b - a for a, b in pairwise(seen)) <= most and seen[-1] == N
    assert differing(live(processor, found), fold.rows()) == []


def test_a_comparison_that_nobody_wants_ends() -> None:
    def told() -> None:
        raise InterruptedError

    rows = {b"%d" % k: b"" for k in range(3)}
    for compare in (lambda: Digest(rows, told), lambda: differing(rows, {}, told=told)):
        with pytest.raises(InterruptedError):
            compare()


@keeping
def test_of_one_tenant_the_rows_are_those_that_it_has_among_others(processor: Processor) -> None:
    found = log(processor)
    whole = live(processor, found)
    tenant = (found[0].key or b"").decode()
    mine = {key: one for key, one in whole.items() if key.decode().split("\x1f")[0] == tenant}
    fold = anew(processor, cut(found, [50, 100]), tenant=tenant)
    assert fold.rows() == mine == only(whole, tenant) and mine
    others = {key.split(b"\x1f")[0] for key in whole} - {tenant.encode(), b"*"}
    assert others, "the log is of one tenant only"


def test_other_values_of_an_epoch_show() -> None:
    integrator = next(p for p in PROCESSORS if p.name == "integrator")
    found = log(integrator)
    plan = plan_of(integrator)
    (first, _) = epochs(integrator)
    fold = Refolding(plan, Run(plan).place, {}, "", lambda: None)
    fold.at = 0
    fold.enter(first, {})
    fetch = Fetched(0, cut(found, []), N, N)
    fold.go_through([Stretch(first, 0, N)], iter([fetch]))
    rows = differing(live(integrator, found), fold.rows())
    assert rows and all(one.here and one.there and one.fields for one in rows)


@each
def test_it_stops_before_the_offset_within_a_batch_and_goes_on(processor: Processor) -> None:
    found = log(processor)
    plan = plan_of(processor)
    (first, _) = epochs(processor)
    fold = Refolding(plan, Run(plan).place, {}, "", lambda: None)
    fold.at = 0
    fold.enter(first, {})
    for end in (70, 71, 140):
        part = [one for one in found if one.offset >= fold.at]
        whole = Fetched(0, [batch_of(part)], N, N)
        fold.go_through([Stretch(first, fold.at, end)], iter([whole]))
        run = Run(plan).feed([found[:end]])
        assert (fold.at, fold.rows()) == (end, run.rows())


def test_a_skipped_record_is_passed_over() -> None:
    processor = next(p for p in PROCESSORS if p.name == "counting")
    plan = plan_of(processor)
    found = messages(plan, samples(processor).records(np.random.default_rng(1), 20))
    (first, _) = epochs(processor)
    rows = []
    for skips in ({}, {7: "passed over"}):
        fold = Refolding(plan, Run(plan).place, skips, "", lambda: None)
        fold.at = 0
        fold.enter(first, {})
        fold.go_through([Stretch(first, 0, 20)], iter([Fetched(0, [batch_of(found)], 20, 20)]))
        rows.append(fold.rows())
    without = Run(plan).feed([[one for one in found if one.offset != 7]])
    assert rows[1] == without.rows() != rows[0]


def test_a_row_that_cant_be_read_is_named() -> None:
    processor = next(p for p in PROCESSORS if p.name == "integrator")
    plan = plan_of(processor)
    fold = Refolding(plan, Run(plan).place, {}, "", lambda: None)
    with pytest.raises(HistoryError, match=r"epoch 1: .*row b'a' has an unknown schema"):
        fold.enter(epochs(processor)[0], {b"a": b"\0\0\0\xff\xff"})
