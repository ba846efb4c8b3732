"""Outputs are handed over whole, up to an offset; a fold that runs ahead waits."""

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from agents.engine.processor import Processor
from agents.history.errors import HistoryError
from agents.history.framed import Part
from agents.replay import handover
from agents.replay.handover import NOTHING_SENT, Handover
from agents.replay.modes import Step
from tests.contract.harness import PROCESSORS, plan_of
from tests.live.helpers import eventually
from tests.unit.agents.history.test_framed import (
    by_place,
    folded,
    live,
    of_part,
    refolding,
    topics,
)
from tests.unit.agents.history.test_refold import N, log

PREDICTORS: Processor = next(p for p in PROCESSORS if p.name == "predictors")
PLAN = plan_of(PREDICTORS)
TARGETS = {name: {"topic": topic, "topic_id": "x"} for name, topic in topics(PLAN).items()}


def handing(sent_to: int = NOTHING_SENT) -> tuple[Handover, Any, threading.Event]:
    """One, and the past that it hears of: as states.Past, but from a log in memory."""
    stop = threading.Event()
    one = Handover(PLAN, TARGETS, (), sent_to, stop)
    found = log(PREDICTORS)
    fold = refolding(PLAN, lambda: one.hear(past))

    def fold_to(offset: int) -> None:
        folded(fold, PLAN, found, offset)
        past.at = fold.at
        one.hear(past)

    past: Any = SimpleNamespace(where="there", begun=0, at=0, folding=fold, fold_to=fold_to)
    return one, past, stop


def beside(past: Any, **more: Any) -> Any:
    return SimpleNamespace(**({"past": past, "until": N, "why": ""} | more))


def sent(steps: list[Step]) -> dict[Any, Any]:
    part = Part([send for step in steps for send in step.sends])
    return by_place(of_part(part))


def test_who_goes_on_sends_what_comes_behind() -> None:
    whole, total = live(PLAN, log(PREDICTORS)), Counter[str]()
    one, past, _ = handing()
    one.begin(beside(past))
    past.fold_to(100)
    first = one.step(3, total)
    assert first.position == {3: 100} and first.sent == sum(first.said["sent"].values()) > 0
    past.fold_to(170)  # of which nobody heard: its worker died
    two, again, _ = handing(100)
    two.begin(beside(again))
    assert two.step(3, Counter()).position == {}, "all that is sent already"
    again.fold_to(N)
    last = two.step(3, total)
    assert last.position == {3: N} and sent([first, last]) == whole
    assert last.said == {"sent": dict(total)} and total.total() == first.sent + last.sent
    assert two.step(3, total).sends == []


@pytest.mark.parametrize("stops", [False, True])
def test_a_fold_that_runs_ahead_waits_until_it_is_taken_or_ends(
    stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "BATCHES_MAX", 1)
    one, past, stop = handing()
    one.begin(beside(past))
    thread = threading.Thread(target=past.fold_to, args=(N,))
    thread.start()
    steps: list[Step] = []
    if stops:
        stop.set()
    else:
        eventually(lambda: one._full, what="the fold to run ahead")
        assert thread.is_alive(), "it waits"
    while thread.is_alive():
        thread.join(0.05)
        steps += [] if stops else [one.step(0, Counter())]
    steps.append(one.step(0, Counter()))
    assert sent(steps) == live(PLAN, log(PREDICTORS))
    assert steps[-1].position == {0: N}


@pytest.mark.parametrize(
    ("sent_to", "more", "said"),
    [
        (NOTHING_SENT, {"why": "state_lost"}, "state_lost: its outputs can be made once"),
        (50, {"until": 40}, "are sent to offset 50, and the log can be folded from 0 to 40 now"),
    ],
)
def test_what_cant_be_gone_on_with_is_named(sent_to: int, more: dict[str, Any], said: str) -> None:
    one, past, _ = handing(sent_to)
    with pytest.raises(HistoryError, match=said):
        one.begin(beside(past, **more))
    past.begun = 60
    two, _, _ = handing(50)
    with pytest.raises(HistoryError, match="from 60 to"):
        two.begin(beside(past))
