"""What an event does to a memory, and when it does nothing.

The order of events is the partition's, and a memory's version counts those that changed it. An
event with a dedupe key that came before has no effect, as long as the key is known: for the
tenant's horizon, by the log's clock. A deleted memory stays as a tombstone for as long, and only an
event that happened after the deletion gives it a new life. What comes later still is known by its
own time: an event that is older than the horizon changes no memory that was changed since, and
makes none where a tombstone as old was let go.

`expected_version` refuses a lost update: the memory's content must be the one that it had at that
version. Accesses and links count as versions too, but nobody who updates a content loses them.
`expected_key` refuses a link of a memory whose content another event wrote: an import's links are
events behind its memories', and belong to those alone that it made.
"""

from typing import Any, NamedTuple

from agents.memory import state
from agents.memory.checks import WRITES
from agents.memory.state import Memory

CREATED, UPDATED, DELETED, ACCESSED, LINKED = "created", "updated", "deleted", "accessed", "linked"

# Why an event changes nothing.
DUPLICATE, VERSION, ABSENT, GONE, LATE = "duplicate", "version", "absent", "deleted", "late"
LINK, LINKS_MAX, NAMESPACE, DIMENSION = "link", "links_max", "namespace", "dimension"


class Why(NamedTuple):
    """Why an event has no effect."""

    reason: str
    detail: str


def judge(event: Any, row: Memory | None, space: Memory | None, horizon_us: int) -> Why | None:
    """Why an event that came for the first time has no effect; None: it has."""
    if row is None:
        return _judge_new(event, space)
    if row.deleted:
        if event.type != CREATED:
            return Why(GONE, "it was deleted")
        if event.ts < row.updated:
            return Why(GONE, "it was deleted later than this event's time")
    elif event.ts < min(row.updated, event.log_ms * 1000 - horizon_us):
        return Why(LATE, "it was changed since, and the event is older than the horizon")
    if event.namespace != row.namespace:
        return Why(NAMESPACE, f"it belongs to the namespace {row.namespace!r}")
    expected = event.expected_version
    if expected is not None and not _fits(row, expected):
        return Why(VERSION, f"expected {expected}, it is at {row.version}")
    return None


def judge_key(event: Any, row: Memory | None, written: Memory | None) -> Why | None:
    """Why a link isn't for the content that is there; `written`: what is known of the dedupe key
    that is expected, whose event wrote a content at that version, of the memory with that number.
    """
    if event.type != LINKED or not event.expected_key or row is None:
        return None
    this = row.content, state.begin_of(event.id)
    if written is not None and (written.version, written.number) == this:
        return None
    return Why(VERSION, "another event wrote its content")


def _judge_new(event: Any, space: Memory | None) -> Why | None:
    if event.type != CREATED:
        return Why(ABSENT, "there is no such memory")
    if space is not None and event.ts <= space.gone:
        return Why(LATE, "older than a deletion in its namespace that is no longer known")
    if event.expected_version:
        return Why(VERSION, f"expected {event.expected_version}, there is none")
    return None


def _fits(row: Memory, expected: int) -> bool:
    """Whether who saw this version saw the content as it is."""
    if row.deleted:
        return expected in (0, row.version)
    return row.content <= expected <= row.version


def linked(row: Memory | None, event: Any) -> dict[str, str] | None:
    """The links of a memory after an event; None: they stay. A kind of no text takes one away."""
    if not event.links or event.type not in (*WRITES, LINKED):
        return None
    before = state.links_of(row) if row is not None and event.type == LINKED else {}
    return {other: kind for other, kind in (before | event.links).items() if kind}


def apply(row: Memory, event: Any, links: dict[str, str] | None, horizon_us: int) -> None:
    """Change a memory by an event that `judge` lets pass; a blank row becomes one."""
    ts, type_ = event.ts, event.type
    if not row.version or row.deleted:
        row.namespace, row.deleted, row.due = event.namespace, False, None
        row.created = row.updated = row.accessed = ts
    row.version += 1
    if type_ == DELETED:
        _bury(row, event, horizon_us)
        return
    if type_ in WRITES:
        row.content, row.updated = row.version, max(row.updated, ts)
        row.semantic = event.memory_type == "semantic"
        row.size = len(event.payload.encode()) + len(event.embedding)
    elif type_ == ACCESSED:
        row.count, row.accessed = row.count + 1, max(row.accessed, ts)
    if event.importance is not None:
        row.importance = event.importance
    if links is not None:
        state.keep_links(row, links)


def _bury(row: Memory, event: Any, horizon_us: int) -> None:
    """Leave a tombstone."""
    row.updated = max(row.updated, event.ts)
    row.content = row.size = row.count = 0
    row.links, row.importance, row.deleted = "", None, True
    row.due = max(row.updated, event.log_ms * 1000) + horizon_us
