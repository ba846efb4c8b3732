"""What the relay counts, after the commit; and what it sees of the queue."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class RelayMetrics:
    """The collectors of one registry. Gauges are of the shards that this process owns."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pending = Gauge("soma_outbox_pending", "Events that wait", registry=registry)
        self.oldest = Gauge(
            "soma_outbox_oldest_age_seconds", "Age of the oldest that waits", registry=registry
        )
        self.blocked = Gauge(
            "soma_outbox_blocked_keys", "Keys that a failed event holds back", registry=registry
        )
        self.shards = Gauge("soma_outbox_shards", "Shards that this relay owns", registry=registry)
        self.up = Gauge("soma_outbox_store_up", "1 while PostgreSQL answers", registry=registry)
        self.relayed = Counter(
            "soma_outbox_relayed_total", "Events by what became of them", ["result"],
            registry=registry,
        )  # fmt: skip
        self.batches = Counter(
            "soma_outbox_batches_total", "Committed transactions", registry=registry
        )
        self.retaken = Counter(
            "soma_outbox_retaken_total", "Shards taken anew after a failure", registry=registry
        )
        self.forgotten = Counter(
            "soma_outbox_forgotten_total", "Sent events deleted after their time", registry=registry
        )
        self.seconds = Histogram(
            "soma_outbox_batch_seconds", "From choosing a batch to its end", registry=registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0),
        )  # fmt: skip


@cache
def metrics_of(registry: CollectorRegistry) -> RelayMetrics:
    """A registry's collectors."""
    return RelayMetrics(registry)
