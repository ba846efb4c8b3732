"""The service `gateway` of real workers, killed in the middle; and what the commands say of it."""

import json

from confluent_kafka import Producer

from agents.settings import Settings
from tests.live.agents.gateway.conftest import event, numbers
from tests.live.agents.gateway.remote import Remote
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, soma, topics_of

MADE = topics_of("gateway")

TENANTS = [f"t{k}" for k in range(12)]
TOPIC = "memory.events"


def test_workers_and_the_remote_killed_by_turns_lose_double_and_disorder_nothing(
    topics: Settings, remote: Remote, worker: WorkerFactory
) -> None:
    env = {
        "SOMA_AGENTS": "gateway",
        "SOMA_MEMORY_HTTP_ENDPOINT": remote.endpoint,
        "SOMA_GATEWAY__HEALTH_EVERY_S": "0.2",
    }

    def feed(upto: int) -> None:
        start = written[0]
        records = [(t.encode(), event(t, n)) for n in range(start, upto) for t in TENANTS]
        produce(topics, TOPIC, records)
        written[0] = upto

    written = [0]
    one = worker(**env)
    other = worker(**env)
    feed(150)
    eventually(lambda: remote.count() > 300)
    one.kill()
    feed(200)
    eventually(lambda: remote.count() > 1_000, 60.0)
    remote.kill()
    feed(220)
    other.kill()
    third = worker(**env)
    remote.start()
    eventually(lambda: remote.count() == 220 * len(TENANTS), 90.0)
    assert numbers(remote) == {tenant: list(range(220)) for tenant in TENANTS}
    # What was called again was called with the same key: the service kept it once.
    keys = {(tenant, key) for tenant, key, *_ in remote.calls()}
    assert len(keys) == 220 * len(TENANTS)
    assert third.stop() == 0


def test_status_and_doctor_say_who_waits_and_what_is_away(
    topics: Settings, remote: Remote, worker: WorkerFactory
) -> None:
    more = {"SOMA_AGENTS": "gateway", "SOMA_MEMORY_HTTP_ENDPOINT": remote.endpoint}
    remote.mode("500")
    produce(topics, TOPIC, [(b"bad1", event("bad1", 0)), (b"good", event("good", 0))])
    worker(**more)
    env = environment(topics, **more)

    def waiting() -> bool:
        said = json.loads(soma("gateway", "status", "--json", env=env).stdout)
        return [one["tenant"] for one in said["tenants"]] == ["bad1"] and remote.count() == 1

    eventually(waiting, 60.0)
    assert "bad1: lacks offset 0" in soma("gateway", "status", env=env).stdout
    assert "memory    http://127" in soma("doctor", env=env).stdout
    remote.kill()
    looked = soma("doctor", env=env)
    assert looked.returncode == 1 and "SOMA_MEMORY_HTTP_ENDPOINT" in looked.stdout


def test_status_takes_no_marker_of_a_transaction_for_a_record(
    topics: Settings, remote: Remote, worker: WorkerFactory
) -> None:
    more = {"SOMA_AGENTS": "gateway", "SOMA_MEMORY_HTTP_ENDPOINT": remote.endpoint}
    env = environment(topics, **more)

    def status() -> tuple[list[int], list[int], list[int]]:
        """Of the partitions that have anything: what is read of it, its end, what isn't read."""
        said = json.loads(soma("gateway", "status", "--json", env=env).stdout)["partitions"]
        has = [one for one in said if one["end"]]
        return (
            [one["next_offset"] for one in has],
            [one["end"] for one in has],
            [one["unread"] for one in has],
        )

    producer = Producer(topics.librdkafka(**{"transactional.id": topics.prefix("test")}))
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(3):
        producer.produce(topics.topic(TOPIC), event("acme", number), b"acme", partition=0)
    producer.commit_transaction()
    assert status() == ([0], [4], [4])
    worker(**more)
    eventually(lambda: status() == ([3], [4], [0]), 60.0)
    assert "read to 3 of 4 (0 unread)" in soma("gateway", "status", env=env).stdout


def test_a_gateway_with_nowhere_to_deliver_to_says_so(
    topics: Settings, worker: WorkerFactory
) -> None:
    one = worker(ready=False, SOMA_AGENTS="gateway")
    eventually(lambda: not one.alive, 60.0)
    assert "SOMA_MEMORY_HTTP_ENDPOINT" in one.tail()
