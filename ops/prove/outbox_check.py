"""What must hold between the outbox's table and its topic. Pure: rows and records in, counts out.

Written from the contract alone: a committed row is in the topic exactly once, under its tenant as
the key, saying what the row says; and the rows of one key are there in the order of their versions,
which the writers gave out one after the other under a lock of the key.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ops.prove.wire import Record, UnreadableError, Wire

SCHEMA = "memory_event"
TOPIC = "memory.events"
CLOUD_EVENT = ("ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion")
EXAMPLES_MAX = 5
FAULTS = ("lost", "doubled", "phantom", "inversions", "wrong", "torn", "forgotten", "waiting")

Name = tuple[str, str]  # tenant and dedupe key: what names an event


class Row(NamedTuple):
    """One committed event of the table; exactly one of `payload` and `value`."""

    id: int
    tenant: str
    key: str
    dedupe_key: str
    payload: str | None  # JSON
    value: bytes | None  # Avro on the wire
    trace: str | None  # its header `traceparent`

    @property
    def name(self) -> Name:
        """Tenant and dedupe key."""
        return self.tenant, self.dedupe_key


@dataclass
class Verdict:
    """Counts of what was compared and of what is wrong, with a few examples of each."""

    rows: int = 0
    records: int = 0
    keys: int = 0
    ready: int = 0  # rows that were ready Avro
    lost: int = 0  # in the table, not in the topic
    doubled: int = 0  # records beyond a row's first
    phantom: int = 0  # in the topic, never committed
    inversions: int = 0  # after a later version of its key
    wrong: int = 0  # in the topic, but not as the row says
    torn: int = 0  # versions that the table itself lacks: the database forgot a commit
    forgotten: int = 0  # commits that a writer saw done and the table lacks
    waiting: int = 0  # rows of the queue, or not `sent` in the view
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether there was something to compare and nothing is wrong."""
        return self.rows > 0 and not any(getattr(self, fault) for fault in FAULTS)

    def note(self, fault: str, example: str, count: int = 1) -> None:
        """Count a fault, and keep the first examples."""
        setattr(self, fault, getattr(self, fault) + count)
        kept = self.examples.setdefault(fault, [])
        if len(kept) < EXAMPLES_MAX:
            kept.append(example)

    def line(self) -> str:
        """For people."""
        return f"rows {self.rows} records {self.records} keys {self.keys}: " + " ".join(
            f"{fault} {getattr(self, fault)}" for fault in FAULTS
        )

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self) | {"clean": self.clean}


def judge(
    rows: Iterable[Row], records: Iterable[Record], acknowledged: Iterable[Name] = (),
    *, aged: bool = False, restored: bool = False,
) -> Verdict:  # fmt: skip
    """Compare the table with the topic; `records` of a partition in the order of their offsets.

    `aged`: old rows have left the table. Of what is acknowledged but not there, only the record is
    known: it must be in the topic once, in its order. `restored`: the database went back in time.
    What is acknowledged (or may have been committed) but not there may be in the topic, once; the
    order holds among the rows that are there, for the keys' versions went back as well.
    """
    return _Trial(rows, acknowledged, aged, restored).over(records)


class _Trial:
    def __init__(
        self, rows: Iterable[Row], acknowledged: Iterable[Name], aged: bool, restored: bool
    ) -> None:
        self.wire, self.verdict = Wire(), Verdict()
        self.rows = {row.name: row for row in rows}
        self.expected = {name: self._content(row) for name, row in self.rows.items()}
        self.verdict.rows = len(self.rows)
        self.verdict.ready = sum(row.value is not None for row in self.rows.values())
        self.aged, self.restored = aged, restored
        self.gone = set(acknowledged) - self.rows.keys()

    def over(self, records: Iterable[Record]) -> Verdict:
        if not self.aged:
            self._table()
        if not self.aged and not self.restored:
            for name in self.gone:
                self.verdict.note("forgotten", str(name))
            self.gone.clear()
        self._topic(records)
        return self.verdict

    def _content(self, row: Row) -> dict[str, Any]:
        """What the row says."""
        given = row.value if row.value is not None else (row.payload or "").encode()
        return self.wire.decode(given, SCHEMA)[1]

    def _version(self, name: Name) -> int:
        return int(json.loads(self.expected[name]["payload"])["version"])

    def _table(self) -> None:
        """Versions of a key are 1, 2, …: each was given out by a commit that is in the table."""
        versions: dict[Name, list[int]] = defaultdict(list)
        for name, row in self.rows.items():
            versions[row.tenant, row.key].append(self._version(name))
        self.verdict.keys = len(versions)
        for key, found in versions.items():
            if lacking := len(set(range(1, max(found) + 1)) - set(found)):
                self.verdict.note("torn", f"{key} lacks {lacking} versions", lacking)

    def _topic(self, records: Iterable[Record]) -> None:
        seen: set[Name] = set()
        ids: set[bytes | None] = set()
        partitions: dict[Name, int] = {}
        latest: dict[Name, int] = defaultdict(int)
        for record in records:
            self.verdict.records += 1
            name = _text(record, "tenant-id"), _text(record, "dedupe-key")
            where = f"{record.place} {name}"
            row = self._row(name, record)
            if row is None:
                self.verdict.note("phantom", where)
                continue
            if name in seen:
                self.verdict.note("doubled", where)
                continue
            seen.add(name)
            for why in self._wrong(record, row, ids, partitions):
                self.verdict.note("wrong", f"{where}: {why}")
            if self.restored and name not in self.rows:
                continue
            key, version = (row.tenant, row.key), self._version(name)
            if version < latest[key]:
                self.verdict.note("inversions", f"{where}: {version} after {latest[key]}")
            latest[key] = max(version, latest[key])
        for name in (self.rows.keys() | (set() if self.restored else self.gone)) - seen:
            self.verdict.note("lost", f"event {name}")

    def _row(self, name: Name, record: Record) -> Row | None:
        """The table's row, or of one that has left it, what its record says of itself."""
        if name in self.gone and name not in self.rows:
            trace = _text(record, "traceparent") or None
            key = _text(record, "soma-key")
            gone = Row(0, name[0], key, name[1], None, record.value, trace)
            self.expected[name] = self._content(gone)
            return gone
        return self.rows.get(name)

    def _wrong(
        self, record: Record, row: Row, ids: set[bytes | None], partitions: dict[Name, int]
    ) -> Iterator[str]:
        """What isn't as the row says."""
        if record.key != row.tenant.encode():
            yield f"key {record.key!r}"
        if _text(record, "soma-key") != row.key:
            yield f"soma-key {_text(record, 'soma-key')!r}"
        if record.header("traceparent") != (row.trace.encode() if row.trace else None):
            yield f"traceparent {record.header('traceparent')!r}"
        if missing := [one for one in CLOUD_EVENT if not record.header(one)]:
            yield f"no {missing}"
        if record.header("ce_id") in ids:
            yield f"ce_id {record.header('ce_id')!r} is another record's too"
        ids.add(record.header("ce_id"))
        if partitions.setdefault((row.tenant, row.key), record.partition) != record.partition:
            yield "another partition than its key's other records"
        yield from self._says(record, row)

    def _says(self, record: Record, row: Row) -> Iterator[str]:
        if row.value is not None:
            if record.value != row.value:
                yield "other bytes than the row's"
            return
        try:
            schema, content = self.wire.decode(record.value, SCHEMA)
        except UnreadableError as error:
            yield str(error)
            return
        if (record.value or b"")[:1] != b"\0" or schema != SCHEMA:
            yield "not Avro of the topic's schema"
        if content != self.expected[row.name]:
            yield f"{content} for {self.expected[row.name]}"


def _text(record: Record, header: str) -> str:
    return (record.header(header) or b"").decode(errors="replace")


def in_order(records: Sequence[Record]) -> list[Record]:
    """Partition by partition, each by offset."""
    return sorted(records, key=lambda record: record.place)
