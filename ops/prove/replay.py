"""Proof that replay jobs lose, double and misplace nothing when workers and the broker are killed.

    python -m ops.prove.replay --records 200000 --rate 6000 --kills 10 --broker 2 --seed 1

Jobs send a topic's records again while live traffic goes on into it, aborted transactions among
what they read; another redrives dead letters. Workers are killed (-9) and started again, and so is
the broker, a Kafka of the proof's own. In the end each record of the range must be in each job's
target once, with its key and value, in the order of its partition, and nothing else; and so must
each letter's record in the topic where it failed.
Exit status 0: so it is.
"""

import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from pydantic import SecretStr

from agents.replay import client
from agents.settings import Settings
from ops.bench.site import Say
from ops.bench.worker import Worker
from ops.prove.beside import beside
from ops.prove.command import command
from ops.prove.crew import Crew
from ops.prove.servers import Server, StackPart
from ops.stack import Stack
from topics import preflight
from topics.broker import connect, create, wait_for
from topics.catalogue import dlq_of
from topics.partition import partition_of
from topics.reading import ends_of, read_to

SOURCE = "cog.observations"
PARTITIONS, TENANTS, WORKERS, JOBS = 4, 23, 2, 2
FAILED, REDRIVE = "cog.predictor.updates", "prove.redrive"  # where letters' records were; its job
PART_OF_RATE = 4  # one in so many is redriven: as many letters as records would take too long
CHUNK = 2_000  # records of a transaction; each third one of them is aborted
LIVE_S = 0.01  # between two records of live traffic
ALIVE_S = (0.5, 4.0)  # how long workers live between two blows
DONE_S = 900.0
LOOK_S = 0.5
T = TypeVar("T")
ENVIRONMENT = {"SOMA_SESSION_TIMEOUT_S": "6", "SOMA_HEARTBEAT_S": "1"}


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    records: int = 200_000
    rate: int = 6_000  # records a second, of each worker's jobs together
    kills: int = 10
    broker: int = 2  # kills of the broker
    seed: int = 1


@dataclass(slots=True)
class Report:
    """What happened, and what was wrong."""

    records: int = 0
    letters: int = 0
    kills: int = 0
    broker_kills: int = 0
    live: int = 0  # records written beside
    seconds: float = 0.0
    rates: list[int] = field(default_factory=list)  # records a second of each job, kills and all
    problems: list[str] = field(default_factory=list)


def feed(settings: Settings, records: int) -> int:
    """Records in transactions, some of which are aborted; how many of them are to be read."""
    producer = Producer(
        settings.librdkafka(
            transactional_id=settings.prefix("prove-replay"), partitioner="murmur2_random"
        )
    )
    producer.init_transactions(30)
    kept = 0
    for number, begin in enumerate(range(0, records, CHUNK)):
        producer.begin_transaction()
        end = min(begin + CHUNK, records)
        for k in range(begin, end):
            producer.produce(settings.topic(SOURCE), key=f"t{k % TENANTS}", value=f"number {k}")
        if number % 3 == 1:
            producer.flush(30)
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            kept += end - begin
    return kept


def feed_letters(settings: Settings, count: int) -> int:
    """Dead letters whose records would be folded today; `error_metric` numbers them. How many."""
    producer = Producer(settings.librdkafka(linger_ms=20))
    for k in range(count):
        tenant = f"t{k % TENANTS}"
        home = partition_of(tenant, PARTITIONS)
        value = {
            "tenant": tenant, "domain": "state", "predictor_type": "p", "error_metric": k,
            "ts": "2026-01-31T12:00:00Z",
        }  # fmt: skip
        why: dict[str, str | bytes | None] = {  # in the order in which processors write them
            "soma-reason": "law_failed", "soma-detail": "",
            "soma-origin": f"{settings.topic(FAILED)}/{home}/{k}", "soma-processor": "integrator",
        }  # fmt: skip
        producer.produce(
            settings.topic(dlq_of(FAILED)), json.dumps(value), tenant, home, headers=why
        )
        producer.poll(0)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} letters weren't taken")
    return count


@contextmanager
def traffic(settings: Settings, report: Report) -> Iterator[None]:
    """Records into the source while the block runs."""

    def write(stop: threading.Event) -> None:
        producer = Producer(settings.librdkafka(partitioner="murmur2_random"))
        while not stop.wait(LIVE_S):
            producer.produce(settings.topic(SOURCE), key=f"t{report.live % TENANTS}", value="live")
            producer.poll(0)
            report.live += 1
        producer.flush(30)

    with beside("traffic", write):
        yield


def run(settings: Settings, broker: Server, options: Options, folder: Path, say: Say) -> Report:
    """Feed, start jobs, kill, and compare. `broker` is that of the settings."""
    report, rng = Report(), random.Random(options.seed)
    preflight.apply(settings)
    report.records = feed(settings, options.records)
    report.letters = feed_letters(settings, options.records // PART_OF_RATE)
    targets = [f"prove.replay.{number}" for number in range(JOBS)]
    admin = connect(settings.librdkafka())
    for name in targets:
        create(admin, settings.topic(name), PARTITIONS, 1, {})
    wait_for(admin, [settings.topic(name) for name in targets])
    for name in targets:
        given = {"id": name, "type": "start", "mode": "republish", "source": SOURCE, "target": name}
        client.say(settings, client.command(given))
    given = {"id": REDRIVE, "type": "start", "mode": "redrive", "source": FAILED}
    client.say(settings, client.command(given))
    began = time.monotonic()
    env = ENVIRONMENT | {"SOMA_REPLAY_RATE": str(options.rate)}
    crew = Crew(lambda: Worker(settings, "replay", folder, **env), WORKERS)
    with traffic(settings, report), crew:
        crew.strike(options.kills, options.broker, broker, rng, ALIVE_S, report, say)
        done = await_done(settings, [*targets, REDRIVE], crew.workers)
    report.seconds = round(time.monotonic() - began, 1)
    say("comparing")
    compare_letters(settings, done.pop(REDRIVE), report)
    for name, one in done.items():
        took = (one["finished"] - one["started"]) / 1e6
        report.rates.append(int(one["read"] / took))
        compare(settings, name, json.loads(one["plan"])["ranges"], report)
    return report


def await_done(
    settings: Settings, jobs: list[str], workers: list[Worker]
) -> dict[str, dict[str, Any]]:
    """How the jobs are, once all are done. RuntimeError names one that isn't."""
    deadline = time.monotonic() + DONE_S
    while time.monotonic() < deadline:
        for worker in workers:
            worker.check()
        with client.Statuses(settings, past=True) as statuses:
            found = statuses.last()
        if bad := [one for one in found.values() if one["state"] in ("failed", "refused")]:
            raise RuntimeError(f"{bad[0]['id']} {bad[0]['state']}: {bad[0]['message']}")
        if all(name in found and found[name]["state"] == "done" for name in jobs):
            return {name: found[name] for name in jobs}
        time.sleep(LOOK_S)
    raise RuntimeError(f"not done within {DONE_S:g} s")


def compare(settings: Settings, target: str, ranges: dict[str, list[int]], report: Report) -> None:
    """What the target has, with what it must have."""
    source = settings.topic(SOURCE)
    wanted = {
        f"{source}/{one.partition()}/{one.offset()}": (one.key(), one.value())
        for one in read(settings, SOURCE)
        if (one.offset() or 0) < ranges[str(one.partition())][1]
    }
    if len(wanted) < report.records:
        report.problems.append(f"{target}: a range of {len(wanted)}, not {report.records} records")
    last: dict[tuple[int, str], int] = {}
    for one in read(settings, target):
        place = dict(one.headers() or []).get("soma-replayed")
        text = place.decode() if isinstance(place, bytes) else ""
        was = wanted.pop(text, None)
        if was is None:
            report.problems.append(f"{target}: {text or 'a record'} is doubled, or never was")
        elif was != (one.key(), one.value()):
            report.problems.append(f"{target}: {text} is another now")
        part, _, offset = text.rpartition("/")
        stream = one.partition() or 0, part
        if int(offset or 0) < last.get(stream, 0):
            report.problems.append(f"{target}: {text} is out of order")
        last[stream] = int(offset or 0)
    if wanted:
        report.problems.append(f"{target}: {len(wanted)} are lost, {min(wanted)} among them")
    del report.problems[20:]


def compare_letters(settings: Settings, job: dict[str, Any], report: Report) -> None:
    """What came back to the topic where it failed, and what the job says of it."""
    found = Counter(
        int(json.loads(one.value() or b"")["error_metric"]) for one in read(settings, FAILED)
    )
    if doubled := [k for k, count in found.items() if count > 1]:
        report.problems.append(f"{len(doubled)} letters are doubled, {min(doubled)} among them")
    if lost := set(range(report.letters)) - found.keys():
        report.problems.append(f"{len(lost)} letters are lost, {min(lost)} among them")
    if job["sent"] != len(found):
        report.problems.append(f"the job says {job['sent']} letters, not {len(found)}")


def read(settings: Settings, topic: str) -> Iterator[Message]:
    """All committed records of a topic, as it stands now."""
    consumer = Consumer(
        settings.librdkafka(
            group_id="prove-replay", isolation_level="read_committed", enable_auto_commit=False,
            enable_partition_eof=True,
        )
    )  # fmt: skip
    places = [(settings.topic(topic), partition) for partition in range(PARTITIONS)]
    consumer.assign([TopicPartition(*place, 0) for place in places])
    try:
        for messages in read_to(consumer, ends_of(consumer, places)):
            yield from messages
    finally:
        consumer.close()


def on_own_kafka(
    settings: Settings, say: Say, work: Callable[[Settings, Server, Path], T],
    without: tuple[str, ...] = ("postgres", "valkey"),
) -> T:  # fmt: skip
    """Do something with a Kafka of its own, and with a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="soma-prove-replay-") as name:
        home = Path(name) / "stack"
        home.mkdir()
        cache = settings.home / "jars"
        stack = Stack(home, ephemeral=True, cache=cache, without=without, say=say)
        try:
            ends = stack.up()
            own = settings.model_copy(update={
                "kafka_bootstrap": ends.kafka_bootstrap, "namespace": "prove",
                "topics_partitions": PARTITIONS, "topics_replication": 1,
                "postgres_dsn": SecretStr(ends.postgres_dsn),
            })  # fmt: skip
            return work(own, StackPart(stack), Path(name))
        finally:
            stack.down()


def prove(settings: Settings, options: Options, say: Say) -> Report:
    """One run on a Kafka of its own."""
    return on_own_kafka(settings, say, lambda own, kafka, home: run(own, kafka, options, home, say))


if __name__ == "__main__":
    command(__doc__, Options, prove)
