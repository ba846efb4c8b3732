"""Events and sinks for the tests of the journal, whose folders are on the real disk."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stores.journal import Drained, Journal, JournalEvent, Limits, Verdict

T = TypeVar("T")


def event(n: int, tenant: str = "a", key: str = "k", size: int = 0) -> JournalEvent:
    return JournalEvent("memory.events", tenant, key, f'{{"n":{n},"x":"{"x" * size}"}}', f"d{n}")


class Outbox:
    """What a sink has taken, each dedupe key once, in order; like the table, it is in memory."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str], JournalEvent] = {}
        self.calls = 0
        self.later: set[str] = set()
        self.bad: set[str] = set()

    async def sink(self, events: Sequence[JournalEvent]) -> list[Verdict]:
        self.calls += 1
        found = []
        for one in events:
            if one.tenant in self.later:
                found.append(Verdict("later"))
            elif one.dedupe_key in self.bad:
                found.append(Verdict("failed", "it is bad"))
            else:
                self.taken.setdefault((one.tenant, one.dedupe_key), one)
                found.append(Verdict("drained"))
        return found

    def keys(self) -> list[str]:
        return [key for _, key in self.taken]


def with_journal(
    folder: Path,
    use: Callable[[Journal], Coroutine[Any, Any, T]],
    limits: Limits | None = None,
    clock: Callable[[], float] | None = None,
) -> T:
    """Open the journal, run the coroutine, close it."""

    async def run() -> T:
        journal = (
            Journal.open(folder, limits) if clock is None else Journal.open(folder, limits, clock)
        )
        try:
            return await use(journal)
        finally:
            journal.close()

    return asyncio.run(run())


def drained(folder: Path, outbox: Outbox) -> Drained:
    """Drain what the folder holds."""
    return with_journal(folder, lambda journal: journal.drain(outbox.sink))
