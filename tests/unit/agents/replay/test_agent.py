"""Which commands are taken, which are refused and why, and what is kept of them."""

import json
from typing import Any

import pytest

from agents.kit import Driver
from agents.replay.agent import PROCESSOR
from agents.replay.command import Command, changes_of
from tests.unit.agents.replay.samples import BLANK
from topics import codec

START = {"mode": "republish", "source": "cog.observations", "target": "mine"}
LETTERS = {"mode": "redrive", "target": ""}
EVENTS = {"mode": "outbox", "source": "", "target": ""}
ANEW = {"mode": "rebuild", "source": "", "target": "integrator"}
TABLE = {"mode": "projection", "source": "", "target": "frames"}


def command(id_: str = "a", type_: str = "start", **more: Any) -> dict[str, Any]:
    return BLANK | {"id": id_, "type": type_} | (START if type_ == "start" else {}) | more


def answers(driver: Driver) -> list[tuple[str, str, str]]:
    """(id, state, message) of what was said since the last call."""
    found = [one.record for one in driver.take()]
    assert all(one is not None for one in found)
    return [(one["id"], one["state"], one["message"]) for one in found if one is not None]


def refused(driver: Driver, **more: Any) -> str:
    """Why a start is refused; nothing is kept of it."""
    driver.send(command("bad", **more))
    ((id_, state, why),) = answers(driver)
    assert (id_, state) == ("bad", "refused") and "bad" not in driver.rows
    return why


def test_a_start_is_accepted_and_kept() -> None:
    driver = Driver(PROCESSOR)
    driver.send(command(since="5", until="9", tenants=["x"], actor="eva"))
    assert answers(driver) == [("a", "accepted", "")]
    row = driver.rows["a"]
    assert (row["wanted"], row["asked"], row["actor"]) == ("run", 0, "eva")
    kept = Command.read(row["body"])
    assert (kept.mode, kept.source, kept.target) == ("republish", "cog.observations", "mine")
    assert (kept.tenants, kept.since, kept.until, kept.dry_run) == (("x",), "5", "9", False)


def test_the_same_again_is_answered_and_another_body_is_refused() -> None:
    driver = Driver(PROCESSOR)
    driver.send_all([command(actor="eva"), command(actor="bob"), command(target="other")])
    said = answers(driver)
    assert [state for _, state, _ in said] == ["accepted", "refused"]
    assert "another body" in said[1][2]
    row = driver.rows["a"]
    assert row["asked"] == 2  # the service says how it is, after either
    assert Command.read(row["body"]).target == "mine"


def test_what_is_wanted_follows_the_commands_and_stop_is_for_good() -> None:
    driver = Driver(PROCESSOR)
    driver.send(command())
    for type_, wanted in (
        ("pause", "pause"), ("status", "pause"), ("resume", "run"), ("stop", "stop"),
    ):  # fmt: skip
        driver.send(command(type_=type_))
        assert driver.rows["a"]["wanted"] == wanted
    answers(driver)
    driver.send(command(type_="resume"))
    ((_, state, why),) = answers(driver)
    assert (state, driver.rows["a"]["wanted"]) == ("refused", "stop") and "for good" in why


@pytest.mark.parametrize("type_", ["pause", "resume", "stop", "status"])
def test_a_job_that_isnt_there_is_named(type_: str) -> None:
    assert refused(Driver(PROCESSOR), type_=type_) == f"there is no job bad to {type_}"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"type_": "jump"}, "there is no type 'jump'; there are start, pause, resume, stop"),
        ({"mode": "rewind"}, "there is no mode 'rewind'; there are republish"),
        ({"mode": ""}, "there is no mode ''"),
        ({"source": ""}, "source: the topic to read is lacking"),
        ({"target": ""}, "give either a target"),
        ({"shadow": "try"}, "give either a target"),
        ({"target": "cog.observations"}, "into itself"),
        ({"target": "cog.observations.dlq"}, "is a topic of dead letters, and takes no replays"),
        ({"target": "mine.dlq"}, "target: mine.dlq is a topic of dead letters"),
        ({"apply": True}, "apply: not of republish"),
        ({"settings": ["integrator.share=0"]}, "settings: not of republish"),
        ({"since": "9", "until": "5"}, "reversed"),
        ({"since": "0:9,1:1", "until": "0:10,1:1"}, "reversed"),
        ({"since": "0:9", "until": "1:10"}, "different partitions"),
        ({"since": "5", "until": "2020-01-01T00:00:00Z"}, "give both of one sort"),
        ({"since": "2021-01-01T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, "reversed"),
        ({"since": "2099-01-01T00:00:00Z"}, "since is in the future"),
        ({"until": "2099-01-01T00:00:00Z"}, "until is in the future"),
        ({"since": "yesterday"}, "since: 'yesterday' is no time"),
        ({"since": "0:1,0:2"}, "names a partition twice"),
        ({"since": "1a2b3c4d-0-5", "until": "1a2b3c4e-0-9"}, "of different topics"),
        ({"tenants": [""]}, "tenants: '' is no name"),
        ({"tenants": ["x"] * 1001}, "tenants: 1001, at most 1000"),
        ({"predicate": "a["}, "predicate: Invalid jmespath expression: Incomplete"),
        ({"predicate": "nosuch(a)"}, "predicate: Unknown function"),
        ({"predicate": "(" * 999}, "predicate: 999 words, at most 200"),
        ({"predicate": "`1` < 'a'"}, "predicate: '<' not supported between"),
        ({"predicate": "ceil(`1e400`)"}, "predicate: cannot convert float infinity"),
        ({"predicate": "`[1,2]`[::0]"}, "predicate: slice step cannot be zero"),
        ({"predicate": "`[1]`" + "|[@,@][]" * 25}, "predicate: it takes more than 10,000 steps"),
        ({"rate_limit": -1}, "rate_limit: -1"),
        ({"reasons": ["bad_json"], "max_attempts": 2}, "reasons, max_attempts: not of republish"),
        (LETTERS | {"source": "cog.next.events"}, "'cog.next.events' has no dead letters; those"),
        (LETTERS | {"target": "mine", "predicate": "a"}, "target, predicate: not of redrive"),
        (LETTERS | {"since": "5"}, "of dead letters they are times"),
        (LETTERS | {"max_attempts": -1}, "max_attempts: 1 to 1,000"),
        (LETTERS | {"settings": ["vector"]}, "settings: 'vector' isn't FIELD=VALUE"),
        (LETTERS | {"settings": ["ts=1", "ts=2"]}, "settings: ts is given twice"),
        (LETTERS | {"settings": ["a=" + "x" * 100_000]}, "settings: 100,002 characters, at most"),
        (EVENTS | {"target": "mine"}, "target: not of outbox"),
        (EVENTS | {"status": "pending"}, "status: 'pending' is none of failed, skipped, sent"),
        (EVENTS | {"since": "5"}, "of the outbox they are times"),
        (EVENTS | {"status": "sent"}, "of what was sent say whose, or when"),
        (ANEW | {"target": ""}, "target: the processor whose state is to be made anew is lacking"),
        (ANEW | {"source": "x", "domains": ["a"]}, "source, domains: not of rebuild"),
        (ANEW | {"shadow": "try", "apply": True}, "apply: not with a shadow: look at the outputs"),
        (
            ANEW | {"shadow": "try", "since": "0:3", "until": "0:5", "partial": True},
            "partial, since, until: not with a shadow",
        ),
        (ANEW | {"since": "0:3", "until": "0:5"}, "they say what may be missing, both, and with "),
        (ANEW | {"since": "3", "partial": True}, "they say what may be missing, both"),
        (
            ANEW | {"since": "2020-01-01T00:00:00Z", "until": "2021-01-01T00:00:00Z"}
            | {"partial": True},
            "is said in offsets",
        ),
        (ANEW | {"tenants": ["x"] * 1001}, "tenants: 1001, at most 1000"),
        (ANEW | {"folded_to": "5"}, "folded_to: '5': PARTITION:OFFSET, such as 3:1200"),
        (ANEW | {"folded_to": "3:x"}, "folded_to: '3:x' is no time"),
        ({"folded_to": "3:5", "begin": "log"}, "folded_to, begin: not of republish"),
        (ANEW | {"begin": "end"}, "begin: 'end' is neither log nor snapshot"),
        (TABLE | {"target": "frame"}, "there is no projection 'frame'; there are frames, frame_hi"),
        (TABLE | {"target": ""}, "there is no projection ''"),
        (TABLE | {"tenants": ["t"], "since": "5"}, "tenants, since: not of a projection, which is"),
        (TABLE | {"source": "cog.segments", "apply": True}, "source, apply: not of a projection"),
    ],
)  # fmt: skip
def test_a_start_that_cant_be_is_refused_with_the_reason(given: dict[str, Any], said: str) -> None:
    assert said in refused(Driver(PROCESSOR), **given)


TRY = {"mode": "what-if", "source": "", "target": "", "tenants": ["t"]}
HEDGE = ["integrator.fusion=hedge"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "settings: give settings of one processor, not of none"),
        ({"settings": ["fusion=hedge"]}, "'fusion=hedge': PROCESSOR.NAME=VALUE, as integrator"),
        ({"settings": ["integrator.fusion="]}, "PROCESSOR.NAME=VALUE"),
        ({"settings": [*HEDGE, "predictors.alpha=2"]}, "not of integrator, predictors"),
        ({"settings": [*HEDGE, "integrator.fusion=softmax"]}, "integrator.fusion is given twice"),
        ({"settings": HEDGE, "tenants": ["x"] * 21}, "tenants: at most 20, not 21; none for all"),
        ({"settings": HEDGE, "shadow": "try", "domains": ["a"]}, "shadow, domains: not of a what"),
        ({"settings": HEDGE, "since": "9", "until": "9"}, "reversed or empty"),
    ],
)
def test_a_what_if_that_cant_be_is_refused(given: dict[str, Any], said: str) -> None:
    assert said in refused(Driver(PROCESSOR), **(TRY | given))


def test_what_is_tried_is_kept_in_its_order() -> None:
    driver = Driver(PROCESSOR)
    tried = ["segmentation.cpd=glr", "segmentation.glr_bar=3=x"]
    driver.send(command(**(TRY | {"tenants": []}), settings=tried))
    assert answers(driver) == [("a", "accepted", "")]
    kept = Command.read(driver.rows["a"]["body"])
    name, changes = changes_of(kept.settings)
    assert (name, changes) == ("segmentation", {"cpd": "glr", "glr_bar": "3=x"})


def test_a_predicate_of_a_field_that_may_come_is_taken() -> None:
    driver = Driver(PROCESSOR)
    driver.send(command(predicate="length(domain) > `3`"))
    assert answers(driver) == [("a", "accepted", "")]


def test_json_by_any_client_does_and_junk_stops_nothing() -> None:
    driver = Driver(PROCESSOR)
    text = json.dumps({"id": "a", "type": "start"} | START).encode()
    driver.send_bytes([
        (b"a", text), (b"a", b'{"id": "a\xff"}'), (b"a", b"\xff\xfe"), (b"a", b""), (b"a", None),
        (b"a", b'{"id": "a", "type": "start", "colour": 1}'), (b"a", b'{"id": "a b"}'),
        (b"a", codec.encode("replay_command", command(type_="status"))),
    ])  # fmt: skip
    accepted, *refused = answers(driver)
    assert accepted == ("a", "accepted", "")
    letters = driver.dead_letters
    assert len(letters) == 6 and driver.rows["a"]["asked"] == 1
    assert refused == [("a", "refused", f"{one.reason}: {one.detail}") for one in letters]
    assert refused[0][2].startswith("bad_json: ") and "colour" in refused[4][2]


def test_what_is_no_command_is_refused_by_its_key_whatever_that_is() -> None:
    driver = Driver(PROCESSOR)
    driver.send_bytes([(b"caf\xc3\xa9\xff\n\x00", b"1"), (None, b"2"), (b"k" * 300, b"3")])
    first, second, third = answers(driver)
    assert first[0] == "caf\u00e9\\xff\\n\\x00" and third[0] == "k" * 128
    assert second[0].endswith("soma.admin.replay/0/1")
    assert {state for _, state, _ in (first, second, third)} == {"refused"}
    driver.send(command())
    driver.send_bytes([(b"a", b"junk")])
    keys = [one.key for one in driver.take()]
    assert keys[0] == "a" and keys[1].endswith("/4"), "a job's last status isn't compacted away"


def test_ten_thousand_commands_at_once() -> None:
    driver = Driver(PROCESSOR)
    bad = {"since": "9", "until": "5"}
    driver.send_all(command(f"job-{k}", **(bad if k % 2 else {})) for k in range(10_000))
    assert len(answers(driver)) == 10_000 and len(driver.rows) == 5_000
    driver.restart()
    assert len(driver.rows) == 5_000


def test_a_command_says_the_same_whatever_later_versions_add() -> None:
    assert Command(mode="republish", source="x").body == '{"mode":"republish","source":"x"}'
    with pytest.raises(ValueError, match="a newer version accepted it: hue"):
        Command.read('{"mode":"republish","hue":3}')
