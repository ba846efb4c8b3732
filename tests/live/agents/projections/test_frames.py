"""Frames in Kafka become the cache's, through outages, takeovers and bad records."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupState, Producer
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from agents.projections.frames import FramesToRedis
from agents.settings import Settings
from ops.stack import Stack
from stores.frame_cache import FrameCache
from tests.live.helpers import ended, eventually, produce
from topics import codec

PARTITIONS = 4  # some are shared by two
MADE = ("cog.global.frame",)  # topics

TOPIC = "cog.global.frame"


def value(tenant: str, number: int, leader: str = "state") -> bytes:
    record = {
        "frame_id": f"00000000-0-{number}",
        "tenant": tenant,
        "ts": 1_700_000_000_000_000 + number,
        "domain": "state",
        "leader": leader,
        "weights": {"state": 0.75, "agent": 0.25},
        "errors": {"state": 0.5, "agent": 1.5},
        "confidence": 0.75,
        "entropy": 0.8,
        "regret_bound": float("nan"),
        "dwell_ms": 50,
        "veto": "none",
        "rationale": "",
        "observation_id": "",
        "config_version": 0,
    }
    return codec.encode("global_frame", record)


def frames(tenants: list[str], numbers: range) -> list[tuple[bytes, bytes]]:
    return [(t.encode(), value(t, n)) for n in numbers for t in tenants]


class Running:
    """Projections of a test, each with counters of its own."""

    def __init__(self) -> None:
        self.all: list[FramesToRedis] = []
        self.registries: list[CollectorRegistry] = []

    def __call__(self, settings: Settings) -> FramesToRedis:
        self.registries.append(CollectorRegistry())
        self.all.append(FramesToRedis(settings, self.registries[-1]))
        self.all[-1].start()
        return self.all[-1]

    def count(self, result: str) -> int:
        """Over all projections of the test."""
        name = "soma_projection_records_total"
        labels = {"projection": "frames", "result": result}
        return sum(int(r.get_sample_value(name, labels) or 0) for r in self.registries)

    def up(self) -> list[float | None]:
        """The gauge of the store, of each projection of the test."""
        name, labels = "soma_projection_store_up", {"projection": "frames"}
        return [r.get_sample_value(name, labels) for r in self.registries]


@pytest.fixture
def run() -> Iterator[Running]:
    running = Running()
    with ended(running.all):
        yield running


@pytest.fixture
def cache(topics: Settings) -> Iterator[FrameCache]:
    one = FrameCache(topics.redis(), topics.redis_key)
    yield one
    one.close()


def shows(cache: FrameCache, tenant: str, number: int) -> Callable[[], bool]:
    def shown() -> bool:
        frame = cache.get(tenant)
        return frame is not None and frame["frame_id"] == f"00000000-0-{number}"

    return shown


def members(settings: Settings, count: int) -> Callable[[], bool]:
    """Whether the group has so many, and all of them know their partitions."""
    admin, group = AdminClient(settings.librdkafka()), settings.prefix("projection.frames")

    def joined() -> bool:
        found = admin.describe_consumer_groups([group])[group].result(20)
        return len(found.members) == count and found.state == ConsumerGroupState.STABLE

    return joined


def test_the_last_frame_of_each_tenant_is_shown(
    topics: Settings, run: Running, cache: FrameCache
) -> None:
    projection = run(topics)
    tenants = [f"t{k}" for k in range(20)]
    produce(topics, TOPIC, frames(tenants, range(100)))
    for tenant in tenants:
        eventually(shows(cache, tenant, 99))
    held = cache.get("t3")
    assert held is not None
    assert held["weights"] == {"state": 0.75, "agent": 0.25}
    assert held["regret_bound"] is None
    eventually(lambda: sum(projection.lag().values()) == 0 and len(projection.lag()) == PARTITIONS)
    done = eventually(lambda: run.count("written") + run.count("replaced") == 2_000)
    assert done and run.count("written") < 2_000, "one write per tenant and batch"


def test_an_aborted_frame_is_never_shown(topics: Settings, run: Running, cache: FrameCache) -> None:
    projection = run(topics)
    producer = Producer(
        topics.librdkafka(transactional_id=topics.prefix("test"), partitioner="murmur2_random")
    )
    producer.init_transactions(20)
    for number, end in ((1, producer.commit_transaction), (2, producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topics.topic(TOPIC), key=b"cpu", value=value("cpu", number))
        producer.flush(20)
        end(20)
    produce(topics, TOPIC, frames(["cpu.after"], range(1)))
    eventually(shows(cache, "cpu.after", 0))
    assert eventually(shows(cache, "cpu", 1))
    assert run.count("written") == 2
    eventually(lambda: sum(projection.lag().values()) == 0, what="markers are no lag")


def test_a_restart_goes_on_where_the_store_was(
    topics: Settings, run: Running, cache: FrameCache
) -> None:
    first = run(topics)
    produce(topics, TOPIC, frames(["a", "b"], range(10)))
    eventually(shows(cache, "b", 9))
    first.stop()
    before = run.count("written") + run.count("replaced")
    assert before == 20
    run(topics)
    produce(topics, TOPIC, frames(["a"], range(10, 11)))
    eventually(shows(cache, "a", 10))
    assert run.count("written") + run.count("replaced") == before + 1


def test_two_share_the_partitions_and_one_takes_over(
    topics: Settings, run: Running, cache: FrameCache
) -> None:
    first, second = run(topics), run(topics)
    eventually(lambda: len(first.lag()) == 2 and len(second.lag()) == 2)
    tenants = [f"t{k}" for k in range(12)]
    produce(topics, TOPIC, frames(tenants, range(5)))
    for tenant in tenants:
        eventually(shows(cache, tenant, 4))
    first.stop()
    produce(topics, TOPIC, frames(tenants, range(5, 9)))
    for tenant in tenants:
        eventually(shows(cache, tenant, 8))


def test_what_is_no_frame_is_named_and_passed(
    topics: Settings, run: Running, cache: FrameCache, caplog: pytest.LogCaptureFixture
) -> None:
    run(topics)
    observed = codec.encode(
        "observation", {"tenant": "x", "domain": "d", "ts": 1, "vector": b"", "sequence": None}
    )
    bad: list[tuple[bytes | None, bytes | None]] = [
        (b"x1", b"\xff" * 30),
        (b"x2", None),
        (b"x3", observed),
        (None, b"nonsense"),
        (b"x4", value("x4", 1)[:-3]),
    ]
    with caplog.at_level(logging.ERROR):
        produce(topics, TOPIC, bad, partition=0)
        eventually(lambda: run.count("unreadable") == len(bad))
    assert "partition 0 offset 2 is no frame" in caplog.text
    produce(topics, TOPIC, frames(["fine"], range(1)))
    eventually(shows(cache, "fine", 0))


def test_frames_wait_while_the_store_is_away(
    topics: Settings,
    run: Running,
    new_home: Callable[[], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    settings = topics.model_copy(update={"redis_url": SecretStr(own.up().redis_url)})
    cache = FrameCache(settings.redis(), settings.redis_key)
    caplog.set_level(logging.INFO)
    try:
        projection = run(settings)
        produce(settings, TOPIC, frames(["a", "b"], range(10)))
        eventually(shows(cache, "a", 9))
        own.stop("valkey")
        produce(settings, TOPIC, frames(["a", "b"], range(10, 20)))
        eventually(lambda: projection.down)
        produce(settings, TOPIC, frames(["a", "b"], range(20, 30)))
        eventually(lambda: sum(projection.lag().values()) >= 20)
        assert run.count("written") + run.count("replaced") == 20, "counted after the answer only"
        own.start("valkey")
        for tenant in ("a", "b"):
            eventually(shows(cache, tenant, 29))
        eventually(lambda: sum(projection.lag().values()) == 0)
        assert not projection.down
        assert caplog.text.count("Redis: the projection frames waits: ") == 1
        assert caplog.text.count("Redis is back") == 1
    finally:
        cache.close()
        own.down()


def test_an_outage_is_noticed_and_over_though_nothing_comes(
    topics: Settings,
    run: Running,
    new_home: Callable[[], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    settings = topics.model_copy(update={"redis_url": SecretStr(own.up().redis_url)})
    caplog.set_level(logging.INFO)
    try:
        projection = run(settings)
        eventually(lambda: len(projection.lag()) == PARTITIONS)
        own.stop("valkey")
        eventually(lambda: projection.down)
        # Joining the group takes this one longer than the other takes to ask a few times more.
        late = run(settings)
        eventually(members(settings, 2))
        eventually(lambda: late.down)
        assert projection.down
        assert run.up() == [0.0, 0.0]
        assert "Redis is back" not in caplog.text
        own.start("valkey")
        eventually(lambda: run.up() == [1.0, 1.0])
        assert caplog.text.count("Redis: the projection frames waits: ") == 2
        assert caplog.text.count("Redis is back") == 2
    finally:
        own.down()


def test_who_takes_over_while_the_store_is_away_goes_on(
    topics: Settings, run: Running, new_home: Callable[[], Path]
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    settings = topics.model_copy(update={"redis_url": SecretStr(own.up().redis_url)})
    cache = FrameCache(settings.redis(), settings.redis_key)
    tenants = [f"t{k}" for k in range(12)]
    try:
        first, second = run(settings), run(settings)
        eventually(lambda: len(first.lag()) == 2 and len(second.lag()) == 2)
        own.stop("valkey")
        produce(settings, TOPIC, frames(tenants, range(5)))
        eventually(lambda: first.down and second.down)
        # The rebalance takes from the second what waited: nothing is left to ask the store with.
        first.stop()
        eventually(members(settings, 1))
        own.start("valkey")
        for tenant in tenants:
            eventually(shows(cache, tenant, 4))
        assert not second.down
    finally:
        cache.close()
        own.down()


def test_it_stops_soon_while_the_store_is_away(
    topics: Settings, new_home: Callable[[], Path]
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    settings = topics.model_copy(update={"redis_url": SecretStr(own.up().redis_url)})
    own.stop("valkey")
    projection = FramesToRedis(settings, CollectorRegistry())
    projection.start()
    produce(settings, TOPIC, frames(["a"], range(10)))
    eventually(lambda: projection.down)
    start = time.monotonic()
    projection.stop()
    assert time.monotonic() - start < 4
    assert projection.error is None
    own.down()


def test_a_recreated_topic_starts_again(topics: Settings, run: Running, cache: FrameCache) -> None:
    from topics import preflight

    projection = run(topics)
    produce(topics, TOPIC, frames(["a"], range(50)))
    eventually(shows(cache, "a", 49))
    admin = AdminClient(topics.librdkafka())
    name = topics.topic(TOPIC)
    admin.delete_topics([name])[name].result(20)
    eventually(lambda: name not in admin.list_topics(timeout=10).topics)
    preflight.apply(topics)
    produce(topics, TOPIC, frames(["a"], range(100, 103)))
    eventually(shows(cache, "a", 102), 60)
    assert projection.error is None
