"""How full the journal is, for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stores.journal import Journal


class JournalCollector(Collector):
    """Reads the journal's own counts whenever it is asked."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts, size = self._journal.gauges()
        records = GaugeMetricFamily(
            "soma_journal_records",
            "Events in the local journal: waiting for the outbox, drained but kept, refused.",
            labels=["state"],
        )
        for state, count in counts.items():
            records.add_metric([state], count)
        yield records
        yield GaugeMetricFamily("soma_journal_bytes", "What the journal takes on the disk.", size)


def collect(journal: Journal, registry: CollectorRegistry) -> None:
    """Have the registry show it."""
    registry.register(JournalCollector(journal))
