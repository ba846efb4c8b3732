"""A file's rows into cog.observations: each exactly once, however often it is interrupted.

The records of some rows and the place that they reach in the file are one transaction (`ledger`).
Taken up again, the import goes on at the place that Kafka has noted, if the bytes before it are
still those that were read.
"""

import json
import os
import select
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Self

from agents.tools.ledger import Ledger
from agents.tools.mapping import BadRowError, Mapper, Record
from agents.tools.signals import unbroken
from agents.tools.source import Mark, Row, Source

BATCH = 5_000  # records in a transaction
COMMIT_S = 0.5  # and how long one stays open: what comes slowly is seen soon all the same
POLL_S = 0.1


@dataclass(frozen=True)
class Note:
    """How far an import came, over all its runs: what the ledger keeps."""

    rows: int = 0
    published: int = 0  # observations, acknowledged and committed
    refused: int = 0  # of the rows
    shift: int = 0  # microseconds added to each time
    last: int = 0  # the last row's time
    bad_bytes: int = 0  # of the file of refused rows
    mark: Mark | None = None

    def record(self, source: str) -> dict[str, Any]:
        """As a record of the marks' topic; `source`: its name for people."""
        assert self.mark is not None  # rows were accepted
        return {
            "source": source,
            "rows": self.rows,
            "published": self.published,
            "refused": self.refused,
            "shift_us": self.shift,
            "last_ts": self.last,
            "bad_bytes": self.bad_bytes,
            **asdict(self.mark),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> Self:
        """The inverse of `record`; of nothing: the start."""
        if record is None:
            return cls()
        return cls(
            rows=record["rows"],
            published=record["published"],
            refused=record["refused"],
            shift=record["shift_us"],
            last=record["last_ts"],
            bad_bytes=record["bad_bytes"],
            mark=Mark(**{one.name: record[one.name] for one in fields(Mark)}),
        )


class BadRows:
    """The refused rows as JSON lines in a file: line, reason, and the row as it came."""

    def __init__(self, path: Path | None, kept: int) -> None:
        """`kept`: bytes that earlier runs committed; what is behind them comes again."""
        self._file: BinaryIO | None = None
        if path is not None:
            self._file = path.open("ab")
            self._file.truncate(min(kept, self._file.tell()))

    def add(self, line: int, reason: str, raw: bytes) -> None:
        """Write one down."""
        if self._file is not None:
            row = raw.decode(errors="replace").rstrip("\r\n")
            data = {"line": line, "reason": reason, "row": row}
            self._file.write(json.dumps(data, ensure_ascii=False).encode() + b"\n")

    def flush(self) -> int:
        """Make it last; returns the file's bytes."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class Importer:
    """Publishes a source's rows. Without a ledger it is a rehearsal: all is checked, none sent."""

    def __init__(
        self, source: Source, ledger: Ledger | None, bad: BadRows, mapper: Mapper, note: Note
    ) -> None:
        self.note = note  # as committed
        self.rows = note.rows  # read so far
        self.refused = note.refused
        self._source = source
        self._ledger = ledger
        self._bad = bad
        self._mapper = mapper
        self._sent = 0  # records since the last commit
        self._due = time.monotonic() + COMMIT_S

    def run(
        self,
        rows: Iterable[Row[Any]],
        records: Callable[[Row[Any]], list[Record]],
        refuse: Callable[[int, str], None],
        rate: float | None,
        step: Callable[[], None],
    ) -> None:
        """Publish all rows; `refuse(line, reason)` is told of bad ones, and may raise to stop.

        What comes before a row that stops it is committed. `step` is called after each row.
        """
        start = time.monotonic()
        for done, row in enumerate(rows, 1):
            try:
                if row.error:
                    raise BadRowError(row.error)
                made = records(row)
            except BadRowError as error:
                self._refused(row.line, str(error), refuse)
                made = []
            for key, value in made:
                if self._ledger is not None:
                    self._ledger.send(key, value)
            self._sent += len(made)
            self._source.accept()
            self.rows += 1
            self.commit_if_due()
            step()
            if rate is not None:
                self._pause(start + done / rate)
        self.commit()

    def commit_if_due(self) -> None:
        """Commit the accepted rows if they are many, or wait for long."""
        if self._sent >= BATCH or time.monotonic() >= self._due:
            self.commit()

    def commit(self) -> None:
        """Commit the accepted rows; Ctrl-C waits so long."""
        self._due = time.monotonic() + COMMIT_S
        if self.rows == self.note.rows:
            return
        note = replace(
            self.note,
            rows=self.rows,
            published=self.note.published + self._sent,
            refused=self.refused,
            last=self._mapper.last,
            bad_bytes=self._bad.flush(),
            mark=self._source.mark(),
        )
        with unbroken():
            if self._ledger is not None:
                self._ledger.commit(note.record(self._source.name))
            self.note, self._sent = note, 0

    def _refused(self, line: int, reason: str, refuse: Callable[[int, str], None]) -> None:
        try:
            refuse(line, reason)
        except Exception:
            self.commit()
            raise
        self.refused += 1
        self._bad.add(line, reason, self._source.raw)

    def _pause(self, until: float) -> None:
        """Wait, and commit meanwhile."""
        while (rest := until - time.monotonic()) > 0:
            self.commit_if_due()
            time.sleep(min(rest, POLL_S))


class Patient(RawIOBase):
    """A pipe; while nothing comes, `idle` is called, so that nothing waits for the next row."""

    def __init__(self, descriptor: int, idle: Callable[[], None]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._idle = idle

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not select.select([self._descriptor], [], [], POLL_S)[0]:
            self._idle()
        return os.readv(self._descriptor, [buffer])


def patient(descriptor: int, idle: Callable[[], None]) -> BufferedReader:
    """A pipe with a buffer before it."""
    return BufferedReader(Patient(descriptor, idle), 1 << 16)
