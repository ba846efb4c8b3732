"""Bodies: the strict parser against the standard library, depth without parsing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.api.bodies import DEPTH_MAX, depth, parse
from agents.api.large import LARGE_BYTES
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


def levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return max(map(levels, inner), default=0) + isinstance(value, dict | list)


@given(JSON, st.booleans())
def test_what_it_takes_is_what_was_meant(value: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(JSON)
def test_a_large_body_is_parsed_as_a_small_one(value: Any) -> None:
    assert parse(json.dumps([value, "x" * LARGE_BYTES]).encode())[0] == value


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
    except Problem as problem:
        assert problem.status_code == 400
    else:
        assert value == json.loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 33 + b"]" * 33, b"[" * 100_000, b'{"a":' * 100_000, b'["' + b'\\"' * 2_000_000,
        b'"' * 2_000_000, b'{"a":1,"a":1}', b"NaN", b"[-Infinity]", b'"\\u0000"', b'{"\\ud800":1}',
        b"\xff", b"", b"1" * 10_000, b"\xef\xbb\xbf{}", b'{"a":1e400}', b"[-1E+309]",
        b"1" * 400 + b".0", b"[" * 2_000_000 + b"]" * 2_000_000,
    ],
)  # fmt: skip
def test_hostile_bodies_are_refused_quickly(data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse(data)
    assert caught.value.status_code == 400
