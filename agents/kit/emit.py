"""What a law is handed beside row and record: the way to sinks, to other rows, settings, counts."""

from collections.abc import Callable, Mapping
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from agents.engine.errors import LawFailed
from agents.engine.processor import SEP, SRC_SCRATCH, Output
from agents.kit.errors import Misfit
from agents.kit.transposed import blank, check_sizes, put
from topics.catalogue import CATALOGUE
from topics.layout import BYTES, LISTS, MAP, SPANS, Field, Layout
from topics.partition import partition_of
from topics.schemas import schemas

if TYPE_CHECKING:
    from agents.kit.table import Table

OUTPUTS_MAX = 10_000  # records that one input may cause, per sink
TIMER = -1  # the cause of what a timer's call writes

Own = tuple[bytes | None, int]  # a record's own key, and its partition (-1: the fold's)


def layout_of(topic: str, schema: str | None = None) -> Layout:
    """The fields of a topic's records, or of those of another schema that are written there.
    ValueError if the catalogue has no such topic or schema.
    """
    if topic not in CATALOGUE:
        raise ValueError(f"there is no topic {topic}; the catalogue has {', '.join(CATALOGUE)}")
    schema = schema or CATALOGUE[topic].schema
    if schema is None:
        raise ValueError(f"the topic {topic} has no schema")
    return Layout(schemas().newest(schema))


def scratch_fields(layout: Layout) -> dict[str, int]:
    """`Layout`'s src for records whose texts all come from a fold's own bytes."""
    src = {}
    for field in layout.fields:
        if field.type.kind in SPANS:
            src[field.name] = SRC_SCRATCH
        if field.type.kind == MAP:
            src[f"{field.name}.key"] = SRC_SCRATCH
        if field.type.item is not None and field.type.item.kind in SPANS:
            src[f"{field.name}.item"] = SRC_SCRATCH
    return src


class Sink:
    """Records on their way to one topic: snapshots, so that a law may go on with what it gave."""

    __slots__ = (
        "_defaults",
        "_layout",
        "_names",
        "cause",
        "given",
        "gone",
        "lists",
        "look_at",
        "own",
        "plain",
        "take",
        "topic",
        "width",
    )  # fmt: skip

    def __init__(self, topic: str, schema: str | None = None) -> None:
        self.topic = topic
        self._layout = layout_of(topic, schema)
        self._names = tuple(field.name for field in self._layout.fields)
        self.width = len(self._names)
        self.take = taking(self._names)
        self._defaults = {f.name: _default(f) for f in self._layout.fields if f.has_default}
        self.lists = [k for k, f in enumerate(self._layout.fields) if f.type.kind in LISTS]
        self.plain = -1 if self.lists else self.width  # so many items, and nothing is to be copied
        self.given: list[tuple[Any, ...]] = []
        self.cause: list[int] = []
        self.own: list[Own] = []  # of the first records; those behind its end have none
        self.gone: list[int] = []  # those of the records that are deletions
        self.look_at = OUTPUTS_MAX  # so many records may be from one cause: look

    def add(self, cause: int, record: Mapping[str, Any]) -> None:
        """Take a record: defaults filled in, lists and maps copied."""
        if len(record) != self.width:
            if unknown := [name for name in record if name not in self._names]:
                raise LawFailed(cause, f"{self.topic}: no field {unknown[0]!r}")
            record = self._defaults | dict(record)
        try:
            one = self.take(record)
        except KeyError as lacking:
            raise LawFailed(cause, f"{self.topic}: {lacking.args[0]} is lacking") from None
        if self.lists:
            copied = list(one)
            for k in self.lists:
                if isinstance(one[k], list | dict):
                    copied[k] = one[k].copy()
            one = tuple(copied)
        self.given.append(one)
        self.cause.append(cause)

    def delete(self, cause: int) -> None:
        """Take a deletion: its content is never sent."""
        self.gone.append(len(self.given))
        self.given.append(tuple(blank(field.type) for field in self._layout.fields))
        self.cause.append(cause)

    def address(self, key: bytes, partition: int) -> None:
        """Give the record just taken a key and a partition of its own (-1: the fold's)."""
        at = len(self.given) - 1
        del self.own[at:]
        self.own += [(None, -1)] * (at - len(self.own))
        self.own.append((key, partition))

    def count(self, cause: int) -> None:
        """Refuse more outputs than one cause may have; else say when to look again."""
        mine = 0
        for one in reversed(self.cause):
            if one != cause or mine > OUTPUTS_MAX:
                break
            mine += 1
        if mine > OUTPUTS_MAX:
            raise LawFailed(cause, f"more than {OUTPUTS_MAX} records to {self.topic}")
        self.look_at = len(self.given) + OUTPUTS_MAX - mine

    def take_back(self, cause: int) -> None:
        """Forget what came from this cause."""
        while self.cause and self.cause[-1] == cause:
            self.cause.pop()
            self.given.pop()
        del self.own[len(self.given) :]
        while self.gone and self.gone[-1] >= len(self.given):
            self.gone.pop()

    def flush(self, output: Output) -> None:
        """Everything into the columns of the engine's output. LawFailed names what doesn't fit."""
        n = len(self.given)
        if not n:
            return
        at = output.n
        output.reserve(n)
        try:
            columns = zip(*self.given, strict=True)
            for field, column in zip(self._layout.fields, columns, strict=True):
                put(output.columns, field, at, column, output.scratch)
            check_sizes(output.columns, self._layout, at, at + n)
        except Misfit as error:
            raise LawFailed(self.cause[error.index], f"{self.topic}: {error}") from error
        output.cause[at : at + n] = self.cause
        if self.own or output.own:
            output.own += [(None, -1)] * (at - len(output.own))
            output.own += self.own + [(None, -1)] * (n - len(self.own))
        output.gone.update(at + k for k in self.gone)
        output.n = at + n
        self.given, self.cause, self.own, self.gone = [], [], [], []
        self.look_at = OUTPUTS_MAX


def _default(field: Field) -> Any:
    """A field's default as a value: Avro writes that of bytes as text, a byte a code point."""
    value = field.default
    return value.encode("latin-1") if field.type.kind == BYTES and value is not None else value


def taking(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes these items out of a mapping, as a tuple."""
    if len(names) == 1:
        return lambda record: (record[names[0]],)
    return itemgetter(*names)


def taking_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes these attributes of an object, as a tuple."""
    if len(names) == 1:
        return lambda row: (getattr(row, names[0]),)
    return attrgetter(*names)


class Emit:
    """What a law may do beside changing its row.

    `tenant` and `entity` say whose row it is; `entity` is "" without `key=`.
    """

    __slots__ = ("_cause", "_counts", "_partitions", "_sinks", "_table", "entity", "tenant")

    def __init__(
        self, table: "Table", sinks: tuple[Sink, ...], counts: tuple[str, ...], partitions: int
    ) -> None:
        self._table = table
        self._sinks = {sink.topic: sink for sink in sinks}
        self._counts: dict[str, list[tuple[int, int]]] = {name: [] for name in counts}
        self._partitions = partitions
        self._cause = TIMER
        self.tenant = ""
        self.entity = ""

    def to(
        self,
        topic: str,
        record: Mapping[str, Any],
        key: str | None = None,
        *,
        part: bool = False,
        whose: str = "",
    ) -> None:
        """Write a record to a sink: its content as it is now, whatever becomes of it later.

        It has the tenant's key and goes to the partition at hand; with `key`, that one, and to
        that key's partition, or to that of `whose`, a tenant, unless that key is `part` of the
        tenant: then to the one at hand. A field that is lacking takes its schema's default.
        """
        sink = self._sinks.get(topic) or self._sink(topic)
        if len(record) != sink.plain:
            sink.add(self._cause, record)
        else:  # as `add` does: these lines run once per output
            try:
                sink.given.append(sink.take(record))
            except KeyError:
                sink.add(self._cause, record)  # names what is wrong
            else:
                sink.cause.append(self._cause)
        if len(sink.given) > sink.look_at:
            sink.count(self._cause)
        if key is not None:
            partition = -1 if part else partition_of(whose or key, self._partitions)
            sink.address(key.encode(), partition)
        elif self._cause == TIMER:
            sink.address(self.tenant.encode(), -1)

    def everywhere(self, topic: str, record: Mapping[str, Any], key: str | None = None) -> None:
        """Write a record to every partition of a sink, with the tenant's key or this one."""
        for partition in range(self._partitions):
            self.to(topic, record)
            self._sinks[topic].address((key or self.tenant).encode(), partition)

    def delete(self, topic: str, key: str, *, part: bool = False) -> None:
        """Delete a key of a compacted sink: a record without a value, to that key's partition, or,
        where the key is `part` of the tenant, to the one at hand.
        """
        sink = self._sink(topic)
        sink.delete(self._cause)
        sink.address(key.encode(), -1 if part else partition_of(key, self._partitions))

    def setting(self, name: str) -> Any:
        """A setting's value, as it stands for this tenant at this record."""
        settings = self._table.settings  # as its `value` does: laws ask at each record
        return settings.parsed.get(self.tenant, settings.common)[name]

    @property
    def asleep(self) -> int:
        """How deep the tenant sleeps (`agents.kit.asleep`), where the processor `sleeps`."""
        return self._table.settings.asleep(self.tenant)

    def row(self, entity: str) -> Any:
        """The row of another entity of this tenant; made if there is none."""
        return self._table.open(f"{self.tenant}{SEP}{entity}" if entity else self.tenant).row

    def known(self, entity: str) -> Any | None:
        """The row of another entity of this tenant, to be read only; None if there is none."""
        one = self._table.rows.get(f"{self.tenant}{SEP}{entity}" if entity else self.tenant)
        return None if one is None else one.row

    def rows(self) -> list[tuple[str, Any]]:
        """The tenant's entities and their rows, to be read only. It looks at each row of the
        partition: for what is rarely asked.
        """
        return self._table.of_tenant(self.tenant)

    def forget(self, entity: str | None = None) -> None:
        """Delete this row, or another entity's of the tenant: a tombstone."""
        name = self.entity if entity is None else entity
        self._table.drop(f"{self.tenant}{SEP}{name}" if name else self.tenant)

    def count(self, name: str, n: int = 1) -> None:
        """Add to one of the processor's counts, once this is committed."""
        if type(n) is not int or n < 0:
            raise LawFailed(self._cause, f"{name}: {n!r} can't be counted: whole numbers from 0")
        self._counts[name].append((self._cause, n))

    def _sink(self, topic: str) -> Sink:
        if topic not in self._sinks:
            raise LawFailed(self._cause, f"{topic} is no sink of this processor's")
        return self._sinks[topic]

    # --- the fold's side ------------------------------------------------------------------

    def begin_timer(self, tenant: str, entity: str) -> None:
        """A timer's call comes: what it writes has no record for a cause."""
        self._cause, self.tenant, self.entity = TIMER, tenant, entity

    def take_back(self) -> None:
        """Forget what the record at hand has written and counted."""
        for sink in self._sinks.values():
            sink.take_back(self._cause)
        for counted in self._counts.values():
            while counted and counted[-1][0] == self._cause:
                counted.pop()

    def counted(self) -> dict[str, int]:
        """Counts since the last call."""
        found = {name: sum(n for _, n in given) for name, given in self._counts.items() if given}
        for given in self._counts.values():
            given.clear()
        return found
