"""`soma bench scaling`, domains: tenants with 16 beside tenants with 3."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from agents.settings import Settings
from ops.bench.commits import Rate
from ops.bench.filling import fill, updates
from ops.bench.probe import TENANTS
from ops.bench.report import Report, spread
from ops.bench.site import Say, opened

COUNTS = (3, 16)
PROCESSOR, SOURCE, SINK = "integrator", "cog.predictor.updates", "cog.global.frame"
METHOD = (
    "Integrator, {events:,} updates of {tenants} tenants with so many domains each, 4 partitions, "
    "{runs} runs of a fresh worker in alternation: median (min - max). From the first commit seen "
    "on the output topic to the last; what the first commit holds isn't counted. An update is a "
    "round over all of its tenant's domains, and its frame has a weight and an error of each."
)


def names(count: int) -> list[str]:
    """So many domains."""
    return [f"domain-{k:02d}" for k in range(count)]


def run(
    settings: Settings, say: Say, events: int, runs: int, seed: int,
    counts: Sequence[int] = COUNTS,
) -> dict[int, list[Rate]]:  # fmt: skip
    """The rates of each number of domains."""
    found: dict[int, list[Rate]] = {count: [] for count in counts}
    with ExitStack() as stack:
        sites = {count: stack.enter_context(opened(settings, say)) for count in counts}
        for count, site in sites.items():
            say(f"{events:,} updates of tenants with {count} domains")
            records = updates(events, TENANTS, seed, domains=names(count))
            fill(site.settings, site.topic(SOURCE), records)
        for k in range(runs):
            for count, site in sites.items():
                if k:
                    site.forget(SOURCE)
                found[count].append(site.measure(PROCESSOR, SINK, events))
                rate = found[count][-1].events_per_s
                say(f"run {k + 1}, {count} domains: {rate:,.0f} frames/s")
    return found


def report(found: Mapping[int, Sequence[Rate]], events: int) -> Report:
    """The table, each beside the first."""
    rows = []
    first = None
    for count, rates in found.items():
        speeds = [rate.events_per_s for rate in rates]
        cpu = [rate.cpu_us_per_event for rate in rates]
        first = first or (statistics.median(speeds), statistics.median(cpu))
        rows.append((
            str(count), spread(speeds), f"{100 * statistics.median(speeds) / first[0]:.0f} %",
            spread(cpu, 2), f"{100 * statistics.median(cpu) / first[1]:.0f} %",
        ))  # fmt: skip
    columns = ("domains a tenant", "frames/s", "of the first", "CPU µs/frame", "of the first")
    runs = max(len(rates) for rates in found.values())
    method = METHOD.format(events=events, tenants=TENANTS, runs=runs)
    return Report("scaling, domains", columns, rows, method)


def as_json(found: Mapping[int, Sequence[Rate]]) -> dict[str, Any]:
    """The results as JSON data."""
    return {str(count): [asdict(rate) for rate in rates] for count, rates in found.items()}
