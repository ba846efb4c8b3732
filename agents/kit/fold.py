"""The engine's side of a row processor: a `Fold` (agents/engine/processor.py) over a `Table`.

The engine's columns become records a field at a time, and what a law wrote becomes columns in the
same way: decoding, checks, encoding and framing stay the kernels' work.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.answer import Answer
from agents.engine.errors import LawFailed
from agents.engine.processor import (
    OWN_REASONS,
    SEP,
    Batch,
    Context,
    Control,
    Fold,
    Output,
    StateRows,
)
from agents.engine.row_counts import Counts, RowCount
from agents.kit.emit import TIMER, Emit, Sink
from agents.kit.errors import Refuse
from agents.kit.row_counts import RowCounts
from agents.kit.setting import OFF_ON, Setting
from agents.kit.table import Table, TextSettings
from agents.kit.transposed import values
from topics.columns import Columns
from topics.layout import Layout
from topics.schemas import schemas

if TYPE_CHECKING:  # a processor is declared without the engine that runs it
    from agents.engine.dead_letters import Letter

ON = OFF_ON[1]
CHUNK = 1024  # records made into objects at a time: they stay in the cache until they are folded

Law = Callable[[Any, Any, Emit], None]  # row, record, out
Off = Callable[[Any, Any, Emit], bool]  # where cognition is off; whether it acts there
OnTime = Callable[[Any, int, Emit], None]  # row, now (wall time, us), out
Key = Callable[[Any], str]  # record -> its entity within the tenant
Unread = Callable[["Letter"], Answer | None]  # of what can't be folded, what is said on a sink

KIT_FIELDS = ("offset", "log_ms", "source_id")  # of every record, beside its schema's


@dataclass(frozen=True, slots=True)
class Spec:
    """What a row processor was declared with."""

    name: str
    source: str
    state: str  # schema of a row
    sinks: tuple[str, ...]
    row: type[Any]
    laws: Mapping[str, Law]  # by schema; the source's own comes first
    tenants: Mapping[str, str]  # schema -> its field that is the tenant
    key: Key | None
    on_time: OnTime | None
    settings: Mapping[str, Setting]
    reasons: tuple[str, ...]
    counts: tuple[str, ...]
    row_counts: tuple[RowCount, ...] = ()
    unread: Unread | None = None
    controls: Mapping[str, str] = field(default_factory=dict)  # sink -> schema
    sleeps: bool = False
    switch: str = ""
    lasting: bool = False


class Records:
    """Turns one schema's columns into named tuples, with offset, log time and id behind.

    `tenant` is the field that is read as `record.tenant` too.
    """

    def __init__(self, schema: str, tenant: str, prefix: str) -> None:
        self._layout = Layout(schemas().newest(schema))
        names = [field.name for field in self._layout.fields]
        base = namedtuple(schema, [*names, *KIT_FIELDS[:2]])  # type: ignore[misc]
        at = len(names)

        def source_id(record: Any) -> str:
            """The record's own id: what is derived from it is known by that."""
            return f"{prefix}{record[at]}"

        own: dict[str, Any] = {"__slots__": (), "source_id": property(source_id)}
        if tenant != "tenant":
            own["tenant"] = property(itemgetter(names.index(tenant)))
        self._make = partial(tuple.__new__, type(schema, (base,), own))  # `_make`, but in C

    def read(self, batch: Batch, columns: Columns, rows: Any) -> Iterator[Any]:
        """The records of these rows, in their order."""
        each = [values(columns, field, rows, batch.buf) for field in self._layout.fields]
        each += [batch.offsets[rows].tolist(), batch.log_ms[rows].tolist()]
        return map(self._make, zip(*each, strict=True))


class RowFold:
    """One partition of a row processor."""

    def __init__(self, spec: Spec, context: Context) -> None:
        self._spec = spec
        prefix = context.place.prefix.decode()
        self._laws = [
            (Records(schema, spec.tenants[schema], prefix), law)
            for schema, law in spec.laws.items()
        ]
        self._sinks = tuple(Sink(topic, spec.controls.get(topic)) for topic in spec.sinks)
        book = TextSettings(spec.settings, context.defaults)
        layout = Layout(schemas().newest(spec.state))
        self._table = Table(spec.row, layout, book, spec.on_time is not None, spec.lasting)
        self._out = Emit(self._table, self._sinks, spec.counts, context.partitions)
        self._row_counts = RowCounts(spec.row_counts, self._table.rows)

    # --- records --------------------------------------------------------------------------

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> int | None:
        """Fold records lo..hi-1, or at least one, if they take longer than the batch's time."""
        self._flush(outputs)  # what ticks wrote
        if self._spec.switch and self._off():
            return None
        at = lo
        while at < hi:
            end = min(at + CHUNK, hi)
            at = self._fold_chunk(batch, at, end)
            self._flush(outputs)
            if at < end:
                return at
        return None

    def _off(self) -> bool:
        """Whether no record can matter: nobody wants this processor, and it knows of nobody."""
        table = self._table
        return not (table.rows or table.settings.anybody(self._spec.switch, ON))

    def answers(self, letters: "Sequence[Letter]") -> list[Answer]:
        """What is said of records that can't be folded."""
        said = map(self._spec.unread, letters) if self._spec.unread is not None else ()
        return [one for one in said if one is not None]

    def _flush(self, outputs: tuple[Output, ...]) -> None:
        for sink, output in zip(self._sinks, outputs, strict=True):
            sink.flush(output)

    def _fold_chunk(self, batch: Batch, lo: int, hi: int) -> int:
        """Returns the row behind the last one folded."""
        status = batch.status[lo:hi]
        if status.any():
            rows: Any = np.flatnonzero(status == 0) + lo
            causes: Sequence[int] = rows.tolist()
        else:
            rows, causes = slice(lo, hi), range(lo, hi)
        if not causes:
            return hi
        if batch.kind is None:
            reader, law = self._laws[0]
            records = reader.read(batch, batch.columns, rows)
            laws: Iterable[Law] = repeat(law, len(causes))
        else:
            records, laws = self._mixed(batch, np.asarray(causes))
        last = self._fold_all(batch, causes, records, laws)
        return hi if last == causes[-1] else last + 1

    def _mixed(self, batch: Batch, rows: NDArray[np.int64]) -> tuple[Iterator[Any], Iterable[Law]]:
        """Records of several schemas and their laws, in the order of the log."""
        assert batch.kind is not None
        kinds = batch.kind[rows]
        columns = (batch.columns, *batch.others)
        read = [
            self._laws[k][0].read(batch, columns[k], rows[kinds == k]) for k in range(len(columns))
        ]
        which = kinds.tolist()
        return iter([next(read[k]) for k in which]), [self._laws[k][1] for k in which]

    def _fold_all(
        self, batch: Batch, causes: Iterable[int], records: Iterable[Any], laws: Iterable[Law]
    ) -> int:
        """The loop that costs: everything in it runs once per record. Returns the last's row."""
        out, table, spec, ends = self._out, self._table, self._spec, batch.ends
        known, dirty, undo, look = table.rows, table.dirty, table.undo, table.look
        key, timed, listed, clock = spec.key, spec.on_time is not None, table.listed, monotonic
        cause = -1
        for cause, record, law in zip(causes, records, laws, strict=True):
            name = out.tenant = record.tenant
            out._cause = cause
            try:
                if key is not None:
                    out.entity = entity = key(record)
                    if type(entity) is not str:
                        raise LawFailed(cause, f"key: {entity!r} is no text")
                    if entity:
                        name = f"{name}{SEP}{entity}"
                table.log_ms = log_ms = record.log_ms
                table.cause = cause
                one = known.get(name)
                if one is None or listed:
                    one = table.open(name)
                else:  # as `open` does
                    undo.append((name, one, look(one.row), one.touched))
                    one.touched = log_ms
                    dirty[name] = cause
                law(one.row, record, out)
                if timed:
                    table.set_timers()
            except Refuse as refusal:
                self._refuse(batch, cause, refusal)
            except LawFailed:
                raise
            except (Exception, SystemExit) as error:
                raise LawFailed(cause, _named(error)) from error
            undo.clear()
            if clock() > ends:
                break
        table.cause = TIMER
        return cause

    def _refuse(self, batch: Batch, cause: int, refusal: Refuse) -> None:
        """Make a record a dead letter, and take back what it changed and wrote."""
        if refusal.reason not in self._spec.reasons:
            known = ", ".join(self._spec.reasons)
            text = f"no reason {refusal.reason!r} was declared; there are {known}"
            raise LawFailed(cause, text)
        self._table.take_back()
        self._out.take_back()
        batch.status[cause] = OWN_REASONS + self._spec.reasons.index(refusal.reason)
        batch.details[cause] = refusal.detail

    def under_way(self) -> int:
        """The row of the record that the law is folding now; -1: none."""
        return self._table.cause

    # --- control --------------------------------------------------------------------------

    def control(self, control: Control) -> str | None:
        """A tick or a setting; returns why it is refused, if it is."""
        table = self._table
        table.log_ms, table.cause = control.log_ms, TIMER
        if control.kind == "tick":
            self._tick(control.ts)
            return None
        if control.kind == "sleep":
            if self._spec.sleeps:
                table.settings.let_sleep(control.tenant, control.value)
                table.dirty[control.tenant] = TIMER
            return None
        if control.kind != "setting":
            return f"{control.kind}: {self._spec.name} asks nothing"
        if refusal := table.settings.refusal(control.setting, control.value):
            return refusal
        table.settings.set(control.tenant, control.setting, control.value)
        table.look_again()
        table.dirty[control.tenant] = TIMER
        return None

    def _tick(self, now: int) -> None:
        """Call the timers that are due, then let the silent rows go."""
        law, out, table = self._spec.on_time, self._out, self._table
        name = ""
        try:
            for name, one in table.due(now) if law is not None else ():
                tenant, _, entity = name.partition(SEP)
                out.begin_timer(tenant, entity)
                assert law is not None
                law(one.row, now, out)
                table.set_timers()
                table.undo.clear()
        except (Exception, SystemExit) as error:
            said = error.text if isinstance(error, LawFailed) else _named(error)
            shown = name.replace(SEP, "/")
            raise LawFailed(TIMER, f"the timer of {shown}: {said}") from error
        table.forget(now)

    def deadline(self) -> int | None:
        """When a tick would change something."""
        return self._table.deadline()

    def counted(self) -> Mapping[str, int]:
        """What laws counted since the last call."""
        return self._out.counted()

    def row_counts(self) -> Counts:
        """How many rows stand at each value that is shown."""
        return self._row_counts.now()

    def tenants(self) -> int:
        """How many rows there are."""
        return len(self._table.rows)

    # --- the state topic ------------------------------------------------------------------

    @property
    def names(self) -> NDArray[np.uint8]:
        """The keys of the rows written last."""
        return self._table.names

    def changed(self, rows: StateRows) -> None:
        """Write the rows touched since the last call."""
        self._row_counts.look_at(self._table.dirty)
        try:
            self._table.changed(rows)
        except LawFailed:
            raise
        except Exception as error:  # a row that its law took apart: found by halves
            raise LawFailed(TIMER, f"a row can't be written: {_named(error)}") from error

    def rows_all(self, rows: StateRows) -> None:
        """Write every row."""
        self._table.all(rows)

    def rows_of_tenant(self, tenant: str, rows: StateRows) -> None:
        """Write those of a tenant: see engine/lookups.py."""
        self._table.rows_of_tenant(tenant, rows)

    def load(
        self,
        rows: Columns,
        lo: int,
        hi: int,
        buf: NDArray[np.uint8],
        key_pos: NDArray[np.int64],
        key_len: NDArray[np.int64],
        gone: NDArray[np.uint8],
    ) -> None:
        """Take in rows of the state topic."""
        text = buf.tobytes()
        spans = zip(key_pos.tolist(), key_len.tolist(), strict=True)
        keys = [text[p : p + n].decode() for p, n in spans]
        try:
            self._table.load(rows, (lo, hi), buf, keys, gone)
            self._row_counts.look_at(keys[lo:hi])
        except ValueError:
            raise
        except Exception as error:  # of the dataclass
            raise ValueError(f"a row can't be made: {_named(error)}") from error


def _named(error: BaseException) -> str:
    """What a law raised, in a line."""
    return f"{type(error).__name__}: {error}"


_: type[Fold] = RowFold  # it is one
