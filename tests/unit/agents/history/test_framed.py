"""What a fold of the past frames is what the live one sent, to other topics, however it is cut."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.plan import Plan
from agents.engine.processor import Processor
from agents.engine.transport import Fetched
from agents.history.epochs import Stretch
from agents.history.framed import Framed, Part
from agents.history.refold import Refolding, fold_of
from agents.history.rows import tenant_of
from tests.contract.harness import Message, Run, Sent, plan_of, read
from tests.unit.agents.history.test_refold import CHANGED, N, cut, each, epochs, log

By = dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]]


def topics(plan: Plan) -> dict[str, str]:
    return {name: f"try.{name}" for name in plan.processor.sinks}


def refolding(plan: Plan, told: Callable[[], None] = lambda: None) -> Refolding:
    """A fold that stands before the log's first record."""
    fold = Refolding(plan, Run(plan).place, {}, "", told)
    fold.at = 0
    fold.enter(epochs(plan.processor)[0], {})
    return fold


def folded(fold: Refolding, plan: Plan, found: Sequence[Message], end: int) -> None:
    """Fold on, through both epochs."""
    first, second = epochs(plan.processor)
    todo = [Stretch(first, fold.at, CHANGED), Stretch(second, max(fold.at, CHANGED), N)]
    todo = [one for one in todo if one.begin < one.end]
    fold.begin()
    part = [one for one in found if one.offset >= fold.at]
    places = [k for k in (17, 60) if k < len(part)]
    fold.take_in(Fetched(0, cut(part, places), N, N))
    assert fold.go_on(todo, end)


def by_place(some: Iterable[Sent]) -> By:
    """Keys and values by topic and partition, in their order."""
    found: By = defaultdict(list)
    for one in some:
        assert not one.headers
        found[one.topic, one.partition].append((one.key, one.value))
    return found


def of_part(part: Part) -> list[Sent]:
    return [one for topic, to, builder in part.sends for one in read(topic, to, builder)]


def live(plan: Plan, found: Sequence[Message], tenants: Collection[str] = ()) -> By:
    """What workers sent, record by record, one of them restarted under other values."""
    first, second = epochs(plan.processor)
    run = Run(plan, fold_of(plan, Run(plan).place, first["settings"], {}))
    run.feed([[one] for one in found[:CHANGED]])
    run.restart(fold_of(plan, run.place, second["settings"], run.rows()))
    run.feed([[one] for one in found[CHANGED:]])
    sinks = {sink.topic: f"try.{sink.topic}" for sink in plan.sinks}
    mine = [
        Sent(sinks[one.topic], one.partition, one.key, one.value, one.headers)
        for one in run.outputs() if not tenants or tenant_of(one.key or b"") in tenants
    ]  # fmt: skip
    return by_place(mine)


@each
@given(places=st.lists(st.integers(1, N - 1), max_size=3))
@settings(max_examples=5)
def test_it_is_what_the_live_one_sent_and_whoever_goes_on_sends_the_rest(
    processor: Processor, places: list[int]
) -> None:
    plan, found = plan_of(processor), log(processor)
    whole = live(plan, found)
    ends = [0, *sorted(set(places)), N]
    sent, total = Part(), 0
    for begin, end in pairwise(ends):  # each by another, who folds anew what was sent already
        fold, framed = refolding(plan), Framed(plan, topics(plan), ())
        if begin:
            folded(fold, plan, found, begin)
        fold.frame(framed)
        folded(fold, plan, found, end)
        part = framed.take()
        assert not framed.take().sends
        total += sum(part.sent.values())
        sent.join(part)
    records = of_part(sent)
    assert by_place(records) == whole
    assert total == sent.sent.total() == len(records)
    assert sent.size == sum(len(one.key or b"") + len(one.value or b"") for one in records)


@each
def test_of_some_tenants_it_is_what_came_of_their_records(processor: Processor) -> None:
    plan, found = plan_of(processor), log(processor)
    tenants = sorted({(one.key or b"*").decode() for one in found[:9]} - {"*"})[:2]
    fold, framed = refolding(plan), Framed(plan, topics(plan), tenants)
    fold.frame(framed)
    folded(fold, plan, found, N)
    mine, everybody = by_place(of_part(framed.take())), live(plan, found)
    if processor.name != "counting":  # whose outputs have keys of their own
        assert mine == live(plan, found, tenants)
    for place, some in mine.items():
        left = iter(everybody[place])
        assert all(any(one == other for other in left) for one in some), "in their order"


def test_a_topic_for_each_sink_is_needed() -> None:
    plan = plan_of(next(p for p in each.args[1] if p.name == "predictors"))
    with pytest.raises(KeyError):
        Framed(plan, {}, ())
