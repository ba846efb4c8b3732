"""A worker joins, another dies: partitions that stay with their owner never stop nor recover, and
with a standby those that move have their state there before.
"""

import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Place
from agents.engine.registry import processors
from agents.engine.standby import Standby
from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import Worker, environment, eventually, produce, read, soma, topics_of
from tests.live.test_invariants import FRAMES, UPDATES, update
from topics import codec
from topics.broker import connect, topic_ids
from topics.partition import partition_of

MADE = topics_of("integrator")
PARTITIONS = 4
TENANTS = {partition_of(f"t{k}", PARTITIONS): f"t{k}" for k in range(40)}
_RECOVERED = re.compile(
    r"recovered processor=integrator partition=(\d+) rows=(\d+) .* followed=(\d+)"
)


class Traffic:
    """An update for each partition every few milliseconds, until it is ended."""

    def __init__(self, settings: Settings) -> None:
        self.sent: Counter[str] = Counter()
        self._settings, self._over = settings, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send; at the end all is acknowledged."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join(30.0)
            assert not self._thread.is_alive(), "what was sent isn't acknowledged"

    def _run(self) -> None:
        producer = Producer(
            self._settings.librdkafka(**{"linger.ms": 1, "enable.idempotence": True})
        )
        name = self._settings.topic(UPDATES)
        while not self._over.wait(0.005):
            for partition, tenant in TENANTS.items():
                key, value = update(tenant)
                producer.produce(name, value, key, partition)
                self.sent[tenant] += 1
            producer.poll(0)
        assert producer.flush(20.0) == 0


def recoveries(one: Worker) -> Counter[int]:
    """How often a worker has read a partition's state back."""
    return Counter(int(partition) for partition, _, _ in _RECOVERED.findall(one.log.read_text()))


def answered(settings: Settings) -> Counter[str]:
    """How many frames of each tenant there are, each for another update."""
    found = [codec.decode(message.value() or b"")[1] for message in read(settings, FRAMES)]
    assert len({(one["tenant"], one["frame_id"]) for one in found}) == len(found)
    return Counter(one["tenant"] for one in found)


def test_who_keeps_a_partition_goes_on_with_it_and_each_record_counts_once(
    topics: Settings, worker: WorkerFactory
) -> None:
    first = worker(SOMA_AGENTS="integrator")
    assert recoveries(first) == dict.fromkeys(range(PARTITIONS), 1)
    traffic = Traffic(topics)
    with traffic.running():
        second = worker(SOMA_AGENTS="integrator")
        theirs = eventually(lambda: (r := recoveries(second)) and len(r) == 2 and r, 30.0)
        time.sleep(1.0)  # of traffic for both
        assert recoveries(first) == dict.fromkeys(range(PARTITIONS), 1), "nothing came back to it"
        second.kill()
        back = {p: 1 + (p in theirs) for p in range(PARTITIONS)}
        eventually(lambda: recoveries(first) == back, 30.0, "what the dead one had is taken over")
        third = worker(SOMA_AGENTS="integrator")
        assert len(recoveries(third)) == 2
        assert third.stop() == 0
        eventually(lambda: sum(recoveries(first).values()) == 8, 30.0, "and what the third had")
    kept = [p for p in range(PARTITIONS) if recoveries(first)[p] == 1]
    assert len(kept) <= 2, recoveries(first)

    eventually(lambda: answered(topics) >= traffic.sent, 30.0, "a frame for each update")
    assert answered(topics) == traffic.sent


def metric(one: Worker, name: str) -> dict[str, float]:
    """Its values by partition."""
    with urllib.request.urlopen(one.url("/metrics"), timeout=5.0) as answer:
        text = answer.read().decode()
    found = re.findall(rf'^{name}{{.*partition="(\d+)".*}} (\S+)$', text, re.MULTILINE)
    return {partition: float(value) for partition, value in found}


def test_a_standby_has_the_states_of_a_worker_that_dies_and_nothing_is_wrong_with_them(
    topics: Settings, worker: WorkerFactory
) -> None:
    tenants = [f"s{k}" for k in range(200)]
    before = worker(SOMA_AGENTS="integrator")
    produce(topics, UPDATES, [update(tenant) for tenant in tenants])
    eventually(lambda: len(read(topics, FRAMES)) == 200, what="a row of each tenant")
    standby = worker(SOMA_AGENTS="integrator", SOMA_STANDBY="1")
    produce(topics, UPDATES, [update(tenant) for tenant in tenants])
    eventually(lambda: len(read(topics, FRAMES)) == 400, what="rows changed")
    behind = "soma_standby_lag_records"
    eventually(lambda: [*metric(standby, behind).values()] == [0.0] * 2, 60.0, "all is followed")
    theirs = set(metric(standby, behind))
    before.kill()
    eventually(lambda: len(recoveries(standby)) == PARTITIONS, 60.0, "all is taken over")
    taken = {
        p: (int(rows), int(ahead)) for p, rows, ahead in _RECOVERED.findall(standby.log.read_text())
    }
    for partition in theirs:
        rows, ahead = taken[partition]
        assert rows == 0 and ahead > 40, taken
    produce(topics, UPDATES, [update(tenant) for tenant in tenants])
    eventually(lambda: len(read(topics, FRAMES)) == 600, what="a frame for each")
    # The states that were followed are those that the log gives.
    done = soma("digest", "integrator", "--rebuild", env=environment(topics), timeout=120.0)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_state_that_was_asked_for_too_late_is_followed_all_the_same(topics: Settings) -> None:
    """Its partition went to another between the question and the answer."""
    integrator = processors()["integrator"]
    plan = Plan(integrator, topics, PARTITIONS)
    ids = topic_ids(connect(topics.librdkafka()), [plan.source, plan.state], 10.0)
    place, key = Place(ids[plan.source][:8], 0), (integrator.name, 0)
    standby = Standby(topics, lambda _: ids, lambda _: defaults_of(integrator, topics))
    standby.start()
    try:
        standby.follow({key: plan})
        for _ in range(2):
            eventually(lambda: standby.take(plan, place, ids[plan.state]), 20.0, "it is followed")
    finally:
        standby.end()
