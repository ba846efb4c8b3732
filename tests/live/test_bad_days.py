"""What can happen to topics, broker and workers: progress, or one loud, named error."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from agents.settings import Settings
from ops.prove.driver import Options, run
from tests.live.conftest import Broker, WorkerFactory
from tests.live.evidence import (
    OBSERVATIONS,
    START_MICROS,
    UPDATES,
    Evidence,
    Row,
    Sender,
    encoded,
    fresh_tenant,
)
from tests.live.helpers import Worker, eventually, produce
from topics import preflight

PARTITIONS = 4  # each has a fate of its own
INTEGRATOR_STATE = "soma.integrator.state"
PREDICTORS_STATE = "soma.predictors.state"


@pytest.fixture
def evidence(topics: Settings) -> Iterator[Evidence]:
    """What this test's workers write."""
    one = Evidence(topics)
    yield one
    one.close()


def admin(settings: Settings) -> AdminClient:
    return AdminClient(settings.librdkafka())


def delete_topics(settings: Settings, *names: str) -> None:
    """Delete topics and wait until they are gone."""
    client, full = admin(settings), [settings.topic(name) for name in names]
    for future in client.delete_topics(full, operation_timeout=30).values():
        future.result(30)
    eventually(lambda: not set(full) & set(client.list_topics(timeout=10).topics))


def delete_records(settings: Settings, topic: str, partition: int, before: int = -1) -> None:
    """Let the records before an offset (-1: all) expire now."""
    place = TopicPartition(settings.topic(topic), partition, before)
    client = admin(settings)
    for future in client.delete_records([place]).values():
        future.result(30)


def updates(tenant: str, partition: int, count: int, start: int = 0) -> list[Row]:
    """Good updates of one tenant."""
    return [
        (
            partition,
            tenant.encode(),
            encoded(UPDATES, tenant, START_MICROS + 1000 * (start + n)),
            [],
        )
        for n in range(count)
    ]


def phases(worker: Worker) -> dict[str, str]:
    """What `/ready` says of each partition, whether it is 200 or 503."""
    try:
        with urllib.request.urlopen(worker.url("/ready"), timeout=5.0) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return {}
    found: dict[str, str] = json.loads(body)["partitions"]
    return found


def settled(worker: Worker, partitions: int) -> Callable[[], dict[str, str]]:
    """Whether all partitions are assigned and none recovers any more."""

    def check() -> dict[str, str]:
        assert worker.alive, worker.tail()
        now = phases(worker)
        done = len(now) == partitions and "recovering" not in now.values()
        return now if done else {}

    return check


def test_a_worker_refuses_topics_that_are_not_right_and_names_each(
    topics: Settings, worker: WorkerFactory
) -> None:
    delete_topics(topics, "cog.global.frame", INTEGRATOR_STATE)
    wrong = NewTopic(topics.topic("cog.global.frame"), PARTITIONS - 1, 1)
    client = admin(topics)  # kept: one that is let go never answers
    for future in client.create_topics([wrong]).values():
        future.result(30)
    refusing = worker(topics, ready=False)
    eventually(lambda: not refusing.alive, 60.0)
    assert refusing.process.returncode != 0
    log = refusing.tail()
    assert topics.topic("cog.global.frame") in log and topics.topic(INTEGRATOR_STATE) in log
    assert "has 3 partition(s), not 4" in log and ": missing" in log
    assert "topics apply" in log and "Traceback" not in log


@pytest.mark.timeout(600)
def test_each_partition_has_its_own_bad_day_and_the_others_go_on(
    topics: Settings, worker: WorkerFactory, evidence: Evidence
) -> None:
    tenants = [fresh_tenant(partition, PARTITIONS) for partition in range(PARTITIONS)]
    sender, three = Sender(topics), "predictors,integrator,segmentation"
    first = worker(topics, SOMA_AGENTS=three)
    for partition, tenant in enumerate(tenants):
        sender.send(UPDATES, updates(tenant, partition, 50))
        record = encoded(OBSERVATIONS, f"{tenant}-seen")
        sender.send(OBSERVATIONS, [(partition, f"{tenant}-seen".encode(), record, [])])
    for tenant in tenants:
        evidence.await_outputs(UPDATES, tenant, 50)
    eventually(lambda: len(evidence.updates) + evidence.count(OBSERVATIONS, "") >= 1)
    assert first.stop() == 0

    # 0: expired before it was read. 1: expired afterwards. 2: a newer worker's row in the state.
    sender.send(UPDATES, updates(tenants[0], 0, 50, 50))
    delete_records(topics, UPDATES, 0)
    delete_records(topics, UPDATES, 1)
    newer = [(b"somebody", b"\0\0\0\x7f\xff" + bytes(9))]
    produce(topics, INTEGRATOR_STATE, newer, partition=2)
    # The predictors: all their state is gone, while the epochs log remembers that they were here.
    delete_topics(topics, PREDICTORS_STATE)
    preflight.apply(topics)
    for partition, tenant in enumerate(tenants):
        sender.send(UPDATES, updates(tenant, partition, 10, 100))

    second = worker(topics, ready=False, SOMA_AGENTS=three)
    now = eventually(settled(second, 3 * PARTITIONS), 90.0, "no partition recovers")
    name, seen = topics.topic(UPDATES), topics.topic(OBSERVATIONS)
    assert [now[f"{name}/{number}"] for number in range(PARTITIONS)] == [
        "records_gone", "running", "unknown_version", "running",
    ]  # fmt: skip
    worked = {number for number in range(PARTITIONS) if now[f"{seen}/{number}"] != "running"}
    assert worked and {now[f"{seen}/{number}"] for number in worked} == {"state_lost"}
    for number in (1, 3):
        evidence.await_outputs(UPDATES, tenants[number], 60)
    for number in (0, 2):
        assert evidence.count(UPDATES, tenants[number]) == 50
    log = second.tail(400)
    for error in ("records_gone", "unknown_version", "state_lost"):
        assert f"stopped: {error}:" in log
    assert second.stop() == 0


def test_a_recreated_input_topic_gives_new_ids_and_mixes_nothing(
    topics: Settings, worker: WorkerFactory, evidence: Evidence
) -> None:
    tenant, sender = fresh_tenant(1, PARTITIONS), Sender(topics)
    running = worker(topics, SOMA_AGENTS="integrator")
    sender.send(UPDATES, updates(tenant, 1, 20))
    evidence.await_outputs(UPDATES, tenant, 20)
    delete_topics(topics, UPDATES)
    preflight.apply(topics)
    again = Sender(topics)
    again.send(UPDATES, updates(tenant, 1, 20, 20))
    evidence.await_outputs(UPDATES, tenant, 40)
    ids = [frame["frame_id"] for frame in evidence.frames[tenant]]
    assert len(set(ids)) == 40 and len({frame.split("-")[0] for frame in ids}) == 2
    assert [int(frame.rsplit("-", 1)[1]) for frame in ids] == [*range(20), *range(20)]
    assert running.stop() == 0


CLOCK = """
import os, time
_time, _time_ns = time.time, time.time_ns
def _back(): return 7200 if os.path.exists(os.environ["SOMA_TEST_CLOCK_BACK"]) else 0
time.time = lambda: _time() - _back()
time.time_ns = lambda: _time_ns() - _back() * 10**9
"""


def test_a_clock_that_jumps_back_changes_nothing(
    topics: Settings, worker: WorkerFactory, evidence: Evidence, tmp_path: Path
) -> None:
    """The worker's own clock goes two hours back under it: frames go on as if nothing had been."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK.replace("SOMA_TEST_", "TEST_"))
    sign = tmp_path / "back"
    running = worker(
        topics, SOMA_AGENTS="integrator", PYTHONPATH=str(tmp_path), TEST_CLOCK_BACK=str(sign)
    )
    tenant, sender = fresh_tenant(2, PARTITIONS), Sender(topics)
    sender.send(UPDATES, updates(tenant, 2, 20))
    evidence.await_outputs(UPDATES, tenant, 20)
    sign.touch()
    sender.send(UPDATES, updates(tenant, 2, 20, 20))
    evidence.await_outputs(UPDATES, tenant, 40, timeout=20.0)
    assert running.stop() == 0


def test_sigterm_under_load_ends_within_five_seconds(
    topics: Settings, worker: WorkerFactory, evidence: Evidence
) -> None:
    """The transaction at hand is finished, the group left at once; the next worker goes on."""
    tenants = [fresh_tenant(partition, PARTITIONS) for partition in range(PARTITIONS)]
    enough, sent = threading.Event(), [0]

    def load() -> None:
        sender = Sender(topics)
        while not enough.is_set():
            for partition, tenant in enumerate(tenants):
                sender.send(UPDATES, updates(tenant, partition, 250, sent[0]))
            sent[0] += 250

    running = worker(topics, SOMA_AGENTS="integrator")
    writer = threading.Thread(target=load)
    writer.start()
    try:
        eventually(lambda: evidence.count(UPDATES, tenants[0]) > 500)
        began = time.monotonic()
        assert running.stop(20.0) == 0
        took = time.monotonic() - began
    finally:
        enough.set()
        writer.join(60.0)
    assert took < 5.0, f"{took:.1f} s"
    follower = worker(topics, SOMA_AGENTS="integrator")
    for tenant in tenants:
        evidence.await_outputs(UPDATES, tenant, sent[0])
    assert follower.stop() == 0


def proved(report: Any) -> bool:
    assert report.clean, report
    assert report.verdict["counts"]["global_frame"] > 1000
    return True


@pytest.mark.timeout(600)
def test_a_broker_stopped_for_20_s_and_killed(broker: Broker, tmp_path: Path) -> None:
    """Workers that run outlive it; no event is lost, and the verifier finds nothing."""
    options = Options(
        kills=0, seed=21, rate=500.0, events_min=6_000, workers=2, pause=(2.0, 4.0),
        script=("broker", "broker9"), down=(20.0, 20.0),
    )  # fmt: skip
    report = run(options, broker.settings.kafka_bootstrap, broker, tmp_path)
    assert proved(report)
    assert not [text for text in report.exits if "worker-" in text], report.exits


def test_sigterm_without_a_broker_ends_within_five_seconds(
    broker: Broker, worker: WorkerFactory
) -> None:
    running = worker(broker.settings, SOMA_AGENTS="integrator")
    broker.kill()
    eventually(lambda: "Unable connect" in running.tail(400), 30.0, "the worker misses its broker")
    began = time.monotonic()
    assert running.stop(20.0) == 0
    took = time.monotonic() - began
    assert took < 5.5, f"{took:.1f} s"
