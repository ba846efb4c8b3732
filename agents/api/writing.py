"""Accepted events on their way: into the outbox, or into the local journal while it is away.

What fails is said as a problem; a database that didn't answer isn't asked for a second.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agents.api.journaled import Add, JournaledOutbox, Taken
from agents.api.metrics import ApiMetrics
from agents.api.problems import Problem
from stores.errors import Locked, NotMigrated, StoreDown
from stores.journal import JournalDiskFullError, JournalError, JournalFullError
from stores.outbox import Added, BadEvent, BadQuestion, Event, TooManyPending
from stores.outbox_tenants import TenantOutbox

DOWN_S = 1.0  # how long nobody asks a database that didn't answer
RETRY_S = {"Retry-After": "2"}
PENDING_S = {"Retry-After": "5"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an event. A `duplicate` was there before; one that `differs` says else."""

    id: int | None  # in the outbox; None in the journal
    duplicate: bool
    differs: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch; nothing was accepted where one `differs`, or with `other`."""

    added: list[Fate]
    journaled: bool = False
    other: Fate | None = None  # an event that shows that the idempotency key was used otherwise


class Writing:
    """Writes to the outbox; with a journal, by the outbox that has it."""

    def __init__(
        self, outbox: TenantOutbox, metrics: ApiMetrics, journaled: JournaledOutbox | None
    ) -> None:
        self._outbox, self._metrics, self._journaled = outbox, metrics, journaled
        self._down_until = 0.0
        self._refusing = False
        metrics.store_up.set_function(lambda: float(not self.away))

    @property
    def away(self) -> bool:
        """Whether PostgreSQL didn't take events when it was last asked."""
        return self._down_until > 0.0 if self._journaled is None else self._journaled.away

    def seen(self, up: bool) -> None:
        """Somebody else asked PostgreSQL. (With a journal that is asked for by itself.)"""
        if self._journaled is None:
            self._down_until = 0.0 if up else max(self._down_until, time.monotonic())

    async def write(
        self, events: Sequence[Event], together: Sequence[int] = (), unused: str | None = None
    ) -> Written:
        """Write events of one tenant, all or none; see `TenantOutbox.add_whole`.

        `Problem` 422 for events that no store takes, 429 above the tenant's max_pending, 503 when
        no store answers, or another's open transaction holds one of the events' dedupe keys.
        """
        other: int | None = None

        async def add(given: Sequence[Event]) -> list[Added]:
            nonlocal other
            added, other = await self._outbox.add_whole(given, together, unused)
            return added

        try:
            taken = await self._taken(events, add, together, unused)
        except BadEvent as error:
            at = "" if error.index is None else f"/{error.index}"
            raise Problem(422, str(error), errors=[{"at": at, "detail": str(error)}]) from None
        except (BadQuestion, ValueError) as error:
            raise Problem(422, str(error)) from None
        except TooManyPending:
            self._metrics.refused.labels("pending").inc()
            many = "The tenant has as many events pending as it may, or would with this batch."
            raise Problem(429, many, PENDING_S) from None
        except Locked:
            self._metrics.refused.labels("lock").inc()
            held = (
                "Another open transaction holds the dedupe key of one of these events, or the whole"
                " outbox: try again when it has ended. Nothing was accepted."
            )
            raise Problem(503, held, RETRY_S) from None
        except (StoreDown, JournalError) as error:
            self._went(error)
            raise away(error) from None
        self._came()
        if taken.kept:
            kept = [Fate(None, one.duplicate, one.differs) for one in taken.kept]
            first = None if taken.other is None else Fate(None, duplicate=True, differs=True)
            return self._counted(Written(kept, True, first), "journaled")
        self._down_until = 0.0
        added = [Fate(one.id, one.duplicate, one.differs) for one in taken.added]
        first = None if other is None else Fate(other, duplicate=True, differs=True)
        return self._counted(Written(added, other=first), "new")

    async def _taken(
        self, events: Sequence[Event], add: Add, together: Sequence[int], unused: str | None
    ) -> Taken:
        if self._journaled is not None:
            return await self._journaled.add_many(events, add, together, unused)
        if time.monotonic() < self._down_until:
            raise away(None)
        return Taken(added=await add(events))

    def _counted(self, written: Written, result: str) -> Written:
        if written.other is None and not any(one.differs for one in written.added):
            known = sum(one.duplicate for one in written.added)
            self._count(result, len(written.added) - known)
            self._count("duplicate", known)
        return written

    def _count(self, result: str, number: int) -> None:
        if number:
            self._metrics.events.labels(result).inc(number)

    def _went(self, error: Exception) -> None:
        if not self._refusing:
            logger.warning("Events aren't accepted: %s", error)
        self._refusing, self._down_until = True, time.monotonic() + DOWN_S

    def _came(self) -> None:
        if self._refusing:
            logger.info("Events are accepted again")
            self._refusing = False


def away(error: Exception | None) -> Problem:
    """503: nothing was accepted, as far as we know."""
    why = "The outbox isn't there"
    if isinstance(error, NotMigrated):
        why = "PostgreSQL lacks the outbox's tables of this version"
    elif isinstance(error, JournalFullError | JournalDiskFullError):
        why += ", and the journal that keeps events meanwhile is full"
    elif isinstance(error, JournalError):
        why += ", and the journal that keeps events meanwhile can't be written"
    return Problem(503, f"{why}; the event isn't accepted.", RETRY_S)
