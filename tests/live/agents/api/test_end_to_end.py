"""From POST to the topic: what was accepted is there once each, in order, for a consumer."""

import json

from agents.outbox.warm import warm
from agents.settings import Settings
from tests.live.agents.api.conftest import api_settings
from tests.live.agents.api.helpers import acme, observation
from tests.live.agents.api.inside import Client
from tests.live.agents.outbox.outbox import Running, header, made
from tests.live.helpers import eventually, read
from topics import codec

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_what_is_posted_is_consumed_once_and_in_order(topics: Settings) -> None:
    warm()
    settings = made(topics).model_copy(update={"api": api_settings()})
    batch = [{"payload": observation(k), "key": "cpu"} for k in range(20)]
    with Running(settings), Client(settings) as client:
        for _ in range(2):  # the second time it adds nothing
            headers = acme(x_idempotency_key="batch", traceparent=TRACE)
            assert client.post("/events/cog.observations", json=batch, headers=headers).is_success
        memory = {"payload": {"text": "tall"}, "coordinate": [1, 2], "embedding": [0.5]}
        said = client.post("/memories", json=memory, headers=acme()).json()
        one = {"commits": [{"key": "k", "expected_version": 0, "matrix": [[1]]}]}
        assert client.post("/rho", json=one, headers=acme()).is_success
        eventually(lambda: read(settings, "rho.status"), 60.0, "the commit is told")
        eventually(lambda: read(settings, "memory.events"), 60.0, "the memory is in its topic")
        eventually(lambda: len(read(settings, "cog.observations")) >= 20, 60.0, "all events")

    seen = read(settings, "cog.observations")
    records = [codec.decode(message.value() or b"")[1] for message in seen]
    shown = [codec.to_json("observation", record) for record in records]
    assert [one["vector"][0] for one in shown] == list(range(20))
    assert {message.key() for message in seen} == {b"acme"}
    assert header(seen[0], "dedupe-key") == b"batch" and header(seen[0], "traceparent")
    assert header(seen[7], "dedupe-key") == b"batch:7"
    (event,) = read(settings, "memory.events")
    name, record = codec.decode(event.value() or b"")
    assert (name, record["id"], record["event_id"]) == (
        "memory_event",
        said["id"],
        said["event_id"],
    )
    assert json.loads(record["payload"]) == {"text": "tall"}
    (told,) = read(settings, "rho.status")
    name, record = codec.decode(told.value() or b"")
    assert (name, told.key(), record["key"], record["version"]) == ("rho_status", b"acme", "k", 1)
    assert record["psd_ok"] and record["trace_error"] == 0.0 and record["lowest"] is None
