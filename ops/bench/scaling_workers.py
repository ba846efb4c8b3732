"""`soma bench scaling`, workers: 24 partitions on one worker and on several."""

import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from agents.settings import Settings
from ops.bench.commits import Rate, follow
from ops.bench.filling import fill_at_once, updates
from ops.bench.probe import TENANTS, WARM_S, Latencies, Probe
from ops.bench.report import Report, spread
from ops.bench.site import Say, opened
from ops.bench.worker import Workers

PARTITIONS = 24
PROCESSOR, SOURCE, SINK = "integrator", "cog.predictor.updates", "cog.global.frame"
METHOD = (
    "Integrator, {partitions} partitions, {tenants} tenants with 3 domains, one broker, workers on "
    "the same machine, in one group, all ready before it begins. Rate: {events:,} updates become "
    "visible at once, {runs} times: median (min - max), from the first commit seen on the output "
    "topic to the last. CPU: all workers' together, over the same span. Latency: {rate:,} "
    "updates/s for {seconds:.0f} s after {warm:.0f} s that don't count, from just before produce() "
    "to the committed frame in a read_committed consumer's hands. Wanted: nothing collapses; "
    "machines with more cores than this one are what more workers are for."
)


@dataclass(frozen=True)
class Workload:
    """What to run."""

    workers: tuple[int, ...] = (1, 2, 4)
    events: int = 1_000_000
    runs: int = 3
    rate: int = 5000
    seconds: float = 10.0
    seed: int = 1
    partitions: int = PARTITIONS
    warm_s: float = WARM_S


@dataclass
class Shared:
    """What so many workers did."""

    workers: int
    rates: list[Rate] = field(default_factory=list)
    latency: Latencies = field(default_factory=lambda: Latencies("soma", 0))


def run(settings: Settings, say: Say, workload: Workload) -> list[Shared]:
    """Each number of workers, one after another."""
    return [_run(settings, say, workload, many) for many in workload.workers]


def _run(settings: Settings, say: Say, workload: Workload, many: int) -> Shared:
    found = Shared(many, latency=Latencies("soma", workload.rate))
    with (
        opened(settings, say, workload.partitions) as site,
        Workers(site.settings, many, PROCESSOR, site.folder) as workers,
    ):
        workers.ready(workload.partitions)
        source, sink = site.topic(SOURCE), site.topic(SINK)
        for k in range(workload.runs):
            since = sum(site.broker.ends(sink))
            fill_at_once(
                site.settings, source, updates(workload.events, TENANTS, workload.seed + k)
            )
            found.rates.append(follow(site.broker, sink, workers, workload.events, since))
            say(f"{many} workers, run {k + 1}: {found.rates[-1].events_per_s:,.0f} frames/s")
        with closing(Probe(site, source, sink)) as probe:
            probe.measure(found.latency, workload.seconds, workload.warm_s)
        say(f"{many} workers, {workload.rate:,}/s: p99 {found.latency.at(99):.1f} ms")
    return found


def report(workload: Workload, results: Sequence[Shared]) -> Report:
    """The table, each beside the first."""
    rows = []
    first = statistics.median(rate.events_per_s for rate in results[0].rates)
    for one in results:
        speeds = [rate.events_per_s for rate in one.rates]
        rows.append((
            str(one.workers), str(workload.partitions // one.workers), spread(speeds),
            f"{100 * statistics.median(speeds) / first:.0f} %",
            spread([rate.cpu_us_per_event for rate in one.rates], 2),
            *(f"{one.latency.at(q):.1f}" for q in (50, 99, 100)),
        ))  # fmt: skip
    columns = (
        "workers", "partitions each", "frames/s", f"of {results[0].workers}", "CPU µs/frame",
        "p50 ms", "p99 ms", "max ms",
    )  # fmt: skip
    method = METHOD.format(tenants=TENANTS, warm=workload.warm_s, **vars(workload))
    return Report("scaling, workers", columns, rows, method)


def as_json(results: Sequence[Shared]) -> list[dict[str, Any]]:
    """The results as JSON data; of latencies the percentiles."""
    return [
        {"workers": one.workers, "rates": [asdict(rate) for rate in one.rates]}
        | one.latency.percentiles(50, 99, 100)
        for one in results
    ]
