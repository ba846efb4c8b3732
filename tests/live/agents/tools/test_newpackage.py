"""A package that `soma new` wrote, installed as a stranger installs it: beside the predictors, in
workers that are killed under load, it loses and doubles nothing.

What it must have written is counted here anew, from the log and what its law says.
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from agents.settings import Settings
from ops.prove.check import POSITION_KEY
from ops.prove.partitions import home
from ops.prove.reader import identities, read_all
from ops.prove.wire import Record, Wire
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, REPO, Worker, environment, eventually, topics_of
from topics.broker import connect, wait_for

NAME = "counting"
SOURCE, SINK, STATE = "cog.observations", f"cog.{NAME}", f"soma.{NAME}.state"
UPDATES, PREDICTORS_STATE = "cog.predictor.updates", "soma.predictors.state"
MADE = topics_of("predictors")
KILLS, LIVES_S = 3, (0.3, 2.5)  # the next one starts meanwhile
RATE = 500  # observations a second
EVERY, SILENCE_S = 3, 1
SECOND = 1_000_000  # of Kafka's and our times, microseconds
TENANTS = [f"t{k}" for k in range(12)]
# From here on they have pauses, long enough that timers come while a worker lives.
RARE, RARE_S = len(TENANTS) // 2, 6
COMMAND_S = 100.0


def run(folder: Path, *words: str, env: Mapping[str, str]) -> str:
    """A Python module's program run to its end; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=dict(env), capture_output=True, text=True,
        timeout=COMMAND_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as `soma new` wrote it in an empty folder."""
    empty = tmp_path_factory.mktemp("empty")
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("SOMA_", "PYTEST_"))}
    run(empty, "agents.cli", "new", NAME, env=bare | {"PYTHONPATH": str(REPO)})
    return empty / NAME


@pytest.fixture(scope="module")
def site(folder: Path) -> Path:
    """A folder of installed packages that has it and nothing else; no net is asked for it."""
    place = folder.parent / "site"
    alone = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    quiet = ("--disable-pip-version-check", "--root-user-action=ignore")
    run(folder, "pip", "install", *alone, *quiet, "--target", str(place), ".", env=os.environ)
    assert list(place.glob(f"{NAME}-*.dist-info/entry_points.txt"))
    return place


class Feeder(threading.Thread):
    """Writes observations until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.settings, self.told = settings, threading.Event()
        self.sent: Counter[str] = Counter()  # by tenant
        self.failed: list[str] = []

    def run(self) -> None:
        """Half of the tenants all the time, the others in one second of RARE_S."""
        wire, choice = Wire(), random.Random(5)
        producer = Producer(self.settings.librdkafka(partitioner="murmur2_random"))
        begun = time.monotonic()
        for number in count():
            now = time.monotonic() - begun
            tenant = choice.choice(TENANTS[: RARE if int(now) % RARE_S else len(TENANTS)])
            row = {
                "tenant": tenant, "domain": "state", "ts": time.time_ns() // 1000,
                "vector": bytes(16), "sequence": number,
            }  # fmt: skip
            value = wire.encode("observation", row)
            producer.produce(
                self.settings.topic(SOURCE), value, tenant,
                on_delivery=lambda error, _: self.failed.append(str(error)) if error else None,
            )  # fmt: skip
            self.sent[tenant] += 1
            producer.poll(0)
            if self.told.wait(max(0.0, number / RATE - now)):
                break
        if left := producer.flush(30.0):
            self.failed.append(f"{left} not acknowledged")

    def stop(self) -> None:
        """AssertionError where not all was written."""
        self.told.set()
        self.join(60.0)
        assert not self.is_alive() and not self.failed, self.failed[:3]


class Read(NamedTuple):
    """What there is in the end, decoded by the verifier's own code."""

    settings: Settings
    house: Wire
    own: Wire

    def records(self, topic: str) -> Iterator[Record]:
        return read_all(self.settings.bootstrap(), self.settings.topic(topic))

    def rows(self, topic: str, wire: Wire, schema: str) -> list[tuple[Record, str, dict[str, Any]]]:
        """Each record with its schema and its fields; ends of transactions have no value."""
        found = [one for one in self.records(topic) if one.value is not None]
        return [(one, *wire.decode(one.value, schema)) for one in found]

    def position(self, state: str) -> dict[int, int]:
        """How far a processor is, by partition."""
        mine = [one for one in self.records(state) if one.key == POSITION_KEY]
        rows = [(one.partition, self.house.decode(one.value, "position")[1]) for one in mine]
        return {partition: row["next_offset"] for partition, row in rows}


def folded(read: Read) -> tuple[dict[str, list[tuple[int, int, bool]]], dict[str, dict[str, Any]]]:
    """By tenant, what the law says of this log: outputs (ts, total, silent), and the row."""
    told: dict[str, list[tuple[int, int, bool]]] = defaultdict(list)
    rows: dict[str, dict[str, Any]] = {}
    at: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)  # rows, by partition too
    for record, schema, fields in read.rows(SOURCE, read.house, "observation"):
        here = at[record.partition]
        if schema == "control_tick":
            for tenant, row in here.items():
                if row["due"] is not None and row["due"] <= fields["ts"]:
                    row |= {"silent": True, "due": None}
                    told[tenant].append((fields["ts"], row["total"], True))
            continue
        assert schema == "observation", schema
        tenant = fields["tenant"]
        row = rows.setdefault(tenant, {"total": 0, "silent": False, "due": None})
        here[tenant] = row
        due = record.log_ms * 1000 + SILENCE_S * SECOND
        row |= {"total": row["total"] + 1, "silent": False, "due": due}
        if row["total"] % EVERY == 0:
            told[tenant].append((fields["ts"], row["total"], False))
    return dict(told), rows


def killed(start: Callable[[], Worker], seconds: random.Random, feeder: Feeder) -> Worker:
    """Workers, each killed while the next one starts; the last one lives."""
    one = start().await_ready()
    for _ in range(KILLS):
        other = start()
        time.sleep(seconds.uniform(*LIVES_S))
        assert feeder.is_alive(), feeder.failed
        one.kill()
        one = other.await_ready()
    return one


def test_an_installed_package_of_ones_own_keeps_all_through_kills(
    folder: Path, site: Path, topics: Settings, worker: WorkerFactory
) -> None:
    path = {"PYTHONPATH": f"{site}:{REPO}"}
    assert "17 passed" in run(
        folder, "pytest", "-q", "-p", "no:cacheprovider", env=os.environ | path
    )
    own = environment(topics, **path)
    run(REPO, "agents.cli", "topics", "apply", env=own)
    given = {
        "SOMA_AGENTS": f"predictors,{NAME}", "SOMA_SESSION_TIMEOUT_S": "3", **path,
        "SOMA_COUNTING__EVERY": str(EVERY), "SOMA_COUNTING__SILENCE_S": str(SILENCE_S),
    }  # fmt: skip
    feeder = Feeder(topics)
    feeder.start()
    try:
        last = killed(lambda: worker(topics, ready=False, **given), random.Random(3), feeder)
    finally:
        feeder.stop()
    read = Read(topics, Wire(), Wire(site / NAME / "avro"))
    await_end(read, last)
    assert last.stop() == 0, last.tail()
    compare(read, feeder.sent)


def test_a_worker_goes_on_without_packages_that_cant_be_had_where_told_so(
    site: Path, topics: Settings, worker: WorkerFactory, tmp_path: Path
) -> None:
    """One doesn't import, and the broker has another's topic otherwise than it declares it."""
    (tmp_path / "foreign.py").write_text("import nowhere\n")
    info = tmp_path / "foreign_counts-3.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-counts\nVersion: 3.2\n")
    (info / "entry_points.txt").write_text("[soma.processors]\nforeign = foreign:PLUGIN\n")
    other = NewTopic(topics.topic(SINK), PARTITIONS, 1, config={"cleanup.policy": "compact"})
    admin = connect(topics.librdkafka())
    for future in admin.create_topics([other]).values():
        future.result(20)
    wait_for(admin, [topics.topic(SINK)])
    given = {"PYTHONPATH": f"{site}:{tmp_path}:{REPO}", "SOMA_AGENTS": f"predictors,{NAME}"}
    unimported = "foreign-counts 3.2: can't be imported: No module named 'nowhere'"
    otherwise = f"{topics.topic(f'soma.{NAME}.state')}: missing (declared by {NAME} 0.1.0)"
    for optional, said in (("", unimported), ("foreign-counts", otherwise)):
        one = worker(topics, ready=False, SOMA_PLUGINS_OPTIONAL=optional, **given)
        assert one.process.wait(60.0) == 1 and said in one.tail(), one.tail()
    one = worker(topics, SOMA_PLUGINS_OPTIONAL=f"foreign-counts,{NAME}", **given)
    told = one.log.read_text()
    without = "; going on without it (SOMA_PLUGINS_OPTIONAL)\n"
    assert f"{unimported}{without}" in told
    (said,) = [line for line in told.splitlines() if line.startswith(f"{NAME} 0.1.0: ")]
    assert f"{topics.topic(SINK)}: cleanup.policy is compact, not delete" in said
    assert otherwise in said
    assert told.count(without) == 2
    assert one.stop() == 0


def await_end(read: Read, last: Worker) -> None:
    """Until both have folded all, and who is silent was told so."""

    def done() -> bool:
        last.ready()
        ends = {one.partition: one.offset for one in read.records(SOURCE) if one.key}
        states = [read.position(state) for state in (STATE, PREDICTORS_STATE)]
        far = all(at.get(n, 0) > end for at in states for n, end in ends.items())
        final = {one.key: row for one, _, row in read.rows(SINK, read.own, f"{NAME}_event")}
        return far and len(final) == len(TENANTS) and all(row["silent"] for row in final.values())

    eventually(done, 60.0, "both processors at the log's end, and each tenant silent")


def compare(read: Read, sent: Counter[str]) -> None:
    """Outputs and rows of both with what they must be."""
    want, rows = folded(read)
    assert {tenant: row["total"] for tenant, row in rows.items()} == sent
    told = defaultdict(list)
    for record, _, row in read.rows(SINK, read.own, f"{NAME}_event"):
        tenant = (record.key or b"").decode()
        assert (row["tenant"], record.partition) == (tenant, home(tenant, PARTITIONS))
        told[tenant].append((row["ts"], row["total"], row["silent"]))
    assert told == want
    assert sum(silent for one in want.values() for *_, silent in one) > len(TENANTS)
    kept = {one.key: one for one in read.records(STATE) if one.key != POSITION_KEY}
    assert set(kept) == {tenant.encode() for tenant in rows}
    for tenant, row in rows.items():
        stood = read.own.decode(kept[tenant.encode()].value, f"{NAME}_state")[1]
        assert {name: stood[name] for name in row} == row, tenant
    topic = read.settings.topic(SOURCE)
    prefix = identities(read.settings.bootstrap(), [topic])[topic].id
    caused = Counter(
        f"{prefix}-{one.partition}-{one.offset}" for one in read.records(SOURCE) if one.key
    )
    updates = read.rows(UPDATES, read.house, "predictor_update")
    assert Counter(row["observation_id"] for _, _, row in updates) == caused
    assert not list(read.records(f"{SOURCE}.dlq"))
