"""Which of the events to be kept the journal has already: a dedupe key means one event.

What waits is compared, as the outbox would: the same again adds no row, something else refuses all
that came with it. A row that was drained is told apart from another content only: that it is still
in the outbox the outbox must say. One that was refused is as good as none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stores.content import content
from stores.journal_file import JournalEvent, State

Pair = tuple[str, str]  # tenant, dedupe key
TRACES = ("traceparent", "tracestate")  # headers of an attempt, not of what is sent


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an event is. A `duplicate` was there before; one that `differs` says something else."""

    seq: int
    duplicate: bool = False
    differs: bool = False


class Answered(NamedTuple):
    """What became of events that came together: none is kept if one differs, or with `other`."""

    kept: list[Kept]
    other: Kept | None = None  # shows that the idempotency key was used for another batch


@dataclass(slots=True)
class Known:
    """The journal's event of a dedupe key; `seq` is 0 until it is written."""

    event: JournalEvent
    seq: int = 0
    state: State = "pending"


class Sorted:
    """Events that came together, each beside the journal's own of its key.

    `known` gets those that are new. `together` and `unused`: see `TenantOutbox.add_whole`.
    """

    def __init__(
        self,
        events: Sequence[JournalEvent],
        known: dict[Pair, Known],
        together: Sequence[int] = (),
        unused: str | None = None,
    ) -> None:
        self.fresh: list[Known] = []  # to be written
        self._each: list[tuple[Known, bool, bool]] = []
        mine: dict[Pair, Known] = {}
        for event in events:
            self._sort(event, known, mine)
        self._other = _other(events, known, together, unused)
        if self._other is not None or any(differs for _, _, differs in self._each):
            self.fresh = []
        else:
            known.update(mine)

    def _sort(self, event: JournalEvent, known: dict[Pair, Known], mine: dict[Pair, Known]) -> None:
        pair = (event.tenant, event.dedupe_key)
        first = mine.get(pair) or known.get(pair)
        alike = first is not None and first.state != "failed" and says(event, first.event)
        if first is None or first.state == "failed" or (first.state == "drained" and alike):
            mine[pair] = Known(event)
            self.fresh.append(mine[pair])
            self._each.append((mine[pair], False, False))
        else:
            self._each.append((first, True, not alike))

    def answered(self) -> Answered:
        """To whoever sent them; once the fresh ones have their seqs."""
        kept = [Kept(one.seq, known, differs) for one, known, differs in self._each]
        other = None if self._other is None else Kept(self._other.seq, True, True)
        return Answered(kept, other)


def _other(
    events: Sequence[JournalEvent],
    known: dict[Pair, Known],
    together: Sequence[int],
    unused: str | None,
) -> Known | None:
    pairs = [(events[k].tenant, events[k].dedupe_key) for k in together]
    there = [known[pair] for pair in pairs if pair in known]
    if 0 < len(there) < len(pairs):
        return there[0]
    if there and unused is not None:
        return known.get((events[0].tenant, unused))
    return None


def _said(one: JournalEvent) -> dict[str, str]:
    """Its headers, but for where it was traced: as outbox_said of the outbox."""
    return {name: text for name, text in (one.headers or {}).items() if name not in TRACES}


def says(one: JournalEvent, first: JournalEvent) -> bool:
    """Whether an event says what the first of its dedupe key does."""
    if (one.topic, one.key) != (first.topic, first.key):
        return False
    if _said(one) != _said(first):
        return False
    if one.payload == first.payload:
        return True
    return bool(content(one.payload, one.but_for) == content(first.payload, one.but_for))
