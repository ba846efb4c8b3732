"""A partition's rows as Python objects: opened, changed, taken back, forgotten, written, read."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.errors import LawFailed
from agents.engine.processor import SEP, StateRows
from agents.kit.asleep import ACTIVE, KEPT_AS, STATES, checked, state_of
from agents.kit.emit import taking_of
from agents.kit.errors import Misfit
from agents.kit.schema import SETTINGS, TOUCHED
from agents.kit.setting import EVERYONE, Setting, Value, of_tenant, parse
from agents.kit.transposed import check_sizes, put, values
from topics.columns import Columns
from topics.layout import LISTS, Layout

FORGET = "forget_after_s"
NEVER = 1 << 62
FORGET_EVERY_US = 60_000_000  # the silent leave at whole minutes: looking for them costs all rows
TIMERS_MAX = 20_000  # calls per tick; the others' turn is the next tick

_BLANK: dict[str, str] = {}


class TextSettings:
    """Who set what: texts as control records brought them, and their values. Among the texts of a
    tenant is how it sleeps (`asleep.number`), if it does.
    """

    def __init__(self, declared: Mapping[str, Setting], defaults: Mapping[str, str]) -> None:
        self._declared = declared
        self._defaults = {
            name: parse(declared, name, defaults[name]) if name in defaults else one.default
            for name, one in declared.items()
        }
        self.texts: dict[str, dict[str, str]] = {}  # tenant or '*' -> what it set
        self.parsed: dict[str, dict[str, Value]] = {}  # tenant -> all values, where it set any
        self.common: dict[str, Value] = dict(self._defaults)  # of all others

    def refusal(self, name: str, text: str) -> str | None:
        """Why a setting can't have this value; an empty text takes a tenant's own back."""
        try:
            of_tenant(self._declared, name)
            if text:
                parse(self._declared, name, text)
        except ValueError as error:
            return str(error)
        return None

    def set(self, tenant: str, name: str, text: str) -> None:
        """Take a value that isn't refused."""
        own = {k: v for k, v in self.texts.get(tenant, _BLANK).items() if k != name}
        if text:
            own[name] = text
        self.take(tenant, dict(sorted(own.items())))

    def take(self, tenant: str, own: dict[str, str]) -> None:
        """All that a tenant, or '*', has set. ValueError for what this version doesn't know."""
        for name, text in own.items():
            if name == KEPT_AS and name not in self._declared:
                checked(float(text))
            elif refusal := self.refusal(name, text):
                raise ValueError(refusal)
        self.texts.pop(tenant, None)
        self.parsed.pop(tenant, None)
        if own:
            self.texts[tenant] = own
        if tenant == EVERYONE:
            self.common = self._defaults | self._values(own)
            self.parsed = {one: self.common | self._values(t) for one, t in self._tenants()}
        elif own:
            self.parsed[tenant] = self.common | self._values(own)

    def _tenants(self) -> Iterator[tuple[str, dict[str, str]]]:
        return ((one, texts) for one, texts in self.texts.items() if one != EVERYONE)

    def _values(self, texts: Mapping[str, str]) -> dict[str, Value]:
        known = self._declared
        return {name: known[name].parse(text) for name, text in texts.items() if name in known}

    def value(self, tenant: str, name: str) -> Value:
        """Its own value, that of all here, or the deployment's."""
        return self.parsed.get(tenant, self.common)[name]

    def anybody(self, name: str, value: Value) -> bool:
        """Whether a setting has this value for somebody."""
        return any(one[name] == value for one in (self.common, *self.parsed.values()))

    def let_sleep(self, tenant: str, how: str) -> None:
        """Let a tenant sleep so (`asleep.number`), or (0) be awake."""
        own = {k: v for k, v in self.texts.get(tenant, _BLANK).items() if k != KEPT_AS}
        self.take(tenant, own | ({KEPT_AS: how} if float(how) else {}))

    def asleep(self, tenant: str) -> int:
        """How deep a tenant sleeps."""
        how = self.texts.get(tenant, _BLANK).get(KEPT_AS)
        return ACTIVE if how is None else STATES.index(state_of(float(how)))


class Row:
    """A row, and what the kit knows of it."""

    __slots__ = ("at", "due", "row", "touched")

    def __init__(self, row: Any, touched: int) -> None:
        self.row = row
        self.touched = touched  # log time of its last record, ms
        self.due: int | None = None  # when its timer is set for
        self.at: int | None = None  # its entry among the timers; may be too early, never too late


# What a record changed: key, the row (None: it was made), its fields before, `touched` before
# (of one that was made: whether its key was to be written anyway).
Change = tuple[str, Row | None, tuple[Any, ...], int]


class Table:
    """All rows of a partition, by key: tenant, or tenant 0x1f entity."""

    def __init__(
        self, row: type[Any], layout: Layout, settings: TextSettings, timed: bool,
        lasting: bool = False,
    ) -> None:  # fmt: skip
        """`lasting`: silence lets no row go; its law alone does."""
        self._make = row
        self._layout = layout
        self._names = tuple(field.name for field in fields(row))
        self._timed, self._lasting = timed, lasting
        self.settings = settings
        self.look = taking_of(self._names)
        self.listed = any(field.type.kind in LISTS for field in layout.fields[2:])
        self.rows: dict[str, Row] = {}
        self.dirty: dict[str, int] = {}  # key -> the batch's row that touched it last
        self.undo: list[Change] = []  # of the record at hand
        self.log_ms = 0
        self.cause = -1
        self.names: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._timers: list[tuple[int, str]] | None = []  # a heap; None: to be made from the rows
        self._stale_from = NEVER  # no row is stale before this wall time, us; 0: look

    # --- one record -----------------------------------------------------------------------

    def open(self, name: str) -> Row:
        """A row that is to be changed now; made if there is none."""
        one = self.rows.get(name)
        if one is None:
            name.encode()  # a key that isn't text fails here, at its record
            self.undo.append((name, None, (), name in self.dirty))
            one = self.rows[name] = Row(self._make(), self.log_ms)
            self._rests(name, one)
        else:
            self.undo.append((name, one, self._copy(one.row), one.touched))
            one.touched = self.log_ms
        self.dirty[name] = self.cause
        return one

    def of_tenant(self, tenant: str) -> list[tuple[str, Any]]:
        """A tenant's entities and their rows, in the order of their keys. It looks at all keys."""
        begin = tenant + SEP
        keys = sorted(key for key in self.rows if key.startswith(begin))
        return [(key[len(begin) :], self.rows[key].row) for key in keys]

    def drop(self, name: str) -> None:
        """Delete a row; its tombstone follows with the transaction."""
        one = self.rows.pop(name, None)
        if one is not None:
            self.undo.append((name, one, self._copy(one.row), one.touched))
            self.dirty[name] = self.cause

    def take_back(self) -> None:
        """As if the record at hand had never been folded."""
        for name, one, content, before in reversed(self.undo):
            if one is None:
                self.rows.pop(name, None)
                if not before:
                    self.dirty.pop(name, None)
                continue
            for field, value in zip(self._names, content, strict=True):
                setattr(one.row, field, value)
            one.touched = before
            self.rows[name] = one

    def _copy(self, row: Any) -> tuple[Any, ...]:
        """Its fields as they are now; lists and maps copied, for a law changes them in place."""
        content = self.look(row)
        if not self.listed:
            return content
        return tuple(v.copy() if isinstance(v, dict | list) else v for v in content)

    # --- time -----------------------------------------------------------------------------

    def set_timers(self) -> None:
        """Note when the rows of this record want to be called."""
        heap = self._heap()
        for name, *_ in self.undo:
            one = self.rows.get(name)
            if one is not None and (due := one.row.due) != one.due:
                if due is not None and type(due) is not int:
                    text = f"due: {due!r} is no wall time in microseconds"
                    raise LawFailed(self.cause, text)
                one.due = due
                if due is None:
                    self._rests(name, one)
                elif one.at is None or due < one.at:
                    one.at = due
                    heappush(heap, (due, name))

    def _heap(self) -> list[tuple[int, str]]:
        if self._timers is None:
            timers = [(one.due, name) for name, one in self.rows.items() if one.due is not None]
            heapify(timers)
            self._timers = timers
        return self._timers

    def _next(self) -> int:
        """When the next timer is due. A timer that was put off moves to its place only here."""
        heap = self._heap()
        while heap:
            at, name = heap[0]
            one = self.rows.get(name)
            if one is not None and one.at == at:
                if one.due == at:
                    return at
                one.at = one.due
                if one.due is not None:
                    heapreplace(heap, (one.due, name))
                    continue
            heappop(heap)
        return NEVER

    def due(self, now: int) -> Iterator[tuple[str, Row]]:
        """The rows whose time has come, by time and key, their timers taken off."""
        left = TIMERS_MAX
        while left and self._next() <= now:
            left -= 1
            _, name = heappop(self._heap())
            one = self.rows[name]
            one.at = one.due = one.row.due = None
            self._rests(name, one)
            self.undo.append((name, one, (), 0))
            self.dirty[name] = self.cause
            yield name, one

    def forget(self, now: int) -> None:
        """Let the rows go that were silent for too long at the last whole minute."""
        minute = now - now % FORGET_EVERY_US
        if minute < self._stale_from:
            return
        for name in [name for name, one in self.rows.items() if self._stale(name, one) <= minute]:
            del self.rows[name]
            self.dirty[name] = self.cause
        self._stale_from = 0

    def _stale(self, name: str, one: Row) -> int:
        """Wall time from which a row may be forgotten: never, while a timer is set."""
        if one.due is not None or self._lasting:
            return NEVER
        forget = self.settings.value(name.partition(SEP)[0], FORGET)
        return one.touched * 1000 + int(forget) * 1_000_000

    def _rests(self, name: str, one: Row) -> None:
        """A row without a timer may be forgotten from now on."""
        if not self._lasting:
            self._stale_from = min(self._stale_from, self._stale(name, one))

    def look_again(self) -> None:
        """The time to forget may have come nearer."""
        self._stale_from = 0

    def deadline(self) -> int | None:
        """Wall time from which a tick would change something, as far as is known; None: never."""
        if self._stale_from == 0:
            self._stale_from = min(map(self._stale, self.rows, self.rows.values()), default=NEVER)
        minute = -(-self._stale_from // FORGET_EVERY_US) * FORGET_EVERY_US
        first = min(minute, self._next() if self._timed else NEVER)
        return None if first >= NEVER else first

    # --- the state topic ------------------------------------------------------------------

    def changed(self, rows: StateRows) -> None:
        """Write what was touched since the last call."""
        self._write(list(self.dirty), rows)
        self.dirty.clear()

    def all(self, rows: StateRows) -> None:
        """Write every row."""
        self._write(sorted(self.rows.keys() | self.settings.texts.keys()), rows)

    def rows_of_tenant(self, tenant: str, rows: StateRows) -> None:
        """Write the rows of a tenant and its entities."""
        keys, begin = self.rows.keys() | self.settings.texts.keys(), tenant + SEP
        self._write(sorted(k for k in keys if k == tenant or k.startswith(begin)), rows)

    def _write(self, keys: list[str], rows: StateRows) -> None:
        """These rows into the engine's columns: a tombstone where nothing is left."""
        n, texts = len(keys), self.settings.texts
        encoded = [key.encode() for key in keys]
        self.names = np.frombuffer(bytearray(b"".join(encoded)) or bytearray(1), np.uint8)
        rows.key_len = np.fromiter(map(len, encoded), np.int64, n)
        rows.key_pos = np.cumsum(rows.key_len) - rows.key_len
        found = [self.rows.get(key) for key in keys]
        gone = [one is None and key not in texts for one, key in zip(found, keys, strict=True)]
        rows.gone = np.array(gone, np.uint8)
        rows.n = n
        if not n:
            return
        rows.columns.reserve(n)
        blank = Row(self._make(), 0)
        full = [blank if one is None else one for one in found]
        kits = {
            TOUCHED: [one.touched for one in full],
            SETTINGS: [texts.get(key, _BLANK) for key in keys],
        }
        each = zip(*(self.look(one.row) for one in full), strict=True)
        content: dict[str, Any] = kits | dict(zip(self._names, each, strict=True))
        try:
            for field in self._layout.fields:
                put(rows.columns, field, 0, content[field.name], rows.scratch, exact=True)
            check_sizes(rows.columns, self._layout, 0, n)
        except Misfit as error:
            key = keys[error.index]
            shown = key.replace(SEP, "/")
            raise LawFailed(self.dirty.get(key, -1), f"the row of {shown}: {error}") from error

    def load(
        self, rows: Columns, span: tuple[int, int], buf: NDArray[np.uint8], keys: list[str],
        gone: NDArray[np.uint8],
    ) -> None:  # fmt: skip
        """Take in rows of the state topic. ValueError for what this version can't hold."""
        lo, hi = span
        live = np.flatnonzero(gone[lo:hi] == 0) + lo
        here = [rows.layout.by_name[field.name] for field in self._layout.fields]
        each = [values(rows, field, live, buf) for field in here]
        found = dict(zip(live.tolist(), zip(*each, strict=True), strict=True))
        for k in range(lo, hi):
            name = keys[k]
            self.rows.pop(name, None)
            touched, own, *content = found.get(k, (0, _BLANK))
            if own or name in self.settings.texts:
                self.settings.take(name, own)
            if touched:
                one = self.rows[name] = Row(self._make(*content), touched)
                one.at = one.due = one.row.due if self._timed else None
        self._stale_from = 0
        self._timers = None
