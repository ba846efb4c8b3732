"""/admin/journal, and the HTTP API while PostgreSQL is away: from outside."""

from collections.abc import Iterator

import httpx
import pytest

from agents.settings import Settings
from stores.journal import JournalEvent
from tests.live.agents.api.conftest import OwnPostgres, api_settings
from tests.live.agents.api.helpers import JSON, acme, admin, bearer, events_of, observation
from tests.live.agents.api.inside import Client
from tests.live.helpers import eventually

STATS = "/admin/journal/stats"
BAD = JournalEvent("cog.observations", "acme", "k", "nonsense", "bad")


@pytest.fixture
def journaled(database: Settings) -> Iterator[Client]:
    """A client of the HTTP API with a journal."""
    with Client(database.model_copy(update={"api": api_settings(journal="on")})) as one:
        yield one


def test_events_are_accepted_and_arrive_though_postgres_is_away(postgres: OwnPostgres) -> None:
    own = postgres.settings.model_copy(update={"api": api_settings(journal="on")})
    with Client(own) as client:
        first = client.post(
            "/events/cog.observations", json={"payload": observation(1)}, headers=acme()
        )
        assert (first.status_code, first.json()["journaled"]) == (202, False)
        postgres.kill()
        body = [{"payload": observation(k), "dedupe_key": f"d{k}"} for k in (2, 3)]
        kept = client.post("/events/cog.observations", json=body, headers=acme())
        assert (kept.status_code, kept.json()["journaled"]) == (202, True), kept.text
        assert client.get("/readyz").json()["status"] == "degraded"
        again = client.post("/events/cog.observations", json=body, headers=acme())
        assert (again.status_code, again.json()["journaled"]) == (200, True)
        assert all(one["duplicate"] for one in again.json()["events"])
        stats = client.get(STATS, headers=admin()).json()
        assert (stats["pending"], stats["tenants_waiting"]) == (2, 1)
        text = client.get("/metrics").text
        assert 'soma_journal_records{state="pending"} 2.0' in text
        assert "soma_journal_bytes" in text
        rows = client.get("/admin/journal/events?limit=1&offset=1", headers=admin()).json()
        assert [one["dedupe_key"] for one in rows["events"]] == ["d3"]
        postgres.start()
        eventually(lambda: client.get(STATS, headers=admin()).json()["pending"] == 0)
        found = [one["dedupe_key"] for one in events_of(own)]
        assert found[1:] == ["d2", "d3"], "once each, though accepted twice"


def test_a_key_used_otherwise_is_a_conflict_in_the_journal_too(postgres: OwnPostgres) -> None:
    own = postgres.settings.model_copy(update={"api": api_settings(journal="on")})
    one, other = {"payload": observation(1)}, {"payload": observation(2)}
    with Client(own) as client:

        def post(body: object, **headers: str) -> httpx.Response:
            return client.post("/events/cog.observations", json=body, headers=acme(**headers))

        postgres.stop()
        answers = [post(body, x_idempotency_key="j1") for body in (one, one, other)]
        assert [answer.status_code for answer in answers] == [202, 200, 409], answers[2].text
        (conflict,) = answers[2].json()["conflicts"]
        assert conflict == {"at": "", "dedupe_key": "j1", "id": None}
        twice = [body | {"dedupe_key": "jb"} for body in (one, other)]
        assert post(twice).status_code == 409
        assert post([one, one], x_idempotency_key="j1").status_code == 409, (
            "a batch of another size"
        )
        text = client.get("/metrics").text
        assert 'soma_http_events_total{result="journaled"} 1.0' in text
        assert 'soma_http_events_total{result="duplicate"} 1.0' in text
        postgres.start()
        eventually(lambda: client.get(STATS, headers=admin()).json()["pending"] == 0)
        assert client.get(STATS, headers=admin()).json()["failed"] == 0
    assert [row["dedupe_key"] for row in events_of(own)] == ["j1"]


def test_a_memory_tried_again_across_an_outage_is_one(postgres: OwnPostgres) -> None:
    """The time that we gave it differs; that isn't another memory."""
    own = postgres.settings.model_copy(update={"api": api_settings(journal="on")})
    with Client(own) as client:

        def post(key: str, **more: object) -> httpx.Response:
            body = {"payload": {"a": 1}} | more
            return client.post("/memories", json=body, headers=acme(x_idempotency_key=key))

        assert post("before").status_code == 202
        timed = {"ts": "2026-01-01T00:00:00Z"}
        postgres.stop()
        assert [post("before").json()["journaled"] for _ in range(2)] == [True, True]
        assert [post("within").status_code for _ in range(2)] == [202, 200]
        assert post("within", **timed).status_code == 409
        assert post("within", payload={"a": 2}).status_code == 409
        assert post("wrong", **timed).status_code == 202
        postgres.start()
        eventually(lambda: client.get(STATS, headers=admin()).json()["pending"] == 0)
        stats = client.get(STATS, headers=admin()).json()
        assert (stats["failed"], stats["drained"]) == (0, 3)
        assert post("within").json()["duplicate"]
    assert [row["dedupe_key"] for row in events_of(own)] == ["before", "within", "wrong"]


def test_what_the_outbox_refuses_can_be_replayed_and_dropped(journaled: Client) -> None:
    outbox = journaled.app.state.resources.writing._journaled
    (seq,) = journaled.portal.call(outbox._journal.append_many, [BAD])
    outbox._wake.set()
    eventually(lambda: journaled.get(STATS, headers=admin()).json()["failed"] == 1)
    (row,) = journaled.get("/admin/journal/events?status=failed", headers=admin()).json()["events"]
    assert row["seq"] == seq
    assert "JSON" in row["error"]
    ask = {"seqs": [seq, 7]}
    done = journaled.post("/admin/journal/replay", json=ask, headers=admin()).json()
    assert done == {"replayed": [seq], "missing": [7], "not_failed": []}
    eventually(lambda: journaled.get(STATS, headers=admin()).json()["failed"] == 1)
    ask_all = {"drop_failed": True}
    done = journaled.post("/admin/journal/cleanup", json=ask_all, headers=admin()).json()
    assert done["failed_deleted"] == 1
    assert journaled.get(STATS, headers=admin()).json()["failed"] == 0
    audit = journaled.portal.call(journaled.app.state.resources.outbox.audit)
    noted = [(one.action, one.actor, one.tenant) for one in audit]
    assert noted == [("journal.drop", "tester", "acme"), ("journal.replay", "tester", "acme")]
    (lost,) = audit[0].detail["events"]
    assert lost == {"seq": seq, "topic": "cog.observations", "dedupe_key": "bad"}


def test_without_the_audit_nothing_is_deleted(postgres: OwnPostgres) -> None:
    own = postgres.settings.model_copy(update={"api": api_settings(journal="on")})
    with Client(own) as client:
        outbox = client.app.state.resources.writing._journaled
        (seq,) = client.portal.call(outbox._journal.append_many, [BAD])
        outbox._wake.set()
        eventually(lambda: client.get(STATS, headers=admin()).json()["failed"] == 1)
        postgres.stop()
        for path, body in (("cleanup", {"drop_failed": True}), ("replay", {"seqs": [seq]})):
            answer = client.post(f"/admin/journal/{path}", json=body, headers=admin())
            assert answer.status_code == 503 and "audit" in answer.json()["detail"]
        assert client.get(STATS, headers=admin()).json()["failed"] == 1


def test_only_an_administrator_of_all_tenants_is_let_in(journaled: Client) -> None:
    for headers, status in (
        ({}, 401), (acme(), 403), (bearer(roles=("admin",)), 403), (admin(), 200),
    ):  # fmt: skip
        answer = journaled.get(STATS, headers=headers)
        assert answer.status_code == status, answer.text
        assert status == 200 or answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/events?limit=0", None),
        ("GET", "/events?limit=501", None),
        ("GET", "/events?offset=-1", None),
        ("GET", "/events?status=sent", None),
        ("POST", "/replay", b'{"seqs":[]}'),
        ("POST", "/replay", b'{"seqs":[0]}'),
        ("POST", "/replay", b'{"seqs":[1],"more":1}'),
        ("POST", "/replay", b'{"seqs":' + str(list(range(1, 1002))).encode() + b"}"),
        ("POST", "/replay", b'{"seqs":["1"]}'),
        ("POST", "/replay", b'{"seqs":[true]}'),
        ("POST", "/replay", b'{"seqs":[1],"drained":"yes"}'),
        ("POST", "/cleanup", b'{"drop_failed":"perhaps"}'),
        ("POST", "/cleanup", b'{"drop_failed":"yes"}'),
        ("POST", "/cleanup", b'{"drop_failed":1}'),
    ],
)
def test_odd_questions_are_refused(journaled: Client, method: str, path: str, body: bytes) -> None:
    given = {"content": body, "headers": admin() | JSON} if body else {"headers": admin()}
    answer = journaled.request(method, f"/admin/journal{path}", **given)
    assert answer.status_code == 422, answer.text


def test_without_a_journal_there_is_none(client: Client) -> None:
    assert client.get(STATS, headers=admin()).status_code == 404
