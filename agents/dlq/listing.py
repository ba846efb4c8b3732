"""Dead letters for people: as rows, counted, and one of them in full."""

import base64
import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agents.dlq.advice import advice
from agents.dlq.content import content_of, fields_in, schema_of
from agents.dlq.law import Mark, status_of, whose
from agents.dlq.ledger import marks_of
from agents.dlq.letters import STATUSES, DlqError, Letter, Place
from agents.dlq.reading import FOREIGN, Choice, LetterReader

if TYPE_CHECKING:
    from agents.settings import Settings

TENANTS_MAX = 100_000  # counted by name; the rest together
OTHERS = "(others)"
KEY_MAX, DETAIL_MAX = 200, 500


class Cursor(NamedTuple):
    """Where a page ended: behind the letter of this log time and place."""

    log_ms: int
    place: Place


@dataclass(frozen=True, slots=True)
class Row:
    """A letter as lists show it."""

    place: str
    topic: str  # where the record was
    reason: str
    detail: str
    tenant: str
    processor: str
    origin: str
    status: str  # open, parked, redriven, dropped
    attempts: int  # how often the record was tried
    first_failed_ms: int
    failed_ms: int
    bytes: int
    key: str


@dataclass(slots=True)
class Count:
    """Letters of one topic and reason."""

    topic: str
    reason: str
    letters: int = 0
    oldest_ms: int = 0
    newest_ms: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    tenants: Counter[str] = field(default_factory=Counter)

    def add(self, letter: Letter, status: str, tenant: str) -> None:
        """One more."""
        self.letters += 1
        self.statuses[status] += 1
        self.oldest_ms = min(letter.first_ms, self.oldest_ms or letter.first_ms)
        self.newest_ms = max(letter.log_ms, self.newest_ms)
        known = tenant in self.tenants or len(self.tenants) < TENANTS_MAX
        self.tenants[tenant if known else OTHERS] += 1

    def data(self, top: int) -> dict[str, Any]:
        """As JSON data, with the tenants that have the most."""
        return {
            "topic": self.topic, "reason": self.reason, "letters": self.letters,
            **{name: self.statuses[name] for name in STATUSES},
            "oldest_ms": self.oldest_ms, "newest_ms": self.newest_ms,
            "tenants": dict(self.tenants.most_common(top)),
        }  # fmt: skip


def row_of(letter: Letter, marks: dict[bytes, Mark]) -> Row:
    """A letter as a row."""
    return Row(
        place=str(letter.place),
        topic=letter.place.source,
        reason=letter.reason or FOREIGN,
        detail=letter.detail[:DETAIL_MAX],
        tenant=whose(letter),
        processor=letter.processor,
        origin=str(letter.origin or ""),
        status=status_of(letter, marks),
        attempts=letter.times + 1,
        first_failed_ms=letter.first_ms,
        failed_ms=letter.log_ms,
        bytes=len(letter.key or b"") + len(letter.value or b""),
        key=text_of(letter.key, KEY_MAX) or "",
    )


def listed(
    settings: "Settings", choice: Choice, limit: int, after: Cursor | None = None,
    deadline: float | None = None,
) -> tuple[list[Row], bool]:  # fmt: skip
    """The oldest letters of a choice, behind a cursor; and whether there are more. `DlqError`."""
    if after is not None:  # nothing before it is read
        choice = replace(choice, since_ms=max(after.log_ms, choice.since_ms or 0))
    heap: list[tuple[Cursor, Row]] = []
    for part in _parts(settings, choice, deadline):
        found = 0
        for letter, marks in part:
            at = Cursor(letter.log_ms, letter.place)
            if after is not None and at <= after:
                continue
            heap.append((at, row_of(letter, marks)))
            if (found := found + 1) > limit:  # no more of one partition can be among the oldest
                break
        heap = heapq.nsmallest(limit + 1, heap)
    return [row for _, row in heap[:limit]], len(heap) > limit


def counted(settings: "Settings", choice: Choice, deadline: float | None = None) -> list[Count]:
    """The letters of a choice by topic and reason, the most first. `DlqError`."""
    found: dict[tuple[str, str], Count] = {}
    for part in _parts(settings, choice, deadline):
        for letter, marks in part:
            key = letter.place.source, letter.reason or FOREIGN
            one = found.setdefault(key, Count(*key))
            one.add(letter, status_of(letter, marks), whose(letter))
    return sorted(found.values(), key=lambda one: (-one.letters, one.topic, one.reason))


def one_of(settings: "Settings", place: Place) -> tuple[Letter, dict[bytes, Mark]]:
    """The letter at a place. `DlqError` if there is none."""
    choice = Choice((place.source,), places=frozenset({place}))
    for letter, marks in chosen(settings, choice):
        return letter, marks
    raise DlqError(f"there is no letter at {place}: it never was, or its time is over")


def shown(letter: Letter, marks: dict[bytes, Mark]) -> dict[str, Any]:
    """All that is known of a letter, as JSON data."""
    content = content_of(letter)
    detail = f"{letter.detail}; {content.wrong}"
    return {
        "place": str(letter.place),
        "origin": str(letter.origin or ""),
        "processor": letter.processor,
        "reason": letter.reason or FOREIGN,
        "detail": letter.detail,
        "fields": fields_in(detail, schema_of(letter)),
        "still_wrong": content.wrong,
        "advice": advice(letter.reason, letter.processor),
        "status": status_of(letter, marks),
        "attempts": letter.times + 1,
        "first_failed_ms": letter.first_ms,
        "failed_ms": letter.log_ms,
        "tenant": whose(letter, content),
        "key": text_of(letter.key),
        "headers": {name: text_of(text) for name, text in letter.headers},
        "schema": content.schema,
        "record": content.record,
        **({} if content.record is not None else {"value": text_of(letter.value)}),
    }


def text_of(value: bytes | None, most: int | None = None) -> str | None:
    """Text if it is UTF-8, else base64 with a mark; None for none."""
    if value is None:
        return None
    part = value[:most]
    try:
        return part.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(part).decode()


def chosen(
    settings: "Settings", choice: Choice, deadline: float | None = None
) -> Iterator[tuple[Letter, dict[bytes, Mark]]]:
    """Each letter of a choice, with the marks of its topic. `DlqError`."""
    for part in _parts(settings, choice, deadline):
        yield from part


def _parts(
    settings: "Settings", choice: Choice, deadline: float | None
) -> Iterator[Iterator[tuple[Letter, dict[bytes, Mark]]]]:
    """The letters of each partition in turn, in order."""
    reader = LetterReader(settings, choice.topics, deadline)
    try:
        marks = marks_of(settings, choice.topics, deadline)
        for topic, partition in reader.ends:
            yield (
                (letter, marks)
                for letter in reader.letters(topic, choice, partition)
                if choice.takes(letter, marks)
            )
    finally:
        reader.close()
