"""Which letters go back, and which don't: each sentence of the law."""

from dataclasses import replace

import pytest

from agents.dlq.law import (
    EVERYBODYS,
    RECORD_BYTES_MAX,
    SAME_MS,
    Epoch,
    Known,
    Mark,
    folders_of,
    judge,
    judge_new,
)
from agents.dlq.letters import TIMES, Letter
from tests.unit.agents.dlq.samples import LOG_MS, SOURCE, avro, later, letter
from topics import codec

NOTHING = Known({})
OWN = "vector_ragged"  # a reason of one processor's law


def marked(one: Letter, what: str) -> Known:
    return Known({one.identity: Mark(what, one.times, 0)})


def test_what_would_be_folded_now_goes_as_it_came() -> None:
    for reason in ("law_failed", "ts_range", "unknown_schema", "control_refused"):
        found = judge(letter(avro(), [("mine", b"1")], reason=reason), NOTHING)
        assert (found.what, found.key, found.value) == ("send", b"me", avro())
        assert dict(found.headers)["mine"] == b"1" and not found.mended


@pytest.mark.parametrize("what", ["redriven", "dropped"])
def test_what_was_redriven_or_dropped_stays(what: str) -> None:
    one = letter(avro(), reason="law_failed")
    assert judge(one, marked(one, what)).why == what
    again = letter(avro(), offset=20, reason="law_failed")  # the same record's second letter
    assert judge(again, marked(one, what)).why == what
    failed_again = letter(avro(), [(TIMES, b"1")], reason="law_failed", origin=f"{SOURCE}/1/50")
    assert judge(failed_again, marked(one, what)).what == "send"


def test_after_so_many_times_it_is_parked_once_and_goes_when_more_are_allowed() -> None:
    one = letter(avro(), [(TIMES, b"3")], reason="law_failed")
    assert judge(letter(avro(), [(TIMES, b"2")], reason="law_failed"), NOTHING).what == "send"
    assert judge(one, NOTHING).what == "park"
    parked = marked(one, "parked")
    assert (judge(one, parked).what, judge(one, parked).why) == ("refuse", "parked")
    assert judge(one, parked, most=4).what == "send"
    assert dict(judge(one, parked, most=4).headers)[TIMES] == b"4"


def test_settings_and_batches_stay() -> None:
    setting = {"tenant": "me", "setting": "alpha", "value": "1", "author": "", "processor": ""}
    known = {name: setting.get(name, 0) for name in ("tenant", "setting", "value", "author", "ts")}
    control = codec.encode("control_setting", known, 1)
    for changes in ({}, {"value": "2"}):
        found = judge(letter(control, reason="control_refused"), NOTHING, changes=changes)
        assert (found.what, found.why) == ("refuse", "control")
    batch = replace(letter(b"...", reason="bad_batch"), form="batch")
    assert judge(batch, NOTHING).why == "too_large"


def test_a_record_that_others_fold_where_it_stands_stays() -> None:
    both = Known({}, folders=frozenset({"predictors", "counting"}))
    assert judge(letter(avro(), reason=OWN), Known({}, folders=frozenset({"predictors"}))).what == (
        "send"
    )
    for changes in ({}, {"domain": "other"}):
        found = judge(letter(avro(), reason=OWN), both, changes=changes)
        assert found.why == "folded" and "counting read it too" in found.said
        assert "rebuild predictors" in found.said
    assert judge_new(letter(avro(), reason="law_failed"), both, 3, b"", "me").why == "folded"
    # What nobody can read was folded by nobody.
    assert judge(letter(avro(), reason="ts_range"), both).what == "send"
    assert {"bad_avro", "ts_range"} <= EVERYBODYS
    assert not {"law_failed", "control_refused", OWN} & EVERYBODYS


def test_readers_that_keep_no_state_arent_asked() -> None:
    names = ["predictors", "integrator", "segmentation"]
    assert folders_of("cog.global.frame", names) == {"segmentation"}
    assert folders_of("memory.events", names) == set()
    assert folders_of("nowhere", names) == set()


def epochs(*found: tuple[float, int, str]) -> Known:
    """(seconds after the letter, from_offset, topic id) of predictors, partition 1."""
    listed = [Epoch(LOG_MS + round(1000 * s), offset, name) for s, offset, name in found]
    return Known({}, {("predictors", 1): listed})


def test_a_record_that_was_read_again_since_stays() -> None:
    one = letter(avro(), reason="law_failed")  # its record stood at offset 7
    for known, why in (
        (epochs((-500, 0, "")), ""),
        (epochs((-500, 0, ""), (500, 8, "")), ""),  # went on behind it
        (epochs((-500, 0, ""), (500, 7, "")), "folded"),
        (epochs((-500, 0, "a"), (500, 0, "a")), "folded"),
        (epochs((-500, 0, "a"), (500, 0, "")), "folded"),
        (epochs((-500, 0, "a"), (500, 0, "b")), ""),  # another topic's offsets
        (epochs((0.01, 7, "")), ""),  # of the letter's own transaction
        (epochs((-500, 0, "a"), (1, 5, "b"), (500, 3, "b")), "folded"),
    ):
        assert judge(one, known).why == why, known
    again = later(one, 2000)  # it failed again there: the younger letter goes
    assert judge(again, epochs((-500, 0, ""), (500, 7, ""))).what == "send"
    elsewhere = letter(avro(), reason="law_failed", origin=f"{SOURCE}/2/7")
    assert judge(elsewhere, epochs((-500, 0, ""), (500, 7, ""))).what == "send"
    other = letter(avro(), reason="law_failed", who="counting")
    assert judge(other, epochs((-500, 0, ""), (500, 7, ""))).what == "send"
    assert SAME_MS < 500_000


def test_a_record_of_a_state_made_anew_by_another_law_stays() -> None:
    def since(*found: tuple[int, int | None], law: int = 2) -> Known:
        """(seconds after the letter, first offset that isn't in the state made anew)."""
        first = Epoch(LOG_MS - 500_000, 0, "a", (1, ""))
        listed = [Epoch(LOG_MS + 1000 * s, 50, "a", (law, ""), end) for s, end in found]
        return Known({}, {("predictors", 1): [first, *listed]})

    one = letter(avro(), reason="vector_empty")  # its record stood at offset 7
    assert judge(one, since((500, None), (600, 8))).why == "folded"
    assert judge(one, since((500, None), (600, 7))).what == "send"  # not in it
    assert judge(one, since((500, None), (600, 8), law=1)).what == "send"  # it failed again
    assert judge(one, since((500, 8))).what == "send"  # the same
    assert judge(one, since((500, 8), (600, None))).what == "send"
    assert judge(later(one, 700), since((500, None), (600, 8))).what == "send"
    passed_over = letter(avro(), reason="law_failed")
    assert judge(passed_over, since((500, None), (600, 8))).what == "send"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "no value"),
        (b"", "starts with nothing"),
        (b"\0\0\0\0\1\2", "bad_avro"),
        (b"\0\0\0\xff\xff", "no schema has the id"),
        (b"{", "not JSON"),
        (b'{"tenant": "me", "vector": [1, "two"]}', "vector: [1]"),
        (codec.encode("skip", dict.fromkeys(("processor", "topic_id", "author", "reason"), "")
         | dict.fromkeys(("partition", "offset", "ts"), 0)), "a skip, not a observation"),
        (avro(tenant="a/b"), "tenant:"),
        (avro(ts="1999-01-01T00:00:00Z"), "ts:"),
        (avro(vector=[]), "vector: 0 numbers"),
    ],
)  # fmt: skip
def test_what_would_fail_again_isnt_sent_before_it_is_mended(
    value: bytes | None, said: str
) -> None:
    found = judge(letter(value), NOTHING)
    assert (found.what, found.why) == ("refuse", "still_bad") and said in found.said


def test_a_mended_record_goes_to_its_tenant() -> None:
    text = b'{"tenant": "a b", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": "no"}'
    one = letter(text, key=b"a b")
    found = judge(one, NOTHING, changes={"tenant": "you", "vector": [1, 2.5]})
    assert (found.what, found.key, found.mended, found.tenant) == ("send", b"you", True, "you")
    assert found.value == avro(tenant="you")
    from_avro = judge(letter(avro(vector=[])), NOTHING, changes={"vector": [1, 2.5]})
    assert (from_avro.what, from_avro.value) == ("send", avro())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vector": ["two"]}, 'vector: [0]: "two" is no number'),
        ({"vectr": [1]}, "no such field; did you mean vector?"),
        ({"tenant": "a/b"}, "tenant:"),
        ({"ts": "1999-01-01T00:00:00Z"}, "ts:"),
        ({"ts": None}, "ts: null"),
        ({"domain": 7}, "domain: 7 is no text"),
    ],
)
def test_a_mend_that_doesnt_fit_is_refused_by_name(changes: dict[str, object], said: str) -> None:
    found = judge(letter(avro()), NOTHING, changes=changes)
    assert (found.what, found.why) == ("refuse", "bad_mend") and said in found.said
    unread = judge(letter(b"junk"), NOTHING, changes={"domain": "a"})
    assert "can't be read" in unread.said


def test_what_is_too_large_unpacked_stays() -> None:
    big = avro(vector=[0.0] * 4096)
    room = RECORD_BYTES_MAX - len(big) - 200
    assert judge(letter(big, [("h", bytes(room))]), NOTHING).what == "send"
    found = judge(letter(big, [("h", bytes(room + 200))]), NOTHING)
    assert found.why == "too_large" and "bytes unpacked" in found.said


def test_a_key_that_isnt_the_record_s_tenant_becomes_it() -> None:
    assert judge(letter(avro(), key=b"elsewhere"), NOTHING).key == b"me"
    assert judge(letter(avro(), key=None), NOTHING).key == b"me"
