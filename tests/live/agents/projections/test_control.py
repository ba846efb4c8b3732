"""Settings of segmentation ride on the topic of frames: the stores are equal to the frames."""

import logging
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from agents.projections.frames import FramesToRedis
from agents.projections.postgres import TopicToTable
from agents.settings import ProjectionSettings, Settings
from agents.tables.declared import declared
from stores.frame_cache import FrameCache
from tests.live.agents.projections.compare import (
    last,
    migrated,
    records,
    rows,
    same,
    sampled,
)
from tests.live.agents.projections.test_postgres import TENANTS, TOPIC, frame, frames
from tests.live.helpers import Record, environment, eventually, produce, read, soma
from topics import codec

PARTITIONS = 4  # some are shared by two
MADE = ("cog.global.frame", "cog.segments", "cog.predictor.calibration")  # topics

SLOT_MS = 3_600_000  # so long that a setting stands first in the slot of most tenants


def settings_of(tenants: list[str]) -> list[Record]:
    """Records that switch a law of segmentation off."""
    record = {"setting": "cpd", "value": "off", "author": "test", "ts": 1_700_000_000_000_000}
    return [
        (one.encode(), codec.encode("control_setting", record | {"tenant": one})) for one in tenants
    ]


class Stores:
    """The three projections of frames, and whether what they hold is the topic."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.cache = FrameCache(settings.redis(), settings.redis_key)
        tables = [one for one in declared(settings) if one.topic == TOPIC]
        self.all = [
            FramesToRedis(settings, self.registry),
            *(TopicToTable(settings, one, self.registry) for one in tables),
        ]

    def start(self) -> None:
        for one in self.all:
            one.start()

    def stop(self) -> None:
        for one in self.all:
            one.stop()
        self.cache.close()
        assert [one.error for one in self.all] == [None] * 3

    def count(self, result: str) -> list[int]:
        """Of Redis, the latest rows and the history."""
        name = "soma_projection_records_total"
        return [
            int(self.registry.get_sample_value(name, {"projection": of, "result": result}) or 0)
            for of in ("frames", "postgres.frames", "postgres.frame_history")
        ]

    def idle(self) -> bool:
        """Everything is read."""
        return all(len(one.lag()) == PARTITIONS and not sum(one.lag().values()) for one in self.all)

    def equal(self) -> bool:
        """Whether all of them hold what the topic says."""
        found = records(self.settings, TOPIC)
        newest = last(found)
        shown = [self.cache.get(one["tenant"]) for one in newest]
        rule = self.settings.projections.history
        kept = sampled(
            found,
            lambda record, log_ms: record["frame_id"] if rule == "all" else log_ms // SLOT_MS,
        )
        return (
            [one and one["frame_id"] for one in shown] == [one["frame_id"] for one in newest]
            and same(rows(self.settings, "frames"), newest)
            and same(rows(self.settings, "frame_history"), kept)
        )


@pytest.fixture(params=["all", f"{SLOT_MS // 1000}s"])
def stores(topics: Settings, request: pytest.FixtureRequest) -> Iterator[Stores]:
    kept = ProjectionSettings(history=request.param)
    one = Stores(migrated(topics.model_copy(update={"projections": kept})))
    yield one
    one.stop()


def test_stores_are_the_frames_among_settings(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    settings = stores.settings
    # Before they start, so that frames and the settings around them come in one batch.
    produce(settings, TOPIC, settings_of(TENANTS[5:]))
    produce(settings, TOPIC, frames(range(10)))
    produce(settings, TOPIC, settings_of([*TENANTS[:15], "no frame"]))
    stores.start()
    eventually(stores.idle)
    assert stores.equal()
    for number in range(10, 20):
        produce(settings, TOPIC, frames(range(number, number + 1), TENANTS[:12]))
        produce(settings, TOPIC, settings_of(TENANTS[number - 10 : number]))
    produce(settings, TOPIC, settings_of(TENANTS))
    eventually(stores.equal)
    eventually(stores.idle)
    controls = len(read(settings, TOPIC)) - len(records(settings, TOPIC))
    assert stores.count("control") == [controls] * 3
    assert stores.count("unreadable") == [0] * 3
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def test_a_rebuild_keeps_the_frame_before_a_setting(stores: Stores) -> None:
    settings = stores.settings
    env = environment(settings)
    stores.start()
    produce(settings, TOPIC, frames(range(1), ["lost"]))
    eventually(stores.equal)
    words = ("config", "set", "lost", "cpd", "off", "--processor", "segmentation", "--direct")
    assert soma(*words, env=env).returncode == 0
    eventually(lambda: stores.count("control") == [1] * 3)
    for name in ("frames", "frame_history"):
        assert soma("projection", "rebuild", name, "--in-place", "--yes", env=env).returncode == 0
    eventually(lambda: stores.count("control") == [1, 2, 2])
    assert stores.equal()


def test_another_schema_is_named_and_takes_no_frames_place(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    settings = stores.settings
    odd: list[Record] = [(b"a", codec.header(65_535)), (b"a", b"\xff" * 30), (b"a", None)]
    produce(settings, TOPIC, odd, partition=0)
    produce(settings, TOPIC, [(b"a", frame("a", 1))], partition=0)
    produce(settings, TOPIC, odd, partition=0)
    stores.start()
    eventually(lambda: stores.count("unreadable") == [6] * 3)
    found = stores.cache.get("a")
    assert found is not None and found["frame_id"] == "00000000-0-1"
    for table in ("frames", "frame_history"):
        assert [one["frame_id"] for one in rows(settings, table)] == ["00000000-0-1"]
    assert caplog.text.count("no schema has the id 65535") == 2 * 3
