"""POST /events/{topic}: what is accepted is in the outbox, once; what isn't, isn't there at all."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

from agents.api.events import PAYLOAD_BYTES_MAX
from agents.settings import Settings
from tests.live.agents.api.conftest import Api
from tests.live.agents.api.helpers import JSON, acme, bearer, events_of, observation
from tests.live.agents.api.inside import Client
from tests.live.agents.projections.compare import sql
from topics.codec import from_json

PATH = "/events/cog.observations"


def test_one_event_is_in_the_outbox_as_it_was_given(client: Client, database: Settings) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    one = {"payload": observation(), "dedupe_key": "d1", "key": "cpu", "headers": {"source": "x"}}
    answer = client.post(PATH, json=one, headers=acme(traceparent=trace))
    assert answer.status_code == 202, answer.text
    said = answer.json()
    assert said["tenant"] == "acme" and said["topic"] == "cog.observations"
    assert not said["journaled"]
    (row,) = events_of(database)
    assert said["events"] == [{"id": row["id"], "dedupe_key": "d1", "duplicate": False}]
    assert (row["topic"], row["tenant_id"], row["key"]) == ("cog.observations", "acme", "cpu")
    assert json.loads(row["payload"]) == {"tenant": "acme", **observation()}
    assert json.loads(row["headers"]) == {"source": "x", "traceparent": trace}
    assert row["status"] == "pending"
    assert from_json("observation", row["payload"])["tenant"] == "acme"


def test_a_batch_keeps_its_order(client: Client, database: Settings) -> None:
    batch = [{"payload": observation(k)} for k in range(100)]
    answer = client.post(PATH, json=batch, headers=acme())
    assert answer.status_code == 202
    rows = events_of(database)
    assert [json.loads(row["payload"])["vector"][0] for row in rows] == list(range(100))
    assert [one["id"] for one in answer.json()["events"]] == [row["id"] for row in rows]
    assert [one["dedupe_key"] for one in answer.json()["events"]] == [r["dedupe_key"] for r in rows]


def test_one_bad_event_refuses_its_batch_and_each_is_named(
    client: Client, database: Settings
) -> None:
    batch = [
        {"payload": observation()},
        {"payload": observation(vector="no list")},
        {"payload": {"domain": "cpu"}},
        {"payload": observation(tenant="other")},
        {"payload": observation(), "headers": {"ce_id": "mine"}},
    ]
    answer = client.post(PATH, json=batch, headers=acme())
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    errors = {one["at"]: one["detail"] for one in answer.json()["errors"]}
    assert list(errors) == ["/1/payload", "/2/payload", "/3/payload/tenant", "/4/headers"]
    assert "vector" in errors["/1/payload"] and "ts: missing" in errors["/2/payload"]
    assert events_of(database) == []


def test_the_same_key_and_body_is_answered_as_the_first_time(
    client: Client, database: Settings
) -> None:
    for body in ({"payload": observation()}, [{"payload": observation(k)} for k in range(3)]):
        key = acme(x_idempotency_key=f"k{len(body)}")
        first = client.post(PATH, json=body, headers=key)
        again = client.post(PATH, json=body, headers=key)
        assert (first.status_code, again.status_code) == (202, 200)
        ids = [one["id"] for one in first.json()["events"]]
        assert [one["id"] for one in again.json()["events"]] == ids
        assert all(one["duplicate"] for one in again.json()["events"])
    assert len(events_of(database)) == 4


def test_the_same_key_with_another_body_names_the_first_ones_id(
    client: Client, database: Settings
) -> None:
    key = acme(x_idempotency_key="k")
    batch = [{"payload": observation(k)} for k in range(3)]
    first = client.post(PATH, json=batch, headers=key).json()["events"]
    others = {
        "another payload": [batch[0], {"payload": observation(9)}, batch[2]],
        "fewer": batch[:2],
        "more": [*batch, {"payload": observation(4)}],
        "one": batch[0],
        "another one": {"payload": observation(9)},
        "another scope of order": [batch[0] | {"key": "x"}, *batch[1:]],
        "other headers": [batch[0] | {"headers": {"h": "1"}}, *batch[1:]],
    }
    places = {"another payload": "/1", "another scope of order": "/0", "other headers": "/0"}
    for what, body in others.items():
        answer = client.post(PATH, json=body, headers=key)
        assert answer.status_code == 409, what
        conflicts = answer.json()["conflicts"]
        assert conflicts and {one["id"] for one in conflicts} <= {one["id"] for one in first}, what
        assert conflicts[0]["at"] == places.get(what, ""), what
        if what in ("fewer", "more"):
            assert conflicts == [{"at": "", "dedupe_key": "k", "id": first[0]["id"]}]
    assert len(events_of(database)) == 3


def test_another_trace_is_no_other_body(client: Client, database: Settings) -> None:
    one = {"payload": observation(), "dedupe_key": "k"}
    traces = [f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{k}-01" for k in range(2)]
    answers = [client.post(PATH, json=one, headers=acme(traceparent=trace)) for trace in traces]
    answers.append(client.post(PATH, json=one, headers=acme()))
    assert [answer.status_code for answer in answers] == [202, 200, 200]


def test_a_key_twice_in_a_batch_names_the_first_ones_place(
    client: Client, database: Settings
) -> None:
    batch = [{"payload": observation(k), "dedupe_key": "k"} for k in range(2)]
    answer = client.post(PATH, json=batch, headers=acme())
    assert answer.status_code == 409
    assert answer.json()["conflicts"] == [{"at": "/1", "dedupe_key": "k", "first": "/0"}]
    assert events_of(database) == []
    answer = client.post(PATH, json=[batch[0], batch[0]], headers=acme())
    assert answer.status_code == 202
    assert [one["duplicate"] for one in answer.json()["events"]] == [False, True]


def test_a_dedupe_key_is_a_tenant_s_own(client: Client, database: Settings) -> None:
    both = bearer(("acme", "other"))
    for tenant in ("acme", "other"):
        one = {"payload": observation(), "dedupe_key": "k"}
        answer = client.post(PATH, json=one, headers=both | {"x-soma-tenant": tenant})
        assert answer.status_code == 202
    assert len(events_of(database)) == 2


def test_at_once_the_same_key_is_one_event(client: Client, database: Settings) -> None:
    """Whoever comes second, with the same body or another, hears of the first."""

    def post(k: int) -> tuple[int, int]:
        one = {"payload": observation(k % 2), "dedupe_key": f"k{k // 8}"}
        answer = client.post(PATH, json=one, headers=acme())
        said = answer.json()
        known = said["events"] if answer.status_code < 300 else said["conflicts"]
        return answer.status_code, known[0]["id"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(80)))
    assert len(events_of(database)) == 10
    for k in range(10):
        found = answers[8 * k : 8 * k + 8]
        assert len({number for _, number in found}) == 1
        assert sorted(status for status, _ in found) == [200] * 3 + [202] + [409] * 4


def test_only_topics_of_users(client: Client) -> None:
    for topic, status in {
        "cog.observation": 404,
        "COG.OBSERVATIONS": 404,
        "cog.global.frame": 403,
        "soma.epochs": 403,
        "cog.observations.dlq": 403,
        "soma.integrator.state": 403,
    }.items():
        answer = client.post(f"/events/{topic}", json={"payload": {}}, headers=acme())
        assert answer.status_code == status, topic


def test_above_max_pending_one_comes_again_later(client: Client, database: Settings) -> None:
    sql(database, "INSERT INTO SCHEMA.outbox_limits VALUES ('acme', 5)")
    answers = [
        client.post(PATH, json={"payload": observation(k)}, headers=acme()) for k in range(12)
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:5] == [202] * 5 and statuses[-1] == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["status"] == 429
    other = bearer(("other",)) | {"x-soma-tenant": "other"}
    one = {"payload": observation()}
    assert client.post(PATH, json=one, headers=other).status_code == 202


def test_a_tenant_s_rate_is_its_own(api: Api) -> None:
    client = api(rate_per_s=0.5, rate_burst=3)
    both = bearer(("acme", "other"))
    one = {"payload": observation()}
    seen = [client.post(PATH, json=one, headers=both | {"x-soma-tenant": "acme"}) for _ in range(4)]
    assert [answer.status_code for answer in seen] == [202, 202, 202, 429]
    assert 1 <= int(seen[3].headers["retry-after"]) <= 3
    quiet = client.post(PATH, json=one, headers=both | {"x-soma-tenant": "other"})
    assert quiet.status_code == 202


def test_a_body_s_size_counts_against_the_rate_before_it_is_looked_at(api: Api) -> None:
    client = api(rate_per_s=0.01, rate_burst=100)
    large = json.dumps({"payload": observation(vector=[0.25] * 60_000)}).encode()
    assert 50 < len(large) // 4096 < 100
    seen = [client.post(PATH, content=large, headers=acme() | JSON) for _ in range(2)]
    seen.append(client.post(PATH, content=b"[" + large, headers=acme() | JSON))
    assert [answer.status_code for answer in seen] == [202, 429, 429]
    other = bearer(("other",)) | JSON | {"x-soma-tenant": "other"}
    assert client.post(PATH, content=large, headers=other).status_code == 202


def test_large_bodies_wait_for_each_other_and_nobody_else(
    client: Client, database: Settings
) -> None:
    """While the thread that they are read in is held, others are answered."""
    gate, large = threading.Event(), client.app.state.resources.offload
    one = {"payload": observation(vector=[0.25] * 60_000)}
    memory = {"payload": {"a": [{}] * 40_000}}
    with ThreadPoolExecutor(3) as pool:
        held = pool.submit(client.portal.call, large.do, "held", 1 << 20, lambda: gate.wait(120.0))
        asked = pool.submit(client.post, PATH, json=one, headers=acme())
        beside = pool.submit(client.post, "/memories", json=memory, headers=acme())
        for k in range(5):
            small = {"payload": observation(k)}
            assert client.post(PATH, json=small, headers=acme()).status_code == 202
            assert client.get("/healthz").status_code == 200
        assert not asked.done() and not beside.done()
        gate.set()
        assert held.result()
        assert (asked.result().status_code, beside.result().status_code) == (202, 202)
    vectors = [len(json.loads(row["payload"]).get("vector", [])) for row in events_of(database)]
    assert sorted(vectors) == [0, 2, 2, 2, 2, 2, 60_000]


def test_what_is_wrong_in_a_large_body_is_named_as_in_a_small_one(client: Client) -> None:
    many = [1] * 60_000
    refused = {
        json.dumps({"payload": observation(vector=[*many, "x"])}): (422, "/payload"),
        json.dumps([{"payload": observation(vector=many)}, {"paylod": 1}]): (422, "/1/payload"),
        json.dumps({"payload": {}, **{f"n{k}": 1 for k in range(60_000)}}): (422, ""),
        json.dumps({"payload": {}, "headers": {f"n{k}": 1 for k in range(60_000)}}): (
            422,
            "/headers",
        ),
        json.dumps({"payload": observation(vector=many)})[:-1]: (400, None),
    }
    for body, (status, at) in refused.items():
        answer = client.post(PATH, content=body, headers=acme() | JSON)
        assert answer.status_code == status, answer.text
        assert at is None or answer.json()["errors"][0]["at"] == at, answer.text


def test_what_no_database_takes_is_refused_with_words(client: Client) -> None:
    refused = {
        '{"payload": {"a": "\\u0000"}}': 400,
        '{"payload": {"a": "\\ud800"}}': 400,
        '{"payload": {"a": NaN}}': 400,
        '{"payload": {"a": 1, "a": 2}}': 400,
        '{"payload": {}, "unknown": 1}': 422,
        '{"payload": []}': 422,
        "[]": 422,
        "{}": 422,
        "null": 422,
        "": 422,
        '{"payload": {"vector": [1e999]}}': 400,
        json.dumps({"payload": observation(ts="0001-01-01T00:00:00+14:00")}): 422,
        json.dumps({"payload": observation(ts="9999-12-31T23:59:59-14:00")}): 422,
        '{"payload": {"ts": 1' + "0" * 5000 + "}}": 400,
        "{": 400,
        "\udcff": 400,
    }
    for body, status in refused.items():
        data = body.encode("utf-8", "surrogateescape")
        answer = client.post(PATH, content=data, headers=acme() | JSON)
        assert answer.status_code == status, (body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_payload_of_two_megabytes_is_too_large(client: Client, database: Settings) -> None:
    one = {"payload": observation(vector=[0.25] * 500_000)}
    answer = client.post(PATH, json=one, headers=acme())
    assert answer.status_code == 413
    assert events_of(database) == []


def test_a_payload_s_size_is_told_as_it_is_measured(client: Client, database: Settings) -> None:
    """880 kB of `1,` are 1.3 MB as PostgreSQL writes them, and too many for it."""
    one = {"payload": observation(vector=[1] * 440_000), "dedupe_key": "k"}
    body = json.dumps(one, separators=(",", ":")).encode()
    assert len(body) < PAYLOAD_BYTES_MAX
    answer = client.post(PATH, content=body, headers=acme() | JSON)
    size = len(json.dumps({"tenant": "acme", **observation(vector=[1] * 440_000)}))
    assert answer.status_code == 413 and f"/payload has {size} bytes" in answer.json()["detail"]
    fits = one | {"payload": observation(vector=[1] * 299_900)}
    assert client.post(PATH, json=fits, headers=acme()).status_code == 202
    (row,) = events_of(database)
    ours = json.dumps({"tenant": "acme", **observation(vector=[1] * 299_900)})
    assert len(row["payload"]) == len(ours)
