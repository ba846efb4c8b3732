"""Folded under changed settings is as if they had always been so; as it was is as was published."""

import pytest

from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Processor
from agents.engine.transport import Fetched
from agents.history.epochs import Stretch
from agents.history.outputs import Written
from agents.history.refold import Refolding, fold_of
from agents.history.sides import Sides
from agents.history.trial import checked
from tests.contract.harness import PROCESSORS, SETTINGS, Message, Run, plan_of, setting
from tests.unit.agents.history.test_refold import N, cut, each, epochs, log
from topics import codec

TRIED = {
    "integrator": ("fusion", "softmax"), "predictors": ("alpha", "0.9"),
    "segmentation": ("cpd", "bocpd"),
}  # fmt: skip
SPLIT = 100


def tried(processor: Processor) -> tuple[str, str]:
    """A setting to try, other than the deployment's value."""
    if processor.name in TRIED:
        return TRIED[processor.name]
    return "forget_after_s", "3600"


def with_value(found: list[Message], name: str, value: str) -> list[Message]:
    """The log as it would be if whoever sets this setting had set this value."""
    changed = list(found)
    for k, one in enumerate(found):
        try:
            kind, record = codec.decode(one.value or b"")
        except codec.BadRecord:
            continue
        if kind == "control_setting" and record["setting"] == name and record["value"]:
            changed[k] = setting(one.offset, record["tenant"], name, value)
    return changed


def tenant_of(found: list[Message]) -> str:
    """A tenant with records."""
    return (found[0].key or b"").decode()


def folding(plan: Plan, changes: dict[str, str], rows: dict[bytes, bytes], at: int) -> Refolding:
    fold = Refolding(plan, Run(plan).place, {}, "", lambda: None, changes)
    fold.at = at
    fold.enter(epochs(plan.processor)[0], rows)
    fold.begin()
    return fold


def said(some: list[Written], plan: Plan) -> list[tuple[str, bytes, bytes | None]]:
    return [(plan.sinks[one.sink].topic, one.key, one.value) for one in some]


def by_sink(run: Run) -> list[tuple[str, bytes | None, bytes | None]]:
    sinks = [sink.topic for sink in run.plan.sinks]
    return [(one.topic, one.key, one.value) for one in run.sent if one.topic in sinks]


@each
def test_under_changed_settings_it_is_as_if_they_had_always_been_so(processor: Processor) -> None:
    plan, (name, value) = plan_of(processor), tried(processor)
    found = log(processor)
    found[30] = setting(30, tenant_of(found), name, str(processor.settings[name].default))
    was, would = folding(plan, {}, {}, 0), folding(plan, {name: value}, {}, 0)
    sides = Sides(plan, 2.0, 0, N)
    heard: tuple[list[Written], list[Written]] = [], []
    fetched = Fetched(0, cut(found, [40, 130]), N, N)
    todo = [Stretch(epochs(processor)[0], 0, N)]
    for one in (was, would):
        one.take_in(fetched)
        one.heard()
    for end in (70, 140, N):  # wherever it is cut
        assert all(one.go_on(todo, end) and one.at == end for one in (was, would))
        parts = was.heard(), would.heard()
        sides.add(*parts)
        for all_, part in zip(heard, parts, strict=True):
            all_ += part
    values = defaults_of(processor, SETTINGS)
    alone = Run(plan, fold_of(plan, Run(plan).place, values, {}))
    alone.feed([[one] for one in found])
    assert sorted(said(heard[0], plan), key=str) == sorted(by_sink(alone), key=str)
    other = Run(plan, fold_of(plan, Run(plan).place, values | {name: value}, {}))
    other.feed([[one] for one in with_value(found, name, value)])
    assert sorted(said(heard[1], plan), key=str) == sorted(by_sink(other), key=str)
    assert would.folded == was.folded == alone.results["folded"]
    data = sides.data()["outputs"]
    for k, sink in enumerate(processor.sinks):
        mine = [one for one in heard[0] if one.sink == k]
        assert sum(1 for _ in mine) == data.get(sink, {"was": 0})["was"]


@pytest.mark.kernel
def test_rows_keep_what_is_tried_and_the_log_has_what_was() -> None:
    processor = next(p for p in PROCESSORS if p.name == "integrator")
    plan, found = plan_of(processor), log(processor)
    found[30] = setting(30, tenant_of(found), "fusion", "fixed_share")
    was = folding(plan, {}, {}, 0)
    was.take_in(Fetched(0, cut(found, []), N, N))
    todo = [Stretch(epochs(processor)[0], 0, N)]
    was.go_on(todo, SPLIT)
    twin = folding(plan, {"fusion": "hedge"}, was.all(), SPLIT)
    twin.take_in(Fetched(0, cut(found[SPLIT:], []), N, N))
    sides = Sides(plan, 2.0, SPLIT, N)
    for one in (was, twin):
        one.heard()
        one.go_on(todo, N)
    heard = was.heard()
    sides.add(heard, twin.heard())
    row = codec.decode(twin.rows()[tenant_of(found).encode()])[1]
    assert row["settings"]["fusion"] == row["fusion"] == 0.0  # hedge
    (_, expected), *_ = sides.published.places
    expected.look((one.key, one.value) for one in heard if one.sink == 0)
    data = sides.data()
    frames = data["outputs"]["cog.global.frame"]
    assert frames["was"] == frames["would"] == frames["published"] == len(expected) > 50
    assert 0 < frames["fields"]["weights"] <= frames["differing"] == frames["was"] - frames["equal"]
    assert data["figures"]["cog.global.frame"]["was"]["frames"] == frames["was"]
    assert "config_version" not in frames["fields"]


def test_settings_are_checked_by_their_declaration() -> None:
    plan = plan_of(next(p for p in PROCESSORS if p.name == "segmentation"))
    assert checked(plan, {"cpd": "bocpd", "min_gap_ms": "1e3"})["cpd"] == "bocpd"
    for changes, why in (
        ({"cdp": "glr"}, "no setting 'cdp'; there are "),
        ({"cpd": "gl"}, "cpd is one of off, glr, bocpd, not 'gl'"),
        ({"min_gap_ms": "-1"}, "min_gap_ms is a number"),
        ({"cpd@state": "off"}, "can be tried, not a domain's"),
    ):
        with pytest.raises(ValueError, match=why):
            checked(plan, changes)
