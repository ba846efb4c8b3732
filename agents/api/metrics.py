"""What the HTTP API counts. Routes are labels as they are declared, tenants never."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
            "requests for sleep), pending, lock, body, time.",
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
