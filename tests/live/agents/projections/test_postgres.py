"""Topics become tables: equal to the topics whatever happens to owners and to the database."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from agents.projections.postgres import TopicToTable
from agents.settings import ProjectionSettings, Settings
from agents.tables.declared import declared
from ops.stack import Stack
from stores.grants import grants_to
from stores.names import schema_of
from tests.live.agents.projections.compare import Record as CompareRecord
from tests.live.agents.projections.compare import (
    last,
    migrated,
    records,
    rows,
    same,
    sampled,
    sql,
)
from tests.live.helpers import Record, ended, environment, eventually, produce, soma
from topics import codec, preflight

PARTITIONS = 4  # some are shared by two
MADE = ("cog.global.frame", "cog.segments", "cog.predictor.calibration", "memory.latest")  # topics

TOPIC = "cog.global.frame"
TENANTS = [f"t{k}" for k in range(20)]


def frame(tenant: str, number: int, **more: object) -> bytes:
    rng = random.Random(f"{tenant}{number}")
    record = {
        "frame_id": f"00000000-0-{number}",
        "tenant": tenant,
        "ts": 1_700_000_000_000_000 + number,
        "domain": "state",
        "leader": rng.choice(["state", "agent"]),
        "weights": {"state": rng.random(), "agent": rng.random()},
        "errors": {"state": rng.random()},
        "confidence": rng.random(),
        "entropy": rng.random(),
        "regret_bound": float("nan"),
        "dwell_ms": number,
        "veto": "none",
        "rationale": "",
        "observation_id": "",
        "config_version": 0,
    }
    return codec.encode("global_frame", record | more)


def frames(numbers: range, tenants: list[str] = TENANTS) -> list[Record]:
    return [(t.encode(), frame(t, n)) for n in numbers for t in tenants]


class Running:
    """Projections of a test, each with counters of its own."""

    def __init__(self) -> None:
        self.all: list[TopicToTable] = []
        self.registries: list[CollectorRegistry] = []

    def __call__(self, settings: Settings, *names: str) -> list[TopicToTable]:
        self.registries.append(CollectorRegistry())
        started = [
            TopicToTable(settings, what, self.registries[-1])
            for what in declared(settings)
            if what.name in names
        ]
        for one in started:
            one.start()
        self.all += started
        return started

    def count(self, name: str, result: str) -> int:
        metric, labels = (
            "soma_projection_records_total",
            {"projection": f"postgres.{name}", "result": result},
        )
        return sum(int(r.get_sample_value(metric, labels) or 0) for r in self.registries)

    def up(self, name: str) -> list[float | None]:
        """The gauge of the store, of each registry that has it."""
        labels = {"projection": f"postgres.{name}"}
        found = (r.get_sample_value("soma_projection_store_up", labels) for r in self.registries)
        return [value for value in found if value is not None]


@pytest.fixture
def run() -> Iterator[Running]:
    running = Running()
    with ended(running.all):
        yield running


@pytest.fixture
def ready(topics: Settings) -> Settings:
    """Topics and schema made; the history keeps every frame."""
    kept = ProjectionSettings(history="all")
    return migrated(topics.model_copy(update={"projections": kept}))


def all_there(settings: Settings) -> Callable[[], bool]:
    def there() -> bool:
        found = records(settings, TOPIC)
        every = [record for record, _ in found]
        held = same(rows(settings, "frames"), last(found))
        return held and same(rows(settings, "frame_history"), every)

    return there


def test_rows_are_the_topic_with_one_owner_and_two(ready: Settings, run: Running) -> None:
    first = run(ready, "frames", "frame_history")
    produce(ready, TOPIC, frames(range(100)))
    eventually(all_there(ready))
    second = run(ready, "frames", "frame_history")
    eventually(lambda: all(len(one.lag()) == 2 for one in first + second))
    produce(ready, TOPIC, frames(range(100, 150)))
    eventually(all_there(ready))
    first[0].stop()
    first[1].stop()
    produce(ready, TOPIC, frames(range(150, 200)))
    eventually(all_there(ready))
    eventually(lambda: all(sum(one.lag().values()) == 0 for one in second))
    assert run.count("frame_history", "written") == 4_000, "no record was written twice"
    assert run.count("frame_history", "known") == 0


def test_a_restart_goes_on_at_the_position_of_the_store(ready: Settings, run: Running) -> None:
    (one,) = run(ready, "frame_history")
    produce(ready, TOPIC, frames(range(10)))
    eventually(lambda: run.count("frame_history", "written") == 200)
    one.stop()
    # What the group knows doesn't matter.
    group = ready.prefix("projection.postgres.frame_history")
    admin = AdminClient(ready.librdkafka())
    admin.delete_consumer_groups([group])[group].result(20)
    run(ready, "frame_history")
    produce(ready, TOPIC, frames(range(10, 12)))
    eventually(lambda: run.count("frame_history", "written") == 240)
    assert run.count("frame_history", "known") == 0


def test_a_slow_owner_is_overtaken_and_writes_nothing(ready: Settings, run: Running) -> None:
    (one,) = run(ready, "frame_history")
    produce(ready, TOPIC, frames(range(10)))
    eventually(lambda: sum(one.lag().values()) == 0 and len(one.lag()) == PARTITIONS)
    eventually(all_of_history(ready, 200))
    # Another owner gets ahead of it, with the records that it is going to read.
    sql(ready, "UPDATE SCHEMA.projection_positions SET next_offset = next_offset + 5")
    produce(ready, TOPIC, frames(range(10, 40)))
    eventually(lambda: run.count("frame_history", "written") == 200 + 600 - PARTITIONS * 5)
    assert one.error is None


def all_of_history(settings: Settings, count: int) -> Callable[[], bool]:
    def there() -> bool:
        found = sql(settings, "SELECT count(*) FROM SCHEMA.frame_history")
        return bool(found[0][0] == count)

    return there


def test_an_outage_pauses_it_and_is_caught_up(
    topics: Settings, run: Running, new_home: Callable[[], Path], caplog: pytest.LogCaptureFixture
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "valkey"))
    dsn = SecretStr(own.up().postgres_dsn)
    kept = ProjectionSettings(history="all")
    settings = migrated(topics.model_copy(update={"postgres_dsn": dsn, "projections": kept}))
    caplog.set_level(logging.INFO)
    try:
        started = run(settings, "frames", "frame_history")
        produce(settings, TOPIC, frames(range(10)))
        eventually(all_there(settings))
        own.stop("postgres")
        produce(settings, TOPIC, frames(range(10, 20)))
        eventually(lambda: all(one.down for one in started))
        produce(settings, TOPIC, frames(range(20, 30)))
        assert run.count("frame_history", "written") == 200
        own.start("postgres")
        eventually(all_there(settings))
        own.kill("postgres")
        produce(settings, TOPIC, frames(range(30, 40)))
        own.start("postgres")
        eventually(all_there(settings))
        eventually(lambda: not any(one.down for one in started))
        own.stop("postgres")
        produce(settings, TOPIC, frames(range(40, 41)))
        eventually(lambda: all(one.down for one in started))
        begin = time.monotonic()
        for one in started:
            one.stop()
        assert time.monotonic() - begin < 8
    finally:
        own.down()
    password = dsn.get_secret_value().split(":")[2].split("@")[0]
    assert password not in caplog.text
    assert "frame_history waits: " in caplog.text


def test_an_outage_is_said_once_though_nothing_comes(
    topics: Settings, run: Running, new_home: Callable[[], Path], caplog: pytest.LogCaptureFixture
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "valkey"))
    dsn = SecretStr(own.up().postgres_dsn)
    settings = migrated(topics.model_copy(update={"postgres_dsn": dsn}))
    caplog.set_level(logging.INFO)
    try:
        started = run(settings, "frames", "frame_history")
        produce(settings, TOPIC, frames(range(10)))
        eventually(lambda: all(len(one.lag()) == PARTITIONS for one in started))
        eventually(lambda: not any(sum(one.lag().values()) for one in started))
        own.kill("postgres")
        eventually(lambda: all(one.down for one in started))
        # Joining its group takes this one longer than the others take to ask a few times more.
        late = run(settings, "segments")[0]
        eventually(lambda: late.down and f"projection {late.name} waits" in caplog.text)
        assert "PostgreSQL is back" not in caplog.text
        for one in (*started, late):
            assert one.down
            assert caplog.text.count(f"PostgreSQL: the projection {one.name} waits: ") == 1
        gauges = [run.up(name) for name in ("frames", "frame_history", "segments")]
        assert gauges == [[0.0]] * 3
        own.start("postgres")
        eventually(lambda: not any(one.down for one in (*started, late)))
        assert caplog.text.count("PostgreSQL is back") == 3
        eventually(lambda: run.up("frames") == [1.0])
    finally:
        own.down()


def test_rebuild_and_drop_while_it_runs(ready: Settings, run: Running) -> None:
    env = environment(ready)
    run(ready, "frames", "frame_history")
    produce(ready, TOPIC, frames(range(50)))
    eventually(all_there(ready))
    before = rows(ready, "frame_history")
    for name in ("frames", "frame_history"):
        done = soma("projection", "rebuild", name, "--in-place", "--yes", env=env)
        assert done.returncode == 0, done.stderr
    eventually(all_there(ready))
    assert same(rows(ready, "frame_history"), before)
    assert soma("projection", "drop", "frames", "--yes", env=env).returncode == 0
    produce(ready, TOPIC, frames(range(50, 52)))
    eventually(lambda: len(rows(ready, "frame_history")) == 1_040)
    assert rows(ready, "frames") == []
    listed = soma("projection", "list", "--json", env=env).stdout
    assert '"name": "frames", "generation": 3, "dropped": true, "rows": 0' in listed
    assert soma("projection", "rebuild", "frames", "--yes", env=env).returncode == 0
    eventually(all_there(ready))
    eventually(lambda: "lag 0" in soma("projection", "list", env=env).stdout)
    other = Producer(ready.librdkafka(transactional_id=ready.prefix("other")))
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(ready.topic(TOPIC), b"open", partition=0)
    assert other.flush(30) == 0
    held = soma("projection", "list", env=env).stdout
    assert "lag 1" in held and "lag 0" not in held, "what is behind an open transaction lacks"
    other.abort_transaction(30)
    unasked = soma("projection", "drop", "nothing", env=env)  # on a closed standard input
    assert "There is no projection 'nothing'; there are:" in unasked.stderr
    wrong = soma("projection", "drop", "nothing", "--yes", env=env)
    assert wrong.returncode == 1 and "frame_history, frames" in wrong.stderr


def test_it_waits_for_the_migration(
    topics: Settings, run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    (one,) = run(topics, "frames")
    produce(topics, TOPIC, frames(range(5)))
    eventually(lambda: "run `soma migrate up`" in caplog.text)
    assert one.down and one.error is None
    said = soma("projection", "list", env=environment(topics))
    assert said.returncode == 1 and "soma migrate up" in said.stderr
    migrated(topics)
    eventually(lambda: same(rows(topics, "frames"), last(records(topics, TOPIC))))


def test_what_cannot_be_a_row_is_named_and_passed(
    ready: Settings, run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    run(ready, "frames", "frame_history")
    odd: list[Record] = [
        (b"x", b"\xff" * 30),
        (b"x", None),
        (b"x", frame("x", 1)[:-3]),
        (b"x", frame("x", 2, ts=2**62)),
        (b"x", frame("x", 3, rationale="a\0b", weights={"a\0": float("inf")})),
        (b"other key", frame("y", 4)),
        (b"y", frame("y", 5)),
        (None, frame("z", 6)),
    ]
    produce(ready, TOPIC, odd, partition=0)
    produce(ready, TOPIC, frames(range(3)))
    eventually(lambda: len(rows(ready, "frame_history")) == 64)
    eventually(lambda: len(rows(ready, "frames")) == 23)
    held = {row["frame_id"]: row for row in rows(ready, "frame_history") if row["tenant"] == "x"}
    assert held["00000000-0-3"]["rationale"] == "a\N{REPLACEMENT CHARACTER}b"
    assert held["00000000-0-3"]["weights"] == {"a\N{REPLACEMENT CHARACTER}": None}
    latest = {row["tenant"]: row["frame_id"] for row in rows(ready, "frames")}
    assert (latest["y"], latest["z"]) == ("00000000-0-5", "00000000-0-6")
    assert run.count("frame_history", "unreadable") == 4
    assert "partition 0 offset 3 is no global_frame: ts_range" in caplog.text


def test_samples_days_and_their_end(topics: Settings, run: Running) -> None:
    kept = ProjectionSettings(history="100ms", history_days=2)
    settings = migrated(topics.model_copy(update={"projections": kept}))
    old = (datetime.now(UTC) - timedelta(days=3)).date()
    for day in (old, old + timedelta(days=1)):
        sql(settings, "SELECT SCHEMA.frame_history_day($1)", day)
    (one,) = run(settings, "frame_history")
    numbers = iter(range(0, 4_000, 4))

    def chosen() -> list[CompareRecord]:
        return sampled(records(settings, TOPIC), lambda _, log_ms: log_ms // 100)

    def spread() -> bool:
        """Frames in three samples of each tenant at least, and four frames in one."""
        k = next(numbers)
        produce(settings, TOPIC, frames(range(k, k + 4)))
        return len(chosen()) >= 3 * len(TENANTS)

    eventually(spread)
    eventually(lambda: sum(one.lag().values()) == 0 and len(one.lag()) == PARTITIONS)
    assert len(chosen()) < len(records(settings, TOPIC)), "some frames are no sample"

    def wanted() -> bool:
        return same(rows(settings, "frame_history"), chosen())

    eventually(wanted)
    assert soma(
        "projection", "rebuild", "frame_history", "--in-place", "--yes", env=environment(settings)
    )
    eventually(wanted)
    days = sql(
        settings,
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = to_regclass('SCHEMA.frame_history')",
    )
    names = {row[0] for row in days}
    assert f"frame_history_{old:%Y%m%d}" not in names
    assert f"frame_history_{datetime.now(UTC):%Y%m%d}" in names


def test_a_recreated_topic_counts_as_newer(ready: Settings, run: Running) -> None:
    (one,) = run(ready, "frames")
    produce(ready, TOPIC, frames(range(50), ["a", "b"]))
    eventually(lambda: same(rows(ready, "frames"), last(records(ready, TOPIC))))
    admin, name = AdminClient(ready.librdkafka()), ready.topic(TOPIC)
    admin.delete_topics([name])[name].result(20)
    eventually(lambda: name not in admin.list_topics(timeout=10).topics)
    preflight.apply(ready)
    produce(ready, TOPIC, frames(range(3), ["a"]))

    def newest() -> bool:
        held = {row["tenant"]: row["dwell_ms"] for row in rows(ready, "frames")}
        return held == {"a": 2, "b": 49}

    eventually(newest, 60)
    assert one.error is None


def test_a_log_that_went_back_isnt_taken_for_known(
    ready: Settings, run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka was restored from an older copy: its offsets are given out again for other frames."""
    (one,) = run(ready, "frames")
    produce(ready, TOPIC, frames(range(5)))
    eventually(lambda: len(rows(ready, "frames")) == 20 and not sum(one.lag().values()))
    one.stop()
    ahead = "UPDATE SCHEMA.projection_positions SET next_offset = next_offset + 1000"
    sql(ready, f"{ahead} WHERE projection = 'frames' RETURNING 1")
    sql(ready, "UPDATE SCHEMA.frames SET kafka_offset = kafka_offset + 1000 RETURNING 1")
    before = rows(ready, "frames")
    produce(ready, TOPIC, frames(range(5, 6)))
    (again,) = run(ready, "frames")
    eventually(lambda: "Kafka went back in time" in caplog.text)
    assert "`soma projection rebuild frames` fills it again" in caplog.text
    assert again.down and same(rows(ready, "frames"), before), "nothing moves until it is made anew"
    done = soma("projection", "rebuild", "frames", "--in-place", "--yes", env=environment(ready))
    assert done.returncode == 0, done.stderr
    eventually(lambda: same(rows(ready, "frames"), last(records(ready, TOPIC))))


def test_a_workers_role_needs_only_its_grants(ready: Settings, run: Running) -> None:
    role = f"worker_{ready.namespace}"
    sql(ready, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    for statement in grants_to(role, schema_of(ready.namespace)).split(";\n"):
        sql(ready, statement)
    head, at = ready.postgres().split("@", 1)
    dsn = f"{head.split('://')[0]}://{role}:x@{at}"
    least = ready.model_copy(update={"postgres_dsn": SecretStr(dsn)})
    started = run(least, *(what.name for what in declared(ready)))
    produce(ready, TOPIC, frames(range(10)))
    eventually(all_there(ready))
    eventually(lambda: all(len(one.lag()) == PARTITIONS and not one.down for one in started))
    for refused in ("DELETE FROM SCHEMA.frames", "TRUNCATE SCHEMA.frames",
                    "DROP TABLE SCHEMA.frames", "CREATE TABLE SCHEMA.x ()",
                    "UPDATE SCHEMA.projections SET dropped = true"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            sql(least, refused)


def test_segments_are_the_topic(ready: Settings, run: Running) -> None:
    def boundary(tenant: str, number: int) -> bytes:
        times = {"boundary_ts": 10**15 + number, "detected_ts": 10**15, "start_ts": 10**15}
        record = {
            "segment_id": f"00000000-0-{number}:{tenant}:cpd",
            "tenant": tenant,
            "domain": "state",
            "dwell_ms": number,
            "evidence": "cpd",
            "score": 0.5 * number,
            "frame_id": f"00000000-0-{number}",
            "frames": number,
            "leader": "state",
            "mean_error": 0.5,
            "mean_confidence": 0.25,
            "peak_error": 1.5,
        }
        return codec.encode("segment_boundary", record | times)

    run(ready, "segments")
    written = [(t.encode(), boundary(t, n)) for n in range(50) for t in TENANTS]
    produce(ready, "cog.segments", [*written, *written[:20]])  # the same id again is the same row
    eventually(lambda: run.count("segments", "known") == 20)
    wanted = {record["segment_id"]: record for record, _ in records(ready, "cog.segments")[::-1]}
    assert same(rows(ready, "segments"), list(wanted.values()))
