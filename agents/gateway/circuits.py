"""The breakers of this process, and what Prometheus sees of them: the same state, one lock."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from agents.gateway.breakers import Breakers, Broken, State, Ticket

SHOWN_MAX = 50  # tenants that are labels: those whose circuits are open longest
OUTCOMES = ("closed", "opened_again", "dropped")


class Circuits(Collector):
    """`Breakers` with a clock and a lock; a scrape reads the state itself, never a copy of it."""

    def __init__(self, breakers: Breakers, clock: Callable[[], float] = time.monotonic) -> None:
        self._breakers = breakers
        self._clock = clock
        self._lock = threading.Lock()
        self._opened = 0
        self._probes = dict.fromkeys(OUTCOMES, 0)
        self._changes: list[tuple[str, State]] = []

    def changes(self) -> list[tuple[str, State]]:
        """What circuits came to be since this was asked last, in order."""
        with self._lock:
            found, self._changes = self._changes, []
            return found

    def restore(self, tenant: str) -> None:
        """A circuit that another process left open. That is no change."""
        with self._lock:
            self._breakers.restore(tenant, self._clock())

    @contextmanager
    def _noting(self, tenant: str) -> Iterator[None]:
        """Note a change of the tenant's circuit; under the lock."""
        with self._lock:
            was = self._breakers.state(tenant)
            yield
            if (now := self._breakers.state(tenant)) != was:
                self._changes.append((tenant, now))

    def may(self, tenant: str) -> bool:
        """Whether a call would be let through."""
        with self._lock:
            return self._breakers.may(tenant, self._clock())

    def suspect(self, tenant: str) -> bool:
        """Whether the tenant's last call failed."""
        with self._lock:
            return self._breakers.failures(tenant) > 0 or self._breakers.state(tenant) != "closed"

    def failures(self, tenant: str) -> int:
        """Failures in a row of a closed circuit."""
        with self._lock:
            return self._breakers.failures(tenant)

    def admit(self, tenant: str) -> Ticket | None:
        """Leave for one call; None: not now."""
        with self._noting(tenant):
            return self._breakers.admit(tenant, self._clock())

    def succeeded(self, ticket: Ticket) -> None:
        """The remote answered."""
        with self._noting(ticket.tenant):
            self._breakers.succeeded(ticket)
            self._probes["closed"] += ticket.round > 0

    def failed(self, ticket: Ticket) -> bool:
        """The call failed; returns whether the circuit is open now."""
        with self._noting(ticket.tenant):
            was = self._breakers.state(ticket.tenant)
            is_open = self._breakers.failed(ticket, self._clock())
            self._opened += is_open and was == "closed"
            self._probes["opened_again"] += ticket.round > 0
            return is_open

    def dropped(self, ticket: Ticket) -> None:
        """The call was given up."""
        with self._noting(ticket.tenant):
            self._breakers.dropped(ticket, self._clock())
            self._probes["dropped"] += ticket.round > 0

    def health(self, well: bool) -> bool:
        """What a poll of the remote found; returns whether that is news."""
        with self._lock:
            was = self._breakers.down
            self._breakers.health(well, self._clock())
            return was is well

    @property
    def down(self) -> bool:
        """Whether the last poll found the remote away."""
        with self._lock:
            return self._breakers.down

    def broken(self) -> dict[str, Broken]:
        """Every circuit that isn't closed."""
        with self._lock:
            return self._breakers.broken()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What Prometheus asks for, all of one moment."""
        with self._lock:
            broken = self._breakers.broken()
            down, opened, probes = self._breakers.down, self._opened, dict(self._probes)
        shown = sorted(broken, key=lambda tenant: (broken[tenant].since, tenant))[:SHOWN_MAX]
        circuits = GaugeMetricFamily(
            "soma_circuit_open",
            f"1 while a tenant's circuit isn't closed, of the {SHOWN_MAX} open longest",
            labels=["tenant"],
        )
        for tenant in shown:
            circuits.add_metric([tenant], 1.0)
        yield circuits
        yield GaugeMetricFamily(
            "soma_circuit_open_count", "Circuits that aren't closed", value=len(broken)
        )
        yield GaugeMetricFamily(
            "soma_gateway_remote_up",
            "1 unless the last poll found the remote memory service away",
            value=float(not down),
        )
        yield CounterMetricFamily(
            "soma_circuit_opened", "Circuits that opened after failures in a row", value=opened
        )
        ended = CounterMetricFamily(
            "soma_circuit_probes", "Probes of open circuits, by what they led to", labels=["result"]
        )
        for result, count in probes.items():
            ended.add_metric([result], count)
        yield ended
