"""Every peer gives the frames of the plain law: the comparison is of the same job."""

import math
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from agents.settings import Settings
from ops.bench.broker import PARTITIONS, Broker
from ops.bench.filling import fill, updates
from ops.bench.job import Job
from ops.bench.law import State, fold, new_state
from ops.bench.pipeline import absent, run_peer
from ops.bench.site import opened
from ops.bench.wire import decode_frame, decode_update
from ops.bench.worker import Worker

EVENTS = 2000
QUIET_POLLS = 5
CACHE = Path("~/.soma/bench").expanduser()  # the built Java program

pytestmark = pytest.mark.live


def read(settings: Settings, topic: str) -> dict[tuple[int, int], bytes]:
    """Everything committed in a topic, by place."""
    consumer = Consumer(
        settings.librdkafka(
            group_id="unused", enable_auto_commit=False, isolation_level="read_committed"
        )
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    values, quiet = {}, 0
    while quiet < QUIET_POLLS:
        messages = consumer.consume(EVENTS, 0.2)
        quiet = 0 if messages or not values else quiet + 1
        for message in messages:
            assert message.error() is None
            values[message.partition(), message.offset()] = message.value()
    consumer.close()
    return values


def expected(settings: Settings, source: str, prefix: str) -> dict[str, dict[str, Any]]:
    tenants: dict[str, State] = {}
    frames = {}
    for (partition, offset), value in sorted(read(settings, source).items()):
        update = decode_update(value)
        state = tenants.setdefault(update["tenant"], new_state())
        frame_id = f"{prefix}-{partition}-{offset}"
        frames[frame_id] = fold(state, update, frame_id)
    assert len(frames) == EVENTS
    return frames


def assert_same(frame: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if isinstance(value, dict):
            assert frame[name] == pytest.approx(value, abs=1e-6), name
        elif isinstance(value, float) and math.isnan(value):
            assert math.isnan(frame[name]), name
        elif isinstance(value, float):
            assert frame[name] == pytest.approx(value, abs=1e-6), name
        else:
            assert frame[name] == value, name


@pytest.mark.parametrize("peer", ["bare", "faust", "quix", "quix-state", "kstreams"])
def test_a_peer_gives_the_frames_of_the_law(peer: str, settings: Settings, tmp_path: Path) -> None:
    if why := absent(peer):
        pytest.skip(why)
    broker = Broker(settings)
    name = f"{settings.namespace}-{peer}"
    source, sink = f"{name}.in", f"{name}.out"
    with broker.cleaned(name):
        broker.create(source, sink)
        fill(settings, source, updates(EVENTS, tenants=20, seed=5), "lz4")
        prefix = broker.id_prefix(source)
        wanted = expected(settings, source, prefix)
        job = Job(
            peer, name, settings.bootstrap(), source, sink, prefix, EVENTS, PARTITIONS,
            str(tmp_path),
        )  # fmt: skip
        measured = run_peer(job, 1, CACHE)
        got = {f["frame_id"]: f for f in map(decode_frame, read(settings, sink).values())}
    assert measured["events"] == EVENTS
    assert got.keys() == wanted.keys()
    for frame_id, frame in got.items():
        assert_same(frame, wanted[frame_id])


def test_this_engine_gives_the_frames_of_the_law(settings: Settings) -> None:
    with opened(settings, print) as site:
        source, sink = site.topic("cog.predictor.updates"), site.topic("cog.global.frame")
        fill(site.settings, source, updates(EVENTS, tenants=20, seed=5), "zstd")
        wanted = expected(site.settings, source, site.broker.id_prefix(source))
        with Worker(site.settings, "integrator", site.folder) as worker:
            worker.wait("all frames", lambda: sum(site.broker.ends(sink)) >= EVENTS, 60)
        got = {f["frame_id"]: f for f in map(decode_frame, read(site.settings, sink).values())}
    assert got.keys() == wanted.keys()
    for frame_id, frame in got.items():
        assert_same(frame, wanted[frame_id] | {"rationale": frame["rationale"]})
