"""What the journal's writer knows of its files, what waits for it, and who is answered."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stores.journal_dedupe import Answered, Known, Pair, Sorted
from stores.journal_file import JournalEvent, State

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Held:
    """What is known of a file without asking it."""

    path: Path
    since: float  # when its first row came, or it was opened
    counts: Counter[State] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)  # tenant -> pending
    bytes: int = 0

    def moved(self, tenant: str, before: State, after: State) -> None:
        """A row changed its state."""
        self.counts[before] -= 1
        self.counts[after] += 1
        for state, by in ((before, -1), (after, 1)):
            if state == "pending":
                self.waiting[tenant] += by
                if not self.waiting[tenant]:
                    del self.waiting[tenant]


@dataclass(slots=True)
class Append:
    """Events to be committed together; `answer` belongs to `loop`."""

    events: Sequence[JournalEvent]
    size: int
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Answered]"
    together: Sequence[int] = ()
    unused: str | None = None
    sorted: Sorted | None = None

    def pairs(self) -> set[Pair]:
        """The dedupe keys that must be known to sort the events out."""
        found = {(one.tenant, one.dedupe_key) for one in self.events}
        return found if self.unused is None else found | {(self.events[0].tenant, self.unused)}

    def sort_out(self, known: dict[Pair, Known]) -> list[Known]:
        """Those to be written; `known` gets them."""
        self.sorted = Sorted(self.events, known, self.together, self.unused)
        return self.sorted.fresh


@dataclass(slots=True)
class Work:
    """Something to be done by the thread that owns the files."""

    call: Callable[[], Any]
    answer: "Future[Any]"


def size_of(event: JournalEvent) -> int:
    """About what a row takes on the disk, bytes."""
    headers = sum(len(name) + len(text) + 8 for name, text in (event.headers or {}).items())
    names = len(event.topic) + len(event.tenant) + len(event.key) + len(event.dedupe_key)
    return 128 + names + headers + len(event.payload.encode())


def do(one: Work) -> None:
    """Do it, and tell its result or its error; nothing where nobody waits for it any more."""
    if not one.answer.set_running_or_notify_cancel():
        return
    try:
        result = one.call()
    except Exception as error:
        one.answer.set_exception(error)
    else:
        one.answer.set_result(result)


def answer(group: list[Append], error: Exception | None) -> None:
    """Tell the writers, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Append]] = {}
    for one in group:
        by_loop.setdefault(one.loop, []).append(one)
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, theirs, error)
        except RuntimeError:
            logger.warning("%d appends have nobody who waits for them", len(theirs))


def _resolve(theirs: list[Append], error: Exception | None) -> None:
    for one in theirs:
        if one.answer.done():  # cancelled: nobody waits
            continue
        if error is not None:
            one.answer.set_exception(error)
        elif one.sorted is not None:
            one.answer.set_result(one.sorted.answered())
