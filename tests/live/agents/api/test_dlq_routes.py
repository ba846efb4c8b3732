"""/admin/dlq: letters listed, shown, redriven, mended and dropped, tenants apart."""

from typing import Any

import pytest

from agents.settings import Settings
from tests.live.agents.api.helpers import acme, admin
from tests.live.agents.api.inside import Client
from tests.live.agents.dlq.written import TOPIC, number, value, write_letters
from tests.live.conftest import with_topics
from tests.live.helpers import read
from topics import codec

PATH = "/admin/dlq"
REDRIVE, DROP = f"{PATH}/redrive", f"{PATH}/drop"
BAD = b'{"tenant": "acme", "domain": "cpu", "ts": "2026-01-31T12:00:00Z", "vector": "no"}'


@pytest.fixture
def letters(client: Client, database: Settings) -> Settings:
    """Seven letters that would be folded now, of two tenants, and a bad one."""
    with_topics(database)
    tenants = ("acme", "other")
    write_letters(database, [(tenants[k % 2], value(k, tenants[k % 2]), k) for k in range(7)])
    write_letters(database, [("acme", BAD, 7)], reason="bad_json")
    return database


def found(client: Client, who: dict[str, str], **asked: Any) -> dict[str, Any]:
    answer = client.get(PATH, params=asked, headers=who)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()
    return data


def done(client: Client, who: dict[str, str], path: str = REDRIVE, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body, headers=who)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()
    return data


def test_letters_are_listed_in_pages(client: Client, letters: Settings) -> None:
    whole = found(client, admin())["letters"]
    assert len(whole) == 8 and found(client, admin())["cursor"] is None
    assert [one["failed_ms"] for one in whole] == sorted(one["failed_ms"] for one in whole)
    pages, cursor = [], None
    while True:
        page = found(client, admin(), limit=3, **({"cursor": cursor} if cursor else {}))
        pages += page["letters"]
        if (cursor := page["cursor"]) is None:
            break
    assert pages == whole
    assert len(found(client, admin(), topic=TOPIC, reason="bad_json")["letters"]) == 1
    assert len(found(client, admin(), tenant="other")["letters"]) == 3
    assert found(client, admin(), status="redriven")["letters"] == []
    assert found(client, admin(), until="2020-01-01T00:00:00Z")["letters"] == []


def test_tenants_are_apart(client: Client, letters: Settings) -> None:
    own = admin(("acme",))
    seen = found(client, own)["letters"]
    assert {one["tenant"] for one in seen} == {"acme"} and len(seen) == 5
    assert client.get(f"{PATH}?tenant=other", headers=own).status_code == 403
    assert client.get(PATH, headers=admin(("acme", "other"))).status_code == 422
    assert client.get(PATH, headers=acme()).status_code == 403
    (alien, *_) = found(client, admin(), tenant="other")["letters"]
    hidden = done(client, own, places=[alien["place"]])
    assert (hidden["sent"], hidden["refused"]) == (0, {"not_there": 1})
    to_others = {"topic": TOPIC, "set": {"tenant": "other"}}
    assert client.post(REDRIVE, json=to_others, headers=own).status_code == 403
    assert done(client, own, topic=TOPIC)["sent"] == 4
    assert {one.key() for one in read(letters, TOPIC)} == {b"acme"}


def test_letters_are_redriven_once_mended_and_audited(client: Client, letters: Settings) -> None:
    dry = done(client, admin(), topic=TOPIC, dry_run=True)
    assert (dry["sent"], dry["refused"]) == (7, {"still_bad": 1}) and not read(letters, TOPIC)
    part = done(client, admin(), topic=TOPIC, limit=3)
    assert (part["sent"], part["more"]) == (3, True)
    rest = done(client, admin(), topic=TOPIC)
    assert (rest["sent"], rest["more"], rest["named"][0]["why"]) == (4, False, "still_bad")
    assert sorted(number(one) for one in read(letters, TOPIC)) == list(range(7))
    (bad,) = found(client, admin())["letters"]
    wrong = done(client, admin(), places=[bad["place"]], set={"vector": ["x"]})
    assert wrong["refused"] == {"bad_mend": 1} and "vector" in wrong["named"][0]["said"]
    mended = done(client, admin(), places=[bad["place"]], set={"vector": [7, 1]})
    assert (mended["sent"], mended["mended"]) == (1, 1)
    again = done(client, admin(), places=[bad["place"]], set={"vector": [7, 1]})
    assert again["refused"] == {"redriven": 1}
    events = [codec.decode(one.value() or b"")[1] for one in read(letters, "soma.audit")]
    assert {one["actor"] for one in events} == {"tester"} and len(events) == 3


def test_a_letter_is_shown_to_those_whose_it_is(client: Client, letters: Settings) -> None:
    nan = codec.decode(value())[1] | {"tenant": "acme", "vector": b"\0\0\xc0\x7f"}
    odd = [("acme", codec.encode("observation", nan), 8), ("acme", b"\xff", 9)]
    write_letters(letters, odd, reason="vector_not_finite")
    *_, bad, not_finite, junk = found(client, admin(("acme",)))["letters"]
    seen = client.get(f"{PATH}/{bad['place']}", headers=admin(("acme",))).json()
    assert seen["fields"] == ["vector"] and "FIELD=VALUE" in seen["advice"]
    assert (seen["record"]["vector"], seen["schema"]) == ("no", "observation")
    assert {name: seen[name] for name in bad if name in seen} == {
        name: bad[name] for name in bad if name not in ("topic", "bytes")
    }
    without_dlq = f"{PATH}/{not_finite['place'].replace('.dlq', '')}"
    assert client.get(without_dlq, headers=admin()).json()["record"]["tenant"] == "acme"
    assert client.get(f"{PATH}/{junk['place']}", headers=admin()).json()["value"] == "base64:/w=="
    for who in (admin(("other",)), admin(())):
        assert client.get(f"{PATH}/{bad['place']}", headers=who).status_code == 404
    assert client.get(f"{PATH}/{TOPIC}/0/999", headers=admin()).status_code == 404


def test_letters_are_counted_and_dropped_when_confirmed(client: Client, letters: Settings) -> None:
    counts = client.get(f"{PATH}/stats?top=1", headers=admin()).json()["counts"]
    assert [(one["reason"], one["open"]) for one in counts] == [("ts_range", 7), ("bad_json", 1)]
    assert counts[0]["tenants"] == {"acme": 4}
    own = client.get(f"{PATH}/stats", headers=admin(("other",))).json()["counts"]
    assert [one["letters"] for one in own] == [3]
    chosen: dict[str, Any] = {"reason": "ts_range", "tenant": "other"}
    unsure = client.post(DROP, json=chosen, headers=admin())
    assert unsure.status_code == 422 and "confirm" in unsure.json()["detail"]
    assert done(client, admin(), DROP, **chosen, dry_run=True)["dropped"] == 3
    assert not read(letters, "soma.audit")
    sure = done(client, admin(("other",)), DROP, reason="ts_range", confirm=True)
    assert (sure["dropped"], len(sure["places"])) == (3, 3)
    assert done(client, admin(), DROP, **chosen, confirm=True)["dropped"] == 0
    (event,) = (codec.decode(one.value() or b"")[1] for one in read(letters, "soma.audit"))
    assert (event["action"], event["actor"], event["tenant"]) == ("dlq.drop", "tester", "other")
    assert found(client, admin(), tenant="other")["letters"] == []
    assert len(found(client, admin(), tenant="other", status="dropped")["letters"]) == 3


QUERIES = (
    "topic=nowhere", "topic=cog.next.events", "reason=nothing", "reason=No", "tenant=a/b",
    "since=2999-01-01T00:00:00Z", "since=yesterday", "limit=0", "limit=501", "status=gone",
    "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "cursor=x", "cursor=1:a/b",
)  # fmt: skip
BODIES: tuple[dict[str, Any], ...] = (
    {}, {"places": []}, {"places": ["x"]}, {"places": ["nowhere/0/1"]},
    {"places": ["cog.observations/0/1"], "tenant": "acme"}, {"topic": TOPIC, "limit": 1001},
    {"topic": TOPIC, "max_attempts": 0}, {"topic": TOPIC, "set": []}, {"topic": 7},
    {"topic": TOPIC, "set": {str(k): 1 for k in range(33)}}, {"topic": TOPIC, "every": True},
    {"places": ["cog.observations/0/1"] * 1001}, {"since": "2999-01-01T00:00:00Z"},
)  # fmt: skip


def test_what_makes_no_sense_is_named(client: Client) -> None:
    answers = [client.get(f"{PATH}?{query}", headers=admin()) for query in QUERIES]
    answers += [client.get(f"{PATH}/{one}", headers=admin()) for one in ("a/0/x", "nowhere/0/1")]
    answers += [client.post(REDRIVE, json=body, headers=admin()) for body in BODIES]
    answers += [client.post(DROP, json={"confirm": 1, "topic": TOPIC}, headers=admin())]
    for answer in answers:
        assert answer.status_code == 422 and answer.json()["detail"], (answer.url, answer.text)
    away = client.get(PATH, headers=admin())  # topics that aren't there
    assert away.status_code == 503 and "Kafka" in away.json()["detail"]
    assert away.headers["retry-after"] == "5"
