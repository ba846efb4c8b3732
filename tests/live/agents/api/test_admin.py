"""/admin/outbox: what waits and failed, replayed, skipped, audited; tenants apart."""

import json
from typing import Any

import pytest

from agents.settings import Settings
from tests.live.agents.api.helpers import admin, bearer, events_of, observation
from tests.live.agents.api.inside import Client
from tests.live.agents.projections.compare import sql

TENANTS = ("acme", "other")


@pytest.fixture
def failed(client: Client, database: Settings) -> dict[str, list[int]]:
    """tenant -> ids of five events each, all failed but the last."""
    ids: dict[str, list[int]] = {}
    for tenant in TENANTS:
        headers = bearer(TENANTS) | {"x-soma-tenant": tenant}
        batch = [{"payload": observation(k)} for k in range(5)]
        answer = client.post("/events/cog.observations", json=batch, headers=headers)
        ids[tenant] = [one["id"] for one in answer.json()["events"]]
        sql(
            database,
            "UPDATE SCHEMA.outbox_queue SET status = 'failed', last_error = 'why' "
            "WHERE id = ANY ($1::bigint[])",
            ids[tenant][:4],
        )
    return ids


def ids_of(client: Client, headers: dict[str, str], **asked: Any) -> list[int]:
    answer = client.get("/admin/outbox", params=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["events"]]


def test_lists_are_filtered_and_paged(client: Client, failed: dict[str, list[int]]) -> None:
    every = failed["acme"] + failed["other"]
    assert sorted(ids_of(client, admin())) == every
    assert ids_of(client, admin(), status="failed", tenant="acme") == failed["acme"][:4]
    assert ids_of(client, admin(), status="pending") == [failed["acme"][4], failed["other"][4]]
    pages = [ids_of(client, admin(), limit=3, offset=at) for at in (0, 3, 6, 9)]
    assert sorted(one for page in pages for one in page) == every
    row = client.get("/admin/outbox?status=failed&limit=1", headers=admin()).json()["events"][0]
    assert (row["last_error"], row["tenant"], row["status"]) == ("why", "acme", "failed")
    assert json.loads(row["payload"])["domain"] == "cpu"


def test_a_filter_is_literal(client: Client, failed: dict[str, list[int]]) -> None:
    for text in ("cog.observations", "cog.*", "cog.observations*"):
        assert len(ids_of(client, admin(), topic_filter=text)) == 10, text
    for text in ("%", "cog%", "cog_observations", "co_.%", "*.observations", "cog", "\\", "'"):
        assert ids_of(client, admin(), topic_filter=text) == [], text


def test_tokens_of_some_tenants_see_those_only(
    client: Client, failed: dict[str, list[int]], database: Settings
) -> None:
    own = admin(("acme",))
    assert sorted(ids_of(client, own)) == failed["acme"]
    assert client.get("/admin/outbox?tenant=other", headers=own).status_code == 403
    assert client.get("/admin/outbox", headers=admin(TENANTS)).status_code == 422
    assert sorted(ids_of(client, admin(TENANTS), tenant="other")) == failed["other"]
    seen = client.get("/admin/outbox/summary", headers=own).json()
    assert (seen["pending"], seen["failed"], seen["tenants"]) == (1, 4, 1)
    assert [one["tenant"] for one in seen["top"]] == ["acme"]
    every = client.get("/admin/outbox/summary", headers=admin()).json()
    assert (every["pending"], every["failed"], every["tenants"]) == (2, 8, 2)
    both = [failed["acme"][0], failed["other"][0], 999]
    for verb, done in (("replay", "replayed"), ("skip", "skipped")):
        answer = client.post(f"/admin/outbox/{verb}", json={"event_ids": both}, headers=own).json()
        # Another tenant's are missing, as if they weren't there.
        assert answer["missing"] == [failed["other"][0], 999]
        assert set(answer[done] + answer["not_failed"]) == {failed["acme"][0]}
        nothing = {"event_ids": [failed["other"][0]]}
        answer = client.post(f"/admin/outbox/{verb}", json=nothing, headers=own).json()
        assert (answer[done], answer["missing"]) == ([], [failed["other"][0]])
    tenant = {"tenant_id": "other"}
    answer = client.post("/admin/outbox/replay/tenant", json=tenant, headers=own)
    assert answer.status_code == 403
    status = {row["id"]: row["status"] for row in events_of(database)}
    assert [status[one] for one in failed["other"]] == ["failed"] * 4 + ["pending"]


def test_replay_and_skip_are_answered_for_each_id_and_audited(
    client: Client, failed: dict[str, list[int]], database: Settings
) -> None:
    one, two, three, four, five = failed["acme"]
    done = client.post(
        "/admin/outbox/replay", json={"event_ids": [one, two, five, 777]}, headers=admin()
    ).json()
    assert done == {"replayed": [one, two], "missing": [777], "not_failed": [five], "more": False}
    skipped = client.post(
        "/admin/outbox/skip", json={"event_ids": [three, 888]}, headers=admin()
    ).json()
    assert skipped == {"skipped": [three], "missing": [888], "not_failed": []}
    status = {row["id"]: row["status"] for row in events_of(database)}
    assert [status[n] for n in (one, two, three, four)] == [
        "pending", "pending", "skipped", "failed",
    ]  # fmt: skip
    notes = sql(database, "SELECT actor, action, tenant, detail FROM SCHEMA.audit ORDER BY id")
    assert [(n["actor"], n["action"], n["tenant"]) for n in notes] == [
        ("tester", "outbox.replay", "acme"),
        ("tester", "outbox.skip", "acme"),
    ]
    assert json.loads(notes[0]["detail"])["ids"] == [one, two]


def test_a_tenant_is_replayed_in_parts(client: Client, failed: dict[str, list[int]]) -> None:
    path = "/admin/outbox/replay/tenant"
    none = {"tenant_id": "acme", "before_timestamp": "2020-01-01T00:00:00Z"}
    assert client.post(path, json=none, headers=admin()).json()["replayed"] == []
    wild = {"tenant_id": "acme", "topic_filter": "cog%"}
    assert client.post(path, json=wild, headers=admin()).json()["replayed"] == []
    some = {"tenant_id": "acme", "limit": 3, "topic_filter": "cog.*"}
    first = client.post(path, json=some, headers=admin()).json()
    assert (first["replayed"], first["more"]) == (failed["acme"][:3], True)
    rest = client.post(path, json=some, headers=admin()).json()
    assert (rest["replayed"], rest["more"]) == (failed["acme"][3:4], False)


def test_what_is_out_of_range_is_named(client: Client) -> None:
    for query in (
        "limit=0", "limit=501", "limit=x", "offset=-1", "offset=100001", "status=gone", "limit=",
        "tenant=a/b", "tenant=", "topic_filter=", "topic_filter=%00", "limit=99999999999999999999",
        "topic=cog.observations", "tenant=acme&Status=failed",
    ):  # fmt: skip
        answer = client.get(f"/admin/outbox?{query}", headers=admin())
        assert answer.status_code == 422, query
        assert answer.json()["errors"][0]["at"].startswith("query "), query


def test_ids_out_of_range_are_named(client: Client) -> None:
    bodies: list[Any] = [
        {}, {"event_ids": []}, {"event_ids": [0]}, {"event_ids": [-1]}, {"event_ids": [2**63]},
        {"event_ids": ["x"]}, {"event_ids": [1.5]}, {"event_ids": list(range(1, 1002))},
        {"event_ids": [1], "all": True}, [1], 1, {"event_ids": [True]}, {"event_ids": ["1"]},
        {"event_ids": [1.0]},
    ]  # fmt: skip
    for body in bodies:
        for verb in ("replay", "skip"):
            answer = client.post(f"/admin/outbox/{verb}", json=body, headers=admin())
            assert answer.status_code == 422, body


def test_a_tenants_replay_out_of_range_is_named(client: Client) -> None:
    bodies: list[dict[str, Any]] = [
        {}, {"tenant_id": "a b"}, {"tenant_id": "a", "limit": 0}, {"tenant_id": "a", "limit": 1001},
        {"tenant_id": "a", "status": "sent"}, {"tenant_id": "a", "status": "%"},
        {"tenant_id": "a", "before_timestamp": "2026-01-01T00:00:00"},
        {"tenant_id": "a", "before_timestamp": "0001-01-01T00:00:00+14:00"},
        {"tenant_id": "a", "before_timestamp": "9999-12-31T23:59:59-14:00"},
        {"tenant_id": "a", "before_timestamp": 1700000000}, {"tenant_id": "a", "limit": "5"},
        {"tenant_id": "a", "before_timestamp": "x"}, {"tenant_id": "a", "topic_filter": "x" * 201},
    ]  # fmt: skip
    for body in bodies:
        answer = client.post("/admin/outbox/replay/tenant", json=body, headers=admin())
        assert answer.status_code == 422, body
