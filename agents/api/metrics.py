"""What the HTTP API counts. Routes are labels as they are declared, tenants never."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agents.rho.matrices import Matrices

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class ApiMetrics:
    """The collectors of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "soma_http_requests",
            "Requests answered, by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "soma_http_request_seconds",
            "From a request's head to its answer's.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("soma_http_in_flight", "Requests under way.", registry=self.registry)
        self.refused = Counter(
            "soma_http_refused",
            "Requests refused for a limit: concurrency, share (a tenant's, of it), rate, sleep (of "
            "requests for sleep), pending, lock, body, time; or by the policy.",
            ("limit",),
            registry=self.registry,
        )
        self.events = Counter(
            "soma_http_events",
            "Events accepted: new, known already (duplicate), or into the journal.",
            ("result",),
            registry=self.registry,
        )
        self.store_up = Gauge(
            "soma_http_store_up",
            "1 while PostgreSQL takes events, as last seen.",
            registry=self.registry,
        )
        self.rho_commits = Counter(
            "soma_rho_commits",
            "Commits of matrices, by what they were answered.",
            ("result",),
            registry=self.registry,
        )
        self.rho_reads = Counter(
            "soma_rho_reads",
            "Matrices read, by the store that gave them.",
            ("source",),
            registry=self.registry,
        )
        self.rho_degraded = Gauge(
            "soma_rho_degraded_mode",
            "1 while matrices are read from PostgreSQL alone, for Redis doesn't answer.",
            registry=self.registry,
        )
        self.rho_psd_ok = Gauge(
            "soma_rho_psd_ok",
            "1 unless the matrix that was committed or read last is damaged where it is kept.",
            registry=self.registry,
        )
        self.rho_trace_error = Gauge(
            "soma_rho_trace_error",
            "How far the trace of the matrix committed or read last is from 1.",
            registry=self.registry,
        )

    def follow(self, matrices: Matrices) -> None:
        """Show what it knows."""
        self.rho_degraded.set_function(lambda: float(matrices.degraded))
        self.rho_psd_ok.set_function(lambda: float(matrices.psd_ok is not False))
        self.rho_trace_error.set_function(lambda: matrices.trace_error or 0.0)
