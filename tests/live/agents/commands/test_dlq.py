"""`soma dlq` on a real Kafka: letters are shown, mended, redriven, parked, dropped, exported."""

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agents.cli import main
from agents.dlq import law
from agents.dlq.reading import Choice
from agents.dlq.redrive import Terms, redrive
from agents.settings import Settings
from ops.stack import Endpoints
from tests.live.agents.dlq.written import (
    DLQ,
    TOPIC,
    headers,
    value,
    write_letters,
    write_nameless,
)
from tests.live.conftest import WorkerFactory, settings_of, with_topics
from tests.live.helpers import environment, eventually, produce, read
from topics import codec

AUDIT, LEDGER = "soma.audit", "soma.dlq.ledger"
BAD = b'{"tenant": "me", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": [1, "two"]}'


def run(settings: Settings, *words: str, given: str = "") -> Result:
    """In this process: a new one takes a second each time, and there are many."""
    result = CliRunner(env=environment(settings)).invoke(main, ["dlq", *words], input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def dlq(settings: Settings, *words: str, given: str = "", status: int = 0) -> Result:
    done = run(settings, *words, given=given)
    assert done.exit_code == status, done.stderr + done.stdout
    return done


def data(settings: Settings, *words: str, status: int = 0) -> Any:
    return json.loads(dlq(settings, *words, "--json", status=status).stdout)


def records(settings: Settings, topic: str) -> list[dict[str, Any]]:
    return [codec.decode(one.value() or b"")[1] for one in read(settings, topic)]


def test_a_letter_s_way_back(topics: Settings, worker: WorkerFactory) -> None:
    """It is found, shown with the field that was wrong, mended, redriven and folded."""
    worker(SOMA_AGENTS="predictors")
    produce(topics, TOPIC, [(b"me", BAD), (b"me", b"junk")])
    eventually(lambda: len(read(topics, DLQ)) == 2, 30.0, "two letters")
    bad, junk = data(topics, "list")["letters"]
    assert (bad["reason"], bad["tenant"], bad["attempts"]) == ("bad_json", "me", 1)
    assert (junk["reason"], junk["status"]) == ("bad_wire_format", "open")
    seen = data(topics, "show", bad["place"])
    assert seen["fields"] == ["vector"] and "--set FIELD=VALUE" in seen["advice"]
    assert seen["record"]["vector"] == [1, "two"]
    assert "vector" in dlq(topics, "show", bad["place"].replace(".dlq", "")).stdout
    counts = {one["reason"]: one for one in data(topics, "stats")["counts"]}
    assert counts["bad_json"]["letters"] == 1 and counts["bad_json"]["tenants"] == {"me": 1}

    as_it_is = data(topics, "redrive", "--reason", "bad_json")
    assert (as_it_is["sent"], as_it_is["refused"]) == (0, {"still_bad": 1})
    wrong = data(topics, "redrive", bad["place"], "--set", "vector=[]", status=1)
    assert "vector: 0 numbers" in wrong["named"][0]["said"]
    mend = ("redrive", "--reason", "bad_json", "--set", "vector=[1, 2]", "--actor", "jo")
    assert data(topics, *mend, "--dry-run")["sent"] == 1
    assert len(read(topics, TOPIC)) == 2
    done = data(topics, *mend)
    assert (done["sent"], done["mended"], done["places"]) == (1, 1, [bad["place"]])
    eventually(lambda: len(read(topics, "cog.predictor.updates")) == 1, 30.0, "its update")
    (mark,) = records(topics, LEDGER)
    assert (mark["what"], mark["times"], mark["actor"], mark["mended"]) == (
        "redriven",
        1,
        "jo",
        True,
    )
    (event,) = records(topics, AUDIT)
    assert (event["action"], event["actor"], event["tenant"]) == ("dlq.redrive", "jo", "me")
    assert data(topics, *mend)["sent"] == 0  # it isn't open any more
    again = data(topics, "redrive", bad["place"], "--set", "vector=[1, 2]", status=1)
    assert again["refused"] == {"redriven": 1}


def test_what_fails_again_counts_its_attempts_and_is_parked(
    topics: Settings, worker: WorkerFactory
) -> None:
    """The record is fine for us, and not for the processor: NaN is its law's reason."""
    worker(SOMA_AGENTS="predictors")
    record = codec.from_json("observation", json.loads(BAD) | {"vector": [1, 2]})
    nan = codec.encode("observation", record | {"vector": b"\0\0\xc0\x7f"})
    produce(topics, TOPIC, [(b"me", nan)])
    for attempt in (1, 2):
        eventually(lambda: len(read(topics, DLQ)) == attempt, 30.0, "a letter")  # noqa: B023
        (one,) = data(topics, "list")["letters"]
        assert (one["attempts"], one["reason"]) == (attempt, "vector_not_finite")
        assert data(topics, "redrive", "--all")["sent"] == 1
    eventually(lambda: len(read(topics, DLQ)) == 3, 30.0, "a third letter")
    first, *_, last = read(topics, DLQ)
    assert headers(last)["soma-redriven"] == b"2"
    assert headers(last)["soma-failed-first"] == str(first.timestamp()[1]).encode()
    parked = data(topics, "redrive", "--all", "--max-attempts", "2")
    assert (parked["sent"], parked["parked"]) == (0, 1)
    (one,) = data(topics, "list", "--status", "parked")["letters"]
    assert one["first_failed_ms"] == first.timestamp()[1] and one["attempts"] == 3
    assert data(topics, "redrive", "--all", "--max-attempts", "2")["refused"] == {"parked": 1}
    assert data(topics, "redrive", "--all", "--max-attempts", "3")["sent"] == 1
    assert len(data(topics, "list", "--status", "redriven")["letters"]) == 3


def test_dropped_letters_are_asked_for_audited_and_gone_from_the_lists(topics: Settings) -> None:
    write_letters(topics, [("a", value(1, "a"), 1), ("b", value(2, "b"), 2)])
    asked = dlq(topics, "drop", "--tenant", "a", given="n\n", status=1)
    assert "1 letter will be dropped. Go on?" in asked.stderr and not read(topics, LEDGER)
    assert data(topics, "drop", "--tenant", "a", "--yes", "--actor", "jo")["dropped"] == 1
    (event,) = records(topics, AUDIT)
    assert (event["action"], event["actor"], event["tenant"]) == ("dlq.drop", "jo", "a")
    assert [one["tenant"] for one in data(topics, "list")["letters"]] == ["b"]
    (gone,) = data(topics, "list", "--status", "dropped")["letters"]
    assert data(topics, "redrive", gone["place"], status=1)["refused"] == {"dropped": 1}
    said = dlq(topics, "drop", gone["place"], given="", status=1).stderr
    assert "dropped already" in said and "Go on?" not in said
    assert data(topics, "redrive", "--all")["sent"] == 1
    assert "There are none" in dlq(topics, "drop", "--all", given="").stderr


def test_an_export_is_mended_and_imported_once(topics: Settings, tmp_path: Path) -> None:
    write_letters(topics, [("me", BAD, 1), ("me", value(7), 2), ("me", b"\xff", 3)])
    whole = tmp_path / "letters.jsonl"
    assert "3 letters written" in dlq(topics, "export", "--output", str(whole)).stderr
    lines = [json.loads(one) for one in whole.read_text().splitlines()]
    lines[0]["record"]["vector"] = [3, 4]
    wrong = lines[1] | {"record": lines[1]["record"] | {"tenant": "a/b"}}
    whole.write_text("".join(json.dumps(one) + "\n" for one in [wrong, "x", *lines]))
    done = dlq(topics, "import", str(whole), "--json", status=1)
    assert "line 1: record: tenant:" in done.stderr and "line 2: not a JSON object" in done.stderr
    told = json.loads(done.stdout)
    assert (told["sent"], told["mended"], told["wrong_lines"]) == (2, 1, 2)
    assert told["refused"] == {"still_bad": 1}
    vectors = [one["vector"] for one in records(topics, TOPIC)]
    assert len(vectors) == 2 and headers(read(topics, TOPIC)[0])["soma-redriven"] == b"1"
    again = json.loads(dlq(topics, "import", str(whole), "--json", status=1).stdout)
    assert (again["sent"], again["refused"]) == (0, {"redriven": 2, "still_bad": 1})


def test_junk_among_letters_is_shown_and_dropped(topics: Settings) -> None:
    produce(topics, DLQ, [(None, None), (b"\xff", b"\0\1"), (b"k", b"text")], partition=0)
    write_nameless(topics, DLQ)
    write_letters(topics, [("me", value(1), 1)])
    found = data(topics, "list")["letters"]
    assert sorted(one["reason"] for one in found) == [*["foreign"] * 4, "ts_range"]
    for one in found:
        assert dlq(topics, "show", one["place"]).stdout
    done = data(topics, "redrive", "--all")
    assert (done["sent"], done["refused"]) == (1, {"foreign": 4})
    assert len(dlq(topics, "export").stdout.splitlines()) == 4
    assert data(topics, "drop", "--reason", "foreign", "--yes")["dropped"] == 4
    assert data(topics, "list")["letters"] == []


@pytest.fixture(scope="module")
def empty(stack: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Topics without letters."""
    home = tmp_path_factory.mktemp("empty")
    return with_topics(settings_of(stack, f"t{uuid.uuid4().hex[:10]}", home))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "--topic", "nowhere"), "There is no topic 'nowhere'"),
        (("list", "--topic", "cog.next.events"), "cog.next.events has no dead letters"),
        (("list", "--reason", "nothing"), "There is no reason 'nothing'"),
        (("list", "--tenant", "a/b"), "isn't 1-128 of"),
        (("list", "--since", "2999-01-01"), "is in the future"),
        (("list", "--since", "2026-01-02", "--until", "2026-01-01"), "since isn't before until"),
        (("list", "--since", "yesterday"), "yesterday"),
        (("show", "cog.observations"), "isn't TOPIC/PARTITION/OFFSET"),
        (("show", "cog.observations/0/99"), "there is no letter at cog.observations.dlq/0/99"),
        (("show", "cog.observations/99/0"), "there is no letter at"),
        (("redrive",), "Say which"),
        (("redrive", "cog.observations/0/1", "--tenant", "me"), "not both"),
        (("redrive", "--all", "--set", "vector"), "isn't FIELD=VALUE"),
        (("drop", "--yes"), "Say which"),
    ],
)
def test_what_makes_no_sense_is_said(empty: Settings, words: tuple[str, ...], said: str) -> None:
    done = run(empty, *words)
    assert done.exit_code and said in done.stderr, done.stderr


def test_times_choose_by_the_log(topics: Settings) -> None:
    write_letters(topics, [("me", value(1), 1)])
    (one,) = data(topics, "list")["letters"]
    eventually(lambda: time.time() * 1000 > one["failed_ms"] + 1100, 10.0)
    write_letters(topics, [("me", value(2), 2)])
    middle = datetime.fromtimestamp(one["failed_ms"] / 1000 + 1, UTC).isoformat()
    first = data(topics, "list", "--until", middle)["letters"]
    second = data(topics, "list", "--since", middle)["letters"]
    assert [x["place"] for x in first] == [one["place"]] and len(second) == 1
    assert data(topics, "redrive", "--since", middle)["places"] == [second[0]["place"]]


def test_topics_that_arent_there_are_named(settings: Settings) -> None:
    assert "soma topics apply" in dlq(settings, "list", status=1).stderr


def test_a_record_that_was_read_again_since_is_refused(
    topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epochs log says so; here without the time that tells an epoch from a letter's own."""
    monkeypatch.setattr(law, "SAME_MS", 0)
    write_letters(topics, [("me", value(k), k) for k in (5, 20)], reason="law_failed")
    eventually(lambda: len(read(topics, DLQ)) == 2)
    (home,) = {one.partition() for one in read(topics, DLQ)}
    epoch: dict[str, Any] = {
        "processor": "predictors", "partition": home, "number": 2, "from_offset": 10, "law": 1,
        "settings": {}, "policy": "", "schemas": "", "ts": 0, "topic_id": "",
    }  # fmt: skip
    time.sleep(0.01)  # the log's clock has milliseconds
    produce(topics, "soma.epochs", [(b"k", codec.encode("epoch", epoch))], partition=home or 0)
    tally = redrive(topics, Choice((TOPIC,)), Terms("jo"))
    assert tally.sent == 1 and tally.refused == {"folded": 1}
    assert len(read(topics, TOPIC)) == 1
