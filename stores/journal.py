"""The local journal: where accepted events are kept while PostgreSQL is away.

`append` returns once the event is on the disk; `drain` brings the events to the outbox, oldest
first, and marks them. A process that dies between the two brings some again: the dedupe key makes
each arrive once. A folder belongs to one process.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from stores import journal_folder as folders
from stores.journal_dedupe import Answered, Kept
from stores.journal_file import (
    ROWS_MAX,
    JournalClosedError,
    JournalCorruptError,
    JournalDiskError,
    JournalDiskFullError,
    JournalError,
    JournalEvent,
    JournalFile,
    JournalFullError,
    JournalLockedError,
    JournalRow,
    State,
)
from stores.journal_writer import RESERVE, JournalWriter, Limits

__all__ = [
    "Answered", "Drained", "Journal", "JournalClosedError", "JournalCorruptError",
    "JournalDiskError", "JournalDiskFullError", "JournalError", "JournalEvent", "JournalFullError",
    "JournalLockedError", "JournalRow", "Kept", "Limits", "Replayed", "Sink", "State", "Verdict",
]  # fmt: skip

BATCH = 500
PAGE_MAX = 500
REPLAY_MAX = 1000
ROOM = 0.75  # of the limit: above, what is drained leaves before its time

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an event: the outbox has it, refuses it for good, or can't take it yet.

    `locked`: not yet, since another transaction is open that holds it up.
    """

    state: Literal["drained", "failed", "later", "locked"]
    error: str | None = None


Sink = Callable[[Sequence[JournalEvent]], Awaitable[Sequence[Verdict]]]


@dataclass(frozen=True, slots=True)
class Drained:
    """What one round brought in."""

    drained: int = 0
    failed: int = 0
    later: frozenset[str] = frozenset()  # tenants whose rows must wait
    locked: frozenset[str] = frozenset()  # those of them that wait for another's transaction


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found: seqs that are pending again, unknown ones, those it didn't apply to."""

    replayed: tuple[int, ...]
    missing: tuple[int, ...]
    not_failed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a clean-up did: files packed, packed files removed."""

    packed: int
    removed: int


class Journal:
    """An open journal; `open` and `close` it. Errors are `JournalError`."""

    def __init__(
        self, lock: folders.Lock, writer: JournalWriter, clock: Callable[[], float]
    ) -> None:
        """Use `open`."""
        self._lock = lock
        self._writer = writer
        self._clock = clock
        self._draining = asyncio.Lock()
        self._keeping = threading.Lock()  # files are packed and unpacked by one at a time
        self._closed = False

    @classmethod
    def open(
        cls, folder: Path, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> Self:
        """Take the folder, look its files through, and begin to write.

        JournalLockedError: another process has it. Damaged files are set aside, with an error in
        the log. May take a second per GB that waits.
        """
        lock = folders.Lock(folder)
        try:
            writer = JournalWriter(folder, limits or Limits(), clock)
        except BaseException:
            lock.release()
            raise
        writer.start()
        return cls(lock, writer, clock)

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._writer.folder

    def close(self) -> None:
        """Commit what waits, and let go of the folder. JournalDiskError: it stays taken."""
        if not self._closed:
            self._closed = True
            self._writer.close()
            self._lock.release()

    async def append(self, event: JournalEvent) -> int:
        """Keep an event; its seq. Returns after the commit that holds it is on the disk.

        JournalFullError, JournalDiskError, JournalClosedError: it isn't accepted. (After a
        JournalDiskError, or if the caller is cancelled, it may be there nevertheless.)
        """
        return (await self.append_many([event]))[0]

    async def append_many(self, events: Sequence[JournalEvent]) -> list[int]:
        """Keep events, all or none; their seqs. `ValueError`: see `differs` of `Kept`."""
        kept, _ = await self.keep(events)
        if any(one.differs for one in kept):
            raise ValueError("a dedupe key is that of an event that says something else")
        return [one.seq for one in kept]

    async def keep(
        self,
        events: Sequence[JournalEvent],
        together: Sequence[int] = (),
        unused: str | None = None,
    ) -> Answered:
        """Keep events, all or none, each dedupe key once: what waits already isn't kept again.

        `together`, `unused`: see `TenantOutbox.add_whole`. Errors as of `append`.
        """
        if not events:
            return Answered([])
        now = self._clock()
        stamped = [one if one.created else replace(one, created=now) for one in events]
        for one in stamped:
            self._fits(one)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answered] = loop.create_future()
        self._writer.append(stamped, loop, answer, together, unused)
        return await answer

    def _fits(self, event: JournalEvent) -> None:
        most = self._writer.limits.event_bytes
        if (size := len(event.payload.encode())) > most:
            raise ValueError(f"an event has at most {most:,} bytes, this one {size:,}")

    async def check(self) -> None:
        """`JournalError` unless a small event would be kept now, as far as can be told."""
        await asyncio.to_thread(self._writer.check)

    def pending(self, tenant: str | None = None) -> int:
        """How many events wait for the outbox (of a tenant), those just being written among them.

        An event whose `append` has returned counts until it is drained or failed.
        """
        return self._writer.pending(tenant)

    async def drain(self, sink: Sink, batch: int = BATCH) -> Drained:
        """Bring what waits to the sink, oldest first, until nothing is left that it takes now.

        The sink answers with one verdict per event, and says `later` (or `locked`) of all that
        follow one of the same tenant; what it raises ends the round, and nothing of that batch is
        marked.
        """
        async with self._draining:
            after, drained, failed = 0, 0, 0
            later: set[str] = set()
            locked: set[str] = set()
            while rows := await asyncio.to_thread(self._oldest, after, batch, later | locked):
                verdicts = await sink([row.event for row in rows])
                if len(verdicts) != len(rows):
                    raise ValueError(f"{len(verdicts)} verdicts on {len(rows)} events")
                marks: list[tuple[State, str | None, int]] = []
                for row, verdict in zip(rows, verdicts, strict=True):
                    if verdict.state == "later" or verdict.state == "locked":
                        (later if verdict.state == "later" else locked).add(row.event.tenant)
                        continue
                    marks.append((verdict.state, verdict.error, row.seq))
                    drained += verdict.state == "drained"
                    if verdict.state == "failed":
                        failed += 1
                        logger.error("The outbox refuses %s: %s", _named(row), verdict.error)
                await self._work(partial(self._writer.mark, marks))
                after = rows[-1].seq
            return Drained(drained, failed, frozenset(later | locked), frozenset(locked))

    def _oldest(self, after: int, most: int, without: set[str]) -> list[JournalRow]:
        for number, path in self._writer.waiting_files():
            if (number + 1) * ROWS_MAX <= after:
                continue
            try:
                with closing(JournalFile(path, number, readonly=True)) as file:
                    rows = file.pending(after, most, without)
            except JournalCorruptError as error:
                self._writer.done(partial(self._writer.set_aside, number, error))
                continue
            if rows:
                return rows
        return []

    async def _work(self, call: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self._writer.work(call))

    async def stats(self) -> dict[str, Any]:
        """Its size, as JSON data: rows by state, files, bytes, the oldest row's age in seconds."""
        return await asyncio.to_thread(self._stats)

    def _stats(self) -> dict[str, Any]:
        writer = self._writer
        counts = writer.counts()
        return {
            "folder": str(writer.folder),
            "pending": counts["pending"],
            "drained": counts["drained"],
            "failed": counts["failed"],
            "tenants_waiting": writer.tenants(),
            "oldest_pending_s": self._age(),
            "files": len(writer.held),
            "packed_files": len(writer.packed),
            "set_aside": folders.set_aside_files(writer.folder),
            "bytes": writer.bytes,
            "bytes_max": writer.limits.max_bytes,
        }

    def _age(self) -> float | None:
        for number, path in self._writer.waiting_files():
            with closing(JournalFile(path, number, readonly=True)) as file:
                oldest = file.oldest_pending()
            if oldest is not None:
                return max(0.0, self._clock() - oldest)
        return None

    def gauges(self) -> tuple[dict[State, int], int]:
        """Rows by state and bytes, without asking the disk (for metrics)."""
        return self._writer.counts(), self._writer.bytes

    async def events(
        self, limit: int = 100, offset: int = 0, status: State | None = None
    ) -> list[JournalRow]:
        """A page of its rows, oldest first; limit 1-500."""
        if not 1 <= limit <= PAGE_MAX or offset < 0:
            raise ValueError(f"limit is 1-{PAGE_MAX}, offset at least 0")
        return await asyncio.to_thread(folders.events, self.folder, limit, offset, status)

    async def replay(self, seqs: Sequence[int], drained: bool = False) -> Replayed:
        """Make failed rows pending again; with `drained` those as well that the outbox had.

        The latter is for a database that was restored from an old backup: what it has, it keeps.
        """
        if not 1 <= len(seqs) <= REPLAY_MAX:
            raise ValueError(f"give 1-{REPLAY_MAX} seqs")
        return await asyncio.to_thread(self._replay, list(dict.fromkeys(seqs)), drained)

    def _replay(self, seqs: list[int], drained: bool) -> Replayed:
        with self._keeping:
            writer = self._writer
            wanted = {seq // ROWS_MAX for seq in seqs}
            for packed in [one for n, one in writer.packed.items() if n in wanted and drained]:
                path = folders.unpack(packed)
                writer.done(partial(writer.adopt, packed.number, path))
            return writer.done(partial(self._again, seqs, drained))

    def _again(self, seqs: list[int], drained: bool) -> Replayed:
        states = self._writer.states(seqs)
        gone = {seq for seq in seqs if seq // ROWS_MAX in self._writer.packed}
        wanted = ("failed", "drained") if drained else ("failed",)
        these = [s for s in seqs if s in states and states[s][0] in wanted]
        self._writer.mark([("pending", None, seq) for seq in these])
        missing = tuple(s for s in seqs if s not in states and s not in gone)
        rest = set(seqs) - set(these) - set(missing)
        return Replayed(tuple(these), missing, tuple(s for s in seqs if s in rest))

    async def tenants_of(self, seqs: Sequence[int]) -> dict[int, str | None]:
        """seq -> tenant, of those that are here; None in packed files, which aren't looked into."""
        states = await self._work(partial(self._writer.states, seqs))
        packed = [seq for seq in seqs if seq // ROWS_MAX in self._writer.packed]
        return dict.fromkeys(packed) | {seq: tenant for seq, (_, tenant) in states.items()}

    async def forget_failed(self, seqs: Sequence[int]) -> int:
        """Delete those of the rows that the outbox refused; returns how many they were."""
        return int(await self._work(partial(self._writer.forget_failed, list(seqs))))

    async def cleanup(self) -> Cleaned:
        """Pack files that are drained, remove packed ones past their time or in the way."""
        return await asyncio.to_thread(self._cleanup)

    def _cleanup(self) -> Cleaned:
        with self._keeping:
            writer = self._writer
            packed = 0
            for number in sorted(writer.held):
                held = writer.done(partial(writer.release, number))
                if held is None:
                    continue
                try:
                    writer.packed[number] = folders.pack(held.path, number, held.counts["drained"])
                except JournalError:
                    writer.done(partial(writer.adopt, number, held.path))
                    raise
                packed += 1
            removed = self._remove_old()
            writer.done(writer.measure_elsewhere)
            return Cleaned(packed, removed)

    def _remove_old(self) -> int:
        writer, removed = self._writer, 0
        writer.done(writer.measure_elsewhere)
        total = writer.bytes
        for number, packed in sorted(writer.packed.items()):
            stat = packed.path.stat()
            old = self._clock() - stat.st_mtime > writer.limits.retention_s
            if not old and total <= ROOM * (writer.limits.max_bytes - RESERVE):
                break
            packed.path.unlink()
            del writer.packed[number]
            total -= stat.st_size
            removed += 1
        return removed


def _named(row: JournalRow) -> str:
    return f"row {row.seq} of tenant {row.event.tenant} for {row.event.topic}"
