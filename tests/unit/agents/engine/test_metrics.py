"""What processors count: each tally a counter of its own, made once, with its label's values."""

import uuid
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from agents.engine import metrics
from agents.engine.processor import Asking, Counting, Tally
from tests.contract.harness import PROCESSORS, Message, Run, messages, plan_of, samples


def test_counts_are_added_by_name_and_label() -> None:
    name = f"soma_test_{uuid.uuid4().hex}_total"
    plain, labelled = Tally(name, "Help."), Tally(f"x_{name}", "Help.", "decision")
    for _ in range(2):
        metrics.count((plain, labelled), {name: 2, f"x_{name}:deny": 3, f"x_{name}:allow": 0})
    assert REGISTRY.get_sample_value(name) == 4
    assert REGISTRY.get_sample_value(f"x_{name}", {"decision": "deny"}) == 6
    assert REGISTRY.get_sample_value(f"x_{name}", {"decision": "allow"}) == 0


def test_shares_are_of_what_was_counted_last_and_few_are_shown() -> None:
    name = f"soma_test_{uuid.uuid4().hex}"
    declared = Tally(name, "Help.", "domain", recent=100)

    def share(domain: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"domain": domain})

    metrics.count((declared,), {f"{name}:a": 30, f"{name}:b": 10, f"{name}:": 60})
    assert (share("a"), share("b"), share("")) == (pytest.approx(0.3), pytest.approx(0.1), None)
    metrics.count((declared,), {f"{name}:b": 100})
    assert (share("a"), share("b")) == (pytest.approx(0.1), pytest.approx(0.7))
    metrics.count((declared,), {f"{name}:b": 10_000})
    assert (share("a"), share("b")) == (None, 1.0)
    metrics.count((declared,), {f"{name}:d{k:04}": 100 + k for k in range(1000)})
    shown = next(one for one in REGISTRY.collect() if one.name == name).samples
    assert len(shown) == metrics.SHOWN_MAX and share("d0999") and not share("d0949")


def test_what_a_processor_declares_is_shown_before_there_is_anything_to_count() -> None:
    metrics.declare(PROCESSORS)
    shown = {family.name for family in REGISTRY.collect()}
    wanted = {one.name.removesuffix("_total") for p in PROCESSORS for one in p.tallies}
    assert wanted and wanted <= shown


def test_a_name_that_is_taken_is_refused_with_the_processor() -> None:
    taken = (Tally("soma_processor_records_total", "x"),)
    one, other = (replace(PROCESSORS[0], name=name, tallies=()) for name in ("one", "other"))
    with pytest.raises(ValueError, match="one: the metric soma_processor_records_total: "):
        metrics.declare([replace(one, tallies=taken)])
    mine = (Tally(f"soma_test_{uuid.uuid4().hex}_total", "x"),)
    with pytest.raises(ValueError, match=r"other: one has a metric soma_test_\w+ too"):
        metrics.declare([replace(one, tallies=mine), replace(other, tallies=mine)])


def test_what_is_not_declared_is_a_defect() -> None:
    with pytest.raises(KeyError):
        metrics.count((), {"soma_surprise_total": 1})


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)
def test_a_processor_counts_only_what_it_declares(processor: object) -> None:
    declared = next(p for p in PROCESSORS if p is processor)
    plan = plan_of(declared)
    run = Run(plan)
    parts: list[Message] = messages(plan, samples(declared).records(np.random.default_rng(5), 20))
    run.feed([parts])
    if isinstance(run.fold, Counting):
        counted = run.worker.fold.counted()
        assert all(n == 0 for n in counted.values())  # `Worker.run` took them already
        metrics.count(declared.tallies, counted)
    if isinstance(run.fold, Asking):
        assert run.fold.questions() == []  # nobody is there to be asked
