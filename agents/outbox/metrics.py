"""What the relay counts, after the commit; and what it sees of the queue."""

from collections import Counter as Counts
from collections.abc import Iterable, Iterator
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from agents.outbox.out_of_step import NAMES, OutOfStepError
from stores.outbox_relay import State


class QueueGauges(Collector):
    """Gauges of the queue; there are none while it isn't known how it stands."""

    def __init__(self) -> None:
        self.state: State | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, at a scrape."""
        return self._gauges(self.state) if self.state is not None else iter(())

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Their names, when they are registered."""
        return self._gauges(State(0, 0.0, 0))

    @staticmethod
    def _gauges(state: State) -> Iterator[GaugeMetricFamily]:
        for name, text, value in (
            ("soma_outbox_pending", "Events that wait", state.pending),
            ("soma_outbox_oldest_age_seconds", "Age of the oldest that waits", state.oldest_s),
            ("soma_outbox_blocked_keys", "Keys that a failed event holds back", state.blocked),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class RelayMetrics:
    """The collectors of one registry. Gauges are of the shards that this process owns."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.queue = QueueGauges()
        registry.register(self.queue)
        self.shards = Gauge("soma_outbox_shards", "Shards that this relay owns", registry=registry)
        self.stopped = Gauge(
            "soma_outbox_stopped_shards", "Shards that wait for `soma outbox reconcile`",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.stop(())
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

    def stop(self, errors: Iterable[OutOfStepError]) -> None:
        """Count the shards that are stopped."""
        counts = Counts(error.name for error in errors)
        for name in NAMES:
            self.stopped.labels(name).set(counts[name])


@cache
def metrics_of(registry: CollectorRegistry) -> RelayMetrics:
    """A registry's collectors."""
    return RelayMetrics(registry)
