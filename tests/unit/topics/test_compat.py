import io
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topics.strategies import PRIMITIVES, flat, values
from topics.compat import fits, misshapen, unreadable
from topics.schemas import schemas


def record(*fields: dict[str, Any], name: str = "thing") -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "soma", "doc": "x", "fields": [*fields]}


def field(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "f", "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "mood", "symbols": list(symbols), **more}


def resolves(reader: Any, writer: Any, value: dict[str, Any]) -> bool:
    """The oracle: whether fastavro reads with one schema what it wrote with another."""
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(writer), value)
    out.seek(0)
    try:
        schemaless_reader(out, parse_schema(writer), parse_schema(reader))
    except Exception:
        return False
    return True


@given(flat(), flat(), st.data())
def test_what_is_called_compatible_fastavro_reads(
    writer: dict[str, Any], reader: dict[str, Any], data: st.DataObject
) -> None:
    if not unreadable(reader, writer):
        assert resolves(reader, writer, data.draw(values(writer)))


@given(flat(), st.data())
def test_a_schema_reads_its_own(schema: dict[str, Any], data: st.DataObject) -> None:
    assert unreadable(schema, schema) == []
    assert resolves(schema, schema, data.draw(values(schema)))


KINDS = [kind for kind in PRIMITIVES if kind != "null"]
SOME = {"boolean": True, "bytes": b"b", "string": "s"}


@pytest.mark.parametrize("old", KINDS)
@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("shape", ["plain", "array", "map", "from null", "to null"])
def test_promotions_are_fastavro_s(old: str, new: str, shape: str) -> None:
    def shaped(kind: str, side: str) -> Any:
        if shape == "array":
            return {"type": "array", "items": kind}
        if shape == "map":
            return {"type": "map", "values": kind}
        return ["null", kind] if side in shape else kind

    value = SOME.get(old, 1)
    content: Any = {"array": [value], "map": {"k": value}}.get(shape, value)
    writer, reader = record(field(shaped(old, "from"))), record(field(shaped(new, "to")))
    expected = resolves(reader, writer, {"f": content})
    # The null branch can't be read into a type without null, and bytes that aren't UTF-8 into text.
    if shape == "from null" or (old, new) == ("bytes", "string"):
        assert unreadable(reader, writer)
    else:
        assert (unreadable(reader, writer) == []) == expected


def test_not_all_bytes_are_a_string() -> None:
    reader, writer = record(field("string")), record(field("bytes"))
    assert resolves(reader, writer, {"f": b"text"})
    assert not resolves(reader, writer, {"f": b"\x80"})


@pytest.mark.parametrize(
    ("reader", "writer", "said"),
    [
        (record(field("long")), record(), "f: new, and without a default"),
        (record(field("int")), record(field("long")), "f: long became int"),
        (record(field("long")), record(field(["null", "long"])), "f: null became long"),
        (record(field(enum("a"))), record(field(enum("a", "b"))), "f: the enum lost b"),
        (
            record(field({**enum("a"), "name": "other"})),
            record(field(enum("a"))),
            "f: enum mood became other",
        ),
        (record(field("string")), record(field("bytes")), "f: bytes became string"),
        (record(name="other"), record(), "record thing became other"),
        (
            record(field("long")),
            record(field({"type": "long", "logicalType": "timestamp-micros"})),
            "f: meant timestamp-micros, now long",
        ),
        (
            record(field({"type": "bytes", "vector": "float64"})),
            record(field({"type": "bytes", "vector": "float32"})),
            "f: meant float32, now float64",
        ),
        (
            record(field({"type": "map", "values": "int"})),
            record(field({"type": "map", "values": "double"})),
            "f[values]: double became int",
        ),
        (record(field("long")), record(field({"type": "array", "items": "long"})), "array became"),
    ],
)
def test_breaks_are_named(reader: Any, writer: Any, said: str) -> None:
    assert [one for one in unreadable(reader, writer) if said in one]


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (record(), record(field("long"))),
        (record(field("long", default=0)), record()),
        (record(field(["null", "long"])), record(field("int"))),
        (record(field(enum("a", "b"))), record(field(enum("a")))),
        (record(field(enum("a", default="a"))), record(field(enum("a", "b")))),
        (record({"name": "g", "type": "long", "aliases": ["f"]}), record(field("int"))),
    ],
)
def test_growth_is_allowed(reader: Any, writer: Any) -> None:
    assert unreadable(reader, writer) == []


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        (record(name="inner"), {}, "record isn't supported"),
        ({"type": "fixed", "name": "x", "size": 2}, {}, "fixed isn't supported"),
        ("null", {}, "null isn't supported"),
        (["long", "null"], {}, "null first"),
        (["null", "long", "string"], {}, "null and one other type"),
        (["null", {"type": "array", "items": "long"}], {}, "only a primitive or an enum"),
        ({"type": "array", "items": ["null", "long"]}, {}, "may hold plain primitives only"),
        ({"type": "map", "values": enum("a")}, {}, "may hold plain primitives only"),
        (enum("a", default="b"), {}, "the enum's default isn't"),
        ({"type": "long", "logicalType": "timestamp-millis"}, {}, "timestamp-millis"),
        ({"type": "bytes", "vector": "float16"}, {}, "float16"),
        ("long", {"default": "0"}, "the default '0' doesn't fit"),
        ("int", {"default": 2**31}, "doesn't fit"),
        ("string", {"default": None}, "doesn't fit"),
        ("long", {"default": True}, "doesn't fit"),
        (["null", "long"], {"default": 0}, "doesn't fit"),
        (enum("a"), {"default": "b"}, "doesn't fit"),
        ({"type": "array", "items": "long"}, {"default": ["a"]}, "doesn't fit"),
        ("bytes", {"default": "€"}, "doesn't fit"),
    ],
)
def test_what_kernels_and_json_dont_take_is_named(kind: Any, more: Any, said: str) -> None:
    found = misshapen(record(field(kind, **more)), "thing")
    assert len(found) == 1
    assert found[0].startswith("f: ")
    assert said in found[0]


def test_names_are_checked() -> None:
    assert misshapen(record(name="other"), "thing") == ["isn't named thing in the namespace soma"]
    assert misshapen(record({"name": "Big", "type": "long"}), "thing")
    assert misshapen(record(field("long"), field("long")), "thing")


@given(flat())
def test_what_the_tests_draw_is_flat(schema: dict[str, Any]) -> None:
    assert misshapen(schema, "thing") == []


def test_defaults_fit() -> None:
    assert fits(["null", "long"], None)
    assert fits({"type": "map", "values": "double"}, {"a": 1})
    assert not fits("double", float("nan"))


def test_the_catalogue_s_own_schemas_are_flat() -> None:
    for name in schemas().names():
        for version in schemas().versions(name):
            assert misshapen(schemas().raw(name, version), name) == []
