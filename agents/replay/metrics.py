"""What replay jobs count: after the commit, never before."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge


class ReplayMetrics:
    """The collectors of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.progress = Gauge(
            "soma_replay_progress_ratio",
            "How much of its range a job that runs here has behind it, 0 to 1",
            ("job",),
            registry=registry,
        )
        self.records = Counter(
            "soma_replay_records",
            "Records that jobs read, by what became of them: sent again (or counted, by a dry "
            "run), or passed over",
            ("result",),
            registry=registry,
        )
        self.jobs = Counter(
            "soma_replay_jobs", "Jobs that ended here, by how", ("state",), registry=registry
        )


@cache
def metrics_of(registry: CollectorRegistry) -> ReplayMetrics:
    """A registry's collectors."""
    return ReplayMetrics(registry)
