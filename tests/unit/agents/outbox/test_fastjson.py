"""Bytes that are the codec's, or no word at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.outbox.fastjson import JsonEncoder
from tests.unit.topics.strategies import records
from topics import codec
from topics.catalogue import CATALOGUE

PUBLIC = sorted({one.schema for one in CATALOGUE.values() if one.public and one.schema})
ENCODERS = {name: JsonEncoder(name) for name in PUBLIC}
TIMES = ["2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00"]
NUMBERS = [1, 2**31, 2**63, -(2**63), 2**400, 1.5, 1e39, 1e400]
LISTS: list[Any] = [[], [True], [1e400], ["x"], [None], {}, {"a": 1}, {"a": "b"}]
ODD = st.sampled_from([None, True, "x", "", "\ud800", "created", *NUMBERS, *LISTS, *TIMES])
CASES = st.sampled_from(PUBLIC).flatmap(lambda name: st.tuples(st.just(name), records(name)))


def reference(name: str, text: bytes, tenant: str) -> bytes | None:
    try:
        record = codec.from_json(name, text)
        return codec.encode(name, record) if record["tenant"] == tenant else None
    except codec.BadRecord:
        return None


@given(CASES)
def test_a_records_json_is_encoded_as_by_the_codec(case: tuple[str, dict[str, Any]]) -> None:
    name, record = case
    text = json.dumps(codec.to_json(name, record)).encode()
    want = reference(name, text, record["tenant"])
    assert want is not None
    assert ENCODERS[name].encode(text, record["tenant"]) == want


@given(CASES, st.data())
def test_odd_objects_are_encoded_as_by_the_codec_or_left_to_it(
    case: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    name, record = case
    given_ = codec.to_json(name, record)
    for _ in range(data.draw(st.integers(1, 3))):
        field = data.draw(st.sampled_from([*sorted(given_), "unknown"]))
        if data.draw(st.booleans()):
            given_.pop(field, None)
        else:
            given_[field] = data.draw(ODD)
    text = json.dumps(given_).encode()
    tenant = data.draw(st.sampled_from([record["tenant"], "x"]))
    got = ENCODERS[name].encode(text, tenant)
    assert got is None or got == reference(name, text, tenant)


@pytest.mark.parametrize("text", [b"", b"[]", b"nul", b"1", b"\xff", b'{"tenant": 1', b"[" * 9999])
def test_what_is_no_object_is_left_to_the_codec(text: bytes) -> None:
    assert ENCODERS["observation"].encode(text, "t") is None


def test_the_plain_case_isnt_left_to_the_codec() -> None:
    text = b'{"tenant": "t", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": [1, 0.1]}'
    assert ENCODERS["observation"].encode(text, "t") == reference("observation", text, "t")
    assert ENCODERS["observation"].encode(text, "t") is not None


def test_a_time_outside_the_calendar_is_left_to_the_codec() -> None:
    for ts in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        text = json.dumps({"tenant": "t", "domain": "state", "ts": ts, "vector": [1]}).encode()
        assert ENCODERS["observation"].encode(text, "t") is None
        assert reference("observation", text, "t") is None
