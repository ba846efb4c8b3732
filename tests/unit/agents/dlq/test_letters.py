"""Letters are read from any headers, and name the record that failed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.dlq.content import content_of, tenant_of
from agents.dlq.law import Known, judge
from agents.dlq.letters import (
    FIRST,
    FROM,
    TIMES,
    WHY,
    Headers,
    Place,
    letter_of,
    place_of,
    redriven_headers,
)
from agents.dlq.lines import line_of, read_line
from agents.dlq.listing import row_of, shown
from tests.unit.agents.dlq.samples import ID, LOG_MS, SOURCE, TOPIC, avro, letter, why

NAMES = st.one_of(st.sampled_from([*WHY, "soma-form", TIMES, FIRST, FROM, "mine"]), st.text())
VALUES = st.one_of(st.none(), st.binary(max_size=60), st.sampled_from([b"batch", b"1", b"9" * 40]))


def test_a_letter_says_all_that_its_headers_do() -> None:
    one = letter(b"{}", [("mine", b"1")], detail="vector: missing")
    assert str(one.place) == f"{TOPIC}.dlq/1/3" and str(one.origin) == f"{TOPIC}/1/7"
    assert (one.reason, one.detail, one.processor) == ("bad_json", "vector: missing", "predictors")
    assert one.headers == [("mine", b"1")] and (one.times, one.first_ms) == (0, LOG_MS)


def test_a_record_s_own_headers_of_these_names_are_left_to_it() -> None:
    own: Headers = [("soma-origin", b"elsewhere/0/1"), ("soma-hops", b"4"), ("soma-reason", b"x")]
    one = letter(b"{}", own)
    assert list(one.headers) == own and one.reason == "bad_json"
    assert [name for name, _ in redriven_headers(one)] == ["soma-reason", TIMES, FROM, FIRST]


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ([("soma-form", b"batch"), *why()], "batch"),  # as processors write it
        ([*why(), ("soma-form", b"origin")], "origin"),  # as the gateway does
    ],
)
def test_what_isnt_whole_says_so(headers: Headers, form: str) -> None:
    one = letter_of(Place(f"{TOPIC}.dlq", 1, 3), ID, LOG_MS, None, b"", headers, SOURCE)
    assert one.form == form and one.headers == []
    assert "too large" in content_of(one).wrong


@pytest.mark.parametrize(
    "headers",
    [
        [],
        why()[:3],
        why()[::-1],
        [*why(), ("later", b"")],
        why(origin=f"{TOPIC}/1/7"),  # of another namespace
        why(origin="ours.cog.segments/1/7"),
        why(origin=f"{SOURCE}/1/x"),
        why(origin=f"{SOURCE}/1/{10**19}"),
        why(reason=""),
        why(reason="Bad Reason"),
    ],
)
def test_what_isnt_ours_has_no_reason_and_keeps_its_headers(headers: Headers) -> None:
    one = letter_of(Place(f"{TOPIC}.dlq", 0, 0), ID, LOG_MS, None, b"x", headers, SOURCE)
    assert (one.reason, one.origin) == ("", None) and list(one.headers) == list(headers)
    assert judge(one, Known({})).why == "foreign"


def test_a_redriven_record_says_how_often_and_since_when() -> None:
    first = letter(b"{}", [("mine", None)])
    sent = redriven_headers(first)
    assert dict(sent) == {
        "mine": None, TIMES: b"1", FROM: f"{TOPIC}.dlq/1/3".encode(), FIRST: str(LOG_MS).encode(),
    }  # fmt: skip
    again = replace(letter(b"{}", sent, offset=9, origin=f"{SOURCE}/1/99"), log_ms=LOG_MS + 5000)
    assert (again.times, again.first_ms) == (1, LOG_MS)
    assert dict(redriven_headers(again))[TIMES] == b"2"
    assert dict(redriven_headers(again))[FIRST] == str(LOG_MS).encode()


@pytest.mark.parametrize("text", [b"", b"-1", b"x", b"9" * 30, b"1e3", None, "٣".encode()])
def test_a_number_that_is_none_counts_nothing(text: bytes | None) -> None:
    assert letter(b"{}", [(TIMES, text), (FIRST, text)]).times == 0
    one = letter(b"{}", [(TIMES, b"2"), (FIRST, text)])
    assert (one.times, one.first_ms) == (2, LOG_MS)


def test_the_record_is_named_not_the_letter() -> None:
    one = letter(b"{}")
    assert letter(b"{}", offset=4).identity == one.identity  # written twice
    others = [
        letter(b"{ }"), letter(None), letter(b"{}", key=None), letter(b"{}", key=b"m"),
        letter(b"{}", origin=f"{SOURCE}/1/8"), replace(one, topic_id="f" + ID[1:]),
    ]  # fmt: skip
    assert len({one.identity, *(other.identity for other in others)}) == 7


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), VALUES, VALUES, st.booleans())
def test_any_bytes_are_read_shown_judged_and_survive_an_export(
    headers: Headers, key: bytes | None, value: bytes | None, ours: bool
) -> None:
    headers = [*headers, *why()] if ours else headers
    one = letter_of(Place(f"{TOPIC}.dlq", 0, 5), ID, LOG_MS, key, value, headers, SOURCE)
    assert row_of(one, {}).status == "open" and shown(one, {})["place"]
    assert tenant_of(one, content_of(one)) is not None
    assert judge(one, Known({})).what in ("send", "park", "refuse")
    back = read_line(json.dumps(line_of(one)).encode())
    assert back.letter == replace(one, headers=[*one.headers]) and back.anew is None


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_none(text: str) -> None:
    found = place_of(text)
    assert found is None or str(found) == text or found.offset == int(text.rpartition("/")[2])


def test_the_tenant_is_the_record_s_else_the_key_s() -> None:
    for value, key, tenant in (
        (avro(), b"other", "me"),
        (b'{"tenant": "you", "vector": "no"}', b"other", "you"),
        (b"junk", b"other", "other"),
        (b"junk", b"a/b", ""),
        (b"junk", None, ""),
        (b'{"tenant": 7}', b"k", "k"),
    ):
        one = letter(value, key=key)
        assert tenant_of(one, content_of(one)) == tenant
