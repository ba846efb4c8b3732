"""`soma bench recovery`: how quickly a fresh worker reads a large state back."""

import time
from dataclasses import dataclass, field

from ops.bench.broker import Broker
from ops.bench.commits import follow
from ops.bench.filling import DOMAINS, fill, updates
from ops.bench.report import Report, spread
from ops.bench.site import Site
from ops.bench.worker import Worker

SOURCE, SINK = "cog.predictor.updates", "cog.global.frame"
STATE = "soma.integrator.state"
ROWS = 'soma_recovery_rows_total{processor="integrator"}'
SECONDS = 'soma_recovery_seconds{partition="%d",processor="integrator"}'
METHOD = (
    "Integrator state of {tenants:,} tenants with 3 domains each, written by running the engine "
    "over {events:,} updates; then fresh workers, one after another. Settled: the broker calls the "
    "group stable; ready: /ready answers 200 (both asked every 50 ms). Rows are records of the "
    "state topic, as many as it holds (compaction may not have run), per second from settled to "
    "ready."
)


@dataclass
class Recovery:
    """One worker's recovery."""

    rows: int
    ready_s: float  # from settled
    start_s: float  # from the process's start to ready
    longest_s: float  # the slowest partition's own time
    rss_mb: float

    @property
    def rows_per_s(self) -> float:
        """State rows per second from settled to ready."""
        return self.rows / self.ready_s


@dataclass
class Result:
    """All runs, and how large the state topic was."""

    tenants: int
    events: int
    runs: list[Recovery] = field(default_factory=list)


def write_state(site: Site, tenants: int, seed: int) -> int:
    """Run the engine over at least one update of every tenant and domain; returns how many."""
    events = 2 * tenants * len(DOMAINS)
    site.say(f"writing the state of {tenants:,} tenants from {events:,} updates")
    fill(site.settings, site.topic(SOURCE), updates(events, tenants, seed))
    with Worker(site.settings, "integrator", site.folder) as worker:
        follow(site.broker, site.topic(SINK), worker, events)
    return events


def settled(broker: Broker, namespace: str) -> bool:
    """Whether a consumer group of this namespace is stable, with its members assigned."""
    listed = broker.admin.list_consumer_groups(request_timeout=10).result(30)
    groups = [group for group in listed.valid if namespace in group.group_id]
    return any(group.state is not None and group.state.name == "STABLE" for group in groups)


def recover(site: Site) -> Recovery:
    """Start a fresh worker on the state, and time it."""
    started = time.monotonic()
    with Worker(site.settings, "integrator", site.folder) as worker:
        return recovered(site, worker, started)


def recovered(site: Site, worker: Worker, started: float) -> Recovery:
    """Time the recovery of a worker whose process was started just now, at `started`."""
    worker.wait("a stable group", lambda: settled(site.broker, site.settings.namespace))
    stable = time.monotonic()
    worker.ready()
    ready = time.monotonic()
    metrics = worker.metrics()
    longest = max(metrics.get(SECONDS % p, 0.0) for p in range(site.broker.partitions))
    return Recovery(int(metrics[ROWS]), ready - stable, ready - started, longest, worker.rss_mb())


def run(site: Site, tenants: int, runs: int, seed: int) -> Result:
    """Write the state once, and recover it `runs` times."""
    result = Result(tenants, write_state(site, tenants, seed))
    for k in range(runs):
        one = recover(site)
        result.runs.append(one)
        site.say(f"run {k + 1}: {one.rows:,} rows in {one.ready_s:.2f} s")
    return result


def report(result: Result) -> Report:
    """The table."""
    runs = result.runs
    rows = [
        ("state rows read", spread([r.rows for r in runs]), ""),
        ("settled to ready, s", spread([r.ready_s for r in runs], 2), "< 2"),
        ("rows/s", spread([r.rows_per_s for r in runs]), "≥ 200,000"),
        ("slowest partition's own time, s", spread([r.longest_s for r in runs], 2), ""),
        ("process start to ready, s", spread([r.start_s for r in runs], 2), ""),
        ("resident when ready, MB", spread([r.rss_mb for r in runs]), ""),
    ]
    method = METHOD.format(tenants=result.tenants, events=result.events)
    return Report("recovery", ("what", "measured", "wanted"), rows, method)
