"""Proof that row processors lose, double and misplace nothing when their worker is killed.

    python -m ops.prove.rows --events 400000 --rate 20000 --kills 5 --seed 1

Observations flow, some of them bad, while the worker of ops/examples/counting.py is killed (-9) and
started again. In the end each output, row and dead letter is compared with a count of our own, that
shares fastavro and the schemas with the engine, and nothing else.
Exit status 0: nothing lost, doubled or wrong, and no row that differs.
"""

import argparse
import io
import json
import random
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from math import hypot
from typing import Any

import fastavro
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from agents.settings import Settings, load
from ops.bench.broker import PARTITIONS
from ops.bench.filling import observations
from ops.bench.site import Say, Site, on_broker, opened
from ops.bench.worker import Worker
from ops.examples import COUNTS
from ops.examples.install import ENVIRONMENT, install
from topics.catalogue import dlq_of
from topics.reading import ends_of, read_to
from topics.schemas import schemas

SOURCE, STATE = "cog.observations", "soma.counting.state"
TENANTS, NUMBERS = 300, 16
CUT_EVERY, ODD_EVERY = 997, 2000  # a record that ends too soon; a vector of three bytes
DRAIN_S, FLUSH_S = 300.0, 60.0
ALIVE_S = (0.3, 4.0)  # how long a worker may live, from its readiness on
HEADER = 5  # bytes before the Avro
POSITION = "@position"  # the state topic's row that isn't a tenant's


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    events: int = 400_000
    rate: int = 20_000  # a second
    kills: int = 5
    seed: int = 1


@dataclass
class Report:
    """What was found."""

    kills: int = 0
    busy_kills: int = 0  # of workers that had records before them
    records: int = 0
    wanted: int = 0
    outputs: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    rows_that_differ: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    dead_wanted: dict[str, int] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What must not be; empty if all is well."""
        found = [
            f"{name}: {count}"
            for name in ("lost", "doubled", "wrong", "rows_that_differ")
            if (count := getattr(self, name))
        ]
        if self.dead != self.dead_wanted:
            found.append(f"dead letters {self.dead}, not {self.dead_wanted}")
        return found if self.wanted else [*found, "nothing was folded"]


class Feeder(threading.Thread):
    """Produces the observations at their rate, bad ones among them."""

    def __init__(self, settings: Settings, topic: str, options: Options) -> None:
        super().__init__(name="feeder", daemon=True)
        self._topic, self._options = topic, options
        config = settings.librdkafka(partitioner="murmur2_random", linger_ms=5)
        self._producer = Producer(config)
        self.sent = 0
        self.failed: list[str] = []

    def run(self) -> None:
        begun = time.monotonic()
        options, producer = self._options, self._producer
        made = observations(options.events, TENANTS, options.seed, NUMBERS)
        for k, (key, value) in enumerate(made):
            producer.produce(self._topic, spoiled(k, key, value), key, on_delivery=self._told)
            self.sent = k + 1
            if k % 200 == 0:
                producer.poll(0)
                time.sleep(max(0.0, begun + k / options.rate - time.monotonic()))
        if left := producer.flush(FLUSH_S):
            self.failed.append(f"{left} records weren't taken in {FLUSH_S:.0f} s")

    def _told(self, error: Any, _: Message) -> None:
        if error is not None:
            self.failed.append(str(error))


def spoiled(k: int, key: bytes, value: bytes) -> bytes:
    """The k-th observation, or what is sent in its place."""
    if k % CUT_EVERY == 5:
        return value[:-7]
    if k % ODD_EVERY == 3:
        record = {
            "tenant": key.decode(), "domain": "state", "ts": time.time_ns() // 1000,
            "vector": b"abc", "sequence": None,
        }  # fmt: skip
        out = io.BytesIO(value[:HEADER])
        out.seek(HEADER)
        fastavro.schemaless_writer(out, schemas().newest("observation"), record)
        return out.getvalue()
    return value


def run(site: Site, options: Options) -> Report:
    """Feed, kill, and compare."""
    report, rng = Report(), random.Random(options.seed)
    feeder = Feeder(site.settings, site.topic(SOURCE), options)
    with ExitStack() as workers:
        for turn in range(options.kills + 1):
            worker = workers.enter_context(
                Worker(site.settings, "counting", site.folder, **ENVIRONMENT)
            )
            worker.ready()
            if not turn:
                feeder.start()
            if turn < options.kills:
                time.sleep(rng.uniform(*ALIVE_S))
                busy = lag(worker) != 0 or feeder.is_alive()
                worker.kill()
                report.kills, report.busy_kills = turn + 1, report.busy_kills + busy
                site.say(f"kill {turn + 1} of {options.kills}: {feeder.sent:,} sent")
        feeder.join(options.events / options.rate + DRAIN_S)
        if feeder.is_alive() or feeder.failed:
            raise RuntimeError(f"feeding failed: {feeder.failed or 'it takes too long'}")
        worker.wait("the end of the source", lambda: lag(worker) == 0 and caught_up(site), DRAIN_S)
    compare(site, report)
    return report


def lag(worker: Worker) -> float | None:
    """Records before it; None if it doesn't say."""
    found = [v for k, v in worker.metrics().items() if k.startswith("soma_processor_lag_records")]
    return sum(found) if len(found) == PARTITIONS else None


def caught_up(site: Site) -> bool:
    """Whether all of the source is folded, by the positions in the state topic.

    A worker that has just started doesn't know its lag, and says 0.
    """
    ends = site.broker.ends(site.topic(SOURCE))
    done = [0] * PARTITIONS
    for message in read(site, STATE):
        if text(message.key()) == POSITION:
            done[message.partition() or 0] = decoded("position", message)["next_offset"]
    return done == ends


def read(site: Site, topic: str) -> Iterator[Message]:
    """All committed records of a topic, as it stands now."""
    consumer = Consumer(
        site.settings.librdkafka(
            group_id="prove-rows", isolation_level="read_committed", enable_auto_commit=False
        )
    )
    places = [(site.topic(topic), partition) for partition in range(PARTITIONS)]
    consumer.assign([TopicPartition(*place, 0) for place in places])
    try:
        for messages in read_to(consumer, ends_of(consumer, places)):
            yield from messages
    finally:
        consumer.close()


def decoded(schema: str, message: Message) -> dict[str, Any]:
    """A record, by fastavro."""
    content = io.BytesIO((message.value() or b"")[HEADER:])
    record: Any = fastavro.schemaless_reader(content, schemas().newest(schema), None)
    return dict(record)


def text(given: str | bytes | None) -> str:
    """A key, or a header."""
    return given.decode() if isinstance(given, bytes) else given or ""


@dataclass
class Wanted:
    """The count of our own."""

    outputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # by observation_id
    rows: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)
    left: int = 0  # to the keeper of the source: no dead letter of ours

    def fold(self, ident: str, partition: int, record: dict[str, Any]) -> None:
        """Count one observation."""
        tenant, vector = record["tenant"], record["vector"]
        total, _, norms = self.rows.get(tenant, (0, 0, 0.0))
        norms += hypot(*struct.unpack(f"<{len(vector) // 4}f", vector))
        self.rows[tenant] = (total + 1, record["ts"], norms)
        self.outputs[ident] = (tenant, record["ts"], total + 1, norms, partition)


def wanted(site: Site) -> Wanted:
    """What must have come out, from the source alone."""
    found, prefix = Wanted(), site.broker.id_prefix(site.topic(SOURCE))
    messages = sorted(read(site, SOURCE), key=lambda m: (m.partition() or 0, m.offset() or 0))
    for message in messages:
        try:
            record = decoded("observation", message)
        except (EOFError, IndexError, ValueError):
            found.left += 1  # to the keeper of the source, which doesn't run here
            continue
        if len(record["vector"]) % 4:
            found.dead["refused"] += 1
            continue
        ident = f"{prefix}-{message.partition()}-{message.offset()}"
        found.fold(ident, message.partition() or 0, record)
    return found


def compare(site: Site, report: Report) -> None:
    """Each output, row and dead letter with what it must be."""
    must = wanted(site)
    report.wanted, report.dead_wanted = len(must.outputs), dict(sorted(must.dead.items()))
    report.records = report.wanted + must.dead.total() + must.left
    seen: set[str] = set()
    for message in read(site, COUNTS):
        record = decoded("observation_count", message)
        ident = record["observation_id"]
        report.outputs += 1
        report.doubled += ident in seen
        seen.add(ident)
        got = tuple(record[name] for name in ("tenant", "ts", "total", "norms"))
        key = text(message.key())
        good = must.outputs.get(ident) == (*got, message.partition()) and key == record["tenant"]
        report.wrong += not good
    report.lost = len(must.outputs.keys() - seen)
    rows = {}
    for message in read(site, STATE):
        if (tenant := text(message.key())) != POSITION:
            row = decoded("counting_state", message)
            rows[tenant] = row["total"], row["last_ts"], row["norms"]
    tenants = rows.keys() | must.rows.keys()
    report.rows_that_differ = sum(rows.get(t) != must.rows.get(t) for t in tenants)
    dead = (dict(message.headers() or []) for message in read(site, dlq_of(SOURCE)))
    letters = Counter(text(headers["soma-reason"]) for headers in dead)
    report.dead = dict(sorted(letters.items()))


def prove(settings: Settings, options: Options, say: Say) -> Report:
    """One run in a namespace of its own, on the broker of the settings or one of its own."""
    install()
    with on_broker(settings, say) as own, opened(own, say) as site:
        return run(site, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in asdict(Options()).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = Options(**vars(parser.parse_args()))
    report = prove(load(), options, lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(asdict(report)))
    if report.problems:
        sys.exit("; ".join(report.problems))


if __name__ == "__main__":
    main()
