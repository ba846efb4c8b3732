"""Lines of an export: nothing is lost, and what was changed in one is checked."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.dlq.lines import LineError, line_of, read_line
from tests.unit.agents.dlq.samples import GOOD, avro, letter

BAD = b'{"tenant": "me", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": "no"}'


def text(**changes: Any) -> bytes:
    return json.dumps(line_of(letter(BAD, [("h", None), ("b", b"\xff")])) | changes).encode()


def test_a_line_has_the_record_to_mend_and_what_is_wrong_with_it() -> None:
    line = line_of(letter(BAD))
    assert line["record"] == json.loads(BAD) and "vector" in line["still_wrong"]
    assert line_of(letter(b"junk"))["record"] is None
    whole = line_of(letter(avro()))["record"]
    assert {name: whole[name] for name in GOOD} == GOOD


def test_a_line_as_it_was_is_the_letter_as_it_was() -> None:
    line = read_line(text())
    assert line.anew is None and line.letter == letter(BAD, [("h", None), ("b", b"\xff")])


def test_a_mended_line_has_a_new_value_and_the_old_one_s_name() -> None:
    line = read_line(text(record=GOOD))
    assert line.anew == (avro(), "me") and line.letter.identity == letter(BAD).identity
    from_junk = json.dumps(line_of(letter(b"junk")) | {"record": GOOD}).encode()
    assert read_line(from_junk).anew == (avro(), "me")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"record": {"tenant": "me"}}, "record: domain: missing"),
        ({"record": GOOD | {"vector": []}}, "record: vector: 0 numbers"),
        ({"record": [1]}, "record: neither an object nor null"),
        ({"place": "x"}, "place:"),
        ({"place": "cog.next.events.dlq/0/1"}, "place: there is no topic of dead letters"),
        ({"place": "cog.observations/0/1"}, "place: there is no topic of dead letters"),
        ({"origin": "cog.global.frame/1/7"}, "origin: isn't cog.observations/"),
        ({"origin": 7}, "origin: isn't text"),
        ({"key": "?"}, "key: not base64"),
        ({"value": 7}, "value: not base64"),
        ({"headers": None}, "headers:"),
        ({"headers": [["a"]]}, "headers:"),
        ({"headers": [["a", "?"]]}, "headers: not base64"),
        ({"headers": [["\ud800", None]]}, "headers: holds half"),
        ({"times": -1}, "times: isn't a whole number"),
        ({"times": True}, "times: isn't a whole number"),
        ({"log_ms": 1.5}, "log_ms:"),
        ({"reason": "No Reason"}, "reason:"),
        ({"detail": None}, "detail: isn't text"),
        ({"topic_id": "f" * 99}, "topic_id: isn't text of at most 32"),
    ],
)
def test_what_is_wrong_in_a_line_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LineError) as raised:
        read_line(text(**changes))
    assert said in str(raised.value)


@pytest.mark.parametrize("junk", [b"", b"[]", b"{", b"\xff", b"7", b'{"place": "a", "place": "b"}'])
def test_what_is_no_line_is_said(junk: bytes) -> None:
    with pytest.raises(LineError):
        read_line(junk)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(line_of(letter(BAD)))), JSON)
def test_any_value_of_any_field_is_taken_or_refused(name: str, value: Any) -> None:
    try:
        read_line(text(**{name: value}))
    except LineError as error:
        assert str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    with pytest.raises(LineError):
        read_line(data)
