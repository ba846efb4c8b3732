"""Bytes that the codec would have given, or no word at all; whatever the text is."""

import io
import json
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topics.strategies import flat, records, values
from topics import codec
from topics.arrays import Buffer
from topics.catalogue import CATALOGUE
from topics.json_encoder import JsonEncoder
from topics.json_kernels import CHILDREN_FEW
from topics.jsonform import TEXT_BYTES_MAX, record_of
from topics.schemas import parse, schemas

pytestmark = pytest.mark.kernel

PUBLIC = sorted({one.schema for one in CATALOGUE.values() if one.of_tenants and one.schema})
HEADER = b"\0\0\0\1\2"
TIMES = ["2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "2026-02-29T12:00:00Z"]
NUMBERS = [1, 2**31, 2**53 + 1, 2**63, -(2**63), 2**400, 1.5, 1e39, 1e400, -0.0, 5e-324]
LISTS: list[Any] = [[], [True], [1e400], ["x"], [None], {}, {"a": 1}, {"a": "b"}, [[1]], {"a": {}}]
ODD = st.sampled_from([None, True, "x", "", "\ud800", "created", *NUMBERS, *LISTS, *TIMES])
CASES = st.sampled_from(PUBLIC).flatmap(lambda name: st.tuples(st.just(name), records(name)))


def encoder(name: str) -> JsonEncoder:
    return JsonEncoder(schemas().raw(name), codec.header(schemas().schema_id(name)))


ENCODERS = {name: encoder(name) for name in PUBLIC}


def encoded(by: JsonEncoder, texts: Sequence[bytes], tenant: str) -> list[bytes | None]:
    """What the kernels make of texts, each in the midst of others' bytes."""
    parts, pos = [b'"'], []
    for text in texts:
        pos.append(sum(map(len, parts)))
        parts += [text, b'",}0']
    parts.append(tenant.encode("utf-8", "surrogatepass"))
    b = np.frombuffer(bytearray(b"".join(parts)), np.uint8)
    n = len(texts)
    sizes = np.array(list(map(len, texts)), np.int64)
    tenants = np.full(n, len(b) - len(parts[-1])), np.full(n, len(parts[-1]))
    out = Buffer()
    at, size = by.encode(b, (np.array(pos, np.int64), sizes), tenants, out)
    assert out.used <= out.data.shape[0]
    return [
        out.data[a : a + s].tobytes() if s >= 0 else None for a, s in zip(at, size, strict=True)
    ]


def reference(schema: dict[str, Any], header: bytes, text: bytes, tenant: str) -> bytes | None:
    try:
        record = record_of(schema, text)
    except codec.BadRecord:
        return None
    if record["tenant"] != tenant:
        return None
    out = io.BytesIO()
    schemaless_writer(out, parse(schema, "thing.v1"), record, strict_allow_default=True)
    return header + out.getvalue()


def named(name: str, text: bytes, tenant: str) -> bytes | None:
    header = codec.header(schemas().schema_id(name))
    return reference(schemas().raw(name), header, text, tenant)


@given(CASES, st.booleans(), st.sampled_from([None, 1]))
def test_a_records_json_is_encoded_as_by_the_codec(
    case: tuple[str, dict[str, Any]], ascii_only: bool, indent: int | None
) -> None:
    name, record = case
    record["tenant"] = "acme-1.x"
    given_ = codec.to_json(name, record)
    text = json.dumps(given_, ensure_ascii=ascii_only, indent=indent).encode()
    want = named(name, text, "acme-1.x")
    assert want == codec.encode(name, codec.from_json(name, text))
    got = encoded(ENCODERS[name], [text, text], "acme-1.x")
    assert got[0] == got[1]
    assert got[0] in (want, None)
    if not ascii_only and all(_plain(value) for value in given_.values()):
        assert got[0] == want


def _plain(value: Any) -> bool:
    """Whether nothing about a value is rare."""
    if isinstance(value, float):
        return value == 0 or (abs(value) > 1e-300 and "e" not in repr(value))
    if isinstance(value, int):
        return abs(value) < 2**63
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, str):  # the first and the last year, which an offset may leave
        return not value.startswith(("0001-", "9999-"))
    return True


@st.composite
def schemas_with_tenant(draw: st.DrawFn) -> dict[str, Any]:
    schema = draw(flat())
    special: list[Any] = [
        {"type": "long", "logicalType": "timestamp-micros"},
        {"type": "bytes", "vector": "float32"},
        {"type": "bytes", "vector": "float64"},
        ["null", {"type": "map", "values": "double"}],
        ["null", "string"],
    ]
    for name in draw(st.lists(st.sampled_from("uvwx"), unique=True)):
        schema["fields"].append({"name": name, "type": draw(st.sampled_from(special))})
    at = draw(st.integers(0, len(schema["fields"])))
    schema["fields"].insert(at, {"name": "tenant", "type": "string"})
    return schema


@given(schemas_with_tenant(), st.data())
def test_records_of_any_schema_are_encoded_as_by_the_codec_or_left_to_it(
    schema: dict[str, Any], data: st.DataObject
) -> None:
    by, texts = JsonEncoder(schema, HEADER), []
    for _ in range(3):
        record = {f["name"]: data.draw(values(f["type"])) for f in schema["fields"]}
        given_ = {key: _shown(value) for key, value in record.items()} | {"tenant": "acme"}
        for _ in range(data.draw(st.integers(0, 2))):
            field = data.draw(st.sampled_from([*sorted(given_), "unknown"]))
            if data.draw(st.booleans()):
                given_.pop(field, None)
            else:
                given_[field] = data.draw(ODD)
        texts.append(_spoilt(json.dumps(given_).encode(), data))
    for text, got in zip(texts, encoded(by, texts, "acme"), strict=True):
        assert got is None or got == reference(schema, HEADER, text, "acme")


def _shown(value: Any) -> Any:
    """Bytes as a vector would be: some are, others are wrong."""
    if isinstance(value, bytes):
        return list(struct.unpack(f"<{len(value) // 4}f", value[: len(value) // 4 * 4]))
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _spoilt(text: bytes, data: st.DataObject) -> bytes:
    """The text, some of it replaced, cut, or doubled."""
    raw = bytearray(text)
    pieces = [
        b'"',
        b"\\",
        b"\\u00",
        b"{",
        b"]",
        b",",
        b"0",
        b"-",
        b"e9",
        b".",
        b" ",
        b"\xc3",
        b"\0",
    ]
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(raw)))
        end = min(len(raw), at + data.draw(st.integers(0, 3)))
        raw[at:end] = data.draw(st.sampled_from([b"", *pieces, bytes(raw[at:end]) * 2]))
    return bytes(raw)


@given(CASES, st.data())
def test_spoilt_texts_are_encoded_as_by_the_codec_or_left_to_it(
    case: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    name, record = case
    record["tenant"] = "acme"
    text = _spoilt(json.dumps(codec.to_json(name, record)).encode(), data)
    tenant = data.draw(st.sampled_from(["acme", "acm", "acmee", ""]))
    got = encoded(ENCODERS[name], [text], tenant)[0]
    assert got is None or got == named(name, text, tenant)


PLAIN = {"tenant": "string", "x": "double", "n": ["null", "long"], "s": "string", "b": "boolean"}
RAW = {
    "type": "record", "name": "thing", "namespace": "soma", "doc": "x", "fields": [
        *({"name": name, "type": kind} for name, kind in PLAIN.items()),
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "m", "type": {"type": "map", "values": "long"}, "default": {}},
        {"name": "a", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "v", "type": {"type": "bytes", "vector": "float32"}, "default": ""},
        {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["p", "q"]}, "default": "q"},
    ],
}  # fmt: skip
BY = JsonEncoder(RAW, HEADER)


def thing(**raw: str) -> bytes:
    fields = {"tenant": '"t"', "x": "1", "n": "1", "s": '"s"', "b": "true", "ts": "0"} | raw
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


SURE = [
    *(("x", x) for x in ("-0", "-0.0", "9007199254740993", "0.1", "1e22")),
    ("x", "1.7976931348623157e308"),
    *(("x", x) for x in ("123456789012345678e-30", "0.30000000000000004", "1E+2", "100e-2")),
    *(("n", n) for n in ("null", "0", "-0", "-1", "9223372036854775807", "-9223372036854775807")),
    ("s", r'"\u00e9\"\\\/\b\f\n\r\t\u20ac\u0000"'), ("s", '"é€𝄞"'), ("s", '""'),
    ("b", "false"), ("e", '"p"'),
    ("ts", '"2024-02-29T23:59:59.999999Z"'), ("ts", '"1969-12-31 23:59:59.5-14:30"'),
    ("ts", '"0002-01-01T00:00:00+00:00"'), ("ts", "-5"),
    ("m", r'{"a\"": 1 , "" : -2}'), ("m", "{ }"), ("a", '["", "x" ,"\\n"]'), ("a", "[]"),
    ("v", "[ ]"), ("v", "[1,-2.5e3 , 0.1]"), ("v", "[3.4028235e38]"), ("v", "[1e-45]"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "raw"), SURE)
def test_what_jsonb_may_hold_isnt_left_to_the_codec(field: str, raw: str) -> None:
    text = thing(**{field: raw})
    want = reference(RAW, HEADER, text, "t")
    assert want is not None
    assert encoded(BY, [text, b" \t\r\n" + text + b"\n"], "t") == [want, want]


WRONG = [
    *(("x", x) for x in ("01", "-", ".5", "1.", "1e", "+1", "1e400", "NaN", "Infinity", '"1"')),
    *(("x", x) for x in ("1_0", "0x1", "١", "1 2", "true", "null", "[1]", "", "1e99999999999")),
    *(("n", n) for n in ("1.0", "1e2", "9223372036854775808", "nul", "nulls", "true")),
    ("s", '"\\ud834"'), ("s", '"\\x"'), ("s", '"\\u12"'), ("s", '"a\nb"'), ("s", "'s'"),
    ("s", "1"), ("s", '"s'), ("b", "True"), ("b", "0"), ("e", '"r"'), ("e", "0"),
    ("ts", '"2026-02-29T00:00:00Z"'), ("ts", '"2026-01-01T24:30:00Z"'), ("ts", "1.5"),
    ("ts", '"2026-01-01T00:00:60Z"'), ("ts", '"2026-01-01T00:00:00"'), ("ts", '"2026-01-01"'),
    ("ts", '"2026-01-01T00:00:00+24:00"'), ("ts", '"0001-01-01T00:00:00+14:00"'),
    ("ts", '"9999-12-31T23:59:59-14:00"'), ("ts", '"2026-1-01T00:00:00Z"'),
    ("m", '{"a":1,"a":2}'), ("m", '{"a":1,"\\u0061":2}'), ("m", '{"a":1,}'), ("m", '{"a" 1}'),
    ("m", '{"a":{}}'), ("m", '{"a":1]'), ("m", "{,}"), ("m", "[]"), ("a", '["x",]'), ("a", "[1]"),
    ("a", '["x"}'), ("v", "[1,]"), ("v", "[,1]"), ("v", "[1 1]"), ("v", "[1e39]"), ("v", "[true]"),
    ("v", "[[1]]"), ("v", '["1"]'), ("v", "[1}"), ("s", '"s","s":"s"'), ("s", '"s","z":1'),
]  # fmt: skip


@pytest.mark.parametrize(("field", "raw"), WRONG)
def test_what_is_wrong_is_left_to_the_codec_which_refuses_it(field: str, raw: str) -> None:
    text = thing(**{field: raw})
    assert reference(RAW, HEADER, text, "t") is None
    assert encoded(BY, [text], "t") == [None]


@pytest.mark.parametrize(
    "raw",
    [
        {"x": "0." + "1" * 20}, {"x": "1" + "0" * 300}, {"x": "5e-324"}, {"x": "1e-400"},
        {"n": "-9223372036854775808"}, {"s": '"\\ud834\\udd1e"'}, {"ts": '"20260101T000000Z"'},
        {"ts": '"2026-01-01T00:00:00.1234567Z"'}, {"ts": '"0001-01-01T00:00:00Z"'},
        {"m": json.dumps({str(k): k for k in range(CHILDREN_FEW + 1)})},
    ],
)  # fmt: skip
def test_what_is_rare_is_left_to_the_codec_which_encodes_it(raw: dict[str, str]) -> None:
    text = thing(**raw)
    assert reference(RAW, HEADER, text, "t") is not None
    assert encoded(BY, [text], "t") == [None]


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b"{}", b"[]", b"nul", b"1", b"\xff", b'{"tenant": 1', b"[" * 9999, b'"',
        b'{"tenant":"t"', b'{"tenant":"t",', b'{"tenant":"t"}}', b'{"tenant"', b'{"tenant":',
        thing() + b"x", thing() + thing(), b"\xef\xbb\xbf" + thing(),
        thing(s='"@"').replace(b"@", b"\xc3"),
        thing(s='{"a":' * 5000 + "1" + "}" * 5000), thing(tenant='"\\u0074"'), thing(tenant="null"),
        thing(s='"@"').replace(b"@", b"\xc0\x80"), thing(s='"@"').replace(b"@", b"\xed\xa0\x80"),
        thing(s='"' + "s" * TEXT_BYTES_MAX + '"'),
    ],
)  # fmt: skip
def test_what_is_no_such_object_is_left_to_the_codec(text: bytes) -> None:
    assert encoded(BY, [text, thing(), text], "t") == [
        None, reference(RAW, HEADER, thing(), "t"), None
    ]  # fmt: skip


def test_every_text_is_looked_at_only_within_its_end() -> None:
    """What stands behind a text, here what would complete it, isn't part of it."""
    whole = thing(v="[1, 2]", m='{"a": 1}', a='["x"]', e='"p"')
    b = np.frombuffer(bytearray(whole + b"t"), np.uint8)
    n = len(whole)
    ends = np.arange(n, dtype=np.int64)
    _, size = BY.encode(
        b, (np.zeros(n, np.int64), ends), (np.full(n, n), np.ones(n, np.int64)), Buffer()
    )
    assert (size == -1).all()


def test_spans_outside_of_the_buffer_are_left_alone() -> None:
    text = thing()
    b = np.frombuffer(bytearray(text + b"t"), np.uint8)
    n = len(text)
    bad = [
        (-1, n, n, 1),
        (2, n, n, 1),
        (0, n + 2, n, 1),
        (0, -1, n, 1),
        (0, n, n + 1, 1),
        (0, n, n, 2),
    ]
    p, size, t, tn = np.array([*bad, (0, n, n, 1)], np.int64).T.copy()
    _, found = BY.encode(b, (p, size), (t, tn), Buffer())
    assert (found[:-1] == -1).all() and found[-1] > 0


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**19), 10**19))
def test_numbers_are_read_to_the_bit(x: float) -> None:
    text = thing(x=json.dumps(x))
    got = encoded(BY, [text], "t")[0]
    assert got is None or got == reference(RAW, HEADER, text, "t")
    if x == 0 or 1e-300 < abs(x) < 2**63:
        assert got is not None


@given(st.integers(0, 10**19 - 1), st.integers(-345, 310), st.booleans())
def test_decimals_are_read_to_the_bit(digits: int, exponent: int, down: bool) -> None:
    text = thing(x=f"{'-' * down}{digits}e{exponent}")
    got = encoded(BY, [text], "t")[0]
    assert got is None or got == reference(RAW, HEADER, text, "t")


@given(st.integers(2**53, 2**64), st.integers(1, 64))
def test_numbers_half_way_between_two_doubles_are_read_to_the_bit(w: int, k: int) -> None:
    for x in (w | 1, (w >> 11 << 11) + (1 << 10), ((w >> 11 << 11) + (1 << 10)) / 2**k):
        shown = str(x) if isinstance(x, int) else f"{x:.18e}"
        text = thing(x=shown)
        got = encoded(BY, [text], "t")[0]
        assert got is None or got == reference(RAW, HEADER, text, "t")


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES), st.sampled_from("T "), st.sampled_from(["auto", "seconds"]))
def test_times_are_read_as_by_python(at: datetime, sep: str, spec: str) -> None:
    text = thing(ts=f'"{at.isoformat(sep, spec)}"')
    got, want = encoded(BY, [text], "t")[0], reference(RAW, HEADER, text, "t")
    assert got == want or (got is None and at.year in (1, 9999))


@given(st.text("0123456789-:T.Z+ ", min_size=15, max_size=34), st.data())
def test_what_may_be_a_time_is_read_as_by_python_or_left_to_it(
    noise: str, data: st.DataObject
) -> None:
    given_ = list("2026-01-31T12:34:56.789012+01:30")
    for _ in range(data.draw(st.integers(0, 3))):
        given_[data.draw(st.integers(0, len(given_) - 1))] = data.draw(st.sampled_from(noise))
    for shown in (noise, "".join(given_), "".join(given_)[:19] + "Z"):
        text = thing(ts=f'"{shown}"')
        got = encoded(BY, [text], "t")[0]
        assert got is None or got == reference(RAW, HEADER, text, "t")
