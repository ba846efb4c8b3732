"""Timers, forgetting and settings of row processors."""

from dataclasses import replace
from typing import Any

import pytest

from agents.engine.errors import LawFailed, UnknownVersion
from agents.engine.plan import Plan
from agents.engine.processor import Processor
from agents.kit import Driver, Emit, Refuse, Setting
from ops.examples import COUNTS
from tests.contract.harness import SETTINGS, Run, loaded, messages
from tests.unit.agents.kit.row_laws import (
    MINUTE,
    TS,
    Full,
    Row,
    add,
    count_of,
    counting,
    full,
    observation,
    totals,
)

# --- time ----------------------------------------------------------------------------------


def timed() -> Processor:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.seen += 1
        row.due = TS + 1000 * row.seen

    def on_time(row: Full, now: int, out: Emit) -> None:
        row.gaps.append(float(now))
        out.to(COUNTS, count_of(out.tenant, row.seen))
        out.count("examples_fired")
        if len(row.gaps) < 2:
            row.due = now + 5

    return full(law, on_time=on_time, counts={"examples_fired": "Timers"})


def test_timers_fire_by_ticks_in_order_and_survive_a_restart() -> None:
    driver, again = Driver(timed()), Driver(timed())
    for one in (driver, again):
        one.send_all([observation(t) for t in ("b", "c", "a", "a")])
    again.restart()
    for one in (driver, again):
        one.tick(TS + 999)
        assert one.take() == []
        one.tick(TS + 3000)
        assert [w.key for w in one.take()] == ["b", "c", "a"]
        one.tick(TS + 3004)
        assert one.take() == []
        one.tick(TS + 3005)
        assert [w.key for w in one.take()] == ["a", "b", "c"]
        assert one.counts["examples_fired"] == 6
    assert driver.rows == again.rows and driver.outputs == again.outputs
    assert all(row["due"] is None for row in driver.rows.values())


def test_a_defect_in_a_timers_call_names_the_row() -> None:
    def on_time(row: Full, now: int, out: Emit) -> None:
        raise Refuse("what?")

    def law(row: Full, record: Any, out: Emit) -> None:
        row.due = TS

    driver = Driver(full(law, key="domain", on_time=on_time))
    driver.send(observation())
    with pytest.raises(LawFailed, match=r"the timer of a/x: Refuse: what"):
        driver.tick(TS + 1)


def test_the_silent_are_forgotten_at_the_whole_minute() -> None:
    plan = Plan(counting(add), SETTINGS, 1)
    driver = Driver(counting(add))
    driver.send_all([observation("a"), observation("b")])
    driver.setting("forget_after_s", 60, "a")
    late = -(-(TS + MINUTE) // MINUTE) * MINUTE
    driver.tick(late - 1)
    assert set(driver.rows) == {"a", "b"}
    driver.tick(late)
    assert set(driver.rows) == {"b"}
    driver.restart()
    driver.send(observation("a"))
    assert totals(driver) == {"a": 1, "b": 1}
    run = Run(plan).feed([messages(plan, [observation("a")])])
    wanted = TS + 30 * 86_400_000_000
    assert run.fold.deadline() == -(-wanted // MINUTE) * MINUTE


def test_a_row_whose_timer_has_fired_is_silent_from_then_on() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.due = TS + 1000 if record.domain == "x" else None

    for last in ([observation()], [observation(), observation(domain="off")]):
        driver = Driver(full(law, on_time=lambda *_: None), settings={"forget_after_s": "60"})
        driver.send(last[0])
        driver.restart()
        deadline = driver._run.fold.deadline
        assert deadline() == TS + 1000  # a worker asks, and a row with a timer isn't silent
        driver.send_all(last[1:])
        driver.tick(TS + 1000)
        late = -(-(TS + MINUTE) // MINUTE) * MINUTE
        assert deadline() == late
        driver.tick(late)
        assert driver.rows == {} and deadline() is None


def test_a_row_with_a_timer_isnt_silent() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.due = TS + 90 * 86_400_000_000

    driver = Driver(full(law, on_time=lambda *_: None))
    driver.send(observation())
    driver.tick(TS + 60 * 86_400_000_000)
    assert set(driver.rows) == {"a"}


# --- settings ------------------------------------------------------------------------------


def test_settings_of_a_tenant_of_all_and_of_none() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += out.setting("step")

    steps = {"step": Setting(1, "x", 1, 100), "of_all": Setting(1, "y", scope="deployment")}
    driver = Driver(counting(law, settings=steps))
    driver.send_all([observation("a"), observation("b")])
    driver.setting("step", 10)
    driver.setting("step", 50, "a")
    driver.restart()
    driver.send_all([observation("a"), observation("b")])
    driver.setting("step", 20)
    driver.setting("step", "", "a")
    driver.send_all([observation("a"), observation("b")])
    assert totals(driver) == {"a": 1 + 50 + 20, "b": 1 + 10 + 20}
    for name, value, said in (
        ("step", 0, "step is a whole number from 1 to 100, not '0'"),
        ("stop", 1, "no setting 'stop'; there are step, of_all, forget_after_s"),
        ("of_all", 2, "of_all is the deployment's: no tenant can have it otherwise"),
    ):
        with pytest.raises(ValueError, match=said):
            driver.setting(name, value)


def test_the_deployments_values() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += out.setting("step")

    made = counting(law, settings={"step": Setting(1, "x", 1, 100)})
    driver = Driver(made, settings={"step": "7"})
    driver.send(observation())
    assert totals(driver) == {"a": 7}
    with pytest.raises(ValueError, match="step is a whole number from 1 to 100, not '700'"):
        Driver(made, settings={"step": "700"})
    with pytest.raises(ValueError, match="counting has no setting stop"):
        Driver(made, settings={"stop": "7"})


def test_a_row_with_a_setting_that_isnt_known_isnt_taken() -> None:
    old = counting(add, settings={"step": Setting(1, "x", 1, 100)})
    plan = Plan(old, SETTINGS, 1)
    driver = Driver(old)
    driver.setting("step", 3, "a")
    driver.send(observation())
    new = Plan(replace(counting(add)), SETTINGS, 1)
    with pytest.raises(UnknownVersion, match="no setting 'step'"):
        loaded(new, driver._run.rows())
    assert loaded(plan, driver._run.rows()).fold.tenants() == 1
