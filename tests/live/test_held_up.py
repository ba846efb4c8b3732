"""What a partition's readers can and can't have: lag 0 when all is read, and an open transaction in
the way is seen from everywhere, and ended.
"""

import json
import re
import signal
import urllib.request
from functools import partial
from typing import Any

import pytest
from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import Worker, environment, eventually, produce, soma
from topics.partition import partition_of

TOPIC = "cog.observations"
TENANT = "held"
OPEN_MS = 600_000  # the broker would end it sooner
# Topics that a service reads, and no processor where none is held up before it.
OF_SERVICES = {"cog.global.frame": "frames", "memory.events": "gateway"}


def line(k: int) -> bytes:
    ts = f"2026-01-31T12:00:{k:02}Z"
    return json.dumps({"tenant": TENANT, "domain": "state", "ts": ts, "vector": [k, 1]}).encode()


def lags(settings: Settings) -> dict[str, int]:
    """group/topic/partition -> lag, as any tool reckons it: end minus committed offset."""
    admin = AdminClient(settings.librdkafka())
    found: dict[str, int] = {}
    groups = admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(30).valid
    for group in groups:
        if not group.group_id.startswith(settings.namespace):
            continue
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group.group_id)])
        told = asked[group.group_id].result(30).topic_partitions
        places = [TopicPartition(one.topic, one.partition) for one in told if one.offset >= 0]
        ends = admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest()))
        for one in told:
            if one.offset >= 0:
                end = ends[TopicPartition(one.topic, one.partition)].result(30).offset
                found[f"{group.group_id}/{one.topic}/{one.partition}"] = end - one.offset
    return found


def metric(
    worker: Worker, name: str, partition: int, processor: str = "predictors"
) -> float | None:
    with urllib.request.urlopen(worker.url("/metrics"), timeout=5) as answer:
        text = answer.read().decode()
    labels = f'{{partition="{partition}",processor="{processor}"}}'
    found = re.search(rf"^{re.escape(name + labels)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def held_up(worker: Worker) -> dict[str, dict[str, Any]]:
    """What `/ready` says of open transactions: it is ready all the same."""
    with urllib.request.urlopen(worker.url("/ready"), timeout=5) as answer:
        assert answer.status == 200
        found: dict[str, dict[str, Any]] = json.load(answer).get("held_up", {})
        return found


@pytest.mark.slow
def test_lag_is_0_when_all_is_read_and_an_open_transaction_is_seen_and_ended(
    topics: Settings, worker: WorkerFactory
) -> None:
    # Nobody is there to deliver to, and the gateway reads all the same.
    one = worker(SOMA_MEMORY_HTTP_ENDPOINT="http://127.0.0.1:1")
    where = partition_of(TENANT, topics.topics_partitions)
    env, place = environment(topics), f"{topics.topic(TOPIC)}/{where}"
    produce(topics, TOPIC, [(TENANT.encode(), line(k)) for k in range(5)])
    # Observations, updates, frames and segments: three of them written in transactions.
    names = {topics.topic(name) for name in (TOPIC, "cog.predictor.updates", "cog.global.frame")}

    def all_read() -> bool:
        found = lags(topics)
        return {key.split("/")[1] for key in found} >= names and not any(found.values())

    eventually(all_read, 60.0, "no group lags behind")

    foreign = Producer(
        topics.librdkafka(transactional_id=topics.prefix("foreign"), transaction_timeout_ms=OPEN_MS)
    )
    foreign.init_transactions(30)
    foreign.begin_transaction()
    # What a processor reads, a projection, and the gateway.
    places = dict.fromkeys((TOPIC, *OF_SERVICES), where)
    for name, partition in places.items():
        foreign.produce(topics.topic(name), b"open", partition=partition)
    assert foreign.flush(30) == 0
    produce(topics, TOPIC, [(TENANT.encode(), line(k)) for k in range(5, 8)])
    lag, unstable = "soma_processor_lag_records", "soma_partition_unstable_records"
    eventually(lambda: metric(one, unstable, where) == 4, 20.0, "the gauge shows it")
    eventually(lambda: metric(one, lag, where) == 4, 30.0, "the lag shows it")
    held = held_up(one)
    assert held[place]["from_offset"] == 5 and held[place]["unstable_records"] == 4
    for service in OF_SERVICES.values():
        held_there = partial(metric, one, unstable, where, f"projection.{service}")
        eventually(lambda ask=held_there: ask() == 1, 60.0, f"{service}'s gauge shows it")  # type: ignore[misc]
    at = {f"{topics.topic(name)}/{where}" for name in OF_SERVICES}
    eventually(lambda: held_up(one).keys() >= at, 60.0, "/ready names what services wait for")

    listed = soma("doctor", "--hanging", "--json", env=env)
    assert listed.returncode == 1
    told = {one["topic"]: one for one in json.loads(listed.stdout)}
    assert {name: one["partition"] for name, one in told.items()} == {
        topics.topic(name): partition for name, partition in places.items()
    }
    assert {one["transactional_id"] for one in told.values()} == {topics.prefix("foreign")}
    named = f"transactional id {topics.prefix('foreign')!r}"
    assert named in soma("doctor", env=env).stdout
    shown = soma("watch", TOPIC, "--from", "beginning", "--no-follow", env=env)
    assert (shown.returncode, len(shown.stdout.splitlines())) == (1, 5)
    assert named in shown.stderr and "Traceback" not in shown.stderr

    done = soma("topics", "abort-transaction", TOPIC, str(where), "--yes", env=env)
    assert done.returncode == 0, done.stderr
    eventually(lambda: metric(one, unstable, where) == 0, 20.0, "it is over")
    eventually(lambda: not held_up(one), 60.0, "for the services as well")
    eventually(all_read, 60.0, "no group lags behind")
    assert soma("doctor", "--hanging", env=env).returncode == 0
    shown = soma("watch", TOPIC, "--from", "beginning", "--no-follow", env=env)
    assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 8)
    again = soma("topics", "abort-transaction", TOPIC, str(where), "--yes", env=env)
    assert again.returncode == 1
    assert f"No transaction stays open in {TOPIC} partition {where}" in again.stderr

    one.signal(signal.SIGHUP)  # its terminal is closed
    assert one.process.wait(15) == 0, one.tail()
