"""One file of the journal: a SQLite database in WAL mode that is synced at every commit.

A commit that returned survives kill -9 and loss of power (`synchronous=FULL`); one that raised may
be there or not. Rows are `pending` until the outbox has them (`drained`), or `failed` where the
outbox refuses them for good.
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

ROWS_MAX = 1_000_000_000  # of a file: a row's seq is the file's number * ROWS_MAX + 1, 2, …
WAL_PAGES = 512  # 2 MiB, then SQLite brings the log into the file
APPLICATION_ID = 0x534A_4F55
VERSION = 2
BUSY_S = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq        INTEGER PRIMARY KEY,
    created    REAL NOT NULL,  -- s since 1970
    topic      TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    key        TEXT NOT NULL,
    payload    TEXT NOT NULL,  -- JSON
    headers    TEXT,           -- JSON object
    dedupe_key TEXT NOT NULL,
    state      TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'drained', 'failed')),
    error      TEXT,
    but_for    TEXT            -- since version 2
);
CREATE INDEX IF NOT EXISTS events_open ON events (state, seq) WHERE state <> 'drained';
CREATE INDEX IF NOT EXISTS events_keys ON events (tenant, dedupe_key);
"""
COLUMNS = "seq, created, topic, tenant, key, payload, headers, dedupe_key, state, error"

State = Literal["pending", "drained", "failed"]


class JournalError(Exception):
    """The journal can't do what was asked; the text says why and what to do."""


class JournalLockedError(JournalError):
    """Another process has the folder."""


class JournalFullError(JournalError):
    """The journal has reached its limit: nothing is accepted that can't be kept."""


class JournalDiskError(JournalError):
    """The disk doesn't write: what was to be appended isn't acknowledged."""


class JournalDiskFullError(JournalDiskError):
    """The disk is full."""


class JournalCorruptError(JournalError):
    """A file can't be read as SQLite."""


class JournalClosedError(JournalError):
    """The journal was closed."""


@dataclass(frozen=True, slots=True)
class JournalEvent:
    """An accepted event that waits for the outbox; `payload` is JSON text."""

    topic: str
    tenant: str
    key: str
    payload: str
    dedupe_key: str
    headers: dict[str, str] | None = None
    created: float = 0.0  # s since 1970; 0: when it is appended
    but_for: str | None = None  # as the outbox's Event has it; kept, but not listed


@dataclass(frozen=True, slots=True)
class JournalRow:
    """An event as it stands in the journal."""

    seq: int
    event: JournalEvent
    state: State
    error: str | None


def named(error: sqlite3.Error, path: Path) -> JournalError:
    """SQLite's error as the journal's own, with the file's name."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return JournalCorruptError(f"{path.name} is corrupt: {error}")
    if code == sqlite3.SQLITE_FULL:
        return JournalDiskFullError(
            f"the disk of the journal is full ({path.name}): make room on it"
        )
    return JournalDiskError(f"the journal can't use {path.name}: {error}")


class JournalFile:
    """An open file. For one thread at a time; all errors are `JournalError`."""

    def __init__(self, path: Path, number: int, readonly: bool = False) -> None:
        """Open it, and make its table where it is new."""
        self.path = path
        self.number = number
        try:
            mode = "ro" if readonly else "rw"
            self._sql = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise named(error, path) from error
        try:
            if not readonly:
                self._prepare()
        except sqlite3.Error as error:
            self._sql.close()
            raise named(error, path) from error

    @classmethod
    def create(cls, path: Path, number: int) -> Self:
        """A new file that only its owner reads. SQLite gives its log the same permissions."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            sync_folder(path.parent)
        except OSError as error:
            raise JournalDiskError(f"{path}: {error.strerror}") from error
        return cls(path, number)

    def _prepare(self) -> None:
        run = self._sql.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        if run("PRAGMA user_version").fetchone()[0] != VERSION:
            names = [row[1] for row in run("PRAGMA table_info(events)").fetchall()]
            old = bool(names) and "but_for" not in names
            column = "ALTER TABLE events ADD COLUMN but_for TEXT;" if old else ""
            self._sql.executescript(
                f"BEGIN IMMEDIATE; {column} {SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {VERSION}; COMMIT;"
            )

    def check(self) -> None:
        """`JournalCorruptError` if SQLite finds the file damaged."""
        found = str(self._ask("PRAGMA quick_check(1)")[0][0])
        if found != "ok":
            raise JournalCorruptError(f"{self.path.name} is corrupt: {found.splitlines()[-1]}")

    def append(self, events: Sequence[JournalEvent], first: int) -> None:
        """Commit the events as pending with the numbers from `first` (1, 2, …), all or none."""
        base = self.number * ROWS_MAX + first
        rows = [
            (
                base + n,
                one.created,
                one.topic,
                one.tenant,
                one.key,
                one.payload,
                None if one.headers is None else json.dumps(one.headers),
                one.dedupe_key,
                one.but_for,
            )
            for n, one in enumerate(events)
        ]
        self._commit(
            "INSERT INTO events (seq, created, topic, tenant, key, payload, headers, dedupe_key,"
            " but_for) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def mark(self, marks: Iterable[tuple[State, str | None, int]]) -> None:
        """Commit rows' new (state, error, seq), all or none."""
        self._commit("UPDATE events SET state = ?, error = ? WHERE seq = ?", list(marks))

    def forget_failed(self, seqs: Iterable[int]) -> int:
        """Delete those of the rows that failed; returns how many."""
        gone = [seq for seq, (state, _) in self.states(seqs).items() if state == "failed"]
        self._commit("DELETE FROM events WHERE seq = ?", [(seq,) for seq in gone])
        return len(gone)

    def last(self) -> int:
        """The number of its last row, 0 if it has none."""
        found = self._ask("SELECT max(seq) FROM events")[0][0]
        return 0 if found is None else int(found) - self.number * ROWS_MAX

    def counts(self) -> dict[State, int]:
        """How many rows are in each state."""
        open_ = dict(
            self._ask(
                "SELECT state, count(*) FROM events WHERE state <> 'drained' GROUP BY state",
            )
        )
        every = int(self._ask("SELECT count(*) FROM events")[0][0])
        pending, failed = int(open_.get("pending", 0)), int(open_.get("failed", 0))
        return {"pending": pending, "drained": every - pending - failed, "failed": failed}

    def waiting(self) -> Counter[str]:
        """Tenant -> pending rows."""
        return Counter(
            dict(
                self._ask(
                    "SELECT tenant, count(*) FROM events WHERE state = 'pending' GROUP BY tenant"
                )
            )
        )

    def pending(self, after: int, most: int, without: Iterable[str] = ()) -> list[JournalRow]:
        """The oldest pending rows with a seq above `after`, except those of some tenants."""
        return _rows(
            self._ask(
                f"SELECT {COLUMNS}, but_for FROM events WHERE state = 'pending' AND seq > ?"
                " AND tenant NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?",
                (after, json.dumps(list(without)), most),
            )
        )

    def of_keys(self, pairs: Iterable[tuple[str, str]]) -> list[JournalRow]:
        """The rows of these tenants' dedupe keys, in any order."""
        asked = f"SELECT {COLUMNS} FROM events WHERE tenant = ? AND dedupe_key = ?"
        return _rows([row for pair in pairs for row in self._ask(asked, pair)])

    def rows(self, state: State | None, limit: int, offset: int) -> list[JournalRow]:
        """A page of its rows, oldest first."""
        return _page(self._sql, state, limit, offset, self.path)

    def states(self, seqs: Iterable[int]) -> dict[int, tuple[State, str]]:
        """seq -> (state, tenant), of those that are here."""
        found = self._ask(
            "SELECT seq, state, tenant FROM events WHERE seq IN (SELECT value FROM json_each(?))",
            (json.dumps(list(seqs)),),
        )
        return {int(seq): (state, tenant) for seq, state, tenant in found}

    def oldest_pending(self) -> float | None:
        """When its oldest pending row was made, s since 1970."""
        found = self._ask("SELECT created FROM events WHERE state = 'pending' ORDER BY seq LIMIT 1")
        return float(found[0][0]) if found else None

    def checkpoint(self) -> None:
        """Bring the log into the file, as far as no reader is in the way."""
        self._ask("PRAGMA wal_checkpoint(PASSIVE)")

    def settle(self) -> None:
        """Make it one plain file, and close it. `JournalDiskError` while others read it."""
        self._ask("PRAGMA busy_timeout = 100")  # whoever appends would wait, too
        try:
            self._ask("PRAGMA journal_mode = DELETE")
        finally:
            self._ask(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        self.close()

    def close(self) -> None:
        """Close it; what was committed stays."""
        self._sql.close()

    def _ask(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._sql.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise named(error, self.path) from error

    def _commit(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            self._sql.execute("BEGIN IMMEDIATE")
            self._sql.executemany(sql, rows)
            self._sql.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise named(error, self.path) from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._sql.in_transaction:  # of some errors SQLite rolls back by itself
            try:
                self._sql.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise named(error, self.path) from error


def packed_rows(
    data: bytes, path: Path, state: State | None, limit: int, offset: int
) -> list[JournalRow]:
    """A page of the rows of a file that was packed, from its unpacked bytes."""
    with closing(sqlite3.connect(":memory:")) as sql:
        try:
            sql.deserialize(data)
        except sqlite3.Error as error:
            raise named(error, path) from error
        return _page(sql, state, limit, offset, path)


def _page(
    sql: sqlite3.Connection, state: State | None, limit: int, offset: int, path: Path
) -> list[JournalRow]:
    where = "" if state is None else "WHERE state = ?"
    values = (limit, offset) if state is None else (state, limit, offset)
    asked = f"SELECT {COLUMNS} FROM events {where} ORDER BY seq LIMIT ? OFFSET ?"
    try:
        return _rows(sql.execute(asked, values).fetchall())
    except sqlite3.Error as error:
        raise named(error, path) from error


def _rows(found: Iterable[Sequence[Any]]) -> list[JournalRow]:
    return [_row(values) for values in found]


def _row(values: Sequence[Any]) -> JournalRow:
    """Of COLUMNS, and perhaps `but_for` behind them."""
    seq, created, topic, tenant, key, payload, headers, dedupe_key, state, error, *more = values
    but_for = more[0] if more else None
    kept = None if headers is None else json.loads(headers)
    event = JournalEvent(topic, tenant, key, payload, dedupe_key, kept, created, but_for)
    return JournalRow(seq, event, state, error)


def sync_folder(folder: Path) -> None:
    """Make names that were added to or removed from a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
