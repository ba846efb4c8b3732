"""`soma bench latency`: from produce to the committed frame, and what an idle worker costs."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from ops.bench.broker import PARTITIONS
from ops.bench.job import Job
from ops.bench.probe import WARM_S, Latencies, Probe
from ops.bench.report import Report
from ops.bench.site import Site
from ops.bench.worker import ROOT, STOP_S, Worker

SOURCE, SINK = "cog.predictor.updates", "cog.global.frame"
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
        process.wait(STOP_S)


def idle_cpu(worker: Worker, seconds: float = 20.0) -> float:
    """Percent of one core that a worker without input uses."""
    time.sleep(2.0)
    cpu, start = worker.cpu_s(), time.monotonic()
    time.sleep(seconds)
    return 100.0 * (worker.cpu_s() - cpu) / (time.monotonic() - start)


def run(site: Site, rates: Sequence[int], seconds: float) -> tuple[list[Latencies], float]:
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
    with closing(Probe(site, source, sink)) as probe:
        probe.measure(found, seconds)
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
        | one.percentiles(50, 95, 99)
        | {"max_ms": one.at(100)}
        for one in found
    ]
    return {"latency": rows, "idle_cpu_percent": idle}
