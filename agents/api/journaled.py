"""Writing events so that none is lost while PostgreSQL is away, and no key's order is changed.

While PostgreSQL answers, events go straight to the outbox. When it doesn't, they go to the journal,
and so does everything that comes later of a tenant whose events still wait there: nothing overtakes
them. Once the journal has few left, new events wait a moment for it to be empty, and go straight
again. (Order across the switch is per process: a tenant's writers should stay with one.)
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.api.journal_sink import Adds, OutboxSink
from agents.settings import Settings
from stores.errors import Locked, NotMigrated, StoreDown
from stores.journal import Journal, JournalError, JournalEvent, Kept, Limits, Verdict
from stores.outbox import Added, BadEvent, Defect, Event, TooManyPending
from stores.outbox_checks import batch as checked

FIRST_S = 0.1  # between two questions to a database that is away: doubling, with jitter
LONGEST_S = 5.0
LATER_S = 1.0  # until tenants at their limit are tried again
IDLE_S = 5.0
CLEAN_S = 30.0
HOLD_S = 1.0  # that an event waits, at most, for the last of the journal to be drained
PATIENCE_S = 3.0  # with a database that says nothing; well below a request's own time
LOCK_S = 1.0  # that an event waits for another's transaction
DIGITS_MAX = 4000  # in a number: PostgreSQL keeps more, but not any number of them

Add = Callable[[Sequence[Event]], Awaitable[Sequence[Added]]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """Where the events are now: in the outbox (`added`), or in the journal (`kept`).

    The journal keeps none of them where one `differs`, or with `other`.
    """

    added: Sequence[Added] = ()
    kept: Sequence[Kept] = ()
    other: Kept | None = None

    @property
    def seqs(self) -> list[int]:
        """Of those in the journal."""
        return [one.seq for one in self.kept]


class JournaledOutbox:
    """Takes events, and drains the journal: `run` it as a task beside the requests."""

    def __init__(
        self,
        outbox: Adds,
        journal: Journal,
        batch: int = 500,
        aside: Adds | None = None,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`aside`: the outbox over other connections, to ask it and drain into while all of
        `outbox` wait; it should wait for locks no longer than the sink's LOCK_S."""
        self.away = False  # whether PostgreSQL didn't answer when it was last asked
        self.full: frozenset[str] = frozenset()  # tenants that wait because of their limit
        self._outbox = outbox
        self._aside = aside or outbox
        self._sink = OutboxSink(self._aside)
        self._journal = journal
        self._batch = batch
        self._next_batch = batch  # smaller after a failure: it may be that it takes too long
        self._clock = clock
        self._patience_s = patience_s
        self._since = 0.0
        self._locked: frozenset[str] = frozenset()
        self._failures = 0
        self._cleaned = clock()
        self._wake = asyncio.Event()
        self._between = asyncio.Event()  # set while no round of draining is under way
        self._between.set()

    async def add_many(
        self,
        events: Sequence[Event],
        add: Add | None = None,
        together: Sequence[int] = (),
        unused: str | None = None,
    ) -> Taken:
        """Take the events, all or none; returns once they are durable. `add`: another way to add.

        `together`, `unused`: for the journal, as `TenantOutbox.add_whole` has them.

        BadEvent, TooManyPending, NotMigrated, Locked as the outbox has them; JournalError:
        PostgreSQL is away and the journal can't take them.
        """
        tenants = {one.tenant for one in events}
        if blocked := sorted(tenants & self.full):
            raise TooManyPending(f"the tenant {blocked[0]} has too many events waiting", blocked[0])
        if not self.away and self._waiting(tenants):
            await self._held()
        if not self.away and not self._waiting(tenants):
            try:
                return Taken(added=await self._patiently((add or self._outbox.add_many)(events)))
            except NotMigrated:
                raise
            except Locked as error:
                if await self._answers():
                    raise  # a wait for another's transaction is no outage
                self._lost(error)
            except StoreDown as error:
                self._lost(error)
        kept = [_kept(one, n) for n, one in enumerate(events)]
        checked(events)
        answered = await self._journal.keep(kept, together, unused)
        self._wake.set()
        return Taken(kept=answered.kept, other=answered.other)

    async def _patiently(self, adding: Awaitable[Sequence[Added]]) -> Sequence[Added]:
        """What it gives; `StoreDown` if PostgreSQL says nothing meanwhile, nor when it is asked.

        That it takes long says nothing alone: it may wait for a connection, behind many that wait
        for an open transaction. Its own limits on time end it.
        """
        task = asyncio.ensure_future(adding)
        try:
            while not (await asyncio.wait([task], timeout=self._patience_s))[0]:
                if self.away:
                    raise StoreDown(f"no answer within {self._patience_s:g} s")
                await self._ask()
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _answers(self) -> bool:
        try:
            await self._ask()
        except StoreDown:
            return False
        return True

    async def _ask(self) -> None:
        """`StoreDown` unless events can be added now."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._aside.ready()
        except TimeoutError:
            raise StoreDown(f"no answer within {self._patience_s:g} s") from None

    def _waiting(self, tenants: set[str]) -> bool:
        return any(self._journal.pending(tenant) for tenant in tenants)

    async def _held(self) -> None:
        """Let the last of the journal be drained first; else a busy tenant would never be done."""
        if self._journal.pending() > self._batch or self._between.is_set():
            return
        try:
            await asyncio.wait_for(self._between.wait(), HOLD_S)
        except TimeoutError:
            return  # then by the journal

    async def run(self) -> None:
        """Drain whenever something waits, and keep the folder tidy; until cancelled."""
        while True:
            wait = await self._round()
            if self._clock() - self._cleaned >= CLEAN_S:
                await self._clean()
            self._wake.clear()
            if wait or not self._journal.pending():
                await self._sleep(wait or IDLE_S)

    async def _sleep(self, seconds: float) -> None:
        if self.away:  # a new event is no reason to ask sooner
            await asyncio.sleep(seconds)
            return
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def _round(self) -> float:
        """One round; returns how long to wait before the next, 0.0 if there is no need to."""
        self._between.clear()
        draining = False
        try:
            if self.away:
                await self._ask()
                await self._back()
            elif not self._journal.pending():
                await self._ask()  # whether it is away is known before an event comes
            draining = True
            done = await self._journal.drain(self._bring, self._next_batch)
        except StoreDown as error:
            if isinstance(error, NotMigrated) and not self.away:
                return IDLE_S  # that is no outage: events are refused
            self._lost(error)
            self._failures += 1
            if draining:
                self._next_batch = max(1, self._next_batch // 2)
            longest = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures - 1, 16))
            return longest * random.uniform(0.5, 1.0)
        except (JournalError, Defect):
            logger.exception("The journal can't be drained")
            return LONGEST_S
        finally:
            self._between.set()
        self.full = done.later - done.locked
        if new := done.locked - self._locked:
            names = ", ".join(sorted(new)[:10])
            logger.warning("Events of %d tenants wait for open transactions: %s", len(new), names)
        self._locked = done.locked
        self._failures, self._next_batch = 0, self._batch
        if done.drained or done.failed:
            logger.info("%d events drained, %d refused", done.drained, done.failed)
        return LATER_S if done.later else 0.0

    async def _bring(self, events: Sequence[JournalEvent]) -> list[Verdict]:
        return await self._sink(events)

    def _lost(self, error: StoreDown) -> None:
        if not self.away:
            self.away, self._since = True, self._clock()
            logger.warning("The outbox is away, events go to the journal: %s", error)
        self._wake.set()

    async def _back(self) -> None:
        await self._outbox.renew()  # sessions from before may be those of another time, or server
        self.away = False
        seconds, waiting = self._clock() - self._since, self._journal.pending()
        logger.info("The outbox is back after %.1f s, %d events are drained", seconds, waiting)

    async def _clean(self) -> None:
        self._cleaned = self._clock()
        try:
            await self._journal.cleanup()
        except JournalError:
            logger.exception("The journal can't be tidied")


def journal_folder(settings: Settings) -> Path:
    """Where the journal of these settings is."""
    folder = settings.journal.folder
    return settings.home / "journal" if folder is None else folder


def open_journal(settings: Settings, folder: Path | None = None) -> Journal:
    """Open it; `JournalLockedError` where another process has it. Blocks for a while."""
    own = settings.journal
    limits = Limits(
        max_bytes=own.max_mb << 20,
        file_bytes=own.file_mb << 20,
        file_age_s=own.file_age_s,
        retention_s=own.retention_days * 86_400.0,
    )
    return Journal.open(folder or journal_folder(settings), limits)


def _kept(one: Event, index: int) -> JournalEvent:
    """The event for the journal; `BadEvent` if PostgreSQL will not take its payload."""
    try:
        value = json.loads(
            one.payload, parse_float=_number, parse_int=_number, parse_constant=_number
        )
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"the payload can't be kept as JSON: {error}", index) from error
    if "\\u0000" in one.payload and _has_nul(value):
        raise BadEvent("the payload has a NUL character", index)
    headers = None if one.headers is None else dict(one.headers)
    key = one.tenant if one.key is None else one.key
    return JournalEvent(
        one.topic, one.tenant, key, one.payload, one.dedupe_key, headers, but_for=one.but_for
    )


def _number(text: str) -> float:
    if text in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"{text} is no JSON")
    _, _, exponent = text.lower().partition("e")
    if len(text) > DIGITS_MAX or (exponent and abs(int(exponent)) > DIGITS_MAX):
        raise ValueError(f"a number of {len(text)} characters is too large or too fine")
    return 0.0


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(one) for name, one in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))
