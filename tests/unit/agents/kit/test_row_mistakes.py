"""What laws of rows do wrong: each is named, with its record."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from agents.engine.digest import rows_of
from agents.engine.errors import LawFailed
from agents.engine.plan import Plan
from agents.engine.processor import Batch
from agents.kit import Driver, Emit, Refuse
from agents.kit import fold as fold_module
from ops.examples import COUNTS
from tests.contract.harness import SETTINGS, Run, messages
from tests.unit.agents.kit.row_laws import (
    Row,
    add,
    count_of,
    counting,
    observation,
)

# --- what is wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"total": "x"}, r"total: 'x' \(str\) isn't long"),
        ({"norms": None}, r"norms: None \(NoneType\) isn't double"),
        ({"norms": 1 << 2000}, r"norms: .* \(int\) isn't double"),
        ({"observation_id": "x" * 1_000_001}, "1,000,0.. bytes, at most 1,000,000"),
        ({"more": 1}, "no field 'more'"),
    ],
)
def test_an_output_that_doesnt_fit_its_schema_names_the_record(
    record: dict[str, Any], said: str
) -> None:
    def law(row: Row, seen: Any, out: Emit) -> None:
        bad = record if seen.offset == 7 else {}
        out.to(COUNTS, count_of(seen.tenant, 1) | bad)

    with pytest.raises(LawFailed, match=rf"examples\.counts: {said}") as error:
        Driver(counting(law)).send_all([observation()] * 9)
    assert error.value.row == 7


def test_an_output_without_a_field_names_it() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        out.to(COUNTS, {"tenant": record.tenant})

    with pytest.raises(LawFailed, match=r"examples.counts: ts is lacking"):
        Driver(counting(law)).send(observation())


def test_a_sink_that_wasnt_declared() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        out.to("cog.segments", {})

    with pytest.raises(LawFailed, match=r"cog.segments is no sink of this processor's"):
        Driver(counting(law)).send(observation())


def spoil(row: Any, out: Emit) -> None:
    del row.total


@pytest.mark.parametrize(
    ("law", "said"),
    [
        (lambda row, out: dict[str, int]()["x"], "KeyError: 'x'"),
        (lambda row, out: sys.exit("done"), "SystemExit: done"),
        (lambda row, out: out.row("\ud800"), "UnicodeEncodeError: "),
        (lambda row, out: out.count("examples_x", -1), "examples_x: -1 can't be counted"),
        (lambda row, out: out.count("examples_x", "3"), "examples_x: '3' can't be counted"),
        (spoil, "a row can't be written: AttributeError: "),
    ],
)
def test_a_defect_names_processor_and_record(law: Callable[..., Any], said: str) -> None:
    def one(row: Row, record: Any, out: Emit) -> None:
        if record.domain == "bad":
            law(row, out)

    made = counting(one, counts={"examples_x": "x"})
    with pytest.raises(LawFailed) as error:
        Driver(made).send_all([observation(), observation(domain="bad")])
    assert str(error.value).startswith(f"counting at cog.observations/0/1: {said}")
    assert "soma skip cog.observations/0/1 --processor counting" in str(error.value)


def test_whatever_a_refusal_says_is_told() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        raise Refuse(5)  # type: ignore[arg-type]

    driver = Driver(counting(law))
    driver.send(observation())
    assert [(one.reason, one.detail) for one in driver.dead_letters] == [("refused", "5")]


@pytest.mark.parametrize("before", [0, 9_999])
def test_one_record_cant_write_without_end(before: int) -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        for k in range(before if record.domain == "x" else 100_000):
            out.to(COUNTS, count_of(record.tenant, k))

    with pytest.raises(LawFailed, match=r"more than 10000 records to examples.counts"):
        Driver(counting(law)).send_all([observation(), observation(), observation(domain="y")])


def test_ten_thousand_are_allowed_each_time() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        for k in range(10_000):
            out.to(COUNTS, count_of(record.tenant, k))

    driver = Driver(counting(law))
    driver.send_all([observation()] * 3)
    assert len(driver.outputs) == 30_000
    assert driver.outputs[-1] is driver.outputs[-1], "decoded once"


def test_a_slow_law_ends_early_after_one_record_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(counting(add), SETTINGS, 1)
    whole = Run(plan).feed([messages(plan, [observation()] * 20)])
    batch = Batch(
        whole.space.buf.data, whole.space.columns, whole.space.offs, whole.space.ms,
        whole.space.status, ends=1.0,
    )  # fmt: skip
    run = Run(plan)
    outputs = tuple(plan.output(sink) for sink in plan.sinks)
    for clock, lo, left in (([2.0], 0, 1), ([0.0, 1.5], 1, 3), ([0.0] * 17, 3, None)):
        times = iter(clock)
        monkeypatch.setattr(fold_module, "monotonic", lambda times=times: next(times))
        assert run.fold.fold(batch, lo, 20, outputs) == left
    assert rows_of(plan, run.fold) == rows_of(plan, whole.fold)
