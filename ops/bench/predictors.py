"""`soma bench predictors`: observations to predictor updates."""

from ops.bench.commits import Rate
from ops.bench.filling import fill, observations
from ops.bench.report import Report, spread
from ops.bench.site import Site

SOURCE, SINK = "cog.observations", "cog.predictor.updates"
METHOD = (
    "{events:,} observations of {dim} numbers, {tenants:,} tenants with 3 domains, 4 partitions, "
    "{runs} runs of a fresh worker: median (min - max). From the first commit seen on the output "
    "topic to the last; what the first commit holds isn't counted. State and transactions on."
)


def run(site: Site, events: int, runs: int, tenants: int, dim: int, seed: int) -> list[Rate]:
    """The rate of each run."""
    site.say(f"filling {site.topic(SOURCE)} with {events:,} observations")
    fill(site.settings, site.topic(SOURCE), observations(events, tenants, seed, dim))
    rates = []
    for k in range(runs):
        if k:
            site.forget(SOURCE)
        rates.append(site.measure("predictors", SINK, events))
        site.say(f"run {k + 1}: {rates[-1].events_per_s:,.0f} observations/s")
    return rates


def report(rates: list[Rate], events: int, tenants: int, dim: int) -> Report:
    """The table."""
    row = (
        f"heat, {dim} numbers",
        f"{events:,}",
        spread([rate.events_per_s for rate in rates]),
        spread([rate.cpu_us_per_event for rate in rates], 2),
        "≥ 200,000",
    )
    return Report(
        "predictors",
        ("program", "events", "observations/s", "CPU µs/event", "wanted"),
        [row],
        METHOD.format(events=events, dim=dim, tenants=tenants, runs=len(rates)),
    )
