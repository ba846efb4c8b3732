"""`soma bench scaling`, tenants: so many on one worker, while they come and when all are there."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from ops.bench.commits import Rate, follow
from ops.bench.filling import DOMAINS, fill, fill_at_once, step_us, updates
from ops.bench.recovery import Recovery, recovered
from ops.bench.report import Report, spread
from ops.bench.site import Site
from ops.bench.worker import Worker

PROCESSOR, SOURCE, SINK = "integrator", "cog.predictor.updates", "cog.global.frame"
FEW = 300  # tenants whose domains give as many records: what a worker takes without their state
MB = 2**20
METHOD = (
    "Integrator, one worker, 4 partitions. {events:,} updates: one of each of 3 domains of "
    "{tenants:,} tenants, in random order; beside them as many of {few} tenants. Come: the tenants "
    "are new to the worker. All there: a fresh worker recovers their state from its topic "
    "(settled: the broker calls the group stable; ready: /ready answers 200; rows are records of "
    "the topic, compaction may not have run), then as many updates become visible at once. {runs} "
    "runs each of a fresh worker: median (min - max). Rates: from the first commit seen on the "
    "output topic to the last. Resident: when all is committed, and the largest seen in between. "
    "Bytes a tenant: what the worker has more than with {few}, by tenants. State, transactions and "
    "CRC checks on; nearly every update writes a row of the state, for a tenant hardly comes twice "
    "in a batch."
)


@dataclass
class Phase:
    """The runs of one phase."""

    rates: list[Rate] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)  # at the end
    peak_mb: list[float] = field(default_factory=list)


@dataclass
class Result:
    """All phases."""

    tenants: int
    few: Phase = field(default_factory=Phase)
    come: Phase = field(default_factory=Phase)
    there: Phase = field(default_factory=Phase)
    recoveries: list[Recovery] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Updates of a run."""
        return self.tenants * len(DOMAINS)

    def bytes_a_tenant(self) -> list[float]:
        """What the worker has more for each tenant than with few of them, by run."""
        more = self.tenants - FEW
        return [(mb - self.few.rss_mb[0]) * MB / more for mb in self.come.rss_mb]


class Largest:
    """A worker whose resident memory is noted whenever it is looked at."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self.mb = worker, 0.0
        self.cpu_s, self.log_text = worker.cpu_s, worker.log_text

    def check(self) -> None:
        """As the worker's."""
        self.mb = max(self.mb, self._worker.rss_mb())


def _measure(site: Site, worker: Worker, events: int, phase: Phase, since: int = 0) -> None:
    looked_at = Largest(worker)
    phase.rates.append(follow(site.broker, site.topic(SINK), looked_at, events, since))
    phase.rss_mb.append(worker.rss_mb())
    phase.peak_mb.append(looked_at.mb)
    rate, mb = phase.rates[-1].events_per_s, phase.rss_mb[-1]
    site.say(f"run {len(phase.rates)}: {rate:,.0f} frames/s, {mb:,.0f} MB")


class Tenants:
    """One run set, on a site for the few and one for the many."""

    def __init__(self, tenants: int, runs: int, seed: int) -> None:
        self.result, self._runs, self._seed = Result(tenants), runs, seed
        self._start_us = int(time.time() - 3600) * 10**6

    def few(self, site: Site) -> None:
        """As many updates, of few tenants."""
        events = self.result.events
        site.say(f"{events:,} updates of {FEW} tenants")
        fill(site.settings, site.topic(SOURCE), updates(events, FEW, self._seed))
        with Worker(site.settings, PROCESSOR, site.folder) as worker:
            _measure(site, worker, events, self.result.few)

    def many(self, site: Site) -> Result:
        """They come, in each run anew; then each run goes on where the last one ended."""
        result, source = self.result, site.topic(SOURCE)
        site.say(f"{result.events:,} updates of {result.tenants:,} tenants")
        fill(site.settings, source, self._round(0))
        for k in range(self._runs):
            if k:
                site.forget(SOURCE)
            with Worker(site.settings, PROCESSOR, site.folder) as worker:
                _measure(site, worker, result.events, result.come)
        for k in range(self._runs):
            started = time.monotonic()
            with Worker(site.settings, PROCESSOR, site.folder) as worker:
                result.recoveries.append(recovered(site, worker, started))
                one = result.recoveries[-1]
                site.say(f"recovered {one.rows:,} rows in {one.ready_s:.2f} s; as many updates")
                since = sum(site.broker.ends(site.topic(SINK)))
                fill_at_once(site.settings, source, self._round(k + 1))
                _measure(site, worker, result.events, result.there, since)
        return result

    def _round(self, k: int) -> Iterator[tuple[bytes, bytes]]:
        """One update of each tenant and domain, later than those of the rounds before."""
        events = self.result.events
        start = self._start_us + k * events * step_us(events)
        return updates(events, self.result.tenants, self._seed + k, start)


def report(result: Result) -> Report:
    """The table."""
    rows = []
    title = f"{result.tenants:,} tenants"
    phases = {
        f"{FEW} tenants": result.few,
        f"{title} come": result.come,
        f"{title}, all there": result.there,
    }
    for name, phase in phases.items():
        largest = max(phase.peak_mb)
        rows += [
            (f"{name}: frames/s", spread([r.events_per_s for r in phase.rates])),
            ("  CPU, µs a frame", spread([r.cpu_us_per_event for r in phase.rates], 2)),
            ("  resident MB at the end", f"{spread(phase.rss_mb)}; largest {largest:,.0f}"),
        ]
        if phase is result.come:
            rows.append(("  bytes a tenant", spread(result.bytes_a_tenant())))
    back = result.recoveries
    rows += [
        (f"{title} recovered: rows", spread([one.rows for one in back])),
        ("  settled to ready, s", spread([one.ready_s for one in back], 2)),
        ("  rows/s", spread([one.rows_per_s for one in back])),
        ("  process start to ready, s", spread([one.start_s for one in back], 2)),
        ("  resident MB when ready", spread([one.rss_mb for one in back])),
    ]
    method = METHOD.format(
        events=result.events, tenants=result.tenants, few=FEW, runs=len(result.come.rates)
    )
    return Report("scaling, tenants", ("what", "measured"), rows, method)


def as_json(result: Result) -> dict[str, Any]:
    """The results as JSON data."""
    return asdict(result) | {"bytes_a_tenant": result.bytes_a_tenant()}
