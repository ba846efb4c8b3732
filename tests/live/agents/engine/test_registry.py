"""A worker whose ids come from a registry, beside Confluent's own clients of it."""

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from agents.settings import Settings
from tests.live.conftest import WorkerFactory, with_topics
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of
from tests.live.registries import TIMEOUT_S, registry
from tests.live.registry_front import Front, front
from topics.registry import TIMEOUT, URL
from topics.schemas import Schemas

__all__ = ["registry"]

PARTITIONS = 1
NAMES = topics_of("predictors")
OBSERVATION = Schemas().raw("observation")
QUIET_S = 3.0  # in which a worker that could do something would


@pytest.fixture
def before(registry: str) -> Iterator[Front]:
    base, _, path = registry.partition("/apis")
    with front(base) as one:
        one.url += f"/apis{path}"
        yield one


@pytest.fixture
def confluents(registry: str) -> Iterator[SchemaRegistryClient]:
    """Confluent's own client."""
    with SchemaRegistryClient({"url": registry}) as client:
        yield client


@pytest.fixture
def installation(settings: Settings, before: Front, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Topics that were made with a registry."""
    with monkeypatch.context() as patch:
        patch.setenv(URL, before.url)
        return with_topics(settings, NAMES)


def values(
    client: SchemaRegistryClient, topic: str, schema: dict[str, Any], records: Iterable[Any]
) -> list[tuple[bytes | None, bytes | None]]:
    """Records as Confluent's serializer writes them, its own schema registered on the way."""
    write = AvroSerializer(client, json.dumps(schema))
    where = SerializationContext(topic, MessageField.VALUE)
    return [(one.get("tenant", "acme").encode(), write(one, where)) for one in records]


def observed(k: int, **more: Any) -> dict[str, Any]:
    now = int(time.time() * 1e6) + k
    return {"tenant": "acme", "domain": "d", "ts": now, "vector": b"\0\0\x80\x3f" * 2, **more}


def decoded(client: SchemaRegistryClient, messages: list[Message]) -> list[Any]:
    """What Confluent's deserializer makes of values."""
    reads = AvroDeserializer(client)
    return [
        reads(one.value(), SerializationContext(one.topic() or "", MessageField.VALUE))
        for one in messages
        if one.value() is not None
    ]


def header(message: Message, name: str) -> str:
    found = dict(message.headers() or [])
    return (found.get(name) or b"").decode()


def test_confluents_clients_and_ours_read_each_other(
    installation: Settings, before: Front, confluents: SchemaRegistryClient, worker: WorkerFactory
) -> None:
    client = confluents
    topic = installation.topic("cog.observations")
    ours: dict[str, str] = {URL: before.url, TIMEOUT: str(TIMEOUT_S)}
    worker(installation, SOMA_AGENTS="predictors", **ours)

    def updates() -> list[Message]:
        return read(installation, "cog.predictor.updates")

    def letters() -> list[Message]:
        return read(installation, "cog.observations.dlq")

    # Written by our own schema, by one that says it otherwise and more, and by another's.
    produce(installation, "cog.observations",
            values(client, topic, OBSERVATION, [observed(1, sequence=1)]))  # fmt: skip
    odd = {**OBSERVATION, "doc": "mine", "namespace": "com.acme", "fields": [
        {"name": "comment", "type": "string"}, *reversed(OBSERVATION["fields"][:4])]}  # fmt: skip
    produce(installation, "cog.observations",
            values(client, topic, odd, [observed(2, comment="hello")]))  # fmt: skip
    order = {"type": "record", "name": "order", "fields": [{"name": "n", "type": "long"}]}
    produce(installation, "cog.observations", values(client, "orders", order, [{"n": 1}]))
    eventually(lambda: len(updates()) == 2 and len(letters()) == 1, 90.0, "all three are done")
    assert "is order in the registry, which is none of our schemas" in str(letters()[0].headers())

    # All that it wrote is read by Confluent's.
    found = decoded(client, updates())
    assert [(one["tenant"], one["predictor_type"] != "") for one in found] == [("acme", True)] * 2
    newest = client.get_latest_version("soma.predictor_update").schema_id
    assert {int.from_bytes((one.value() or b"")[1:5], "big") for one in updates()} == {newest}
    rows = decoded(client, read(installation, "soma.predictors.state"))
    assert any("next_offset" in row for row in rows) and any("level" in row for row in rows)
    assert decoded(client, read(installation, "soma.epochs"))[0]["processor"] == "predictors"

    # The registry away: what is known goes on; what isn't waits, and is no dead letter.
    before.closed = True
    produce(installation, "cog.observations",
            values(client, topic, odd, [observed(3, comment="still")]))  # fmt: skip
    eventually(lambda: len(updates()) == 3, 60.0, "what is known goes on")
    newer = {**odd, "fields": [*odd["fields"], {"name": "more", "type": "int"}]}
    late = values(client, topic, newer, [observed(4, comment="new", more=4)])
    asked = len(before.asked)
    produce(installation, "cog.observations", late)
    eventually(lambda: len(before.asked) > asked + 1, 60.0, "it asks, and again")
    assert (len(updates()), len(letters())) == (3, 1)
    before.closed = False
    eventually(lambda: len(updates()) == 4, 60.0, "it goes on")
    assert len(letters()) == 1


def test_where_ids_come_from_is_for_good(
    installation: Settings, before: Front, tmp_path: Path
) -> None:
    env = environment(installation)
    for words in (("topics", "check"), ("publish", "cog.observations"), ("doctor",)):
        done = soma(*words, env=env)
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "its schema ids come from a registry" in said and f"set {URL}" in said
    assert read(installation, "cog.observations") == []
