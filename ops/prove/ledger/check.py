"""Each output, row, dead letter and count of the ledger, compared with what must have come out."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.prove.check import POSITION_KEY
from ops.prove.ledger import BALANCES, MOVES, PLUGIN
from ops.prove.ledger.model import Books, decoded, folded
from ops.prove.partitions import home
from ops.prove.wire import Record

Read = Callable[[str], Iterator[Record]]  # a topic's committed records
Content = dict[str, Any] | None


@dataclass
class Report:
    """What was done and found. `used`: how often the log needed each of the abilities."""

    kills: int = 0
    busy_kills: int = 0  # while moves were being sent
    records: int = 0
    outputs: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    out_of_order: int = 0
    astray: int = 0  # moves that aren't folded once, in their tenant's partition
    unread: int = 0  # records of the source that no processor came to
    rows: int = 0
    forgotten: int = 0  # rows that were silent for a minute: in runs that last longer
    rows_that_differ: int = 0
    letters: int = 0
    letters_that_differ: int = 0
    counts_that_differ: list[str] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    BAD = (
        "lost", "doubled", "wrong", "out_of_order", "astray", "unread", "rows_that_differ",
        "letters_that_differ", "counts_that_differ",
    )  # fmt: skip

    @property
    def problems(self) -> list[str]:
        """What must not be; empty if all is well."""
        found = [f"{name}: {getattr(self, name)}" for name in self.BAD if getattr(self, name)]
        found += [f"never used: {name}" for name, times in self.used.items() if not times]
        return found if self.outputs else [*found, "nothing was written"]

    def example(self, what: str, *seen: object) -> None:
        """Keep the first few differences, for whoever has to find out."""
        if len(self.examples) < 20:
            self.examples.append(f"{what}: {' | '.join(map(str, seen))}"[:600])


class Check:
    """Compares what `read` gives with a count of our own."""

    def __init__(self, read: Read, prefix: str, partitions: int, report: Report) -> None:
        self._read, self._report, self._partitions = read, report, partitions
        log = sorted(read(MOVES), key=lambda one: (one.partition, one.offset))
        report.records = len(log)
        self.books: dict[str, list[Books]] = {}
        states = {name: self._state(name) for name in PLUGIN.processors}
        for name, (ends, _) in states.items():
            self.books[name] = folded(log, name, ends, prefix)
            report.unread += sum(
                one.offset >= ends[one.partition] and not _is_tick(one) for one in log
            )
        for name, (_, rows) in states.items():
            self._rows(name, rows)
        self._log = log

    def _state(self, name: str) -> tuple[list[int], dict[tuple[int, bytes], bytes]]:
        """A processor's positions, and its rows by partition and key."""
        ends = [0] * self._partitions
        rows: dict[tuple[int, bytes], bytes] = {}
        for one in sorted(self._read(f"soma.{name}.state"), key=lambda r: (r.partition, r.offset)):
            key = one.key or b""
            if key == POSITION_KEY:
                ends[one.partition] = decoded(one.value)[1]["next_offset"]
            elif one.value is None:
                rows.pop((one.partition, key), None)
            else:
                rows[one.partition, key] = one.value
        return ends, rows

    def _rows(self, name: str, rows: Mapping[tuple[int, bytes], bytes]) -> None:
        found = {(p, key.decode()): decoded(value)[1] for (p, key), value in rows.items()}
        must = {
            (book.partition, key): row
            for book in self.books[name] for key, row in book.table().items()
        }  # fmt: skip
        self._report.rows += len(must)
        for key in found.keys() | must.keys():
            if found.get(key) != must.get(key):
                self._report.rows_that_differ += 1
                self._report.example(f"row of {name}", key, found.get(key), must.get(key))

    def moves(self, sent: int, cut: int) -> None:
        """Each move that can be read is once where its tenant lives, under its tenant's key."""
        numbers: Counter[int] = Counter()
        for one in self._log:
            try:
                _, content = decoded(one.value)
            except ValueError:
                continue
            tenant = content.get("tenant", "")
            here = "number" in content and home(tenant, self._partitions) == one.partition
            if here and one.key == tenant.encode():
                numbers[content["number"]] += 1
        self._report.astray = sent - cut - len(numbers) + sum(n - 1 for n in numbers.values())

    def outputs(self) -> None:
        """Every record of every sink: what, where, and in which order of its own partition's."""
        must: dict[tuple[str, int, int], list[str]] = defaultdict(list)
        for books in self.books.values():
            for book in books:
                for topic, to, key, record in book.outputs:
                    must[topic, to, book.partition].append(_text(key, record))
        topics = {topic for topic, _, _ in must}
        found: dict[tuple[str, int, int], list[str]] = defaultdict(list)
        for topic in topics:
            for one in sorted(self._read(topic), key=lambda r: (r.partition, r.offset)):
                content = decoded(one.value)[1] if one.value is not None else None
                key = (one.key or b"").decode()
                tenant = content["tenant"] if content is not None else key.partition(".")[0]
                source = home(tenant, self._partitions)
                found[topic, one.partition, source].append(_text(key, content))
        for place in must.keys() | found.keys():
            self._compare(place, found[place], must[place])

    def _compare(self, place: tuple[str, int, int], found: list[str], must: list[str]) -> None:
        report = self._report
        report.outputs += len(must)
        if place[0] == BALANCES:  # compacted: the last of each key counts
            found, must = _last(found), _last(must)
        if found == must:
            return
        mine, theirs = Counter(found), Counter(must)
        more, less = mine - theirs, theirs - mine
        doubled = sum(n for text, n in more.items() if text in theirs)
        report.doubled += doubled
        report.wrong += more.total() - doubled
        report.lost += less.total()
        report.out_of_order += not more and not less
        report.example(f"outputs {place}", list(more)[:2], list(less)[:2])

    def letters(self, source: str) -> None:
        """Dead letters by origin, processor and reason, each once."""
        found: Counter[tuple[str, str, str]] = Counter()
        for one in self._read(f"{MOVES}.dlq"):
            said = {name: text.decode() for name, text in one.headers}
            found[said["soma-origin"], said["soma-processor"], said["soma-reason"]] += 1
        must = Counter(
            (f"{source}/{book.partition}/{offset}", name, reason)
            for name, books in self.books.items() for book in books
            for offset, reason in book.letters
        )  # fmt: skip
        self._report.letters = must.total()
        differ = (found - must) + (must - found)
        self._report.letters_that_differ = differ.total()
        for letter in differ:
            self._report.example("letter", letter, found[letter], must[letter])

    def counts(self, shown: Mapping[str, float], since: Mapping[tuple[str, int], int]) -> None:
        """Metrics of the last workers, which took partitions up at the offsets in `since`."""
        for name, books in self.books.items():
            for metric in {metric for book in books for metric in book.counts}:
                must = sum(
                    sum(at >= since[name, book.partition] for at in book.counts[metric])
                    for book in books
                )
                if shown.get(metric) != must:
                    text = f"{metric}: {shown.get(metric)}, not {must}"
                    self._report.counts_that_differ.append(text)

    def used(self) -> dict[str, int]:
        """How often the log needed what a row processor can do."""
        every = [book for books in self.books.values() for book in books]
        self._report.forgotten = sum(book.forgotten for book in every)
        accounts = self.books["accounts"]
        reasons = Counter(reason for book in every for _, reason in book.letters)
        return {
            "timers": sum(book.fired for book in accounts),
            "tombstones": sum(book.closed for book in accounts),
            "forwarded": sum(book.forwarded for book in accounts),
            "settings": sum(len(book.own) for book in every),
            **{f"letters {reason}": reasons[reason] for reason in
               ("bad_avro", "control_refused", "negative", "refused")},
        }  # fmt: skip


def _is_tick(record: Record) -> bool:
    try:
        return decoded(record.value)[0] == "control_tick"
    except ValueError:
        return False


def _text(key: str, record: Content) -> str:
    """A record as a text that says all of it; keys have no tabs."""
    return f"{key}\t{json.dumps(record, sort_keys=True)}"


def _last(texts: Iterable[str]) -> list[str]:
    """The last one of each key."""
    return sorted({text.partition("\t")[0]: text for text in texts}.values())
