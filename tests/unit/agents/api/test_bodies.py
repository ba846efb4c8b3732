"""Bodies: the strict parser, as `topics.strictjson` but for what no database takes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.api.bodies import parse
from agents.api.offload import LARGE_BYTES
from agents.api.problems import Problem

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


@given(JSON, st.booleans())
def test_what_it_takes_is_what_was_meant(value: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(JSON)
def test_a_large_body_is_parsed_as_a_small_one(value: Any) -> None:
    assert parse(json.dumps([value, "x" * LARGE_BYTES]).encode())[0] == value


@given(st.binary(max_size=200) | st.text('"\\[]{}:,019.eE-+tfn u', max_size=200).map(str.encode))
def test_random_bytes_are_parsed_as_elsewhere_or_refused(data: bytes) -> None:
    try:
        value = parse(data)
    except Problem as problem:
        assert problem.status_code == 400
    else:
        assert value == json.loads(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[" * 100_000, "isn't JSON as it is taken here: nested too deeply"),
        (b'{"a":1,"a":1}', "given twice"),
        (b'"\\u0000"', "A text holds NUL"),
        (b'{"\\ud800":1}', "half of a surrogate pair"),
        (b"\xff", "UTF-8"),
        (b"", "not JSON"),
        (b"[-1E+309]", "beyond a float64's range"),
    ],
)
def test_hostile_bodies_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(Problem, match=why) as caught:
        parse(data)
    assert caught.value.status_code == 400
