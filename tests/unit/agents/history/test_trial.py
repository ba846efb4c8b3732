"""Folded under changed settings is as if they had always been so; as it was is as was published."""

import json

import pytest

from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Processor
from agents.engine.transport import Fetched
from agents.history import sides as sides_module
from agents.history.epochs import Stretch
from agents.history.outputs import Written
from agents.history.refold import Refolding, fold_of
from agents.history.sides import SHOWN, Sides
from agents.history.trial import checked
from tests.contract.harness import PROCESSORS, SETTINGS, Message, Run, plan_of, setting
from tests.unit.agents.history.test_refold import N, cut, each, epochs, log
from topics import codec
from topics.catalogue import MESSAGE_BYTES_MAX

TRIED = {
    "integrator": ("fusion", "softmax"), "predictors": ("alpha", "0.9"),
    "segmentation": ("cpd", "bocpd"), "memory": ("links_max", "0"),
}  # fmt: skip
SPLIT = 100
STATUS_MAX = MESSAGE_BYTES_MAX // 10  # of a result: a job's status is a record


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
    return [(one.topic, one.key, one.value) for one in run.outputs()]


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


@each
def test_of_all_tenants_it_is_what_each_comes_to_together(processor: Processor) -> None:
    plan, (name, value) = plan_of(processor), tried(processor)
    folds = [folding(plan, changes, {}, 0) for changes in ({}, {name: value})]
    heard: list[list[Written]] = []
    for one in folds:
        one.heard()
        one.take_in(Fetched(0, cut(log(processor), [90]), N, N))
        assert one.go_on([Stretch(epochs(processor)[0], 0, N)], N)
        heard.append(one.heard())
    names = sorted({tenant_of_key(one.key) for some in heard for one in some})
    together, apart = Sides(plan, 2.0, 0, N, several=True), Sides(plan, 2.0, 0, N)
    unlike: dict[str, int] = {}
    for k, mine in enumerate((names[::2], names[1::2])):  # as two partitions
        if k:
            together.begin(0, N)
        for tenant in mine:
            some = [[o for o in side if tenant_of_key(o.key) == tenant] for side in heard]
            together.add(*some)
            apart.add(*some)
            alone = Sides(plan, 2.0, 0, N)
            alone.add(*some)
            outputs = alone.data()["outputs"].values()
            unlike[tenant] = sum(
                one[name] for one in outputs for name in ("differing", "only_was", "only_would")
            )
        together.end()
    found, wanted = together.data(), apart.data()
    for sink, output in found["outputs"].items():
        same = {key: one for key, one in output.items() if key != "looked_for"}
        assert same == {key: wanted["outputs"][sink][key] for key in same}
        assert output["looked_for"] == output["was"]
    for sink, figures in found["figures"].items():
        for key in ("frames", "updates", "boundaries", "samples", "leader_changes", "regret"):
            if key in figures["was"]:
                assert figures["would"][key] == pytest.approx(wanted["figures"][sink]["would"][key])
    most = {one["tenant"]: one["unlike"] for one in found["most"]}
    assert len(most) <= SHOWN and sorted(most.values(), reverse=True) == list(most.values())
    for tenant, count in most.items():
        assert count == unlike[tenant]
    assert max(most.values(), default=0) == max(unlike.values(), default=0)
    assert found["tenants"] <= len(names) and not found["notes"]


def tenant_of_key(key: bytes) -> str:
    return key.decode().split("\x1f")[0]


@pytest.mark.kernel
def test_what_is_kept_of_all_tenants_is_bounded_and_what_is_left_out_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sides_module, "TENANTS_MAX", 50)
    monkeypatch.setattr(sides_module, "SAMPLE_MAX", 64)
    processor = next(p for p in PROCESSORS if p.name == "integrator")
    plan, together = plan_of(processor), None
    frame = {
        "frame_id": "", "ts": 0, "domain": "d", "leader": "d" * 128, "confidence": 0.5,
        "weights": {f"{k}" * 128: 0.1 for k in range(10)}, "entropy": 0.0, "regret_bound": 0.0,
        "errors": {f"{k}" * 128: 0.1 for k in range(10)}, "dwell_ms": 0, "veto": "none",
        "rationale": "",
    }  # fmt: skip
    for _ in range(3):
        together = together or Sides(plan, 2.0, 0, N, several=True)
        together.begin(0, N)
        for k in range(120):
            tenant = f"{k:0128}"
            was, would = (
                [Written(0, 0, tenant.encode(), codec.encode("global_frame", one), k)]
                for one in (frame | {"tenant": tenant}, frame | {"tenant": tenant, "ts": k % 60})
            )
            together.add(was, would)
        assert len(together.published.places[0][1]) <= 64
        together.end()
    assert together is not None
    data = together.data()
    assert data["tenants"] == 150 and len(data["most"]) == SHOWN
    assert data["notes"] == [
        "figures are of the first 50 tenants of each partition, without 420 outputs of others"
    ]
    (output,) = data["outputs"].values()
    assert output["was"] == 360 and 0 < output["looked_for"] <= 192 and output["published"] == 0
    assert len(json.dumps(data)) < STATUS_MAX


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
