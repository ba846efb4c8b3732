"""Layouts: slots by kind, buffers of spans, schemas that columns don't hold."""

from typing import Any

import pytest

from topics.columns import Layout, UnsupportedSchema

SCHEMA = {
    "type": "record",
    "name": "soma.R",
    "fields": [
        {"name": "tenant", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "score", "type": ["null", "double"], "default": None},
        {"name": "verdict", "type": {"type": "enum", "name": "V", "symbols": ["no", "yes"]}},
        {"name": "before", "type": ["V", "null"]},
        {"name": "vector", "type": {"type": "bytes", "vector": "float32"}},
        {"name": "weights", "type": {"type": "map", "values": "string"}},
        {"name": "seen", "type": {"type": "array", "items": "long"}},
    ],
}


def test_each_kind_counts_its_own_slots() -> None:
    layout = Layout(SCHEMA)
    assert layout.slots == {
        "tenant": 0, "vector": 1,
        "ts": 0, "verdict": 1, "before": 2,
        "score": 0,
        "weights": 0, "seen": 1,
    }  # fmt: skip
    assert layout.null_slots == {"score": 0, "before": 1}
    assert (layout.spans, layout.ints, layout.floats, layout.lists, layout.nulls) == (2, 3, 1, 2, 2)
    assert layout.by_name["before"].type.null_branch == 1
    assert layout.by_name["before"].type.symbols == ("no", "yes")


def test_src_says_which_buffer_spans_point_into() -> None:
    layout = Layout(SCHEMA, {"tenant": 1, "weights.key": 2, "weights.item": 1})
    assert layout.by_name["tenant"].src == 1
    assert layout.by_name["vector"].src == 0
    assert (layout.by_name["weights"].key_src, layout.by_name["weights"].src) == (2, 1)


@pytest.mark.parametrize("src", [{"ts": 1}, {"nobody": 1}, {"seen.item": 1}, {"tenant": 3}])
def test_src_must_name_spans_and_a_buffer(src: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(src)).split(".", maxsplit=1)[0]):
        Layout(SCHEMA, src)


@pytest.mark.parametrize(
    "type_",
    [
        "null",
        ["null", "int", "long"],
        ["int"],
        {"type": "fixed", "name": "F", "size": 4},
        {"type": "record", "name": "Inner", "fields": []},
        {"type": "array", "items": ["null", "int"]},
        {"type": "map", "values": {"type": "array", "items": "int"}},
    ],
)
def test_other_types_are_refused_by_field(type_: Any) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "odd", "type": type_}]}
    with pytest.raises(UnsupportedSchema, match=r"R\.odd"):
        Layout(schema)


def test_only_records_are_laid_out() -> None:
    with pytest.raises(UnsupportedSchema, match="record"):
        Layout({"type": "array", "items": "int"})
