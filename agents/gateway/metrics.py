"""What the gateway counts: deliveries after the remote's answer, never before."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class GatewayMetrics:
    """The collectors of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.delivered = Counter(
            "soma_gateway_delivered",
            "Memory events that are done with: delivered, or refused and unreadable (dead letters)",
            ("result",),
            registry=registry,
        )
        self.calls = Counter(
            "soma_gateway_calls",
            "Calls of the remote memory service, by how it answered",
            ("result",),
            registry=registry,
        )
        self.lag = Gauge(
            "soma_gateway_lag_records",
            "Records from the first that isn't delivered to the log's end",
            ("partition",),
            registry=registry,
        )
        self.unread = Gauge(
            "soma_gateway_unread_records",
            "Records that the gateway hasn't looked at yet",
            ("partition",),
            registry=registry,
        )
        self.behind = Gauge(
            "soma_gateway_tenants_behind",
            "Tenants whose events wait in Kafka, noted by their first undelivered offset",
            registry=registry,
        )
        self.queued = Gauge("soma_gateway_queued", "Events held in memory", registry=registry)
        self.seconds = Histogram(
            "soma_gateway_delay_seconds",
            "From an event's append to the log to the remote's answer",
            buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0, 300.0),
            registry=registry,
        )


@cache
def metrics_of(registry: CollectorRegistry) -> GatewayMetrics:
    """A registry's collectors."""
    return GatewayMetrics(registry)
