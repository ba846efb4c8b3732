import base64
import json
import math
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.topics.strategies import DOUBLES, NAMED, NAMED_RECORDS
from topics.codec import decode, encode
from topics.jsonform import MANY, TEXT_BYTES_MAX, from_json, parse, to_json
from topics.schemas import schemas
from topics.walk import BadRecord

TIME = "2026-01-31T12:00:00Z"
MICROS = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()) * 1_000_000
GOOD: dict[str, Any] = {"tenant": "a", "domain": "d", "ts": TIME, "vector": [1, 0.1, -2.5]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def refused(text: Any, name: str = "observation") -> BadRecord:
    with pytest.raises(BadRecord) as caught:
        from_json(name, text)
    return caught.value


def update(**fields: Any) -> dict[str, Any]:
    good = {"tenant": "a", "domain": "d", "predictor_type": "heat", "error_metric": 1, "ts": TIME}
    return {**good, **fields}


@given(NAMED_RECORDS)
def test_the_way_out_and_in_again_changes_no_byte(pair: tuple[str, dict[str, Any]]) -> None:
    name, record = pair
    text = json.dumps(to_json(name, record), allow_nan=False)
    assert encode(name, from_json(name, text)) == encode(name, record)
    assert decode(encode(name, from_json(name, text.encode()))) == (name, record)


@given(NAMED, JSON | st.dictionaries(st.sampled_from(sorted(GOOD)), JSON))
def test_any_json_is_taken_or_bad(name: str, content: Any) -> None:
    try:
        encode(name, from_json(name, json.dumps(content)))
    except BadRecord as error:
        assert error.reason in ("bad_json", "bad_utf8")


@given(NAMED, st.binary(max_size=60) | st.text(max_size=60))
@example("brought_row", b"{}")  # each of its fields has a default
def test_any_text_is_taken_or_bad(name: str, text: str | bytes) -> None:
    try:
        encode(name, from_json(name, text))
    except BadRecord as error:
        assert error.reason in ("bad_json", "bad_utf8")
    else:
        assert parse(text).keys() <= {field["name"] for field in schemas().raw(name)["fields"]}


@given(NAMED, st.data())
def test_what_lacks_is_a_default_or_named(name: str, data: st.DataObject) -> None:
    fields = schemas().raw(name)["fields"]
    gone = data.draw(st.sampled_from(fields))
    zero: dict[str, Any] = {f["name"]: _some(f["type"]) for f in fields if f is not gone}
    if "default" in gone:
        assert gone["name"] in from_json(name, zero)
    else:
        assert refused(zero, name).detail == f"{gone['name']}: missing"


def _some(kind: Any) -> Any:
    if isinstance(kind, list):
        return None
    if isinstance(kind, dict) and "logicalType" in kind:
        return TIME
    if isinstance(kind, dict) and kind["type"] == "enum":
        return kind["symbols"][0]
    body = kind["type"] if isinstance(kind, dict) else kind
    lists: Any = [] if isinstance(kind, dict) and "vector" in kind else ""
    plain = {"string": "", "bytes": lists, "map": {}, "array": [], "boolean": False}
    return plain.get(body, 0)


def test_people_write_times_and_vectors_as_they_are_used_to() -> None:
    record = from_json("observation", json.dumps(GOOD))
    assert record["ts"] == MICROS
    assert record["vector"] == struct.pack("<3f", 1, 0.1, -2.5)
    assert record["sequence"] is None
    shown = to_json("observation", decode(encode("observation", record))[1])
    assert shown == {**GOOD, "vector": [1.0, 0.1, -2.5], "sequence": None}
    assert list(shown) == ["tenant", "domain", "ts", "vector", "sequence"]


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001+00:00", 1),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T24:00:00Z", 86_400_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        (MICROS, MICROS),
        (-(2**63), -(2**63)),
    ],
)
def test_times(text: Any, micros: int) -> None:
    assert from_json("observation", {**GOOD, "ts": text})["ts"] == micros


def test_times_beyond_the_calendar_stay_integers() -> None:
    for micros in (2**63 - 1, -(2**63)):
        assert to_json("control_tick", {"ts": micros}) == {"ts": micros}
        assert from_json("control_tick", {"ts": micros}) == {"ts": micros}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"error_metric": "x"}, 'error_metric: "x" is no number'),
        ({"error_metric": None}, "error_metric: null"),
        ({"error_metric": True}, "error_metric: true is no number"),
        ({"error_metric": math.nan}, "error_metric: nan isn't finite"),
        ({"error_metric": math.inf}, "error_metric: inf isn't finite"),
        ({"error_metric": 1e39}, "error_metric: out of range for a float"),
        ({"error_metric": 10**400}, "error_metric: out of range for a float"),
        ({"vector_dim": 2**31}, "vector_dim: out of range: more than 32 bits"),
        ({"vector_dim": 1.0}, "vector_dim: 1.0 is no whole number"),
        ({"vector_dim": False}, "vector_dim: false is no whole number"),
        ({"ts": 2**63}, "ts: out of range: more than 64 bits"),
        ({"ts": "2026-01-31T12:00:00"}, "no time zone"),
        ({"ts": "noon"}, 'ts: "noon" isn\'t ISO 8601'),
        ({"ts": "0001-01-01T00:00:00+14:00"}, "isn't within the years 1-9999 of UTC"),
        ({"ts": "9999-12-31T23:59:59-14:00"}, "isn't within the years 1-9999 of UTC"),
        ({"ts": 1.5}, "ts: 1.5 is neither ISO 8601 text nor microseconds"),
        ({"tenant": 1}, "tenant: 1 is no text"),
        ({"tenant": ["a"]}, "tenant: a list is no text"),
        ({"tenant": "\ud800"}, "tenant: holds half of a surrogate pair"),
        ({"domian": "d"}, '"domian": no such field; did you mean domain?'),
        ({"x" * 5000: 1}, "...: no such field"),
    ],
)
def test_the_field_and_the_fault_are_named(fields: dict[str, Any], said: str) -> None:
    error = refused(update(**fields), "predictor_update")
    assert error.reason == "bad_json"
    assert said in error.detail
    assert len(error.detail) < 200


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ("AAAA", 'vector: "AAAA" is no list of numbers'),
        ([1, "2"], 'vector: [1]: "2" is no number'),
        ([1, None], "vector: [1]: null"),
        ([math.nan], "vector: [0]: nan isn't finite"),
        ([1e39], "vector: [0]: out of range"),
    ],
)
def test_vectors_are_lists_of_finite_numbers(vector: Any, said: str) -> None:
    assert said in refused({**GOOD, "vector": vector}).detail


LONG = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(2**70), 2**70),
    min_size=MANY,
)
ODD = st.sampled_from([True, None, "1", [], math.nan, math.inf, 3.4028235677973366e38, 10**400])


@given(LONG, ODD, st.integers(0, 100))
def test_long_vectors_are_as_short_ones(numbers: list[Any], odd: Any, place: int) -> None:
    """From `MANY` numbers on they are packed at once."""
    alone = [from_json("observation", {**GOOD, "vector": [one]})["vector"] for one in numbers]
    assert from_json("observation", {**GOOD, "vector": numbers})["vector"] == b"".join(alone)
    at = min(place, len(numbers))
    wrong = refused({**GOOD, "vector": [*numbers[:at], odd, *numbers[at:]]}).detail
    assert wrong == refused({**GOOD, "vector": [odd]}).detail.replace("[0]", f"[{at}]")


def test_everything_wrong_is_named_at_once_but_not_without_end() -> None:
    error = refused({"tenant": 1, "ts": "noon", "vector": [], "extra": 0})
    assert [part.partition(":")[0] for part in error.detail.split("; ")] == [
        "tenant",
        "domain",
        "ts",
        '"extra"',
    ]
    many = refused({**GOOD, **{f"unknown-{k}-{'x' * 50}": 1 for k in range(1000)}})
    assert many.detail.endswith("and 990 more")
    assert len(many.detail) < 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"tenant": NaN}', "NaN is no number in JSON"),
        ('{"tenant": -Infinity}', "-Infinity is no number in JSON"),
        ('{"tenant": "a", "tenant": "b"}', '"tenant": given twice'),
        ('{"a": {"b": 1, "b": 2}}', '"b": given twice'),
        ('{"tenant": "a"', "not JSON: Expecting ',' delimiter at character 15"),
        ("[]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 1_000_000, "nested too deeply"),
        ('{"ts": ' + "9" * 5000 + "}", "too many digits"),
    ],
)
def test_text_that_is_no_object_is_said_to_be_so(text: str, said: str) -> None:
    assert said in refused(text).detail


def test_size_is_bounded_before_parsing() -> None:
    text = json.dumps({**GOOD, "tenant": "a" * TEXT_BYTES_MAX})
    assert refused(text).reason == "too_large"
    assert refused("é" * TEXT_BYTES_MAX).reason == "too_large"


@pytest.mark.parametrize("text", [b'{"tenant": "\xff"}', '{"tenant": "\ud800"}'])
def test_text_must_be_utf8(text: str | bytes) -> None:
    assert refused(text).reason == "bad_utf8"


@given(st.dictionaries(st.text(max_size=3), st.one_of(DOUBLES, st.none(), st.text()), max_size=3))
def test_maps_take_numbers_only(settings: dict[Any, Any]) -> None:
    row = to_json("integrator_state", from_json("integrator_state", {}))
    row["settings"] = settings
    wrong = [key for key, value in settings.items() if not isinstance(value, float)]
    try:
        assert from_json("integrator_state", row)["settings"] == settings
        assert not wrong
    except BadRecord as error:
        assert wrong or any("\ud800" <= c <= "\udfff" for key in settings for c in key)
        assert error.detail.startswith("settings: [")


def test_what_json_cannot_say_becomes_null_or_base64() -> None:
    record = from_json("observation", GOOD)
    record["vector"] = struct.pack("<2f", math.nan, 1)
    assert to_json("observation", record)["vector"] == [None, 1.0]
    record["vector"] = b"odd"
    assert to_json("observation", record)["vector"] == base64.b64encode(b"odd").decode()


def test_defaults_are_not_shared_between_records() -> None:
    first = from_json("integrator_state", {})
    first["domains"].append("state")
    assert from_json("integrator_state", {})["domains"] == []
