"""`soma bench chain`: observations through three processors in one worker to their boundaries."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ops.bench.boundaries import WARM_S, probe
from ops.bench.broker import Broker
from ops.bench.commits import QUIET_S, SAMPLE_S, STALL_S, Rate
from ops.bench.filling import fill, observations
from ops.bench.probe import Latencies
from ops.bench.report import Report, spread
from ops.bench.site import Site
from ops.bench.worker import Worker, WorkerError

PROCESSORS = ("predictors", "integrator", "segmentation")
OBSERVATIONS, FRAMES = "cog.observations", "cog.global.frame"
PARTS = ("chain", "segmentation", "latency")
WANTED = {"chain": "≥ 80,000", "segmentation": "≥ 200,000", "latency": "p99 ≤ 200 ms"}
METHOD = (
    "{events:,} observations of {dim} numbers lie in the topic, {tenants:,} tenants with 3 "
    "domains, 4 partitions; {runs} runs of a fresh worker: median (min - max). Chain: all three "
    "processors in one worker, from the first commit of the first processor to the last commit of "
    "the last one's state (last stable offsets, every 20 ms); what the first commit holds isn't "
    "counted. Segmentation alone: the frames of that run, `glr` on each of the 3 domains. State "
    "and transactions on. Latency: {rate:,} observations/s for {seconds:.0f} s after {warm:.0f} s "
    "that don't count (the disk has what was written before), threshold boundaries beside glr's; "
    "from just before produce() of the observation that declared a boundary to the boundary in a "
    "read_committed consumer's hands, one clock."
)


@dataclass(frozen=True)
class Workload:
    """What to run."""

    events: int = 1_000_000
    runs: int = 3
    tenants: int = 300
    dim: int = 16
    seed: int = 1
    rate: int = 1000
    seconds: float = 20.0
    parts: tuple[str, ...] = PARTS


@dataclass
class Result:
    """What came of it."""

    chain: list[Rate] = field(default_factory=list)
    segmentation: list[Rate] = field(default_factory=list)
    latency: Latencies | None = None


def folded(worker: Worker, processor: str) -> int:
    """How many records a processor has folded and committed, by the worker's own count."""
    found = worker.metrics()
    mine = f'soma_processor_records_total{{processor="{processor}"'
    return int(sum(value for name, value in found.items() if name.startswith(mine)))


def follow(
    broker: Broker, first: str, last: str, worker: Worker, processor: str, events: int
) -> Rate:
    """Watch two topics, the first to move and the last, until `processor` has folded all `events`.

    Both were empty before. What was in `first` when it was first seen to move isn't counted.
    """
    begun: tuple[float, int, float] | None = None
    end, moved, cpu = 0, time.monotonic(), worker.cpu_s()
    while True:
        now, here = time.monotonic(), sum(broker.ends(last))
        if begun is None and (seen := sum(broker.ends(first))):
            begun = (now, seen, worker.cpu_s())
        if here > end:
            end, moved, cpu = here, now, worker.cpu_s()
        elif now - moved > QUIET_S and begun and folded(worker, processor) >= events:
            break
        elif now - moved > STALL_S:
            raise WorkerError(
                f"{folded(worker, processor)} of {events} folded by {processor}, then nothing; "
                f"the log ends:\n{worker.log_text()[-3000:]}"
            )
        worker.check()
        time.sleep(SAMPLE_S)
    counted = events - begun[1]
    if counted <= 0 or moved <= begun[0]:
        raise WorkerError(f"{events:,} events were committed at once: measure with more --events")
    return Rate(events, counted, moved - begun[0], cpu - begun[2])


class Chain:
    """One run set on one broker."""

    def __init__(self, site: Site, workload: Workload) -> None:
        self.site, self.workload = site, workload
        self.state = site.topic("soma.segmentation.state")

    def run(self) -> Result:
        """All parts that the workload asks for."""
        workload, result = self.workload, Result()
        if "chain" in workload.parts or "segmentation" in workload.parts:
            self._fill()
            for k in range(workload.runs if "chain" in workload.parts else 1):
                if k:
                    self.site.forget(OBSERVATIONS)
                result.chain.append(self._chain())
        if "segmentation" in workload.parts:
            for _ in range(workload.runs):
                self.site.forget(FRAMES)
                result.segmentation.append(self._segmentation())
        if "latency" in workload.parts:
            self.site.forget("")
            os.sync()  # gigabytes of the parts before are still being written otherwise
            result.latency = probe(self.site, PROCESSORS, workload.rate, workload.seconds)
        return result

    def _fill(self) -> None:
        workload, topic = self.workload, self.site.topic(OBSERVATIONS)
        self.site.say(f"filling {topic} with {workload.events:,} observations")
        records = observations(workload.events, workload.tenants, workload.seed, workload.dim)
        fill(self.site.settings, topic, records)

    def _chain(self) -> Rate:
        first = self.site.topic("cog.predictor.updates")
        rate = self._measure(",".join(PROCESSORS), first)
        self.site.say(f"chain: {rate.events_per_s:,.0f} observations/s")
        return rate

    def _segmentation(self) -> Rate:
        rate = self._measure("segmentation", self.state)
        self.site.say(f"segmentation alone: {rate.events_per_s:,.0f} frames/s")
        return rate

    def _measure(self, processors: str, first: str) -> Rate:
        with Worker(self.site.settings, processors, self.site.folder) as worker:
            return follow(
                self.site.broker, first, self.state, worker, "segmentation", self.workload.events
            )


def _row(title: str, rates: Sequence[Rate], what: str, wanted: str) -> tuple[str, ...]:
    speeds = [rate.events_per_s for rate in rates]
    cpu = [rate.cpu_us_per_event for rate in rates]
    return title, f"{rates[0].events:,}", f"{spread(speeds)} {what}/s", spread(cpu, 2), wanted


def report(workload: Workload, result: Result) -> Report:
    """The table."""
    rows = []
    if result.chain:
        wanted = WANTED["chain"]
        rows.append(_row("chain of three processors", result.chain, "observations", wanted))
    if result.segmentation:
        rates, wanted = result.segmentation, WANTED["segmentation"]
        rows.append(_row("segmentation alone, glr", rates, "frames", wanted))
    if result.latency:
        found = result.latency
        cells = "p50 {:.0f}, p99 {:.0f}, max {:.0f} ms".format(*map(found.at, (50, 99, 100)))
        title = f"observation to boundary, {workload.rate:,}/s"
        rows.append((title, f"{len(found.ms):,}", cells, "", WANTED["latency"]))
    return Report(
        "chain",
        ("what", "events", "measured", "CPU µs/event", "wanted"),
        rows,
        METHOD.format(warm=WARM_S, **vars(workload)),
    )


def as_json(result: Result) -> dict[str, object]:
    """The results as JSON data."""
    data: dict[str, object] = {
        name: [
            {"events_per_s": rate.events_per_s, "cpu_us_per_event": rate.cpu_us_per_event}
            for rate in getattr(result, name)
        ]
        for name in ("chain", "segmentation")
    }
    if result.latency:
        found = result.latency
        data["latency"] = {"boundaries": len(found.ms)} | found.percentiles(50, 99, 100)
    return data
