"""Columns to values a field at a time, beside the row path's way: one value after another."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kit.errors import Misfit
from agents.kit.transposed import put, values
from tests.unit.topics.columnar import records, schemas
from topics.columns import Buffer, Columns
from topics.layout import Layout


@given(st.data())
def test_values_are_those_of_the_row_path(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    given_ = data.draw(st.lists(records(schema), min_size=1, max_size=4))
    columns, scratch = Columns(Layout(schema)), Buffer()
    for row, record in enumerate(given_):
        columns.put(row, record, scratch)
    buf, some = scratch.data, np.flatnonzero(np.arange(len(given_)) % 2 == 0)
    for rows in (slice(0, len(given_)), some):
        which = np.arange(len(given_))[rows].tolist()
        for field in columns.layout.fields:
            wanted = [columns.get_field(k, field, (buf, buf, buf)) for k in which]
            assert repr(values(columns, field, rows, buf)) == repr(wanted), field.name


LISTS = {
    "type": "record", "name": "R", "fields": [
        {"name": "gaps", "type": {"type": "array", "items": "double"}},
        {"name": "sizes", "type": ["null", {"type": "map", "values": "long"}], "default": None},
    ],
}  # fmt: skip


def test_empty_lists_of_many_rows_are_written_over_what_was_there() -> None:
    columns, scratch = Columns(Layout(LISTS)), Buffer()
    gaps, sizes = columns.layout.fields
    columns.reserve(2)
    put(columns, gaps, 0, [[1.5], [2.5, 3.5]], scratch)
    put(columns, sizes, 0, [None, {"x": 1}], scratch)
    put(columns, gaps, 0, ([], ()), scratch)
    put(columns, sizes, 0, ({}, {}), scratch)
    assert values(columns, gaps, slice(0, 2), scratch.data) == [[], []]
    assert values(columns, sizes, slice(0, 2), scratch.data) == [{}, {}]


@pytest.mark.parametrize(("k", "empty"), [(0, {}), (0, ""), (0, 0), (1, []), (1, "")])
def test_what_is_empty_isnt_a_list_for_that(k: int, empty: Any) -> None:
    columns, scratch = Columns(Layout(LISTS)), Buffer()
    field = columns.layout.fields[k]
    columns.reserve(2)
    with pytest.raises(Misfit) as error:
        put(columns, field, 0, [{} if k else [], empty], scratch)
    assert error.value.index == 1
