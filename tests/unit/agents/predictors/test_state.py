"""Growing, forgetting and compacting: nothing grows for ever, and nothing of it shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kit.store import Store
from agents.predictors import diffusion, plans
from agents.predictors import state as s
from tests.unit.agents.predictors.harness import Harness, observation

DAY_US = 86_400_000_000
START = 1_700_000_000_000_000


def many(n: int, ts: int, dim: int = 4, first: int = 0) -> list[dict[str, object]]:
    rng = np.random.default_rng(n)
    return [observation(rng.normal(size=dim), f"t{first + k}", "d", ts) for k in range(n)]


def store(harness: Harness) -> Store:
    return harness.fold.store


def test_silent_domains_leave_by_tombstone_when_a_tick_says_so() -> None:
    harness = Harness(forget_after_s="100")
    harness.run([observation([1], "a", ts=START), observation([1], "b", ts=START + 50_000_000)])
    harness.changed()
    first = harness.fold.deadline()
    assert first == (START // 1000 + 7) * 1000 + 100_000_000
    harness.tick(first - 1)
    assert harness.fold.tenants() == 2
    assert harness.changed() == {}
    harness.tick(first)
    assert harness.fold.tenants() == 1
    assert harness.changed() == {b"a\x1fstate": None}
    assert harness.fold.deadline() == first + 50_000_000
    (update,) = harness.run([observation([5], "a", ts=START + 200_000_000)])
    assert update["error_metric"] == 1.0


def test_a_tenant_may_be_kept_longer() -> None:
    harness = Harness(forget_after_s="100")
    harness.set("a", "forget_after_s", "1000")
    harness.run([observation([1], "a"), observation([1], "b")])
    harness.tick(START + 500_000_000)
    assert list(harness.all()) == [b"a", b"a\x1fstate"]
    harness.tick(START + 1001_000_000)
    assert list(harness.all()) == [b"a"]
    assert harness.fold.deadline() is None


def test_names_and_numbers_are_given_back() -> None:
    harness = Harness(forget_after_s="1")
    sizes = []
    for round_ in range(6):
        ts = START + round_ * DAY_US
        harness.run(many(1100, ts, first=1100 * round_))
        harness.changed()
        harness.tick(ts + DAY_US // 2)
        assert len(harness.changed()) == 1100
        sizes.append(
            (store(harness).names.table.shape[0], harness.fold._domains.pool.data.shape[0])
        )
    assert harness.fold.tenants() == 0
    assert max(sizes[3:]) <= max(sizes[:3])


@pytest.mark.parametrize("dim", [3, 4, 5])
def test_a_sweep_changes_no_row(dim: int) -> None:
    harness, plain = Harness(forget_after_s="3600"), Harness()
    harness.run(many(1100, START, first=1000))
    harness.run(many(50, START + DAY_US))
    harness.set("t7", "alpha", "7")
    harness.tick(START + DAY_US)
    harness.changed()
    before = store(harness).names.count
    later = many(50, START + DAY_US + 1, dim=dim)
    found = harness.run(later)
    assert store(harness).names.count < before
    plain.run(many(50, START + DAY_US))
    plain.set("t7", "alpha", "7")
    plain.offset = harness.offset - 50
    assert plain.run(later) == found
    assert plain.all() == harness.all()
    assert len(harness.changed()) == 50


def test_changing_dimensions_waste_bounded_room() -> None:
    harness = Harness()
    for k in range(200):
        harness.run(many(20, START + k, dim=1 + k))
    live = 20 * int(s.block(200))
    assert harness.fold._domains.pool.data.shape[0] <= max(4 * live, 4096)
    rows = harness.all()
    assert {row["dim"] for row in rows.values() if row} == {200}


def test_growing_keeps_every_number() -> None:
    harness, single = Harness(), Harness()
    given = many(1500, START, dim=7)
    found = harness.run(given)
    one_by_one = [update for record in given for update in single.run([record])]
    assert found == one_by_one
    assert harness.all() == single.all()
    assert harness.fold.tenants() == 1500


def test_tombstones_and_later_rows_replace_earlier_ones() -> None:
    harness = Harness()
    harness.run(many(3, START))
    old = harness.all()
    harness.run(many(3, START, dim=9))
    new = harness.all()
    other = Harness()
    other.load(old)
    other.load({b"t0\x1fd": None, b"unknown\x1fd": None} | {b"t1\x1fd": new[b"t1\x1fd"]})
    assert other.all() == {b"t1\x1fd": new[b"t1\x1fd"], b"t2\x1fd": old[b"t2\x1fd"]}
    assert other.fold.tenants() == 2
    assert other.changed() == {}


@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 10), st.integers(1, 40)), max_size=30))
def test_a_plan_found_is_the_plan_asked_for(wanted: list[tuple[int, float, int]]) -> None:
    book = plans.PlanBook()
    for graph, time, dim in wanted:
        book.make(graph, time, dim)
        p = plans.find(book.plans, graph, time, dim)
        expected = diffusion.coefficients_of(time, diffusion.largest_of(graph, dim))
        at, size = book.plans.at[p], book.plans.size[p]
        assert p >= 0
        np.testing.assert_array_equal(book.plans.coefficients[at : at + size], expected)
        assert plans.find(book.plans, graph, np.nextafter(time, 11), dim) < 0


def test_plans_take_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_COEFFICIENTS_MAX", 5000)
    book = plans.PlanBook()
    for dim in range(100, 200):
        book.make(diffusion.STAR, 10.0, dim)
        assert plans.find(book.plans, diffusion.STAR, 10.0, dim) >= 0
    assert book.plans.coefficients.shape[0] <= 5000


def test_forgetting_uses_the_latest_log_time() -> None:
    harness = Harness(forget_after_s="10")
    record = observation([1])
    harness.run([record | {"log_ms": 2_000_000}, record | {"log_ms": 1_000_000}])
    assert harness.fold.deadline() == 2_010_000_000
