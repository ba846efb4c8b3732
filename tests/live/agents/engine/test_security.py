"""A worker on a broker that lets nobody in without a password: all of its clients have it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.settings import Settings
from ops.stack import Stack, kafka
from ops.stack.jars import SHARED
from tests.live.conftest import WorkerFactory, settings_of, with_topics
from tests.live.helpers import eventually, free_port, produce, read
from topics import codec

JAAS = (
    "listener.name.guarded.plain.sasl.jaas.config="
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'user_soma="a password, with = in it";'
)
USER = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "soma",
    "sasl.password": "a password, with = in it",
}


@pytest.fixture
def guarded(
    new_home: Callable[[], Path],
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    """Settings for a broker's second listener, which wants SASL; all topics made."""
    port = free_port()
    lines = [
        line + f",GUARDED://127.0.0.1:{port}" if "listeners=" in line else line
        for line in kafka.PROPERTIES.splitlines()
    ]
    lines = [
        line + ",GUARDED:SASL_PLAINTEXT" if "protocol.map=" in line else line for line in lines
    ]
    more = ["listener.name.guarded.sasl.enabled.mechanisms=PLAIN", JAAS, ""]
    monkeypatch.setattr(kafka, "PROPERTIES", "\n".join(lines + more))
    own = Stack(new_home(), ephemeral=True, cache=SHARED, without=("postgres", "valkey"))
    try:
        inside = settings_of(own.up(), namespace, tmp_path)
        with_topics(inside)
        change = {"kafka_bootstrap": f"127.0.0.1:{port}", "kafka_properties": USER}
        yield inside.model_copy(update=change)
    finally:
        own.down()


def test_a_worker_with_the_password_turns_observations_into_frames(
    guarded: Settings, worker: WorkerFactory
) -> None:
    one = worker(guarded, SOMA_KAFKA_PROPERTIES=json.dumps(USER))
    record = {
        "tenant": "t",
        "domain": "state",
        "ts": 1_700_000_000_000_000,
        "vector": [1.0, 2.0],
        "sequence": 1,
    }
    value = codec.encode("observation", codec.from_json("observation", record))
    produce(guarded, "cog.observations", [(b"t", value)])
    eventually(lambda: read(guarded, "cog.global.frame"), 60.0, "a frame")
    assert one.stop() == 0, one.tail()


def test_a_worker_with_a_property_it_cannot_obey_says_so(
    guarded: Settings, worker: WorkerFactory
) -> None:
    properties = USER | {"sasl.mechanism": "GSSAPI"}
    one = worker(guarded, ready=False, SOMA_KAFKA_PROPERTIES=json.dumps(properties))
    assert one.process.wait(60.0) != 0
    assert "sasl.mechanism 'GSSAPI': a worker knows PLAIN" in one.tail()
