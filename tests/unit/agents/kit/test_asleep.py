"""What a sleep does in processors whose laws are kernels, and that others feel nothing of it."""

import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.digest import digest
from agents.engine.processor import Processor
from agents.engine.registry import processors
from agents.kit import asleep
from agents.kit.asleep import ACTIVE, DEEP, FREEZE, LIGHT, STATES
from tests.contract.harness import (
    LOG_MS,
    Message,
    Run,
    loaded,
    messages,
    plan_of,
    samples,
    setting,
)
from tests.contract.harness import sleep as in_band
from topics import codec

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]  # it may compile kernels

COLUMNAR = [one for one in processors().values() if one.in_loop]
each = pytest.mark.parametrize("processor", COLUMNAR, ids=lambda p: p.name)
SECOND = 1_000_000
SET = {
    "integrator": ("fusion", "hedge"), "predictors": ("alpha", "2.5"),
    "segmentation": ("cpd", "bocpd"),
}  # fmt: skip


def sleep(
    state: int, tenant: str = "a", version: int = 1, more: dict[str, Any] | None = None
) -> bytes:
    record = {"tenant": tenant, "state": STATES[state], "version": version, "ts": LOG_MS * 1000}
    return codec.encode("control_sleep", record | {"wake_on_traffic": False} | (more or {}))


class Tried:
    """A processor that is fed record by record, and what it says of each."""

    def __init__(self, name: str) -> None:
        self.plan = plan_of(processors([name])[name])
        self.run = Run(self.plan)

    def feed(self, value: bytes, tenant: str = "a") -> list[dict[str, Any]]:
        before = len(self.run.sent)
        self.run.feed([[Message(self.run.next, tenant.encode(), value)]])
        sinks = {sink.topic for sink in self.plan.sinks}
        new = [one for one in self.run.sent[before:] if one.topic in sinks]
        return [codec.decode(one.value or b"")[1] for one in new]

    def row(self, key: bytes) -> dict[str, Any]:
        return codec.decode(self.run.rows()[key])[1]

    def observe(self, *vector: float, tenant: str = "a") -> list[dict[str, Any]]:
        record = {
            "tenant": tenant, "domain": "state", "ts": LOG_MS * 1000, "sequence": None,
            "vector": struct.pack(f"<{len(vector)}f", *vector),
        }  # fmt: skip
        return self.feed(codec.encode("observation", record), tenant)

    def update(self, domain: str, error: float, at: int = 0) -> list[dict[str, Any]]:
        record = {
            "tenant": "a", "domain": domain, "predictor_type": "heat", "error_metric": error,
            "prediction_latency_ms": 0.0, "model_version": "1.0", "vector_dim": 2,
            "confidence": 0.5, "observation_id": "", "ts": LOG_MS * 1000 + at - SECOND,
        }  # fmt: skip
        return self.feed(codec.encode("predictor_update", record))


def expected(outputs: list[dict[str, Any]]) -> list[float]:
    """The vector of the next event among them."""
    (found,) = [one["predicted_state"] for one in outputs if "predicted_state" in one]
    return list(np.frombuffer(found, "<f4"))


@given(st.sampled_from([LIGHT, DEEP, FREEZE]), st.integers(1, 2**40), st.booleans())
def test_a_number_stands_for_one_sleep(state: int, version: int, wakes: bool) -> None:
    one = asleep.number(state, version, wakes)
    assert asleep.checked(float(one)) == one and asleep.state_of(one) == STATES[state]
    assert asleep.said(one) == f"{STATES[state]}, version {version}"


@pytest.mark.parametrize("value", [0.0, -1.0, 0.5, 8.0, 2.0**53, float("nan"), float("inf")])
def test_what_stands_for_no_sleep_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no sleep has the number"):
        asleep.checked(value)


@each
def test_a_sleep_that_is_over_leaves_no_trace(processor: Processor) -> None:
    plan = plan_of(processor)
    made = messages(plan, samples(processor).records(np.random.default_rng(3), 200))
    tenants = sorted({(one.key or b"").decode() for one in made})
    bare = Run(plan).feed([made])
    slept = Run(plan)
    for tenant in tenants:
        slept.feed([[Message(slept.next, tenant.encode(), sleep(FREEZE, tenant))]])
        slept.feed([[Message(slept.next, tenant.encode(), sleep(ACTIVE, tenant, 2))]])
    first = slept.next
    slept.feed([[Message(one.offset + first, one.key, one.value) for one in made]])
    assert slept.rows() == bare.rows() and slept.results["dead"] == bare.results["dead"]
    assert [len(run.outputs()) for run in (slept, bare)] == [len(bare.outputs())] * 2


@each
def test_a_frozen_tenant_is_silent_and_others_are_not(processor: Processor) -> None:
    plan = plan_of(processor)
    made = messages(plan, samples(processor).records(np.random.default_rng(3), 300))
    tenants = sorted({(one.key or b"").decode() for one in made})
    quiet, others = tenants[0], tenants[1:]
    control = Message(0, quiet.encode(), sleep(FREEZE, quiet))
    part = [control, *(Message(one.offset + 1, one.key, one.value) for one in made)]
    run, pieces, bare = Run(plan).feed([part]), Run(plan), Run(plan).feed([made])
    pieces.feed([part[:1], part[1:40], part[40:41], part[41:]])
    assert pieces.outputs() == run.outputs() and pieces.rows() == run.rows()
    keys = [one.key for one in run.outputs()]
    assert quiet.encode() not in keys and others
    assert keys == [one.key for one in bare.outputs() if one.key != quiet.encode()]
    assert run.results["folded"] == bare.results["folded"]
    loaded(plan, run.rows(), np.random.default_rng(1))  # which compares the rows


@each
def test_a_sleeper_is_not_forgotten_before_it_wakes(processor: Processor) -> None:
    run = Run(plan_of(processor))
    year = LOG_MS * 1000 + 366 * 86_400 * SECOND
    tick = codec.encode("control_tick", {"ts": year})
    run.feed([[Message(0, b"a", sleep(DEEP))]])
    run.feed([[Message(1, None, tick)]], year // 1000)
    assert b"a" in run.rows()
    run.feed([[Message(2, b"a", sleep(ACTIVE, version=2))]], LOG_MS)
    run.feed([[Message(3, None, tick)]], year // 1000)
    assert b"a" not in run.rows()


@each
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"tenant": "*"}, "a sleep is of one tenant"),
        ({"state": "coma"}, "state: one of active, light"),
        ({"version": 0}, "version: from 1"),
        ({"version": 2**60}, "version: from 1"),
    ],
)
def test_a_sleep_that_can_t_be_is_a_dead_letter(
    processor: Processor, bad: dict[str, Any], said: str
) -> None:
    run = Run(plan_of(processor))
    run.feed([[Message(0, b"a", sleep(DEEP, more=bad))]])
    (letter,) = run.of(run.plan.dlq)
    assert said in (dict(letter.headers)["soma-detail"] or b"").decode()
    run.feed([[setting(1, "a", "sleep", "2")]])
    assert len(run.of(run.plan.dlq)) == 2 and not run.rows()


@each
@pytest.mark.parametrize("first", ["setting", "sleep"])
def test_neither_a_setting_nor_a_sleep_takes_the_other_back(
    processor: Processor, first: str
) -> None:
    name, value = SET[processor.name]
    own = processor.settings[name]
    number, slept = own.number(own.parse(value)), float(asleep.number(LIGHT, 7, False))
    one = Tried(processor.name)
    both = [setting(0, "a", name, value).value, sleep(LIGHT, version=7)]
    for control in both if first == "setting" else reversed(both):
        assert control is not None and one.feed(control) == []
    assert one.row(b"a")["settings"] == {name: number, "sleep": slept}
    one.run.restart(one.plan.processor.make(one.run.context))
    one.run.load(one.run.rows())
    if first == "setting":
        one.run.feed([[setting(2, "a", name, "", LOG_MS)]])
        assert one.row(b"a")["settings"] == {"sleep": slept}
    else:
        one.feed(sleep(ACTIVE, version=8))
        assert one.row(b"a")["settings"] == {name: number}


def steered(made: list[Message], name: str, value: str) -> list[Message]:
    """These records, and among them settings and sleeps of whom the first one is, and of all."""
    tenant = (made[0].key or b"").decode()
    controls = [
        setting(0, tenant, name, value, LOG_MS), in_band(0, tenant, LIGHT, 1),
        setting(0, "*", name, ""), in_band(0, tenant, FREEZE, 2),
        setting(0, tenant, name, "", LOG_MS + 5), setting(0, tenant, name, value),
        in_band(0, tenant, DEEP, 3), in_band(0, tenant, ACTIVE, 4),
        setting(0, "*", name, value, LOG_MS + 9), in_band(0, tenant, LIGHT, 5),
    ]  # fmt: skip
    found = list(made)
    for k, one in enumerate(controls):
        found.insert(12 + 20 * k, one)
    return [replace(one, offset=at) for at, one in enumerate(found)]


@each
@settings(max_examples=12, deadline=None)
@given(places=st.sets(st.integers(1, 209), min_size=1, max_size=12))
def test_settings_and_sleeps_act_at_their_places_wherever_a_worker_ends(
    processor: Processor, places: set[int]
) -> None:
    plan = plan_of(processor)
    made = messages(plan, samples(processor).records(np.random.default_rng(3), 200))
    part = steered(made, *SET[processor.name])
    whole, run = Run(plan).feed([part]), Run(plan)
    for lo, hi in pairwise([0, *sorted(places), len(part)]):
        run.restart(plan.processor.make(run.context))
        run.load(run.rows())
        run.feed([part[lo:hi]])
    assert run.outputs() == whole.outputs() and run.rows() == whole.rows()
    assert whole.results["control"] == 10 and whole.results["dead"] == 0
    assert digest(plan, run.fold) == digest(plan, whole.fold)


def test_light_sleep_predicts_as_a_shorter_diffusion_does() -> None:
    asleep_, short, awake = Tried("predictors"), Tried("predictors"), Tried("predictors")
    asleep_.feed(sleep(LIGHT))
    short.run.feed([[setting(0, "a", "diffusion_time", "0.375")]])
    found = [expected(one.observe(1.0, 0.0, 0.0, 0.0)) for one in (asleep_, short, awake)]
    assert found[0] == found[1] and found[0][0] > found[2][0]


def test_whoever_sleeps_learns_by_less_and_in_deep_sleep_nothing() -> None:
    moved = []
    for state in (ACTIVE, LIGHT, DEEP):
        one = Tried("predictors")
        for k in range(400):
            one.observe(float(k % 7), float(k % 3))
        before = one.row(b"a\x1fstate")
        if state != ACTIVE:
            one.feed(sleep(state))
        for k in range(20):
            assert one.observe(50.0 + k % 7, 50.0 + k % 3)
        after = one.row(b"a\x1fstate")
        levels = [np.frombuffer(row["level"]) for row in (before, after)]
        moved.append(float(np.abs(levels[1] - levels[0]).sum()))
        if state == DEEP:
            kept = ("level", "step", "ratio", "runs", "median", "slope", "bias", "samples")
            assert [before[name] for name in kept] == [after[name] for name in kept]
    assert moved[0] > moved[1] > moved[2] == 0.0


def test_the_record_that_comes_after_waking_is_the_first_that_speaks_and_knows_the_last() -> None:
    one = Tried("predictors")
    for k in range(20):
        one.observe(float(k % 2), 1.0)
    one.feed(sleep(FREEZE))
    assert one.observe(7.0, 8.0) == [] and one.row(b"a\x1fstate")["n"] == 21
    one.run.feed([[setting(one.run.next, "*", "predictor", "persistence")]])
    assert one.row(b"a")["settings"] == {"sleep": float(asleep.number(FREEZE, 1, False))}
    following = one.run.next
    one.run = loaded(one.plan, one.run.rows())
    one.run.next = following
    one.feed(sleep(ACTIVE, version=2))
    assert b"a" not in one.run.rows()
    (update, after) = one.observe(7.0, 8.0)
    assert update["error_metric"] == 0.0 and "predicted_state" in after


def test_sleep_sharpens_the_weights_as_a_lower_temperature_does() -> None:
    leading = {}
    for state, heat in ((ACTIVE, "1"), (LIGHT, "1"), (DEEP, "1"), (ACTIVE, "0.5")):
        one = Tried("integrator")
        if state != ACTIVE:
            one.feed(sleep(state))
        one.run.feed([[setting(one.run.next, "a", "temperature", heat)]])
        for k in range(6):
            (frame,) = one.update(("x", "y")[k % 2], (0.2, 0.5)[k % 2], k)
        leading[state, heat] = frame["confidence"]
    assert leading[DEEP, "1"] == leading[ACTIVE, "0.5"] > leading[LIGHT, "1"]
    assert leading[LIGHT, "1"] > leading[ACTIVE, "1"]


def test_a_frozen_integrator_keeps_errors_and_plays_no_round() -> None:
    one = Tried("integrator")
    one.update("x", 0.2)
    one.feed(sleep(FREEZE))
    rounds = one.row(b"a")["rounds"]
    assert one.update("y", 0.7, 1) == [] and one.update("x", 0.9, 2) == []
    row = one.row(b"a")
    assert row["rounds"] == rounds and dict(zip(row["domains"], row["error"], strict=True)) == {
        "x": pytest.approx(0.9), "y": pytest.approx(0.7),
    }  # fmt: skip
    version = row["config_version"]
    one.feed(sleep(ACTIVE, version=2))
    (frame,) = one.update("y", 0.7, 3)
    assert set(frame["weights"]) == {"x", "y"} and frame["config_version"] == version
