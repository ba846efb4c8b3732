"""What projections count. Records count after the store's answer, never before."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge


class ProjectionMetrics:
    """The collectors of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "soma_projection_records",
            "Records that a projection has done with, by what became of them.",
            ("projection", "result"),
            registry=registry,
        )
        self.lag = Gauge(
            "soma_projection_lag_records",
            "Records that the store hasn't taken yet.",
            ("projection", "partition"),
            registry=registry,
        )
        self.up = Gauge(
            "soma_projection_store_up",
            "1 while the store answers, 0 during an outage.",
            ("projection",),
            registry=registry,
        )


@cache
def metrics_of(registry: CollectorRegistry) -> ProjectionMetrics:
    """A registry's collectors: all projections of a process share them."""
    return ProjectionMetrics(registry)
