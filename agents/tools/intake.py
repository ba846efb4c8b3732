"""An import as the command line has it: opened, taken up where it ended, summed up."""

import csv
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from agents.tools.csvfile import CsvFile
from agents.tools.csvform import Told
from agents.tools.importer import BadRows, Importer, Note, patient
from agents.tools.ledger import Ledger
from agents.tools.mapping import Mapper, MappingError, MappingOptions, Record, time_column
from agents.tools.rows import json_rows
from agents.tools.source import ReplacedError, Row, Source, TableError
from agents.tools.times import Dates, Times
from topics import codec, strictjson

if TYPE_CHECKING:
    from agents.settings import Settings

TOPIC = "cog.observations"
STDIN = "-"
TAIL_BYTES = 1 << 20  # in which the last row is looked for
NAMED_MAX = 100  # refused rows that are named; all are counted, and in the file of bad ones


@dataclass(frozen=True)
class Wish:
    """What was asked for."""

    path: str
    json_lines: bool
    options: MappingOptions
    time_format: str = "auto"
    told: Told = field(default_factory=Told)
    rate: float | None = None
    skip_bad: bool = False
    bad: Path | None = None
    name: str = ""
    renamed_from: str = ""
    again: bool = False
    shift_to_now: bool = False
    dry_run: bool = False

    def key(self) -> str:
        """What the progress of this import is kept under: the source, and what is made of it."""
        if self.nameless:
            return uuid.uuid4().hex[:16]  # can't be told from any other
        path = os.path.realpath(self.renamed_from or self.path)
        source = f"name {self.name}" if self.name else f"path {path}"
        how = self.options
        made = [how.tenant, how.domain, how.time_column, list(how.columns), how.per_column]
        return hashlib.sha256(json.dumps([source, *made]).encode()).hexdigest()[:16]

    @property
    def nameless(self) -> bool:
        """Whether the source can't be told from any other: its import can't be taken up again."""
        return self.path == STDIN and not self.name

    @property
    def title(self) -> str:
        """The source for people."""
        return "standard input" if self.path == STDIN else self.path


class Intake:
    """One import: `open`, `run`, `close`; its figures may be read at any time."""

    def __init__(self, wish: Wish, say: Callable[[str], None]) -> None:
        """`say` is told what a person should know while it runs."""
        self.wish = wish
        self.named: list[dict[str, Any]] = []  # the first refused rows
        self.complete = False
        self.size: int | None = None  # the source's bytes, if known
        self._say = say
        self._times = Times(wish.time_format)
        self._start = time.monotonic()
        self._stack = ExitStack()
        self._began = Note()
        self._idle: Callable[[], None] = lambda: None  # while a pipe is silent

    def open(self, settings: Callable[[], "Settings"]) -> None:
        """Find the place to go on from. `click.ClickException` for what a user can mend."""
        wish = self.wish
        stream = self._stream()
        ledger = None
        if not wish.dry_run:
            ledger = self._stack.enter_context(closing(self._ledger(settings())))
            noted = Note.of(ledger.open())
            self._began = Note() if wish.again else noted
        self._source = Source(
            stream,
            seekable=wish.path != STDIN,
            name=wish.title,
            final=wish.told.final,
            encoding=wish.told.encoding,
        )
        with self._errors():
            if self._began.mark is not None:
                self._source.recognise(self._began.mark)
            table = None if wish.json_lines else CsvFile(self._source, wish.told)
            told = Dates(wish.told.day_first)
            self._times.dates = told if table is None else table.dates
            if wish.shift_to_now and self._began.mark is None:
                self._began = replace(self._began, shift=self._shift(table))
            self._times.shift = self._began.shift
            numbers = table.numbers if table is not None else None
            self._mapper = Mapper(wish.options, self._times, self._began.last, numbers)
            self._rows = self._open_rows(table)
        bad = self._stack.enter_context(closing(BadRows(wish.bad, self._began.bad_bytes)))
        self._importer = Importer(self._source, ledger, bad, self._mapper, self._began)
        self._idle = self._importer.commit_if_due
        if self._began.mark is not None:
            self._say(f"goes on behind line {self._began.mark.line} of {wish.title}")

    def run(self, step: Callable[[], None]) -> None:
        """Import all rows; `step` is called after each. `LedgerError` when Kafka didn't commit."""
        self._start = time.monotonic()
        made = self._mapper.of_json if self.wish.json_lines else self._mapper.of_csv

        def records(row: Row[Any]) -> list[Record]:
            return made(row, time.time_ns() // 1000)

        with self._errors():
            self._importer.run(self._rows, records, self._refuse, self.wish.rate, step)
        self.complete = True

    def close(self) -> None:
        """Let everything go; what isn't committed isn't in the topic."""
        self._stack.close()

    @property
    def place(self) -> int:
        """Bytes of the source that are behind us."""
        return self._source.place

    @property
    def rows(self) -> int:
        """Rows read by this run."""
        return self._importer.rows - self._began.rows

    @property
    def published(self) -> int:
        """Observations of this run that are acknowledged and committed."""
        return self._importer.note.published - self._began.published

    def summary(self) -> dict[str, Any]:
        """What became of the rows, as JSON data: committed ones only."""
        note, began = self._importer.note, self._began
        seconds = time.monotonic() - self._start
        rows = note.rows - began.rows
        return {
            "source": self.wish.title,
            "complete": self.complete,
            "rows": rows,
            "published": note.published - began.published,
            "refused": note.refused - began.refused,
            "bad": self.named,
            "earlier": {"rows": began.rows, "published": began.published, "refused": began.refused},
            "missing": self._mapper.missing,
            "comments": self._source.comments,
            "waiting_line": self._source.waiting or None,
            "seconds": round(seconds, 3),
            "rows_per_second": round(rows / max(seconds, 1e-3), 1),
            "times": self._times.form,
            "assumed_utc": self._times.naive,
            "shift_s": round(self._times.shift / 1e6, 6),
            "domains": list(self._mapper.domains) if self.wish.options.tenant else [],
        }

    def _refuse(self, line: int, reason: str) -> None:
        if len(self.named) < NAMED_MAX:
            self.named.append({"line": line, "reason": reason})
            self._say(f"line {line}: {reason}")
        elif len(self.named) == NAMED_MAX:
            self.named.append({"line": line, "reason": "and more, which aren't named here"})
            self._say("more rows are refused, which aren't named here (--bad FILE keeps all)")
        if not self.wish.skip_bad:
            raise _Stop

    def _errors(self) -> "_Errors":
        return _Errors(self.wish)

    def _ledger(self, settings: "Settings") -> Ledger:
        return Ledger(settings, TOPIC, self.wish.key(), kept=not self.wish.nameless)

    def _stream(self) -> BinaryIO:
        if self.wish.path == STDIN:
            return self._stack.enter_context(patient(0, lambda: self._idle()))
        try:
            stream = self._stack.enter_context(Path(self.wish.path).open("rb"))  # noqa: SIM115
        except OSError as error:
            raise click.ClickException(f"{self.wish.path}: {error.strerror}") from error
        self.size = os.fstat(stream.fileno()).st_size
        return stream

    def _open_rows(self, table: CsvFile | None) -> Iterator[Row[Any]]:
        """The rows behind the noted place; the header is read, and its columns are learnt."""
        wish, source, mark = self.wish, self._source, self._began.mark
        rows: Iterator[Row[Any]]
        if table is not None:
            rows = iter(table)
            self._mapper.learn(table.columns, table.named)
            if self._mapper.time and not (table.named or wish.options.time_column):
                self._say(
                    f"{self._mapper.time} is taken for the time "
                    "(--time-column or --now says otherwise)"
                )
        else:
            source.skip(wish.told.skip_lines)
            rows = json_rows(source)
            if mark is not None and wish.options.tenant and not wish.options.columns:
                # The first object says which columns there are, wherever the import goes on.
                first = next((row for row in json_rows(source) if not row.error), None)
                self._mapper.learn(list(first.cells) if first else [])
        return rows if mark is None else chain(source.skip_to(mark), rows)

    def _shift(self, table: CsvFile | None) -> int:
        """Microseconds from the source's last time to now."""
        wish = self.wish
        if wish.path == STDIN:
            raise MappingError("--shift-to-now needs a file: its last row says how far")
        with Path(wish.path).open("rb") as stream:
            stream.seek(max(0, (self.size or 0) - TAIL_BYTES))
            tail = stream.read(TAIL_BYTES)
        whole = tail if wish.told.final else tail[: tail.rfind(b"\n") + 1]
        lines = whole.decode(wish.told.encoding, "replace").splitlines()
        rows = [line for line in lines if line.strip() and not line.startswith("#")]
        last = rows[-1] if rows else ""
        try:
            return time.time_ns() // 1000 - self._time_in(table, last)
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise MappingError(f"its last row has no time for --shift-to-now: {error}") from error

    def _time_in(self, table: CsvFile | None, last: str) -> int:
        options = self.wish.options
        if table is not None:
            (cells,) = csv.reader([last], delimiter=table.form.delimiter)
            time = time_column(options.time_column, table.columns, table.named)
            return self._times.micros(cells[table.columns.index(time)])
        data = strictjson.parse(last)
        if not options.tenant:
            return int(codec.from_json("observation", data)["ts"])
        return self._times.micros(data[time_column(options.time_column, list(data))])


class _Stop(Exception):
    """A refused row ends the import."""


class _Errors:
    """What is wrong with a source, as an error for its user."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ReplacedError) and self._wish.path != STDIN:
            raise click.ClickException(f"{self._wish.title}: {error}. {self._ways_on()}") from error
        if isinstance(error, TableError | MappingError | OSError):
            raise click.ClickException(f"{self._wish.title}: {error}") from error
        if isinstance(error, _Stop):
            what = (
                "Nothing was published; an import would end before that row. Mend it,"
                if self._wish.dry_run
                else "That row isn't published, nor any behind it; those before it are. Mend it "
                "and give the same command again,"
            )
            raise click.ClickException(f"{what} or pass over such rows by --skip-bad.") from error

    def _ways_on(self) -> str:
        """What to do about a file that is another, or was changed."""
        wish = self._wish
        ways = "It was rotated, replaced or changed. --again imports what stands there now from its"
        ways += " start (what is published stays); --name NEW does so beside the old import."
        if not wish.name and not wish.renamed_from:
            ways += " If the old file has another name now and grew before it got it, first take "
            ways += f"the rest of it: --csv OLD --renamed-from {wish.path}, other options as here."
        return ways if not wish.json_lines else ways.replace("--csv OLD", "--jsonl OLD")
