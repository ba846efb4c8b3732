"""How late tenants of each depth of sleep are served, and how well is foretold, as metrics.

A label has four values, the states; whose tenants are which, a fold knows alone.
"""

from prometheus_client import Counter, Histogram

from agents.engine.by_sleep import BySleep

OBSERVATIONS = Counter(
    "soma_sleep_observations_total",
    "Observations folded by predictors, by how deep their tenants slept",
    ["state"],
)
LATENCY = Histogram(
    "soma_sleep_latency_seconds",
    "Of a transaction of predictors, by state: event time of the last observation to its commit",
    ["state"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0),
)
ERRORS = Counter(
    "soma_sleep_error_total", "Prediction errors as published, added up by state", ["state"]
)


def show(done: BySleep, now: float) -> None:
    """Show what is committed; `now` in seconds since 1970."""
    for state, one in done.items():
        OBSERVATIONS.labels(state).inc(one.records)
        ERRORS.labels(state).inc(one.errors)
        LATENCY.labels(state).observe(max(0.0, now - one.newest_ts / 1e6))
