"""Accepted events on their way: into the outbox, or into the local journal while it is away.

Once one event of a tenant waits in the journal, those that follow go there too, so that they stay
in their order; the drainer brings them in oldest first.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agents.api.metrics import ApiMetrics
from agents.api.problems import Problem
from stores.outbox import Added, BadEvent, BadQuestion, Event, StoreDown, TooManyPending
from stores.outbox_door import OutboxDoor

DOWN_S = 1.0  # how long nobody asks a database that didn't answer
RETRY_S = {"Retry-After": "2"}
PENDING_S = {"Retry-After": "5"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch: an `Added` for each event, or all are in the journal (empty)."""

    added: list[Added]
    journaled: bool = False
    other: int | None = None  # an event that shows that the idempotency key was used otherwise


class Writing:
    """Writes; says who is away."""

    def __init__(self, outbox: OutboxDoor, metrics: ApiMetrics) -> None:
        self._outbox, self._metrics = outbox, metrics
        self._down_until = 0.0
        metrics.store_up.set(1)

    @property
    def journal(self) -> bool:
        """Whether there is a journal."""
        return False

    async def write(
        self, events: Sequence[Event], together: Sequence[int] = (), unused: str | None = None
    ) -> Written:
        """Write events of one tenant, all or none; see `OutboxDoor.add_whole`.

        `Problem` 422 for events that no store takes, 429 above the tenant's max_pending, 503 when
        no store answers.
        """
        if self._is_down():
            raise away()
        try:
            added, other = await self._outbox.add_whole(events, together, unused)
        except BadEvent as error:
            at = "" if error.index is None else f"/{error.index}"
            raise Problem(422, str(error), errors=[{"at": at, "detail": str(error)}]) from None
        except BadQuestion as error:
            raise Problem(422, str(error)) from None
        except TooManyPending:
            self._metrics.refused.labels("pending").inc()
            many = "The tenant has as many events pending as it may."
            raise Problem(429, many, PENDING_S) from None
        except StoreDown as error:
            self._went(error)
            raise away() from None
        self._came()
        if other is None and not any(one.differs for one in added):
            known = sum(one.duplicate for one in added)
            self._count("new", len(added) - known)
            self._count("duplicate", known)
        return Written(added, other=other)

    def _count(self, result: str, number: int) -> None:
        if number:
            self._metrics.events.labels(result).inc(number)

    def _is_down(self) -> bool:
        return time.monotonic() < self._down_until

    def _went(self, error: StoreDown) -> None:
        if not self._down_until:
            logger.warning("PostgreSQL is away: %s", error)
        self._down_until = time.monotonic() + DOWN_S
        self._metrics.store_up.set(0)

    def _came(self) -> None:
        if self._down_until:
            logger.info("PostgreSQL is back")
            self._down_until = 0.0
            self._metrics.store_up.set(1)


def away() -> Problem:
    """503: nothing was accepted, as far as we know."""
    return Problem(503, "The outbox isn't there; the event isn't accepted.", RETRY_S)
