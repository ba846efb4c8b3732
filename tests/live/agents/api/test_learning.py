"""POST /reward/{frame_id}, POST /teach/feedback: as their topics have them, once, or refused."""

import json
from typing import Any

import pytest

from agents.settings import Settings
from tests.live.agents.api.helpers import JSON, acme, bearer, events_of
from tests.live.agents.api.inside import Client
from topics.codec import from_json

FRAME = "0123abcd-2-77"
REWARD, FEEDBACK = f"/reward/{FRAME}", "/teach/feedback"
TS = "2026-01-31T12:00:00Z"


def test_a_reward_is_in_the_outbox_as_its_topic_has_it(client: Client, database: Settings) -> None:
    body = {"r_task": 1, "r_cost": 0.25, "components": {"style": 0.5}, "ts": TS}
    answer = client.post(REWARD, json=body, headers=acme())
    assert answer.status_code == 202, answer.text
    (row,), said = events_of(database), answer.json()
    assert (said["tenant"], said["frame_id"], said["topic"]) == ("acme", FRAME, row["topic"])
    assert said["event"] == {
        "id": row["id"], "dedupe_key": row["dedupe_key"], "duplicate": False,
    }  # fmt: skip
    record = from_json("reward_event", row["payload"])
    assert (record["tenant"], record["frame_id"]) == ("acme", FRAME) and record["total"] is None
    assert (record["r_task"], record["r_cost"], record["components"]) == (1.0, 0.25, {"style": 0.5})
    assert record["ts"] == 1_769_860_800_000_000 and not record["waited"] and not record["source"]


def test_feedback_has_its_author(client: Client, database: Settings) -> None:
    body = {"frame_id": FRAME, "rating": 4, "comment": "well seen"}
    answer = client.post(FEEDBACK, json=body, headers=acme())
    assert answer.status_code == 202, answer.text
    (row,) = events_of(database)
    record = from_json("teach_feedback", row["payload"])
    assert (row["topic"], record["rating"], record["actor"]) == (
        "cog.teach.feedback", 4.0, "tester",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "first", "other"),
    [
        (REWARD, {"r_task": 1.0}, {"r_task": 0.5}),
        (FEEDBACK, {"frame_id": FRAME, "rating": 4}, {"frame_id": FRAME, "rating": 5}),
    ],
)
def test_the_same_key_is_the_same_once(
    client: Client, database: Settings, path: str, first: dict[str, Any], other: dict[str, Any]
) -> None:
    who = acme(idempotency_key="k1")
    codes = [client.post(path, json=one, headers=who).status_code for one in (first, first, other)]
    assert codes == [202, 200, 409]
    assert len(events_of(database)) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/reward/nonsense", {}),
        (REWARD, {"r_task": "much"}),
        (REWARD, {"surprise": 1}),
        (FEEDBACK, {"frame_id": FRAME, "rating": 7}),
        (FEEDBACK, {"frame_id": FRAME, "rating": 0.5}),
        (FEEDBACK, {"frame_id": "nonsense", "rating": 3}),
        (FEEDBACK, {"rating": 3}),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_kept(
    client: Client, database: Settings, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(path, json=body, headers=acme())
    assert answer.status_code == 422 and answer.json()["errors"]
    assert not events_of(database)


def test_numbers_are_finite(client: Client, database: Settings) -> None:
    for text in ('{"r_task": NaN}', '{"total": 1e999}'):
        answer = client.post(REWARD, content=text.encode(), headers=acme() | JSON)
        assert answer.status_code in (400, 422), answer.text
    assert not events_of(database)


def test_only_writers_of_the_tenant_reward(client: Client, database: Settings) -> None:
    stranger = bearer(("other",)) | {"x-soma-tenant": "acme"}
    reader = bearer(roles=("read",)) | {"x-soma-tenant": "acme"}
    codes = [
        client.post(path, content=json.dumps(body).encode(), headers=who | JSON).status_code
        for path, body in ((REWARD, {}), (FEEDBACK, {"frame_id": FRAME, "rating": 3}))
        for who in (stranger, reader, {})
    ]
    assert codes == [403, 403, 401] * 2
    assert not events_of(database)
