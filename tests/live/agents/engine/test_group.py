"""The group: who may be in it, by what timeouts, and a topic that is given partitions meanwhile."""

import json
import urllib.error
import urllib.request
from typing import Any

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.evidence import UPDATES, Evidence, Sender, encoded, fresh_tenant
from tests.live.helpers import PARTITIONS, Worker, environment, eventually, soma, topics_of

MADE = topics_of("integrator")


def ready(worker: Worker) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(worker.url("/ready"), timeout=5.0) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return {}
    found: dict[str, Any] = json.loads(body)
    return found


def foreign(settings: Settings) -> Consumer:
    """A consumer that happens to use the workers' group."""
    consumer = Consumer(
        settings.librdkafka(group_id=settings.prefix("soma"), session_timeout_ms=6000)
    )
    consumer.subscribe([settings.topic(UPDATES)])
    return consumer


def test_a_foreign_consumer_gets_no_partition_and_a_worker_says_who_is_in_its_way(
    topics: Settings, worker: WorkerFactory
) -> None:
    stranger = foreign(topics)
    eventually(lambda: stranger.poll(0.1) or stranger.assignment(), 30.0, "it has the group")
    kept_out = worker(ready=False, SOMA_AGENTS="integrator")

    def refused() -> str:
        stranger.poll(0.0)
        return str(ready(kept_out).get("refused", ""))

    why = eventually(refused, 90.0, "the worker says why it isn't ready")
    assert topics.prefix("soma") in why and "isn't a worker" in why
    assert "not let into the group" in kept_out.tail(400)
    stranger.close()
    kept_out.await_ready(60.0)

    second = foreign(topics)

    def told() -> bool:
        message = second.poll(0.2)
        error = message.error() if message is not None else None
        return error is not None and error.code() == KafkaError.INCONSISTENT_GROUP_PROTOCOL

    try:
        eventually(told, 30.0, "the broker refuses the foreign consumer")
        assert not second.assignment()
    finally:
        second.close()
    assert len(ready(kept_out)["partitions"]) == PARTITIONS and kept_out.ready()


def test_a_session_timeout_that_the_broker_does_not_take_is_refused_by_name(
    topics: Settings,
) -> None:
    for value, why in (("120", "above 0 up to 90"), ("0.5", "this broker takes 1 to 1800")):
        env = environment(
            topics, SOMA_SESSION_TIMEOUT_S=value, SOMA_HEARTBEAT_S="0.1", SOMA_AGENTS="integrator"
        )
        done = soma("worker", env=env)
        assert done.returncode != 0
        assert "SESSION_TIMEOUT_S" in done.stderr and why in done.stderr
        assert "Traceback" not in done.stderr + done.stdout


def test_a_partition_added_meanwhile_is_named_and_the_others_go_on(
    topics: Settings, worker: WorkerFactory
) -> None:
    running, evidence, sender = worker(SOMA_AGENTS="integrator"), Evidence(topics), Sender(topics)
    tenant, name = fresh_tenant(1), topics.topic(UPDATES)
    try:
        client = AdminClient(topics.librdkafka())
        grown = client.create_partitions([NewPartitions(name, PARTITIONS + 1)])
        grown[name].result(30)
        place = f"{name}/{PARTITIONS}"
        now = eventually(
            lambda: (told := ready(running)).get("partitions", {}).get(place) and told, 60.0
        )
        assert now["partitions"][place] == "partition_added" and not now["ready"]

        def others() -> set[str]:
            phases: dict[str, str] = ready(running).get("partitions", {})
            return {phase for where, phase in phases.items() if where != place}

        eventually(lambda: others() == {"running"}, 60.0, "the others run again")
        assert f"{place} stopped: partition_added: " in running.tail(400)
        assert "publish what was kept" in running.tail(400)
        sender.send(UPDATES, [(1, tenant.encode(), encoded(UPDATES, tenant), [])])
        evidence.await_outputs(UPDATES, tenant, 1)
    finally:
        evidence.close()
    told = soma("doctor", env=environment(topics)).stdout
    mending, _, stuck = told.partition("`soma topics apply` can't mend:")
    assert name in stuck and "publish what was kept" in stuck and name not in mending


def test_a_worker_is_not_ready_while_the_broker_names_no_partition_of_its_source(
    topics: Settings, worker: WorkerFactory
) -> None:
    running, name = worker(SOMA_AGENTS="integrator"), topics.topic(UPDATES)
    admin = AdminClient(topics.librdkafka())
    admin.delete_topics([name], operation_timeout=20.0)[name].result(30)

    def met() -> dict[str, Any]:
        now = ready(running)
        return now if now.get("assigned") and not now["partitions"] else {}

    told = eventually(met, 60.0, "the group has met without the topic")
    assert not told["ready"] and "hasn't said" in told["troubles"][name]
    done = soma("topics", "apply", env=environment(topics))
    assert done.returncode == 0, done.stderr
    running.await_ready(60.0)
    assert len(ready(running)["partitions"]) == PARTITIONS
