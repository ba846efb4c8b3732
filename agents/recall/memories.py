"""All memories of one tenant: by id, by vector, by link. Nothing in here knows another tenant."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from agents.memory_rows import HEAD_PART
from agents.recall.embedding import Provider, text_of
from agents.recall.entry import NO_SHELF, Entry, Filters
from agents.recall.importance import Quantiles
from agents.recall.law import Floats, unit
from agents.recall.pace import rest_after
from agents.recall.shelf import Found, Law, Shelf, best

SHELVES_MAX = 64  # kinds of vectors of one tenant; memories of more are found by id alone
DEPTH_MAX = 32  # links from one memory to another, on a path
SEEN_MAX = 100_000  # memories that one question about links looks at


class DimensionError(ValueError):
    """The tenant has no vectors like the one that is asked with; the text says which it has."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another memory, and the link between: from the one asked for (`out`) or to it."""

    id: str
    kind: str
    out: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """How vectors are kept and scored."""

    law: Law = field(default_factory=Law)
    bits: int = 32
    provider: Provider | None = None  # of vectors for texts


@dataclass(slots=True)
class Memories:
    """A tenant's. Its lock is held by who calls `apply…`, and taken by the questions."""

    holding: Holding
    lock: threading.Lock = field(default_factory=threading.Lock)
    quantiles: Quantiles = field(default_factory=Quantiles)
    shelves: list[Shelf] = field(default_factory=list)
    unusable: int = 0  # vectors that are none, so far
    waiting: dict[str, int] = field(default_factory=dict)  # for vectors: id -> content's version
    _rests: dict[str, tuple[float, float]] = field(default_factory=dict)  # of these: until; s
    _entries: dict[str, Entry] = field(default_factory=dict)
    _heads: dict[str, dict[str, Any]] = field(default_factory=dict)  # without their content yet
    _contents: dict[str, dict[str, Any]] = field(default_factory=dict)  # without their head yet
    _namespaces: dict[str, int] = field(default_factory=dict)
    _linked_by: dict[str, dict[str, str]] = field(default_factory=dict)  # to -> from -> kind

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def empty(self) -> bool:
        """Whether nothing of the tenant is known, not even a half."""
        return not (self._entries or self._heads or self._contents)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(one.nbytes for one in self.shelves)

    def entries(self) -> Iterator[Entry]:
        """All of them."""
        return iter(self._entries.values())

    # --- rows of memory.latest ---

    def content(self, row: Mapping[str, Any]) -> None:
        """A content row. It counts once its head is there, which stands behind it."""
        id_, head = row["id"], self._heads.get(row["id"])
        self._contents[id_] = dict(row)
        if head is not None and head["content_version"] == row["version"]:
            self.head(head)

    def head(self, row: Mapping[str, Any]) -> None:
        """A head row. While compaction has moved its content away, a newer one will follow."""
        id_ = row["id"]
        if row["deleted"]:
            self.gone(id_)
            return
        content, known = self._contents.get(id_), self._entries.get(id_)
        if content is not None and content["version"] == row["content_version"]:
            del self._contents[id_]
            self._heads.pop(id_, None)
            self._place(row, content, known)
        elif known is not None and known.content_version == row["content_version"]:
            self._change(row, known)
        else:
            self._heads[id_] = dict(row)

    def content_gone(self, id_: str) -> None:
        """A content row's tombstone. The memory's own end is its head's."""
        self._contents.pop(id_, None)

    def gone(self, id_: str) -> None:
        """A memory was deleted, or its last trace is gone."""
        self._heads.pop(id_, None)
        self._contents.pop(id_, None)
        self.waiting.pop(id_, None)
        self._rests.pop(id_, None)
        entry = self._entries.pop(id_, None)
        if entry is not None:
            self._unlink(entry)
            if entry.shelf != NO_SHELF:
                self.shelves[entry.shelf].remove(entry)

    def _place(
        self, head: Mapping[str, Any], content: Mapping[str, Any], known: Entry | None
    ) -> None:
        """Take in a memory whose both rows are there."""
        before = None if known is None else known.importance_raw
        if known is not None:
            self.gone(known.id)
        entry = Entry(
            id=head["id"], namespace=head["namespace"], version=head["version"],
            memory_type=head["memory_type"], importance_raw=_finite(head["importance_raw"]),
            created_ts=head["created_ts"], updated_ts=head["updated_ts"],
            accessed_ts=head["accessed_ts"], access_count=head["access_count"],
            links=dict(head["links"]), content_version=content["version"],
            coordinate=content["coordinate"], payload=content["payload"],
            model_revision=content["model_revision"],
        )  # fmt: skip
        self._weigh(entry, before)
        self.add(entry, self._vector(entry, content["vector"]))

    def _change(self, head: Mapping[str, Any], entry: Entry) -> None:
        """A head came with the content as it is known."""
        before = entry.importance_raw
        self._unlink(entry)
        entry.version, entry.memory_type = head["version"], head["memory_type"]
        entry.importance_raw = _finite(head["importance_raw"])
        entry.created_ts, entry.updated_ts = head["created_ts"], head["updated_ts"]
        entry.accessed_ts, entry.access_count = head["accessed_ts"], head["access_count"]
        entry.links = dict(head["links"])
        self._link(entry)
        self._weigh(entry, before)
        if entry.shelf != NO_SHELF:
            self.shelves[entry.shelf].weigh(entry, self.quantiles.scale)

    def add(self, entry: Entry, vector: Floats | None) -> None:
        """Put a whole memory in; its importance is in the quantiles already."""
        self._entries[entry.id] = entry
        self._link(entry)
        entry.shelf = NO_SHELF
        if vector is not None:
            self._shelve(entry, vector)
        elif self._remote is not None and entry.model_revision == self._remote.revision:
            self.waiting[entry.id] = entry.content_version

    def texts(self, most: int) -> dict[str, tuple[int, str]]:
        """Some that wait for vectors and never failed alone: id -> (its content's version, what it
        says).
        """
        with self.lock:
            return self._said(islice((i for i in self.waiting if i not in self._rests), most))

    def rested(self, now_s: float) -> dict[str, tuple[int, str]]:
        """One that failed alone, and has rested; of the clock by which `rest` is told."""
        with self.lock:
            return self._said(islice((i for i, r in self._rests.items() if r[0] <= now_s), 1))

    def _said(self, ids: Iterable[str]) -> dict[str, tuple[int, str]]:
        return {i: (self.waiting[i], text_of(self._entries[i].payload)) for i in ids}

    def behind(self, ids: Iterable[str]) -> None:
        """Let these wait behind all others."""
        with self.lock:
            for id_ in ids:
                if id_ in self.waiting:
                    self.waiting[id_] = self.waiting.pop(id_)

    def rest(self, id_: str, version: int, now_s: float) -> bool:
        """A text alone failed: it isn't asked for soon. Whether it is for the first time."""
        with self.lock:
            if self.waiting.get(id_) != version:
                return False
            before = self._rests.pop(id_, None)  # others go first
            rest_s = rest_after(0.0 if before is None else before[1])
            self._rests[id_] = now_s + rest_s, rest_s
            return before is None

    def embedded(self, id_: str, version: int, vector: Floats | None) -> None:
        """What a provider made of a content; None: it can't. Unless that has changed since."""
        with self.lock:
            if self.waiting.get(id_) != version:
                return
            del self.waiting[id_]
            self._rests.pop(id_, None)
            if vector is None:
                self.unusable += 1
            else:
                self._shelve(self._entries[id_], vector)

    def _shelve(self, entry: Entry, vector: Floats) -> None:
        entry.shelf = self._shelf_of(vector.size, entry)
        if entry.shelf != NO_SHELF:
            number = self._namespaces.setdefault(entry.namespace, len(self._namespaces))
            self.shelves[entry.shelf].put(entry, vector, number, self.quantiles.scale)

    @property
    def _remote(self) -> Provider | None:
        provider = self.holding.provider
        return None if provider is None or provider.here else provider

    def restore(self, number: int, entries: list[Entry], planes: dict[str, Any]) -> None:
        """Let a shelf, empty yet, have what a snapshot says."""
        for one in entries:
            self._entries[one.id] = one
            self._link(one)
        numbers = [
            self._namespaces.setdefault(one.namespace, len(self._namespaces)) for one in entries
        ]
        self.shelves[number].restore(entries, planes, numbers, self.quantiles.scale)

    def halves(self) -> list[dict[str, Any]]:
        """Rows whose other one isn't there yet."""
        return [*self._heads.values(), *self._contents.values()]

    def take_halves(self, rows: Iterable[dict[str, Any]]) -> None:
        """Have these again, vectors as hexadecimal digits."""
        for row in rows:
            half = self._heads if row["part"] == HEAD_PART else self._contents
            half[row["id"]] = row | {"vector": bytes.fromhex(row["vector"])}

    def _weigh(self, entry: Entry, before: float | None) -> None:
        """Let its importance count among the tenant's, if it is news."""
        raw = entry.importance_raw
        if raw is not None and raw != before and self.quantiles.add(raw):
            for one in self.shelves:
                one.stale = True

    def _vector(self, entry: Entry, given: bytes) -> Floats | None:
        """The event's own vector, else what the provider makes of the payload."""
        provider = self.holding.provider
        if not given and provider is not None:
            entry.model_revision = provider.revision
            return provider.embed(text_of(entry.payload)) if provider.here else None
        try:
            return unit(np.frombuffer(given, "<f4")) if given else None
        except ValueError:  # no whole number of floats, or one that isn't finite
            self.unusable += 1
            return None

    def _shelf_of(self, dimension: int, entry: Entry) -> int:
        key = dimension, entry.model_revision
        for number, one in enumerate(self.shelves):
            if (one.dimension, one.revision) == key:
                return number
        if len(self.shelves) == SHELVES_MAX:
            self.unusable += 1
            return NO_SHELF
        self.shelves.append(Shelf(*key, self.holding.bits, self.holding.law))
        return len(self.shelves) - 1

    def _link(self, entry: Entry) -> None:
        for to, kind in entry.links.items():
            self._linked_by.setdefault(to, {})[entry.id] = kind

    def _unlink(self, entry: Entry) -> None:
        for to in entry.links:
            known = self._linked_by.get(to, {})
            known.pop(entry.id, None)
            if not known:
                self._linked_by.pop(to, None)

    # --- questions ---

    def get(self, id_: str) -> Entry | None:
        """A memory by its id."""
        return self._entries.get(id_)

    def at_least(self, id_: str, version: int) -> bool:
        """Whether a memory is at this version, or a later one."""
        entry = self._entries.get(id_)
        return entry is not None and entry.version >= version

    def by_text(self, text: str, k: int, filters: Filters, now: int) -> list[Found]:
        """The k best for a text: as `query_of` and `by_query`."""
        return self.by_query(self.query_of(text), k, filters, now)

    def query_of(self, text: str) -> Floats:
        """A text's vector. DimensionError without a provider; `ProviderDown`, `UnfitText`."""
        return self._made_by.embed(text)

    def by_query(self, query: Floats, k: int, filters: Filters, now: int) -> list[Found]:
        """The k best for a text's vector, among memories that the provider made vectors of."""
        provider = self._made_by

        def ours(one: Shelf) -> bool:
            return one.revision == provider.revision and one.dimension == provider.dimension

        return self._search(query, k, filters, now, ours)

    @property
    def _made_by(self) -> Provider:
        provider = self.holding.provider
        if provider is None:
            raise DimensionError("there is no provider of vectors for texts: give a vector")
        return provider

    @property
    def asks_afar(self) -> bool:
        """Whether a text's vector is to be waited for."""
        return self._remote is not None

    def by_vector(
        self, vector: Floats, k: int, filters: Filters, now: int, revision: str | None = None
    ) -> list[Found]:
        """The k best for a vector, among those of its dimension (and of this model's revision).

        DimensionError where there are none, or of several revisions and it isn't said which:
        their numbers don't compare. ValueError for a number that isn't finite.
        """
        query = unit(vector)

        def like(one: Shelf) -> bool:
            return one.dimension == query.size and revision in (None, one.revision)

        made = sorted({one.revision for one in self.shelves if like(one) and len(one)})
        if len(made) > 1:
            listed = ", ".join(one or "none" for one in made)
            raise DimensionError(f"vectors of several revisions ({listed}): say model_revision")
        if self.shelves and not any(map(like, self.shelves)):
            known = ", ".join(sorted({f"{one.dimension} ({one.revision or 'no revision'})"
                                      for one in self.shelves}))  # fmt: skip
            asked = f"{query.size}" if revision is None else f"{query.size} ({revision})"
            raise DimensionError(f"the dimension {asked} isn't one of this tenant's: {known}")
        return self._search(query, k, filters, now, like)

    def _search(
        self, query: Floats, k: int, filters: Filters, now: int, which: Callable[[Shelf], bool]
    ) -> list[Found]:
        if not query.any():
            return []  # a zero has no direction: nothing is like it
        number = None if filters.namespace is None else self._namespaces.get(filters.namespace)
        with self.lock:
            scale = self.quantiles.scale
            found = [
                one
                for shelf in self.shelves
                if which(shelf)
                for one in shelf.search(query, k, filters, now, scale, number)
            ]
        return best(found, k)

    def neighbours(self, id_: str, kind: str | None, most: int) -> list[Neighbour]:
        """What is linked with a memory, by kind and id; ends that aren't there are left out."""
        entry = self._entries.get(id_)
        if entry is None:
            return []
        with self.lock:
            out = [Neighbour(to, what, True) for to, what in entry.links.items()]
            back = [
                Neighbour(one, what, False) for one, what in self._linked_by.get(id_, {}).items()
            ]
            found = [
                one for one in (*out, *back)
                if one.id in self._entries and kind in (None, one.kind)
            ]  # fmt: skip
        return sorted(found, key=lambda one: (one.kind, one.id, one.out))[:most]

    def path(self, start: str, end: str, most: int = DEPTH_MAX) -> list[str] | None:
        """The ids of a shortest path along links, in their direction; of several the first by ids.

        None: there is none of `most` links at most. Circles are no matter: each memory is looked at
        once, SEEN_MAX of them.
        """
        with self.lock:
            if start not in self._entries or end not in self._entries:
                return None
            before: dict[str, str] = {start: ""}
            todo = deque([(start, 0)])
            while todo and end not in before and len(before) < SEEN_MAX:
                one, depth = todo.popleft()
                for to in sorted(self._entries[one].links) if depth < most else ():
                    if to in self._entries and to not in before:
                        before[to] = one
                        todo.append((to, depth + 1))
        if end not in before:
            return None
        path = [end]
        while path[-1] != start:
            path.append(before[path[-1]])
        return path[::-1]


def _finite(raw: float | None) -> float | None:
    return raw if raw is not None and np.isfinite(raw) else None
