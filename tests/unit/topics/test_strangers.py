"""Which schemas of others ours can read."""

import io
import json
from typing import Any

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from topics.schemas import Schemas, parse, plain
from topics.strangers import NotReadableError, judged

KNOWN = Schemas()
OURS = KNOWN.raw("observation")
TS = {"type": "long", "logicalType": "timestamp-micros"}
VECTOR = {"type": "bytes", "vector": "float32"}


def theirs(*fields: dict[str, Any], **more: Any) -> str:
    return json.dumps({**OURS, "doc": "", **more, "fields": list(fields)})


NEEDED: tuple[dict[str, Any], ...] = (
    {"name": "tenant", "type": "string"}, {"name": "domain", "type": "string"},
    {"name": "ts", "type": TS}, {"name": "vector", "type": VECTOR},
)  # fmt: skip
MORE: tuple[dict[str, Any], ...] = (
    {"name": "sequence", "type": ["null", "long"], "default": None},
    {"name": "comment", "type": "string"},
    {"name": "tags", "type": {"type": "map", "values": "int"}},
)  # fmt: skip


@given(st.permutations(NEEDED + MORE), st.sets(st.sampled_from([one["name"] for one in MORE])))
def test_other_orders_and_fields_are_read_as_fastavro_reads_them(
    fields: list[dict[str, Any]], without: set[str]
) -> None:
    text = theirs(*(one for one in fields if one["name"] not in without), namespace="com.acme")
    found = judged(7, text, KNOWN)
    assert found.name == "observation"
    record = {"tenant": "a", "domain": "d", "ts": 5, "vector": b"1234", "sequence": 9,
              "comment": "c", "tags": {"x": 1}}  # fmt: skip
    out = io.BytesIO()
    schemaless_writer(out, parse(plain(json.loads(text)), "theirs"), record)
    out.seek(0)
    got = schemaless_reader(out, found.parsed, KNOWN.newest("observation"))
    assert got == {
        **{name: record[name] for name in ("tenant", "domain", "ts", "vector")},
        "sequence": None if "sequence" in without else 9,
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no JSON"),
        ('"string"', "the id 7 is string in the registry, which is none of our schemas"),
        ("[]", "none of our schemas"),
        (theirs(*NEEDED, name="order"), "the id 7 is order in the registry, which is none of our"),
        (theirs(*NEEDED, name="control_tick"), "control records are of our own schemas only"),
        (theirs(*NEEDED[:3]), "vector: new, and without a default"),
        (theirs({"name": "tenant", "type": "long"}, *NEEDED[1:]), "tenant: long became string"),
        (
            theirs({"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                   *NEEDED[:2], NEEDED[3]),
            "ts: meant timestamp-millis, now timestamp-micros",
        ),
        (theirs(*NEEDED, {"name": "x", "type": {"type": "record", "name": "r", "fields": []}}),
         "it isn't of a shape that can be read"),
        (theirs(*NEEDED, {"name": "x", "type": "nothing"}), "can't read"),
        (json.dumps({"type": "record", "name": "observation"}), "can't read"),
    ],
)  # fmt: skip
def test_what_cant_be_read_is_named(text: str, why: str) -> None:
    with pytest.raises(NotReadableError) as error:
        judged(7, text, KNOWN)
    assert why in str(error.value)
