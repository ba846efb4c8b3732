"""From the journal into the outbox: which events it has, which it refuses, which must wait."""

from collections.abc import Sequence
from typing import Protocol

from stores.errors import Locked
from stores.journal import JournalEvent, Verdict
from stores.outbox import Added, BadEvent, Event, TooManyPending

LOCK_S = 0.2  # the sink's outbox waits no longer for a lock: others of the batch wait with it

DRAINED = Verdict("drained")
LATER = Verdict("later")
LOCKED = Verdict("locked")


class Adds(Protocol):
    """The part of the outbox that is used here."""

    async def add_many(self, events: Sequence[Event]) -> list[Added]: ...

    async def ready(self) -> None: ...

    async def repeats(self, event: Event, number: int) -> bool: ...

    async def renew(self) -> None: ...


class OutboxSink:
    """Adds batches, all or none as the outbox does; a batch it refuses goes in parts.

    A refused event is taken out and named. A tenant at its limit waits with all that follows, and
    so does one whose event another open transaction holds up; the others go on. `StoreDown` passes
    through: nothing is to be marked then.
    """

    def __init__(self, outbox: Adds) -> None:
        self._outbox = outbox
        self._held_up: set[str] = set()  # tenants that were: apart from the others next time

    async def __call__(self, events: Sequence[JournalEvent]) -> list[Verdict]:
        return await _Batch(self._outbox, events, self._held_up).verdicts()


class _Batch:
    """One batch on its way."""

    def __init__(self, outbox: Adds, events: Sequence[JournalEvent], held_up: set[str]) -> None:
        self._outbox, self._events, self._held_up = outbox, events, held_up
        self._found: dict[int, Verdict] = {}
        self._later: dict[str, Verdict] = {}  # tenants that wait, and why
        every = list(range(len(events)))
        apart = [self._of(every, {tenant}) for tenant in sorted(self._tenants(every) & held_up)]
        self._parts = [*apart, [n for n in every if events[n].tenant not in held_up]]

    async def verdicts(self) -> list[Verdict]:
        while self._parts:
            part = self._parts.pop()
            for n in part:
                if (why := self._later.get(self._events[n].tenant)) is not None:
                    self._found[n] = why
            if these := [n for n in part if n not in self._found]:
                await self._bring(these)
        return [self._found[n] for n in range(len(self._events))]

    async def _bring(self, these: list[int]) -> None:
        try:
            added = await self._outbox.add_many([_event(self._events[n]) for n in these])
        except BadEvent as error:
            self._refused(these, error)
        except TooManyPending as error:
            self._full(these, error.tenant)
        except Locked:
            await self._outbox.ready()  # if not even this goes, it is no tenant's lock: away
            self._split(these, LOCKED)
        else:
            for n, one in zip(these, added, strict=True):
                self._found[n] = await self._taken(_event(self._events[n]), one)
            self._held_up -= self._tenants(these)

    async def _taken(self, event: Event, one: Added) -> Verdict:
        if not one.differs:
            return DRAINED
        if event.but_for is not None and await self._outbox.repeats(event, one.id):
            return DRAINED
        said = f"its dedupe key is that of event {one.id}, which says something else"
        return Verdict("failed", said)

    def _refused(self, these: list[int], error: BadEvent) -> None:
        bad = these[0] if len(these) == 1 else None
        if error.index is not None:
            bad = these[error.index]
        if bad is None:
            middle = len(these) // 2
            self._parts += [these[middle:], these[:middle]]  # the first half is taken next
            return
        self._found[bad] = Verdict("failed", str(error))
        self._parts.append([n for n in these if n != bad])

    def _full(self, these: list[int], tenant: str | None) -> None:
        tenants = self._tenants(these)
        if tenant not in tenants:
            if len(tenants) > 1:
                self._split(these, LATER)
                return
            (tenant,) = tenants
        own = self._of(these, {tenant})
        if len(own) == 1:
            self._later[tenant] = LATER
            self._parts.append(these)
        else:  # fewer of them may fit
            middle = len(own) // 2
            self._parts += [self._of(these, tenants - {tenant}), own[middle:], own[:middle]]

    def _split(self, these: list[int], why: Verdict) -> None:
        """Half of the tenants and the other half, until it is clear whose events must wait."""
        tenants = sorted(self._tenants(these))
        if len(tenants) == 1:
            self._later[tenants[0]] = why
            if why is LOCKED:
                self._held_up.add(tenants[0])
            self._parts.append(these)
            return
        half = set(tenants[: len(tenants) // 2])
        self._parts += [self._of(these, set(tenants) - half), self._of(these, half)]

    def _tenants(self, part: Sequence[int]) -> set[str]:
        return {self._events[n].tenant for n in part}

    def _of(self, part: Sequence[int], tenants: set[str]) -> list[int]:
        return [n for n in part if self._events[n].tenant in tenants]


def _event(one: JournalEvent) -> Event:
    return Event(
        one.topic, one.tenant, one.payload, one.dedupe_key, one.key, one.headers, one.but_for
    )
