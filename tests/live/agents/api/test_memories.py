"""POST /memories: a memory_event in the outbox, whose id follows from tenant and coordinate."""

import json
import uuid

from agents.coordinates import TENANTS
from agents.settings import Settings
from tests.live.agents.api.helpers import JSON, acme, bearer, events_of
from tests.live.agents.api.inside import Client
from topics.codec import decode, encode, from_json, to_json

MEMORY = {
    "payload": {"text": "the tower is tall", "deep": {"a": [1, None]}},
    "coordinate": [1, 2.5],
    "memory_type": "semantic",
    "importance": 3.5,
    "embedding": [0.5, -0.25],
    "links": {"other": "causes"},
    "model_revision": "m1",
}


def test_a_memory_becomes_an_event(client: Client, database: Settings) -> None:
    answer = client.post("/memories", json=MEMORY, headers=acme())
    assert answer.status_code == 202, answer.text
    said = answer.json()
    assert said["id"] == str(uuid.uuid5(uuid.uuid5(TENANTS, "acme"), "1,2.5"))
    (row,) = events_of(database)
    assert (row["topic"], row["tenant_id"], row["id"]) == ("memory.events", "acme", 1)
    assert (said["outbox_id"], row["key"]) == (1, said["id"])
    record = from_json("memory_event", row["payload"])
    assert decode(encode("memory_event", record)) == ("memory_event", record)
    assert json.loads(record["payload"]) == MEMORY["payload"]
    assert record["type"] == "created" and record["memory_type"] == "semantic"
    assert record["event_id"] == said["event_id"]
    assert record["dedupe_key"] == said["dedupe_key"] == row["dedupe_key"]
    assert (record["importance"], record["links"]) == (3.5, {"other": "causes"})


def test_the_same_coordinate_is_the_same_memory(client: Client) -> None:
    ways = ([1, 2.5], "1,2.5", " 1.0, 2.50 ", "1e0,25e-1")
    ids = {
        client.post("/memories", json={"payload": {}, "coordinate": way}, headers=acme()).json()[
            "id"
        ]
        for way in ways
    }
    assert len(ids) == 1
    both = bearer(("acme", "other")) | {"x-soma-tenant": "other"}
    one = {"payload": {}, "coordinate": "1,2.5"}
    assert client.post("/memories", json=one, headers=both).json()["id"] not in ids
    apart = [client.post("/memories", json={"payload": {}}, headers=acme()) for _ in range(2)]
    assert len({answer.json()["id"] for answer in apart}) == 2


def test_a_repetition_is_answered_as_the_first_time_whatever_the_clock_says(
    client: Client, database: Settings
) -> None:
    key = acme(x_idempotency_key="k")
    first = client.post("/memories", json=MEMORY, headers=key)
    again = client.post("/memories", json=MEMORY, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == first.json() | {"duplicate": True}
    other = client.post("/memories", json=MEMORY | {"payload": {}}, headers=key)
    assert other.status_code == 409
    said = {"at": "", "dedupe_key": "k", "id": first.json()["outbox_id"]}
    assert other.json()["conflicts"] == [said]
    timed = MEMORY | {"ts": "2026-01-01T00:00:00Z"}
    assert client.post("/memories", json=timed, headers=key).status_code == 409
    assert len(events_of(database)) == 1


def test_the_tenant_follows_the_namespace(client: Client) -> None:
    for namespace, tenant in (("brain:acme", "acme"), ("acme", "acme"), ("", "default")):
        answer = client.post(
            "/memories",
            json={"payload": {}, "namespace": namespace},
            headers=bearer(("acme", "default")),
        )
        assert answer.json()["tenant"] == tenant


WRONG: list[dict[str, object]] = [
    {"payload": "text"},
    {"payload": None},
    {"coordinate": ""},
    {"coordinate": "a\u0007"},
    {"coordinate": []},
    {"coordinate": [1] * 65},
    {"coordinate": "x" * 513},
    {"coordinate": {"a": 1}},
    {"memory_type": "other"},
    {"embedding": ["x"]},
    {"embedding": [1e39]},
    {"embedding": [0.0] * 4097},
    {"importance": "high"},
    {"expected_version": -1},
    {"expected_version": 2**63},
    {"coordinate": [True, 1]},
    {"coordinate": [1, "2"]},
    {"embedding": ["1"]},
    {"embedding": [True]},
    {"importance": "0.5"},
    {"importance": True},
    {"expected_version": True},
    {"expected_version": 1.0},
    {"ts": "yesterday"},
    {"ts": 1700000000},
    {"ts": "1700000000"},
    {"ts": "0001-01-01T00:00:00+14:00"},
    {"ts": "9999-12-31T23:59:59-14:00"},
    {"ts": "2026-01-31T12:00:00"},
    {"links": {"a": 1}},
    {"dedupe_key": ""},
    {"dedupe_key": "é" * 200},
    {"unknown": 1},
]


def test_what_is_no_memory_is_named(client: Client, database: Settings) -> None:
    for change in WRONG:
        answer = client.post("/memories", json=MEMORY | change, headers=acme())
        assert answer.status_code == 422, change
        (name,) = change
        assert answer.json()["errors"][0]["at"].startswith(f"/{name}"), change
    assert events_of(database) == []


def test_a_number_that_no_reader_takes_is_refused(client: Client, database: Settings) -> None:
    for number in ("1e400", "-1e400", "1" * 400 + ".0", "NaN", "Infinity"):
        body = f'{{"payload": {{"x": {number}}}}}'
        answer = client.post("/memories", content=body, headers=acme() | JSON)
        assert answer.status_code == 400, number
    assert events_of(database) == []


def test_a_time_is_kept_to_the_microsecond(client: Client, database: Settings) -> None:
    for ts in ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000001Z"):
        answer = client.post("/memories", json=MEMORY | {"ts": ts}, headers=acme())
        assert answer.status_code == 202, answer.text
        record = from_json("memory_event", events_of(database)[-1]["payload"])
        assert to_json("memory_event", record)["ts"] == ts
