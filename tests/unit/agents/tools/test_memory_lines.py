"""Memories as lines and as events again: the same payload, vector and links, and one key a line."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.coordinates import canonical, memory_id
from agents.tools.memory_lines import How, LineError, line_of, read_line
from topics.codec import from_json

WHOLE: dict[str, Any] = {
    "coordinate": "alice/style", "namespace": "people", "memory_type": "semantic",
    "payload": {"text": "short", "n": [1, 2.5, None]}, "importance": 2.0, "embedding": [1.0, -0.5],
    "model_revision": "m1", "links": {"bob/style": "like"}, "ts": "2026-01-31T12:00:00Z",
}  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | TEXT | st.floats(
    allow_nan=False, allow_infinity=False)  # fmt: skip
PAYLOADS = st.dictionaries(
    st.text(max_size=5), st.recursive(SCALARS, lambda one: st.lists(one, max_size=3)), max_size=4
)
FLOATS = st.floats(0.25, 1024, width=32) | st.floats(-1024, -0.25, width=32)


def data(**changes: Any) -> bytes:
    return json.dumps(WHOLE | changes).encode()


@given(
    PAYLOADS, st.lists(FLOATS, max_size=6), st.none() | st.floats(-9, 9), TEXT.map(str.strip),
    st.integers(0, 4_000_000_000_000_000),
)  # fmt: skip
def test_what_is_written_is_what_was_read(
    payload: dict[str, Any], vector: list[float], importance: float | None, place: str, ts: int
) -> None:
    try:
        coordinate = canonical(place)
    except ValueError:
        return
    id_, raw = memory_id("a", coordinate), struct.pack(f"<{len(vector)}f", *vector)
    head = {
        "namespace": "n", "memory_type": "episodic", "importance_raw": importance,
        "links": {"x" * 36: "gone", id_: "self"}, "updated_ts": ts,
    }  # fmt: skip
    content = {
        "coordinate": coordinate, "payload": json.dumps(payload), "vector": raw,
        "model_revision": "m",
    }  # fmt: skip
    written = line_of(head, content, {"other": "o"})
    assert written["links"] == {}
    line = read_line(json.dumps(written).encode())
    event = from_json("memory_event", line.created("b"))
    assert json.loads(event["payload"]) == payload
    assert (event["embedding"], event["importance"], event["ts"]) == (raw, importance, ts)
    assert (event["id"], event["tenant"]) == (memory_id("b", coordinate), "b")


def test_links_follow_their_coordinates_and_are_events_of_their_own() -> None:
    line = read_line(data(links={"c": "two", "b, 1": "one"}))
    events = [from_json("memory_event", one) for one in line.linked("t")]
    assert [one["links"] for one in events] == [
        {memory_id("t", "b, 1"): "one"}, {memory_id("t", "c"): "two"},
    ]  # fmt: skip
    made = line.created("t")
    assert "links" not in made and made["expected_version"] == 0
    assert line.created("t", How(replace=True))["expected_version"] is None
    assert {one["namespace"] for one in events} == {"people"}
    assert {one["expected_key"] for one in events} == {made["dedupe_key"]}


def test_what_happens_at_another_time_or_in_another_way_is_another_event() -> None:
    line, at = read_line(data()), "2026-02-01T00:00:00Z"
    ways = [How(), How(at), How(at, replace=True), How("2026-02-01T00:00:01Z")]
    created = [line.created("t", how) for how in ways]
    linked = [one for how in ways for one in line.linked("t", how)]
    assert len({one["dedupe_key"] for one in created + linked}) == 8
    assert [one["expected_key"] for one in linked] == [one["dedupe_key"] for one in created]
    assert [one["ts"] for one in created] == [one["ts"] for one in linked]
    assert [one["ts"] for one in created[:2]] == [WHOLE["ts"], at]
    assert [one["expected_version"] for one in created] == [0, 0, None, 0]


def test_a_key_follows_from_the_line_and_whose_it_is() -> None:
    line, same = read_line(data()), read_line(data(importance=2.0) + b"\n")
    keys = {
        line.key("a", "created"), line.key("b", "created"), line.key("a", "linked"),
        read_line(data(importance=3.0)).key("a", "created"),
    }  # fmt: skip
    assert len(keys) == 4 and same.key("a", "created") == line.key("a", "created")
    assert all(len(one) < 60 for one in keys)


def test_half_of_a_surrogate_pair_comes_through_as_it_was_escaped() -> None:
    line = read_line(rb'{"coordinate":"c","ts":"2026-01-31T12:00:00Z","payload":{"t":"\ud800"}}')
    event = from_json("memory_event", line.created("a"))
    assert event["payload"] == r'{"t":"\ud800"}'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"), (b"[]", "a list"), (b'{"ts": "x"}', "coordinate: missing"),
        (b'{"a":1,"a":2}', "twice"), (b'{"coordinate":NaN}', "NaN"), (b"\xff", "UTF-8"),
        (data(other=1), "other: no such field"), (data(payload="text"), "payload"),
        (data(payload=None), "payload"), (data(ts="2026-01-31"), "time zone"),
        (data(ts=3), "ts"), (data(coordinate=""), "empty"), (data(coordinate="x" * 600), "512"),
        (data(embedding=[0.0, 0.0]), "all zero"), (data(embedding=[1e39]), "out of range"),
        (data(embedding=["x"]), "no number"), (data(embedding=[1.0] * 5000), "4096"),
        (data(importance=True), "importance"), (data(importance=10**400), "importance"),
        (data(memory_type="other"), "memory_type"), (data(namespace="a\nb"), "namespace"),
        (data(links={"b": ""}), "kind"), (data(links={"b": 1}), "kind"),
        (data(links={"": "x"}), "empty"), (data(links={"alice/style": "self"}), "links"),
        (data(links={f"l{k}": "x" for k in range(300)}), "at most 256"),
        (data(payload={"x": [[[[]]]] * 2} | {"d": eval("[" * 40 + "]" * 40)}), "nested"),
    ],
)  # fmt: skip
def test_what_is_no_memory_is_said(line: bytes, said: str) -> None:
    with pytest.raises(LineError, match=said):
        read_line(line)
