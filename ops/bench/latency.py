"""`soma bench latency`: from produce to the committed frame, and what an idle worker costs."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from ops.bench.broker import PARTITIONS
from ops.bench.filling import DOMAINS, tenant_names, update
from ops.bench.job import Job
from ops.bench.report import Report
from ops.bench.site import Site
from ops.bench.wire import UPDATE, UPDATE_HEADER, decode_frame, encode
from ops.bench.worker import ROOT, Worker

SOURCE, SINK = "cog.predictor.updates", "cog.global.frame"
WARM_S = 5.0  # at the beginning of a measurement: not counted
DRAIN_S = 10.0
TENANTS = 300
COLUMNS = (
    "events/s", "program", "frames", "p50 ms", "p95 ms", "p99 ms", "max ms", "p99 / bare", "wanted",
)  # fmt: skip
PROGRAMS = {"bare": "bare transactional loop", "soma": "this engine"}
METHOD = (
    "One program at a time, {seconds:.0f} s at each rate after {warm:.0f} s that don't count; "
    "latency is from just before produce() to the committed frame in a read_committed consumer's "
    "hands, by one clock in one process. The bare loop: confluent consume, fold in memory, "
    "produce, send_offsets_to_transaction and commit per poll, one producer for all partitions, "
    "retry.backoff.ms 5. This engine: state rows too, one producer per partition."
)


@dataclass
class Latencies:
    """Milliseconds of one program at one rate."""

    program: str
    rate: int
    ms: list[float] = field(default_factory=list)

    def at(self, percent: float) -> float:
        """A percentile."""
        return float(np.percentile(self.ms, percent))


class Probe:
    """Produces updates at a rate, and reads the frames that come of them."""

    def __init__(self, site: Site, source: str, sink: str) -> None:
        self._producer = Producer(
            site.settings.librdkafka(linger_ms=0, partitioner="murmur2_random")
        )
        self._consumer = Consumer(
            site.settings.librdkafka(
                group_id="unused",
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_queue_backoff_ms=1,
            )
        )
        self._source = source
        ends = site.broker.ends(sink)
        places = [TopicPartition(sink, p, end) for p, end in enumerate(ends)]
        self._consumer.assign(places)
        self._rng = random.Random(7)
        self._tenants = tenant_names(TENANTS)
        self._awaited = 0

    def run(self, rate: int, seconds: float) -> Iterator[tuple[float, float]]:
        """(event time, latency in s) of each frame; ends when all frames of the span are here."""
        start = time.time()
        sent = 0
        while time.time() < start + seconds or self._awaited:
            now = time.time()
            if now > start + seconds + DRAIN_S:
                raise TimeoutError(f"{self._awaited} frames of {sent} didn't come")
            due = int(min(now - start, seconds) * rate) - sent
            for _ in range(due):
                self._send(sent)
                sent += 1
            self._producer.poll(0)
            yield from self._receive()

    def _send(self, k: int) -> None:
        tenant = self._rng.choice(self._tenants)
        ts = int(time.time() * 1e6)
        record = update(tenant, DOMAINS[k % len(DOMAINS)], self._rng.random(), ts)
        self._producer.produce(self._source, encode(UPDATE_HEADER, UPDATE, record), tenant.encode())
        self._awaited += 1

    def _receive(self) -> Iterator[tuple[float, float]]:
        for message in self._consumer.consume(1000, 0.001):
            if message.error() is None:
                ts = decode_frame(message.value() or b"")["ts"] / 1e6
                self._awaited -= 1
                yield ts, time.time() - ts

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


@contextmanager
def bare_loop(site: Site, source: str, sink: str) -> Iterator[None]:
    """The bare transactional loop, running."""
    name = f"{site.settings.namespace}-loop-{time.time_ns()}"
    job = Job(
        "bare-transactional", name, site.settings.bootstrap(), source, sink,
        site.broker.id_prefix(source), 0, PARTITIONS, str(site.folder),
    )  # fmt: skip
    command = [sys.executable, "-m", "ops.bench.peers.transactional"]
    process = subprocess.Popen(command, cwd=ROOT, env=job.env())
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(probe: Probe, found: Latencies, seconds: float) -> None:
    """Fill `found` with what was produced after the warm-up."""
    for _ in probe.run(found.rate, WARM_S):
        pass
    found.ms.extend(1e3 * latency for _, latency in probe.run(found.rate, seconds))


def idle_cpu(worker: Worker, seconds: float = 20.0) -> float:
    """Percent of one core that a worker without input uses."""
    time.sleep(2.0)
    cpu, start = worker.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return 100.0 * (worker.cpu_s() - cpu) / (time.monotonic() - start)


def run(site: Site, rates: list[int], seconds: float) -> tuple[list[Latencies], float]:
    """Both programs at each rate, alternating; and a worker's idle CPU in percent of a core."""
    found = []
    source, sink = site.topic(SOURCE), site.topic(SINK)
    for rate in rates:
        found.append(Latencies("bare", rate))
        bare_source, bare_sink = (
            f"{site.settings.namespace}-{rate}.{end}" for end in ("in", "out")
        )
        site.broker.create(bare_source, bare_sink)
        with bare_loop(site, bare_source, bare_sink):
            _probed(site, bare_source, bare_sink, found[-1], seconds)
        found.append(Latencies("soma", rate))
        with Worker(site.settings, "integrator", site.folder) as worker:
            worker.ready()
            _probed(site, source, sink, found[-1], seconds)
    with Worker(site.settings, "integrator", site.folder) as worker:
        worker.ready()
        return found, idle_cpu(worker)


def _probed(site: Site, source: str, sink: str, found: Latencies, seconds: float) -> None:
    probe = Probe(site, source, sink)
    try:
        measure(probe, found, seconds)
    finally:
        probe.close()
    site.say(f"{found.rate}/s, {PROGRAMS[found.program]}: p99 {found.at(99):.1f} ms")


def report(found: list[Latencies], idle: float, seconds: float) -> Report:
    """The table."""
    bare = {one.rate: one.at(99) for one in found if one.program == "bare"}
    rows = []
    for one in found:
        times = f"{one.at(99) / bare[one.rate]:.2f} ×" if one.program == "soma" else ""
        cells = [f"{one.at(q):.1f}" for q in (50, 95, 99, 100)]
        wanted = "≤ 2 ×" if one.program == "soma" else ""
        rows.append(
            (f"{one.rate:,}", PROGRAMS[one.program], f"{len(one.ms):,}", *cells, times, wanted)
        )
    return Report(
        "latency",
        COLUMNS,
        rows,
        METHOD.format(seconds=seconds, warm=WARM_S),
        [f"Idle worker (integrator): {idle:.1f} % of a core over 20 s (wanted: < 3 %)"],
    )  # fmt: skip


def as_json(found: list[Latencies], idle: float) -> dict[str, object]:
    """The results as JSON data."""
    rows = [
        {"program": one.program, "rate": one.rate, "frames": len(one.ms)}
        | {f"p{q}_ms": one.at(q) for q in (50, 95, 99)}
        | {"max_ms": one.at(100)}
        for one in found
    ]
    return {"latency": rows, "idle_cpu_percent": idle}
