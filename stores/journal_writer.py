"""The journal's writer: one thread that owns all files and commits what waits, many by one sync.

While a commit is synced the next events gather, so the rate grows with the number of writers. An
append is answered after the commit that holds it, and not before.
"""

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stores import journal_folder as folders
from stores.journal_dedupe import Answered, Known, Pair
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
    State,
)
from stores.journal_queue import Append, Held, Work, answer, do, size_of

GROUP_MAX = 2_000  # events in one commit
RESERVE = 4 << 20  # kept free below the limit: SQLite's log, and a file being packed
RANK: dict[State, int] = {"pending": 0, "drained": 1, "failed": 2}
SMALL = 4096  # bytes of an event
WORK_S = 60.0  # for the thread to do what somebody waits for, or to commit what is left
LOOK_S = 60.0  # how often an idle writer looks whether its file is old

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the journal keeps."""

    max_bytes: int = 1 << 30  # of the folder; then appends are refused
    file_bytes: int = 64 << 20  # then another file is begun
    file_age_s: float = 3600.0  # likewise
    retention_s: float = 7 * 86_400.0  # of what is drained; less where its room is needed
    event_bytes: int = 4 << 20


class JournalWriter:
    """Owns the folder's files from `start` to `close`. Its methods may be called by any thread."""

    def __init__(
        self, folder: Path, limits: Limits, clock: Callable[[], float] = time.time
    ) -> None:
        """Look through the folder: files that can't be read are set aside, and named in the log."""
        self.folder = folder
        self.limits = limits
        self.held: dict[int, Held] = {}
        self.packed: dict[int, folders.Packed] = {}
        self.number = 0  # of the file that is written, or was last
        self._clock = clock
        self._files: dict[int, JournalFile] = {}
        self._writing = False  # whether the newest file takes more rows
        self._next = 1
        self._elsewhere = 0  # bytes of packed files and those set aside
        self._changed = threading.Condition()  # guards what follows, and `held`
        self._queue: deque[Append | Work] = deque()
        self._coming: Counter[str] = Counter()  # tenant -> events in the queue
        self._coming_bytes = 0
        self._closing = False
        self._failed = False  # the last commit
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._look_through()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Commit what waits, and end. JournalDiskError: the disk takes too long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(WORK_S)
        if self._thread.is_alive():
            raise JournalDiskError(
                f"the last events of {self.folder} weren't written within {WORK_S:g} s: does its "
                "disk hang?"
            )

    def append(
        self,
        events: Sequence[JournalEvent],
        loop: asyncio.AbstractEventLoop,
        answer: "asyncio.Future[Answered]",
        together: Sequence[int] = (),
        unused: str | None = None,
    ) -> None:
        """Have the events committed together; `answer` gets what became of them.

        JournalFullError, JournalClosedError: nothing of them will be kept.
        """
        size = sum(size_of(one) for one in events)
        with self._changed:
            self._room(size)
            self._queue.append(Append(events, size, loop, answer, together, unused))
            self._coming_bytes += size
            self._coming.update(one.tenant for one in events)
            self._changed.notify()

    def _room(self, size: int) -> None:
        if self._closing:
            raise JournalClosedError("the journal is closed")
        if self.bytes + self._coming_bytes + size + RESERVE > self.limits.max_bytes:
            raise JournalFullError(
                f"the journal holds {self.bytes:,} bytes and may hold"
                f" {self.limits.max_bytes:,}: wait until it is drained, or raise its limit"
            )

    def check(self) -> None:
        """`JournalError` unless a small event would be kept now, as far as can be told."""
        with self._changed:
            self._room(SMALL)
        if self._failed:
            folders.try_out(self.folder)

    def work(self, call: Callable[[], T]) -> "Future[T]":
        """Have something done by the thread that owns the files."""
        answer: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise JournalClosedError("the journal is closed")
            self._queue.append(Work(call, answer))
            self._changed.notify()
        return answer

    def done(self, call: Callable[[], T]) -> T:
        """Likewise, and wait for it. JournalDiskError: nobody knows whether it will be done."""
        asked = self.work(call)
        if wait({asked}, WORK_S).not_done:
            asked.cancel()
            raise JournalDiskError(
                f"the thread that writes {self.folder} didn't come to it within {WORK_S:g} s: does "
                "its disk hang?"
            )
        return asked.result(0)

    @property
    def bytes(self) -> int:
        """What the folder takes on the disk."""
        return self._elsewhere + sum(one.bytes for one in list(self.held.values()))

    def pending(self, tenant: str | None = None) -> int:
        """How many rows wait for the outbox (of a tenant), those not yet committed among them."""
        with self._changed:
            if tenant is None:
                held = sum(one.counts["pending"] for one in self.held.values())
                return held + self._coming.total()
            return self._coming[tenant] + sum(one.waiting[tenant] for one in self.held.values())

    def counts(self) -> dict[State, int]:
        """Committed rows by state."""
        with self._changed:
            total: Counter[State] = Counter()
            total["drained"] = sum(one.rows for one in list(self.packed.values()))
            for one in self.held.values():
                total.update(one.counts)
        return {"pending": total["pending"], "drained": total["drained"], "failed": total["failed"]}

    def tenants(self) -> int:
        """How many tenants have rows that wait."""
        with self._changed:
            return len({name for one in self.held.values() for name in one.waiting})

    def waiting_files(self) -> list[tuple[int, Path]]:
        """The files with pending rows, oldest first."""
        with self._changed:
            return [(n, one.path) for n, one in sorted(self.held.items()) if one.counts["pending"]]

    # What follows is for `work`: it is called by the writer's thread.

    def mark(self, marks: Sequence[tuple[State, str | None, int]]) -> dict[int, State]:
        """Set (state, error, seq); returns what the rows were before. Unknown ones are left out."""
        before: dict[int, State] = {}
        by_file: dict[int, list[tuple[State, str | None, int]]] = {}
        for one in marks:
            by_file.setdefault(one[2] // ROWS_MAX, []).append(one)
        for number, these in by_file.items():
            if number not in self.held:
                continue
            file = self._file(number)
            known = file.states(seq for _, _, seq in these)
            file.mark(these)
            with self._changed:
                for state, _, seq in these:
                    if seq in known:
                        was, tenant = known[seq]
                        self.held[number].moved(tenant, was, state)
                        before[seq] = was
            self._measure(number)
        return before

    def states(self, seqs: Sequence[int]) -> dict[int, tuple[State, str]]:
        """seq -> (state, tenant), of those in files that aren't packed."""
        found: dict[int, tuple[State, str]] = {}
        for number in {seq // ROWS_MAX for seq in seqs} & self.held.keys():
            found |= self._file(number).states(s for s in seqs if s // ROWS_MAX == number)
        return found

    def set_aside(self, number: int, why: JournalError) -> None:
        """Rename a file that can't be read, and go on without it."""
        self._let_go(number)
        with self._changed:
            held = self.held.pop(number, None)
        if held is None:
            return
        new = folders.set_aside(held.path)
        if number == self.number:
            self._writing = False
        lost = held.counts["pending"]
        logger.error("%s. It is set aside as %s (%d rows waited)", why, new.name, lost)
        self.measure_elsewhere()

    def release(self, number: int) -> Held | None:
        """Give a file away that is drained and no longer written, closed as one plain file."""
        held = self.held[number]
        if number == self.number or held.counts["pending"] or held.counts["failed"]:
            return None
        try:
            self._file(number).settle()
        except JournalError as error:  # somebody reads it just now
            logger.info("It is packed another time: %s", error)
            return None
        del self._files[number]
        with self._changed:
            return self.held.pop(number)

    def adopt(self, number: int, path: Path) -> None:
        """Take a plain file in."""
        file = self._files[number] = JournalFile(path, number)
        held = Held(path, self._clock(), Counter(file.counts()), file.waiting())
        with self._changed:
            self.packed.pop(number, None)
            self.held[number] = held
        self._measure(number)

    def forget_failed(self, seqs: Sequence[int]) -> int:
        """Delete those of the rows that failed; returns how many they were."""
        gone = 0
        for number in {seq // ROWS_MAX for seq in seqs} & self.held.keys():
            here = self._file(number).forget_failed(s for s in seqs if s // ROWS_MAX == number)
            gone += here
            with self._changed:
                self.held[number].counts["failed"] -= here
        return gone

    def rotate(self) -> None:
        """Begin another file with the next event, if this one has rows."""
        if self._writing and self._next > 1:
            self._writing = False
            try:
                self._file(self.number).checkpoint()
            except JournalError as error:
                logger.warning("Its log stays beside it: %s", error)
            self._measure(self.number)

    def measure_elsewhere(self) -> None:
        """Look how large what isn't open is."""
        self._elsewhere = folders.folder_bytes(self.folder) - sum(
            folders.file_bytes(one.path) for one in list(self.held.values())
        )

    # The thread itself.

    def _look_through(self) -> None:
        folders.tidy(self.folder)
        self.packed = folders.packed_files(self.folder)
        plain = folders.plain_files(self.folder)
        asides = [int(name[:8]) for name in folders.set_aside_files(self.folder)]
        self.number = max([*plain, *self.packed, *asides], default=0)
        for number, path in plain.items():
            try:
                self.adopt(number, path)
                self._files[number].check()
            except JournalCorruptError as error:
                self.held.setdefault(number, Held(path, 0.0))
                self.set_aside(number, error)
        if self.number in self.held:
            self._next = self._files[self.number].last() + 1
            self._writing = True
        self.measure_elsewhere()

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:
            # A defect. Whoever waits must hear it, and nothing more may be accepted.
            logger.critical("The journal writes no more", exc_info=error)
            with self._changed:
                self._closing = True
                left, self._queue = list(self._queue), deque()
            answer([one for one in left if isinstance(one, Append)], error)
            for one in left:
                if isinstance(one, Work) and one.answer.set_running_or_notify_cancel():
                    one.answer.set_exception(error)
        finally:
            for file in self._files.values():
                file.close()

    def _loop(self) -> None:
        while True:
            with self._changed:
                if not self._queue and not self._closing:
                    self._changed.wait(LOOK_S if self.limits.file_age_s > LOOK_S else 1.0)
                if self._closing and not self._queue:
                    break
                appends, works = self._take()
            if appends:
                self._commit(appends)
            for one in works:
                do(one)
            self._rotate_if_due()

    def _take(self) -> tuple[list[Append], list[Work]]:
        appends: list[Append] = []
        works: list[Work] = []
        events = 0
        while self._queue and events < GROUP_MAX:
            one = self._queue.popleft()
            if isinstance(one, Work):
                works.append(one)
            else:
                appends.append(one)
                events += len(one.events)
        return appends, works

    def _commit(self, group: list[Append]) -> None:
        events = [event for one in group for event in one.events]
        error: Exception | None = None
        fresh: list[Known] = []
        try:
            known = self._known({pair for one in group for pair in one.pairs()})
            fresh = [new for one in group for new in one.sort_out(known)]
            first = self._inserted([one.event for one in fresh]) if fresh else 0
            for n, one_of_them in enumerate(fresh):
                one_of_them.seq = first + n
        except Exception as found:
            error = found
        with self._changed:
            self._failed = error is not None
            self._coming_bytes -= sum(one.size for one in group)
            for event in events:
                self._coming[event.tenant] -= 1
                if not self._coming[event.tenant]:
                    del self._coming[event.tenant]
            if error is None and fresh:
                held = self.held[self.number]
                held.counts["pending"] += len(fresh)
                held.waiting.update(one.event.tenant for one in fresh)
        if error is not None:
            logger.error("%d events aren't accepted: %s", len(events), error)
        answer(group, error)

    def _known(self, pairs: set[Pair]) -> dict[Pair, Known]:
        """What the files have of these dedupe keys: what waits, else drained, else refused."""
        found: dict[Pair, Known] = {}
        for number in sorted(self.held):
            try:
                rows = self._file(number).of_keys(pairs)
            except JournalCorruptError as error:
                self.set_aside(number, error)
                continue
            for row in rows:
                pair = (row.event.tenant, row.event.dedupe_key)
                if pair not in found or RANK[row.state] < RANK[found[pair].state]:
                    found[pair] = Known(row.event, row.seq, row.state)
        return found

    def _inserted(self, events: Sequence[JournalEvent]) -> int:
        try:
            return self._insert(events)
        except JournalCorruptError as error:
            self.set_aside(self.number, error)
            return self._insert(events)

    def _insert(self, events: Sequence[JournalEvent]) -> int:
        """Commit the events to the newest file; the first one's seq."""
        if not self._writing:
            self._begin()
        try:
            self._file(self.number).append(events, self._next)
        except JournalError as error:
            # They may be there or not. Look anew; and after an error that isn't the disk's
            # fullness trust the file no further: a sync that failed once may lie when repeated.
            self._let_go(self.number)
            if not isinstance(error, JournalDiskFullError | JournalCorruptError):
                self._writing = False
            raise
        first = self.number * ROWS_MAX + self._next
        self._next += len(events)
        self._measure(self.number)
        return first

    def _begin(self) -> None:
        number = self.number + 1
        path = self.folder / f"{number:08d}.sqlite"
        try:
            JournalFile.create(path, number).close()
            self.adopt(number, path)
        except JournalError:
            path.unlink(missing_ok=True)
            raise
        self.number, self._next, self._writing = number, 1, True

    def _file(self, number: int) -> JournalFile:
        if number not in self._files:
            self.adopt(number, self.held[number].path)
            if number == self.number:
                self._next = self._files[number].last() + 1
        return self._files[number]

    def _let_go(self, number: int) -> None:
        file = self._files.pop(number, None)
        if file is not None:
            file.close()

    def _measure(self, number: int) -> None:
        held = self.held[number]
        held.bytes = folders.file_bytes(held.path)

    def _rotate_if_due(self) -> None:
        held = self.held.get(self.number)
        if not self._writing or held is None or self._next == 1:
            return
        old = self._clock() - held.since >= self.limits.file_age_s
        if old or held.bytes >= self.limits.file_bytes:
            self.rotate()
