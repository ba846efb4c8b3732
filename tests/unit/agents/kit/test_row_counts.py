"""Rows counted by their values, through changes, restarts and forgetting; and their gauge."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from agents.engine.row_counts import (
    MILLION,
    MILLIONTHS,
    ROWS,
    MeanGauge,
    RowCount,
    RowGauge,
    RowMean,
)
from agents.kit.asleep import STATES
from agents.kit.declare import RowProcessor
from agents.kit.row_counts import By, RowCounts
from agents.kit.table import Row
from agents.sleep.agent import PROCESSOR, REQUESTS, STATUS
from agents.sleep.law import Sleep
from tests.contract.harness import LOG_MS, Message, Run, messages, plan_of
from tests.unit.agents.sleep.samples import BLANK
from topics import codec

PLAN = plan_of(PROCESSOR)
NAME = "soma_sleep_tenants"
DAY_MS = 86_400_000
steps = st.tuples(
    st.sampled_from("abcd"), st.sampled_from((*STATES, "coma")), st.sampled_from((None, 60))
)


def counts(run: Run) -> dict[str, int]:
    assert list(run.last.row_counts) == [NAME]
    return dict(run.last.row_counts[NAME])


@given(st.lists(steps | st.just("tick") | st.just("restart") | st.just("later"), max_size=40))
def test_rows_are_counted_as_they_are(given: list[tuple[str, str, int | None] | str]) -> None:
    run, now = Run(PLAN), LOG_MS
    for one in given:
        if one == "restart":
            rows = run.rows()
            run.restart(PROCESSOR.make(run.context))
            run.load(rows)
        elif isinstance(one, str):
            now += 61_000 if one == "tick" else 31 * DAY_MS
            tick = codec.encode("control_tick", {"ts": now * 1000})
            run.feed([[Message(run.next, None, tick)]], now)
        else:
            tenant, target, ttl = one
            record = BLANK | {"tenant": tenant, "target": target}
            record["ttl_seconds"] = ttl if target != "active" else None
            run.feed([messages(PLAN, [record], run.next)], now)
        if run.transactions:
            rows_ = [codec.decode(row)[1]["state"] for row in run.rows().values()]
            found = Counter(rows_)
            assert run.fold.row_counts() == {NAME: {one: found[one] for one in STATES[1:]}}  # type: ignore[attr-defined]
            assert one == "restart" or counts(run) == run.fold.row_counts()[NAME]  # type: ignore[attr-defined]


def shown(name: str, value: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"state": value})


def test_a_gauge_is_the_sum_over_the_partitions_that_are_here() -> None:
    name = "soma_test_rows"
    gauge = RowGauge(RowCount(name, "Rows.", "state", values=("light", "deep")))
    assert shown(name, "light") == shown(name, "deep") == 0
    gauge.put(("sleep", "0"), {"light": 2, "deep": 0})
    gauge.put(("sleep", "1"), {"light": 1, "deep": 5})
    assert (shown(name, "light"), shown(name, "deep")) == (3, 5)
    gauge.put(("sleep", "0"), {"light": 0, "deep": 1})
    assert (shown(name, "light"), shown(name, "deep")) == (1, 6)
    gauge.drop(("sleep", "1"))
    gauge.drop(("sleep", "7"))
    assert (shown(name, "light"), shown(name, "deep")) == (0, 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats() | st.none()), max_size=30))
def test_a_mean_is_that_of_the_rows_there_are(given: list[tuple[str, float | None]]) -> None:
    rows: dict[str, Row] = {}
    counts = RowCounts([RowMean("soma_mean", "Mean.", "version")], rows)
    for key, value in given:
        rows.pop(key, None)
        if value is not None:
            rows[key] = Row(Sleep(version=value), 0)  # type: ignore[arg-type]
        counts.look_at([key])
    found = [one.row.version * MILLION for one in rows.values()]
    left = [round(one) for one in found if math.isfinite(one)]
    assert counts.now() == {"soma_mean": {ROWS: len(left), MILLIONTHS: sum(left)}}


def test_the_gauge_of_a_mean_weighs_each_row_the_same() -> None:
    gauge = MeanGauge(RowMean("soma_test_mean", "Mean.", "regret"))
    shown = lambda: REGISTRY.get_sample_value("soma_test_mean")  # noqa: E731
    assert shown() == 0
    gauge.put(("learner", "0"), {ROWS: 3, MILLIONTHS: 600_000})
    gauge.put(("learner", "1"), {ROWS: 1, MILLIONTHS: -200_000})
    assert shown() == pytest.approx(0.1)
    gauge.drop(("learner", "0"))
    gauge.drop(("learner", "1"))
    assert shown() == 0


def test_a_field_that_rows_lack_is_named() -> None:
    with pytest.raises(ValueError, match="sleep: counts: Sleep has no field depth"):
        RowProcessor(
            "sleep", REQUESTS, (STATUS,), Sleep, lambda *_: None,
            counts={"soma_x": By("depth", (), "Nothing.")},
        )  # fmt: skip
