"""Recall on real servers: found, filtered, linked, waited for; of one's own tenant alone."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.coordinates import memory_id
from agents.memory_rows import CONTENT_PART, HEAD_PART, content_key, head_key
from agents.settings import Settings
from agents.settings.groups import RecallSettings
from tests.live.agents.api.conftest import api_settings
from tests.live.agents.api.helpers import JSON, acme, bearer, events_of
from tests.live.agents.api.inside import Client
from tests.live.conftest import WorkerFactory
from tests.live.helpers import eventually, produce
from tests.unit.agents.recall.samples import SCHEMA, row
from topics import codec
from topics.broker import connect
from topics.codec import from_json
from topics.partition import partition_of

MADE = (
    "memory.events", "memory.events.dlq", "memory.latest", "memory.audit", "prune.order",
    "soma.epochs", "soma.memory.state", "soma.memory.snapshots", "soma.outbox.receipts",
)  # fmt: skip


def globex() -> dict[str, str]:
    """Headers with a token that is made now: a run takes longer than one lives."""
    return bearer(("globex",)) | {"x-soma-tenant": "globex"}


def remember(settings: Settings, tenant: str, coordinate: str, **more: Any) -> str:
    """Rows of a memory, as the processor writes them; its id."""
    id_ = memory_id(tenant, coordinate)
    said = {"payload": "{}", "vector": b""} | more
    head = {name: said.pop(name) for name in ("links", "offset", "version") if name in said}
    content = row(tenant, id_, CONTENT_PART, coordinate=coordinate, **said)
    produce(
        settings, "memory.latest",
        [
            (content_key(tenant, "", id_).encode(), codec.encode(SCHEMA, content)),
            (head_key(tenant, "", id_).encode(), codec.encode(
                SCHEMA, row(tenant, id_, HEAD_PART, content_version=1, **head))),
        ],
        partition_of(tenant, settings.topics_partitions),
    )  # fmt: skip
    return id_


def forget(settings: Settings, tenant: str, coordinate: str) -> None:
    """A head that says deleted, and the content's tombstone."""
    id_ = memory_id(tenant, coordinate)
    gone = codec.encode(SCHEMA, row(tenant, id_, HEAD_PART, version=2, deleted=True))
    rows = [
        (content_key(tenant, "", id_).encode(), None),
        (head_key(tenant, "", id_).encode(), gone),
    ]
    produce(settings, "memory.latest", rows, partition_of(tenant, settings.topics_partitions))


@contextmanager
def node(settings: Settings) -> Iterator[Client]:
    """An API with recall, ready."""
    own = RecallSettings(serve="on", dimension=64)
    with Client(settings.model_copy(update={"recall": own, "api": api_settings()})) as client:
        eventually(lambda: client.get("/readyz").status_code == 200, 60.0, "recall is ready")
        yield client


def search(client: Client, who: dict[str, str] | None = None, **body: Any) -> Any:
    answer = client.post("/memories/search", json=body, headers=who or acme())
    assert answer.status_code == 200, answer.text
    return [(one["coordinate"], one["payload"]) for one in answer.json()["results"]]


def test_memories_are_found_and_by_their_tenant_alone(topics: Settings, database: Settings) -> None:
    alice = remember(topics, "acme", "alice", payload='{"text":"Alice likes short answers"}')
    remember(topics, "acme", "deploy", payload='{"text":"the deploy failed","n":3}',
             links={alice: "asked by"})  # fmt: skip
    remember(topics, "globex", "secret", payload='{"text":"Alice likes long answers"}', offset=9)
    with node(topics) as client:
        assert search(client, text="what does alice like")[0][0] == "alice"
        assert search(client, text="deploy", filters={"payload": {"n": 3}}) == [
            ("deploy", {"text": "the deploy failed", "n": 3})
        ]
        assert search(client, globex(), text="alice answers")[0][0] == "secret"
        # A foreign coordinate is as one that nobody has.
        absent, foreign = (
            client.get(f"/memories/{one}", headers=acme()) for one in ("x", "secret")
        )
        assert absent.status_code == foreign.status_code == 404
        assert absent.json()["detail"] == foreign.json()["detail"]
        assert client.get("/memories/secret", headers=globex()).json()["payload"]["text"]
        assert client.get("/memories/alice", headers=bearer(("globex",)) | {
            "x-soma-tenant": "acme"}).status_code == 403  # fmt: skip
        seen = client.get("/graph/neighbors?coordinate=alice", headers=acme()).json()
        assert [(one["coordinate"], one["direction"]) for one in seen["neighbours"]] == [
            ("deploy", "in")
        ]
        path = client.get("/graph/path?from=deploy&to=alice", headers=acme()).json()["path"]
        assert [one["coordinate"] for one in path] == ["deploy", "alice"]
        assert client.get("/graph/path?from=alice&to=deploy", headers=acme()).status_code == 404
        stats = client.get("/stats", headers=acme()).json()
        assert (stats["memories"], stats["ready"]) == (2, True)
        assert stats["vectors"][0]["dimension"] == 64
        text = client.get("/metrics").text
        assert "soma_memories 3.0" in text and "soma_recall_up 1.0" in text
        refused(client)
        reads_its_own_writes(topics, client)


def refused(client: Client) -> None:
    """What is asked wrongly is named."""
    bad: tuple[tuple[dict[str, Any], str], ...] = (
        ({"text": "a", "vector": [1]}, ""), ({}, ""), ({"text": "a", "top_k": 0}, "/top_k"),
        ({"text": "a", "top_k": 10**9}, "/top_k"), ({"vector": [1.0, 2.0]}, "/vector"),
        ({"vector": [1e39] * 64}, "/vector/0"), ({"text": "a" * 40_000}, "/text"),
        ({"text": "a", "filters": {"x": 1}}, "/filters/x"), ({"vector": [1.0] * 5000}, "/vector"),
    )  # fmt: skip
    for body, at in bad:
        answer = client.post("/memories/search", json=body, headers=acme())
        errors = answer.json().get("errors") or [{"at": ""}]
        assert (answer.status_code, errors[0]["at"]) == (422, at), answer.text
    nan = client.post("/memories/search", content='{"vector":[NaN]}', headers=acme() | JSON)
    assert nan.status_code == 400
    assert client.post("/memories/search", json={"text": "a"}, headers=bearer(roles=("write",)) | {
        "x-soma-tenant": "acme"}).status_code == 403  # fmt: skip


def reads_its_own_writes(topics: Settings, client: Client) -> None:
    """By offset and by version; and is told where it doesn't come in time."""
    late = memory_id("acme", "late")
    threading.Timer(
        0.3, remember, (topics, "acme", "late"), {"payload": '{"text":"zebra"}', "offset": 77}
    ).start()
    assert search(client, text="zebra", wait={"offset": 77})[0][0] == "late"
    assert search(client, text="zebra", wait={"id": late})[0][0] == "late"
    for wait in ({"offset": 1000, "timeout_s": 0.5}, {"id": late, "version": 2, "timeout_s": 0.1}):
        body = {"text": "zebra", "wait": wait}
        answer = client.post("/memories/search", json=body, headers=acme())
        assert answer.status_code == 504 and "in time" in answer.json()["detail"]
    forget(topics, "acme", "late")
    eventually(lambda: client.get("/memories/late", headers=acme()).status_code == 404)


def test_a_node_begins_with_its_snapshot_and_refuses_one_of_another_topic(
    topics: Settings, database: Settings
) -> None:
    for number in range(20):
        remember(topics, "acme", f"m{number}", payload=f'{{"text":"number {number}"}}')
    file: Path = topics.home / "recall" / "memories.snapshot"
    with node(topics) as client:
        assert client.get("/stats", headers=acme()).json()["began"].startswith("from the log")
    assert file.exists()
    forget(topics, "acme", "m3")
    remember(topics, "acme", "new", payload='{"text":"number twenty"}')
    with node(topics) as client:
        stats = client.get("/stats", headers=acme()).json()
        assert stats["began"].startswith("from the snapshot") and stats["memories"] == 20
        assert client.get("/memories/m3", headers=acme()).status_code == 404
        assert search(client, text="number twenty")[0][0] == "new"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + b"\1" * 100)
    with node(topics) as client:
        stats = client.get("/stats", headers=acme()).json()
        assert "damaged" in stats["began"] and stats["memories"] == 20
    remade(topics)
    remember(topics, "acme", "other", payload='{"text":"after"}')
    file.write_bytes(whole)
    with node(topics) as client:
        stats = client.get("/stats", headers=acme()).json()
        assert "of another topic" in stats["began"] and stats["memories"] == 1


def remade(settings: Settings) -> None:
    """memory.latest, deleted and made anew."""
    from topics import preflight

    admin = connect(settings.librdkafka())
    name = settings.topic("memory.latest")
    for future in admin.delete_topics([name]).values():
        future.result(20)
    eventually(lambda: name not in admin.list_topics(timeout=10).topics, 20.0, "it is gone")
    preflight.apply(settings, ("memory.latest",))


@pytest.mark.timeout(400)
def test_what_is_remembered_over_http_is_found_over_http(
    topics: Settings, database: Settings, worker: WorkerFactory
) -> None:
    """Outbox, relay, processor, replica: each write is found, by who waits for it."""
    worker(SOMA_AGENTS="memory,outbox")
    with node(topics) as client:
        body = [{"payload": {"text": f"thing {k}"}, "coordinate": f"c{k}"} for k in range(50)]
        made = client.post("/memories/bulk", json=body, headers=acme()).json()["memories"]

        def later(**wait: Any) -> Any:
            asked = {"text": "thing 49", "top_k": 1000, "wait": wait}
            return client.post("/memories/search", json=asked, headers=acme())

        for one in made:  # a request waits as long as it may, and is asked again
            eventually(lambda id_=one["id"]: later(id=id_).status_code == 200, 120.0)  # type: ignore[misc]
        assert later(id=made[49]["id"]).json()["results"][0]["coordinate"] == "c49"
        link = {"from": "c1", "to": "c2", "kind": "next"}
        assert client.post("/graph/link", json=link, headers=acme()).status_code == 202
        assert eventually(lambda: later(id=made[1]["id"], version=2).status_code == 200, 60.0)
        found = client.get("/graph/path?from=c1&to=c2", headers=acme()).json()["path"]
        assert [one["coordinate"] for one in found] == ["c1", "c2"]
        assert client.request("DELETE", "/memories/c1", headers=acme()).status_code == 202
        eventually(lambda: client.get("/memories/c1", headers=acme()).status_code == 404)
        # An event that is refused writes no row: that it was folded is Kafka's to say.
        assert client.request("DELETE", "/memories/none", headers=acme()).status_code == 202
        eventually(lambda: later(offset=52).status_code == 200, 60.0, "offset 52 is folded")


def test_what_forgets_links_and_is_many_becomes_events_once(
    client: Client, database: Settings
) -> None:
    gone_at = "/memories/a/b%20c?namespace=n:acme"
    link = {"from": [1, 2.5], "to": "b", "kind": "causes"}
    body = [{"payload": {"n": k}, "coordinate": f"m{k}"} for k in range(3)]
    for status in (202, 200):
        for answer in (
            client.request("DELETE", gone_at, headers=acme(idempotency_key="k1")),
            client.post("/graph/link", json=link, headers=acme(idempotency_key="k2")),
            client.post("/memories/bulk", json=body, headers=acme(idempotency_key="k3")),
        ):  # fmt: skip
            assert answer.status_code == status, answer.text
    gone, linked, *made = [from_json("memory_event", one["payload"]) for one in events_of(database)]
    assert (gone["type"], gone["coordinate"], gone["namespace"]) == ("deleted", "a/b c", "n:acme")
    assert gone["id"] == memory_id("acme", "a/b c")
    assert (linked["type"], linked["coordinate"]) == ("linked", "1,2.5")
    assert linked["links"] == {memory_id("acme", "b"): "causes"}
    assert [(one["type"], json.loads(one["payload"])) for one in made] == [
        ("created", {"n": k}) for k in range(3)
    ]
    many = client.post("/memories/bulk", json=body * 400, headers=acme())
    two = [{"payload": {}, "namespace": "a:x"}, {"payload": {}, "namespace": "a:y"}]
    several = client.post("/memories/bulk", json=two, headers=bearer(("x", "y")))
    other = client.post("/memories/bulk", json=[*body[:2], {"payload": {"n": 9}}], headers=acme(
        idempotency_key="k3"))  # fmt: skip
    assert (many.status_code, several.status_code, other.status_code) == (422, 422, 409)
    assert client.get("/memories/a", headers=acme()).status_code == 503  # recall is off
    assert len(events_of(database)) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "acme", "x"], "127.0.0.1:1"),
        (["search", "acme", "x", "--where", "n"], "FIELD=JSON"),
        (["add", "a b", "x"], "can't be a tenant"),
    ],
)
def test_the_command_says_what_is_in_the_way(words: list[str], said: str) -> None:
    done = CliRunner(env={"SOMA_API__PORT": "1"}).invoke(main, ["memory", *words])
    assert done.exit_code == 1 and said in done.stderr
