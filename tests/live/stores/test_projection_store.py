"""The store's own law: a position moves only from where its writer believes it to be."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from agents.settings import Settings
from agents.tables.declared import declared
from stores.names import schema_of
from stores.projection_store import Move, ProjectionStore, Row
from tests.live.agents.projections.compare import migrated, sql

NOW = datetime(2026, 1, 31, tzinfo=UTC)
Make = Callable[[], ProjectionStore]


@pytest.fixture
def make(settings: Settings) -> Iterator[Make]:
    migrated(settings)
    target = next(one.target for one in declared(settings) if one.name == "frames")
    made: list[ProjectionStore] = []

    def one() -> ProjectionStore:
        made.append(ProjectionStore(settings.postgres(), schema_of(settings.namespace), target))
        return made[-1]

    yield one
    for each in made:
        each.close()


def row(tenant: str, offset: int, dwell: int = 0, topic_id: str = "aa") -> Row:
    fields = ("f", tenant, NOW, "d", "d", "{}", "{}", 0.5, 0.5, 0.5, dwell, "none", "", "", 0, "")
    return (*fields, topic_id, 0, offset, NOW)


def held(settings: Settings) -> dict[str, int]:
    rows = sql(settings, "SELECT tenant, kafka_offset FROM SCHEMA.frames")
    return {one["tenant"]: one["kafka_offset"] for one in rows}


@pytest.mark.parametrize("count", [1, 1_000, 5_000])
def test_a_batch_is_five_statements(make: Make, count: int) -> None:
    store = make()
    at = store.positions([0], "aa")[0]
    for batch in range(2):
        before = store.statements
        rows = [row(f"t{k}", batch * count + k) for k in range(count)]
        move = Move(at, "aa", (batch + 1) * count)
        assert store.write(rows, {0: move}).rows == count
        # BEGIN, the positions, COPY, the upsert, COMMIT.
        assert store.statements - before == 5
        at = move.after()


def test_of_what_is_never_replaced_a_batch_is_four_statements_unless_it_is_repeated(
    settings: Settings,
) -> None:
    migrated(settings)
    every = settings.projections.model_copy(update={"history": "all"})
    found = declared(settings.model_copy(update={"projections": every}))
    target = next(one.target for one in found if one.name == "frame_history")
    store = ProjectionStore(settings.postgres(), schema_of(settings.namespace), target)
    store.ensure_days([NOW.date()])
    at = store.positions([0], "aa")[0]

    def write(offsets: range) -> tuple[int, int]:
        nonlocal at
        before, move = store.statements, Move(at, "aa", offsets.stop)
        rows = [(*row("t", k), NOW, k) for k in offsets]
        written = store.write(rows, {0: move})
        at = move.after()
        return written.rows, store.statements - before

    try:
        # BEGIN, the positions, COPY, COMMIT.
        assert write(range(1000)) == (1000, 4)
        # Half of it is known: the same and ROLLBACK, then by way of the temporary table.
        assert write(range(500, 1500)) == (500, 4 + 5)
        assert write(range(1500, 1501)) == (1, 5)
        assert len(sql(settings, "SELECT FROM SCHEMA.frame_history")) == 1501
    finally:
        store.close()


def test_of_two_owners_one_writes(make: Make, settings: Settings) -> None:
    first, second = make(), make()
    at = first.positions([0, 1], "aa")
    assert second.positions([0, 1], "aa") == at
    assert first.write([row("a", 4)], {0: Move(at[0], "aa", 5)}).rows == 1
    both = {p: Move(at[p], "aa", 9) for p in (0, 1)}
    late = second.write([row("a", 8), row("b", 8)], both)
    assert late.overtaken == {0} and late.rows == 0
    assert held(settings) == {"a": 4}, "nothing of the late one, not of its own partition either"
    assert second.look([0, 1])[1] == at[1]
    assert second.write([row("b", 8)], {1: Move(at[1], "aa", 9)}).rows == 1


def test_older_never_over_newer_but_another_topic_is_newer(make: Make, settings: Settings) -> None:
    store = make()
    assert store.write([row("a", 5), row("a", 7), row("a", 6)], {}).rows == 1
    assert held(settings) == {"a": 7}
    assert store.write([row("a", 7), row("b", 0)], {}).rows == 1
    assert store.write([row("a", 0, topic_id="bb")], {}).rows == 1
    assert held(settings) == {"a": 0, "b": 0}


def test_rows_that_cannot_be_held_are_left_out(make: Make, settings: Settings) -> None:
    store = make()
    at = store.positions([0], "aa")[0]
    rows = [row(f"t{k}", k) for k in range(20)]
    rows[3] = row("a\0b", 3)
    rows[11] = row("t11", 11, dwell=2**70)
    rows[12] = (*row("t12", 12)[:5], "no json", *row("t12", 12)[6:])
    written = store.write(rows, {0: Move(at, "aa", 20)})
    assert set(written.refused) == {3, 11, 12}
    assert all(written.refused.values())
    assert len(held(settings)) == written.rows == 17
    assert store.look([0])[0].next_offset == 20
