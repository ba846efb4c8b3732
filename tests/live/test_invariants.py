"""Invariants of ARCHITECTURE.md on the real stack: those that no other live test looks at.

1 and 2: test_kill.py; 2 and 8 also test_bad_days.py (state lost, records gone, recreated topics);
6: agents/projections/; 7 and 9: bad_input/. Here: 3 and 4 (a rebuild from the log), 4 (epochs),
5 (processors meet in topics), 10 (silence).
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from confluent_kafka import Message

from agents.engine.plan import Plan
from agents.engine.processor import Context, Place
from agents.engine.recovery import Loader
from agents.engine.registry import processors
from agents.engine.work import POSITION_KEY
from agents.engine.work import Worker as Work
from agents.engine.workspace import Workspace
from agents.settings import Settings
from tests.contract import harness
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from tests.unit.agents.integrator import samples
from topics import codec
from topics.broker import connect, topic_ids
from topics.partition import partition_of

UPDATES, FRAMES, STATE = "cog.predictor.updates", "cog.global.frame", "soma.integrator.state"
PARTITIONS = 4
Rows = dict[bytes, bytes]


def updates(seed: int, n: int) -> list[tuple[bytes, bytes]]:
    """The integrator's samples on the wire."""
    records: list[dict[str, Any]] = samples.records(np.random.default_rng(seed), n)
    return [(r["tenant"].encode(), codec.encode("predictor_update", r)) for r in records]


def update(tenant: str) -> tuple[bytes, bytes]:
    """A tenant's record of now."""
    record = {"tenant": tenant, "domain": "state", "error_metric": 0.5, "predictor_type": "x",
        "prediction_latency_ms": 0.0, "vector_dim": 1, "model_version": "1.0", "confidence": 0.5,
        "observation_id": "", "ts": time.time_ns() // 1000}  # fmt: skip
    return tenant.encode(), codec.encode("predictor_update", record)


def set_value(settings: Settings, tenant: str, name: str, value: str) -> None:
    """What `soma config set` writes where nobody runs control."""
    words = ("config", "set", tenant, name, value, "--processor", "integrator", "--direct")
    done = soma(*words, env=environment(settings))
    assert done.returncode == 0, done.stderr


def compacted(messages: list[Message], partition: int) -> Rows:
    """The rows of a state topic's partition, its position left out."""
    rows: Rows = {}
    for message in messages:
        key, value = message.key(), message.value()
        if message.partition() != partition or key == POSITION_KEY:
            continue
        assert isinstance(key, bytes)
        rows.pop(key, None)
        if value is not None:
            assert isinstance(value, bytes)
            rows[key] = value
    return rows


def everything_folded(settings: Settings, n: int) -> Callable[[], bool]:
    return lambda: len(read(settings, FRAMES)) >= n


def test_state_and_frames_follow_from_the_log_and_the_epochs_alone(
    topics: Settings, worker: WorkerFactory
) -> None:
    one = worker(SOMA_AGENTS="integrator")
    produce(topics, UPDATES, updates(1, 400))
    set_value(topics, "*", "margin", "0.2")
    produce(topics, UPDATES, updates(2, 200))
    eventually(everything_folded(topics, 600), what="600 frames")
    assert one.stop() == 0
    two = worker(SOMA_AGENTS="integrator", SOMA_INTEGRATOR__ALPHA="0.7")
    set_value(topics, "*", "margin", "0.1")  # something for every partition
    produce(topics, UPDATES, updates(3, 200))
    eventually(everything_folded(topics, 800), what="800 frames")
    assert two.stop() == 0

    inputs, frames, states = (read(topics, topic) for topic in (UPDATES, FRAMES, STATE))
    epochs = [codec.decode(m.value() or b"")[1] for m in read(topics, "soma.epochs")]
    name = topics.topic(UPDATES)
    topic_id = topic_ids(connect(topics.librdkafka()), [name])[name]
    for partition in range(PARTITIONS):
        mine = sorted((e for e in epochs if e["partition"] == partition), key=lambda e: e["number"])
        assert [e["number"] for e in mine] == [1, 2]
        assert [e["settings"]["alpha"] for e in mine] == ["2.0", "0.7"]
        sent, rows = rebuilt(topics, topic_id, partition, inputs, mine)
        assert sent == [m.value() for m in frames if m.partition() == partition]
        assert rows == compacted(states, partition)


def rebuilt(
    settings: Settings, topic_id: str, partition: int, inputs: list[Message], epochs: list[Any]
) -> tuple[list[bytes | None], Rows]:
    """Frames and state rows of a partition, folded again from its log, cut quite otherwise."""
    plan = Plan(processors(["integrator"])["integrator"], settings, PARTITIONS)
    place = Place(topic_id[:8], partition)
    part = [m for m in inputs if m.partition() == partition]
    run = harness.Run(plan, partition=partition)
    starts = [e["from_offset"] for e in epochs[1:]] + [1 << 60]
    rows: Rows = {}
    for epoch, end in zip(epochs, starts, strict=True):
        fold = plan.processor.make(Context(place, epoch["settings"]))
        if rows:
            keys = sorted(rows)
            loader = Loader(plan, partition, fold)
            loader.load(keys, [rows[key] for key in keys], np.zeros(len(keys), np.uint8))
        run.fold, run.place = fold, place
        run.worker, run.space = Work(plan, place, fold), Workspace(plan)
        for message in part:
            offset = message.offset()
            assert offset is not None
            if run.next <= offset < end:
                raw = harness.Message(offset, message.key(), message.value())
                run.transaction([harness.batch_of([raw], message.timestamp()[1])])
        rows = run.rows()
    return [sent.value for sent in run.outputs()], rows


def test_a_tenant_that_falls_silent_leaves_on_a_tick(
    topics: Settings, worker: WorkerFactory
) -> None:
    worker(SOMA_AGENTS="integrator")
    tenant = "falls-silent"
    partition = partition_of(tenant, PARTITIONS)
    produce(topics, UPDATES, [update(tenant)])
    known = tenant.encode()
    eventually(lambda: known in compacted(read(topics, STATE), partition), what="the tenant's row")
    set_value(topics, "*", "forget_after_s", "1")
    eventually(lambda: known not in compacted(read(topics, STATE), partition), what="a tombstone")
    ticks = [m for m in read(topics, UPDATES) if m.partition() == partition and m.key() is None]
    assert [codec.decode(m.value() or b"")[0] for m in ticks] == ["control_tick"] * len(ticks)
    assert 1 <= len(ticks) <= 5
    assert not read(topics, f"{UPDATES}.dlq")


def test_a_silent_tenant_leaves_while_others_keep_its_partition_busy(
    topics: Settings, worker: WorkerFactory
) -> None:
    """The tick travels with a transaction: a partition under load never has a second to itself."""
    worker(SOMA_AGENTS="integrator")
    home = partition_of("silent", PARTITIONS)
    busy = next(t for t in (f"busy{k}" for k in range(99)) if partition_of(t, PARTITIONS) == home)
    set_value(topics, "*", "forget_after_s", "1")
    produce(topics, UPDATES, [update("silent")])

    def gone() -> bool:
        produce(topics, UPDATES, [update(busy)])
        rows = [m for m in read(topics, STATE) if m.key() == b"silent"]
        return bool(rows) and rows[-1].value() is None

    eventually(gone, what="a tombstone")


def test_processors_in_two_workers_meet_in_their_topics(
    topics: Settings, worker: WorkerFactory
) -> None:
    first = worker(SOMA_AGENTS="predictors", ready=False)
    second = worker(SOMA_AGENTS="integrator", ready=False)
    first.await_ready()
    second.await_ready()
    stamp = time.time_ns() // 1000
    sent = []
    for k in range(200):
        vector = np.full(4, k % 7, "<f4").tobytes()
        record = {
            "tenant": f"t{k % 9}",
            "domain": "state",
            "vector": vector,
            "sequence": k,
            "ts": stamp + k,
        }
        sent.append((record["tenant"].encode(), codec.encode("observation", record)))
    produce(topics, "cog.observations", sent)
    eventually(everything_folded(topics, 200), what="200 frames")
    causes = [codec.decode(m.value() or b"")[1]["observation_id"] for m in read(topics, FRAMES)]
    name = topics.topic("cog.observations")
    topic_id = topic_ids(connect(topics.librdkafka()), [name])[name][:8]
    places = [f"{topic_id}-{m.partition()}-{m.offset()}" for m in read(topics, "cog.observations")]
    assert sorted(causes) == sorted(places)
