"""From the journal into the outbox: which events it has, which it refuses, which must wait."""

from collections.abc import Sequence
from typing import Protocol

from stores.journal import JournalEvent, Verdict
from stores.outbox import Added, BadEvent, Event, TooManyPending


class Adds(Protocol):
    """The part of the outbox that is used here."""

    async def add_many(self, events: Sequence[Event]) -> list[Added]: ...


class OutboxSink:
    """Adds batches, all or none as the outbox does; a batch it refuses goes in parts.

    A refused event is taken out and named, a tenant at its limit waits with all that follows, and
    the others go on. `StoreDown` passes through: nothing is to be marked then.
    """

    def __init__(self, outbox: Adds) -> None:
        self._outbox = outbox

    async def __call__(self, events: Sequence[JournalEvent]) -> list[Verdict]:
        found: dict[int, Verdict] = {}
        later: set[str] = set()
        parts = [list(range(len(events)))]
        while parts:
            part = parts.pop()
            these = [n for n in part if events[n].tenant not in later]
            found |= {n: Verdict("later") for n in part if events[n].tenant in later}
            if not these:
                continue
            try:
                added = await self._outbox.add_many([_event(events[n]) for n in these])
            except BadEvent as error:
                bad = these[0] if len(these) == 1 else None
                if error.index is not None:
                    bad = these[error.index]
                if bad is None:
                    parts += _halves(these)
                    continue
                found[bad] = Verdict("failed", str(error))
                parts.append([n for n in these if n != bad])
            except TooManyPending as error:
                tenants = {events[n].tenant for n in these}
                full = error.tenant if error.tenant in tenants else None
                if full is None and len(tenants) == 1:
                    full = tenants.pop()
                if full is None:
                    parts += _halves(these)
                    continue
                later.add(full)
                parts.append(these)
            else:
                found |= {n: _taken(one) for n, one in zip(these, added, strict=True)}
        return [found[n] for n in range(len(events))]


def _event(one: JournalEvent) -> Event:
    return Event(one.topic, one.tenant, one.payload, one.dedupe_key, one.key, one.headers)


def _halves(part: list[int]) -> list[list[int]]:
    """The second half and the first, which is taken next."""
    middle = len(part) // 2
    return [part[middle:], part[:middle]]


def _taken(one: Added) -> Verdict:
    if one.differs:
        said = f"its dedupe key is that of event {one.id}, which says something else"
        return Verdict("failed", said)
    return Verdict("drained")
