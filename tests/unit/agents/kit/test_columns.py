"""A table's declaration: which columns follow, what a new row has, and what can't be declared."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from agents.kit.column_table import ColumnTable
from agents.kit.columns import TableSchema, memory
from tests.unit.agents.kit.columnar_state import NOT_HERE, SCHEMA, domains
from topics.layout import by_field


class Few(NamedTuple):
    seen: Any
    sums: Any
    peak: Any


def test_columns_follow_from_the_schema() -> None:
    schema = domains().schema
    types = {name: kind for name, (kind, *_) in (schema.dtype.fields or {}).items()}
    assert {name for name, kind in types.items() if kind == "i4"} == {"measured", "spare"}
    assert types["sums"].shape == (2,)
    assert {"start", "settings_map", "values", "wild"}.isdisjoint(types)
    assert {"first", "c0", "c1", "n0", "n2", "derived", "share"} <= set(types)
    assert [column for _, column in schema.texts] == ["leader"]
    first = schema.rows(2)
    assert [first[name][1] for name in ("code", "leader", "peak", "derived", "share", "seen")] == [
        -1, -1, -1.0, 3, 0.5, 0,
    ]  # fmt: skip
    assert schema.dtype.itemsize % 8 == 0


def test_rows_are_columns_numbers_and_structures_at_once() -> None:
    table = domains()
    (r,) = table.take_rows(np.array([5]))
    few, place = table.views(Few), by_field(Few, table.schema.place)
    few.seen[r], few.sums[r], few.peak[r] = 11, (1.5, 2.5), 4.0
    one = memory(table.rows)
    assert one.wholes[r, place.seen] == table.rows["seen"][r] == 11
    assert one.reals[r, place.sums] == 1.5 and one.reals[r, place.sums + 1] == 2.5
    assert one.reals[r, place.peak] == 4.0


def test_new_rows_are_as_declared_and_rows_that_leave_are_new_again() -> None:
    table = domains()
    rows = table.take_rows(np.arange(1, 200) % 64)  # codes may be any here
    assert len(set(rows.tolist())) == 199 and table.living == 199
    table.rows["peak"][rows] = 7.0
    table.beside["ring"][rows] = 9
    table.drop_rows(rows[:100])
    assert table.living == 99
    again = table.take_rows(np.arange(50))
    assert set(again.tolist()) <= set(rows[:100].tolist())
    assert (table.rows["peak"][again] == -1.0).all() and (table.beside["ring"][again] == -1).all()
    assert (table.rows["peak"][rows[100:]] == 7.0).all()


def test_each_field_but_the_packed_is_a_number_a_text_a_list_or_absent() -> None:
    schema = domains().schema
    numbers, texts = [one.field for one in schema.numbers], [field for field, _ in schema.texts]
    lists, absent = [field for field, _ in schema.lists], [field for field, _ in schema.absent]
    assert sorted(field.name for field in numbers + texts + lists + absent) == sorted(
        field.name for field in schema.layout.fields
    )
    assert [field.name for field in texts] == ["leader"] and schema.children == 5
    packed = TableSchema(SCHEMA, packed=("values", "runs"), only=())
    assert len(packed.absent) == len(schema.layout.fields) - 2
    assert not packed.numbers and not packed.texts and not packed.lists


@pytest.mark.parametrize("lacking", ["values", "times"])
def test_a_field_that_no_column_can_hold_must_be_packed_or_absent(lacking: str) -> None:
    absent = {name: one for name, one in NOT_HERE.items() if name != lacking}
    with pytest.raises(ValueError, match=f"{lacking}: a (bytes|array) is packed, a list or absent"):
        TableSchema(SCHEMA, absent=absent | {"counts": 0, "numbers": 0})


def test_a_table_gives_its_memory_back() -> None:
    table = domains()
    table.of = np.full(4000, -1, np.int64)
    rows = table.take_rows(np.arange(4000))
    table.rows["seen"][rows] = np.arange(4000)
    assert table.compact() is None
    table.drop_rows(rows[:3900])
    moved = table.compact()
    assert moved is not None and table.rows.shape[0] <= 200
    assert (moved[rows[:3900]] == -1).all()
    assert (table.rows["seen"][moved[rows[3900:]]] == np.arange(3900, 4000)).all()
    assert (table.of[3900:4000] == moved[rows[3900:]]).all()
    assert isinstance(table, ColumnTable) and table.living == 100
