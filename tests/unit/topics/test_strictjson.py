"""JSON by one rule: what it takes is what the standard library reads, and nobody here is laxer."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.checks import begins_object as begins_object_kernel
from topics import strictjson
from topics.strictjson import DEPTH_MAX, NotJsonError, begins_object, depth, parse

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=60,
)


def levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return max(map(levels, inner), default=0) + isinstance(value, dict | list)


@given(JSON, st.booleans())
def test_what_it_takes_is_what_was_meant(value: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(JSON)
def test_depth_is_told_exactly(value: Any) -> None:
    many = [value, *[[]] * DEPTH_MAX]  # fewer brackets aren't looked at
    assert depth(json.dumps(many).encode()) == levels(many)


@given(JSON, st.integers(0, 60))
def test_depth_is_never_told_too_small(value: Any, more: int) -> None:
    text = "[" * more + json.dumps(value) + "]" * more
    assert depth(text.encode()) >= min(levels(value) + more, DEPTH_MAX + 1)


@given(st.lists(st.text('"\\[]{} ax\n', max_size=6), max_size=60))
def test_brackets_in_strings_don_t_count(texts: list[str]) -> None:
    assert depth(json.dumps([*texts, "[" * 100]).encode()) == 1


@given(st.binary(max_size=200) | st.text('"\\[]{}:,019.eE-+tfn u', max_size=200).map(str.encode))
def test_random_bytes_are_parsed_as_elsewhere_or_refused(data: bytes) -> None:
    try:
        value = parse(data)
    except NotJsonError as error:
        assert str(error)
    else:
        assert value == json.loads(data)


@given(JSON, st.text(" \t\r\n", max_size=3), st.booleans())
def test_white_space_and_a_byte_order_mark_may_stand_before_it(
    value: Any, blank: str, marked: bool
) -> None:
    text = blank + json.dumps(value) + blank
    assert parse("\ufeff" * marked + text) == value
    assert parse(strictjson.BOM * marked + text.encode()) == value


@given(st.dictionaries(TEXT, JSON, min_size=1), st.data())
def test_no_object_that_was_cut_off_is_one(value: dict[str, Any], data: st.DataObject) -> None:
    """So a record's line without an end is whole or refused: no half of it is published."""
    text = json.dumps(value)
    with pytest.raises(NotJsonError):
        parse(text[: data.draw(st.integers(0, len(text) - 1))])


STARTS = st.sampled_from([b"\xef", b"\xbb", b"\xbf", b" ", b"\n", b"{", b"\0", b"["])


@given(st.lists(STARTS, max_size=6).map(b"".join), st.binary(max_size=2))
def test_the_kernel_knows_an_object_by_its_beginning_as_python_does(
    start: bytes, rest: bytes
) -> None:
    value = start + rest
    buffer = np.frombuffer(b"{" + value + b"{", np.uint8)  # what lies beside it doesn't count
    assert begins_object_kernel(buffer, 1, 1 + len(value)) == begins_object(value)
    if begins_object(value):
        assert value[:1] != b"\0", "that is how Avro begins"


@pytest.mark.parametrize(
    ("data", "why", "place"),
    [
        (b"[" * 33 + b"]" * 33, "nested too deeply: more than 32 levels", -1),
        (b"[" * 100_000, "nested too deeply", -1),
        (b'{"a":' * 100_000, "nested too deeply", -1),
        (b"[" * 2_000_000 + b"]" * 2_000_000, "nested too deeply", -1),
        (b'["' + b'\\"' * 2_000_000, "not JSON: Unterminated string", 1),
        (b'"' * 2_000_000, "not JSON: Extra data at character 3", 2),
        (b'{"a":1,"a":1}', '"a": given twice', -1),
        (b'{"a":{"b":1,"c":2,"b":1}}', '"b": given twice', -1),
        (b"NaN", "NaN is no number in JSON", -1),
        (b"[-Infinity]", "-Infinity is no number in JSON", -1),
        (b"\xff", "not UTF-8: invalid start byte at byte 1", -1),
        (b"", "not JSON: Expecting value at character 1", 0),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "not JSON", 0),
        (b"1" * 10_000, "a number has too many digits", -1),
        (b'{"a":1e400}', "1e400 is beyond a float64's range", -1),
        (b"[-1E+309]", "-1E+309 is beyond", -1),
        (b"1" * 400 + b".0", "1" * 40 + " is beyond", -1),
        ("\ud800", "not UTF-8: surrogates not allowed", 0),
    ],
)
def test_what_is_refused_is_named(data: bytes | str, why: str, place: int) -> None:
    with pytest.raises(NotJsonError) as caught:
        parse(data)
    assert str(caught.value).startswith(why)
    assert caught.value.place == place
    assert len(str(caught.value)) < 100
