"""Circuit breakers, one per tenant, around calls to what may be away.

Source: M. Nygard, Release It! (2007), the circuit breaker. Pure: time is an argument, in seconds
of a clock that doesn't run backwards.

closed ──3 failures in a row──▶ open ──60 s later──▶ half-open: exactly one probe
   ▲                              ▲                        │
   └──────── its success ─────────┼────────────────────────┤
                                  └────── its failure ─────┘

A poll of the remote's health adds two rules: while the remote is down as a whole no probe goes out
(it would fail, and cost the tenant another 60 s); when it is back every open circuit may probe at
once. A remote that is well all the time changes nothing, so a tenant that alone fails waits 60 s.
"""

import math
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """One admitted call; give it back with what became of it."""

    tenant: str
    round: int  # of the circuit when it was admitted; 0: closed


@dataclass(frozen=True, slots=True)
class Broken:
    """A circuit that isn't closed."""

    state: State
    since: float  # when it opened first, in this row of failures
    retry_at: float  # when a probe may go out
    round: int


class Breakers:
    """The circuits of all tenants; one that never failed takes no memory.

    At most `tenants_max` closed circuits with failures are remembered, and as many broken ones.
    Beyond it the one that is longest as it is gets forgotten (never one with a probe out): it
    counts from 0 again, so a tenant in trouble costs up to `failures` calls more.
    """

    def __init__(self, failures: int = 3, open_s: float = 60.0, tenants_max: int = 10_000) -> None:
        """ValueError unless there is at least one failure, one tenant and a time not negative."""
        if failures < 1 or tenants_max < 1 or not 0.0 <= open_s < math.inf:
            raise ValueError("a breaker needs failures >= 1, tenants_max >= 1 and open_s >= 0")
        self._failures = failures
        self._open_s = open_s
        self._most = tenants_max
        self._counting: dict[str, int] = {}  # closed ones: failures in a row, the latest last
        self._broken: dict[str, Broken] = {}  # by the time of their last change
        self._down = False
        self._round = 0

    def state(self, tenant: str) -> State:
        """What the circuit is; an open one stays open until a probe is admitted."""
        broken = self._broken.get(tenant)
        return broken.state if broken else "closed"

    def failures(self, tenant: str) -> int:
        """Failures in a row of a closed circuit."""
        return self._counting.get(tenant, 0)

    def broken(self) -> dict[str, Broken]:
        """Every circuit that isn't closed."""
        return dict(self._broken)

    def may(self, tenant: str, now: float) -> bool:
        """Whether `admit` would let a call through."""
        broken = self._broken.get(tenant)
        if broken is None:
            return True
        return broken.state == "open" and not self._down and now >= broken.retry_at

    def admit(self, tenant: str, now: float) -> Ticket | None:
        """Leave for one call; None: not now. Half-open admits exactly one."""
        if not self.may(tenant, now):
            return None
        broken = self._broken.get(tenant)
        if broken is None:
            return Ticket(tenant, 0)
        self._set(tenant, Broken("half-open", broken.since, broken.retry_at, self._next()))
        return Ticket(tenant, self._round)

    def restore(self, tenant: str, now: float) -> None:
        """A circuit that another process left open: a probe may go out at once."""
        if tenant not in self._broken:
            self._set(tenant, Broken("open", now, now, self._next()))

    def succeeded(self, ticket: Ticket) -> None:
        """The remote answered. A call from before the circuit opened closes nothing."""
        if ticket.round == 0:
            self._counting.pop(ticket.tenant, None)
        elif self._current(ticket):
            del self._broken[ticket.tenant]

    def failed(self, ticket: Ticket, now: float) -> bool:
        """The call failed; returns whether the circuit is open now."""
        tenant = ticket.tenant
        broken = self._broken.get(tenant)
        if broken is not None:
            if self._current(ticket):
                self._set(tenant, Broken("open", broken.since, now + self._open_s, self._next()))
            return True
        if ticket.round:
            return False  # a probe whose circuit is forgotten
        count = self._counting.pop(tenant, 0) + 1
        if count >= self._failures:
            self._set(tenant, Broken("open", now, now + self._open_s, self._next()))
            return True
        self._counting[tenant] = count
        if len(self._counting) > self._most:
            del self._counting[next(iter(self._counting))]
        return False

    def dropped(self, ticket: Ticket, now: float) -> None:
        """The call was given up without an outcome: a probe may go out again at once."""
        broken = self._broken.get(ticket.tenant)
        if broken is not None and self._current(ticket):
            self._set(ticket.tenant, Broken("open", broken.since, now, self._next()))

    def health(self, well: bool, now: float) -> None:
        """What a poll of the remote as a whole found."""
        if well and self._down:
            for tenant, one in self._broken.items():
                if one.state == "open" and one.retry_at > now:
                    self._broken[tenant] = Broken("open", one.since, now, one.round)
        self._down = not well

    @property
    def down(self) -> bool:
        """Whether the remote as a whole was away when it was last polled."""
        return self._down

    def _current(self, ticket: Ticket) -> bool:
        """Whether the ticket is that of the probe which is out."""
        broken = self._broken.get(ticket.tenant)
        return broken is not None and broken.round == ticket.round

    def _next(self) -> int:
        self._round += 1
        return self._round

    def _set(self, tenant: str, broken: Broken) -> None:
        self._counting.pop(tenant, None)
        self._broken.pop(tenant, None)
        if len(self._broken) >= self._most:
            oldest = (name for name, one in self._broken.items() if one.state == "open")
            if (name := next(oldest, None)) is not None:
                del self._broken[name]
        self._broken[tenant] = broken
