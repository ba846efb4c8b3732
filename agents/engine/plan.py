"""A processor's programs and topic names: compiled once per process, shared by its partitions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.engine.checks import STRING_MAX
from agents.engine.processor import Context, Output, Place, Processor, Reads, StateRows
from agents.settings import Settings
from topics.catalogue import CATALOGUE, dlq_of
from topics.columns import Buffer, Columns, Layout, Reader, Writer
from topics.layout import LONG, NAMES
from topics.layout import STRING as STRING_KIND
from topics.schemas import control_ids, schemas

EPOCHS = "soma.epochs"


@dataclass(frozen=True, slots=True)
class Sink:
    """Where outputs go: the topic as the broker knows it, and how a record is encoded."""

    topic: str
    schema: str  # of the processor's records there: others may write further ones
    layout: Layout
    writer: Writer


class Kind:
    """One schema of a source: how its records are read, and what is checked of them."""

    def __init__(self, schema: str, reads: Reads) -> None:
        """ValueError for a schema without what `reads` names."""
        known = schemas()
        if not known.versions(schema):
            raise ValueError(f"there is no schema {schema}")
        self.schema, self.reads = schema, reads
        self.layout = Layout(known.newest(schema))
        self._age = known.age
        self._reader = Reader(self.layout, known.writers(schema))
        self.tenant = self._slot(reads.tenant, STRING_KIND)
        self.domain = self._slot(reads.domain, STRING_KIND)
        self.ts = self._slot(reads.ts, LONG)
        strings = [f for f in self.layout.fields if f.type.kind == STRING_KIND]
        self.strings = np.array([f.slot for f in strings], np.int64)
        self.limits = np.array([reads.strings.get(f.name, STRING_MAX) for f in strings], np.int64)
        if unknown := reads.strings.keys() - {f.name for f in strings}:
            raise ValueError(f"{schema} has no string {', '.join(sorted(unknown))}")

    @property
    def reader(self) -> Reader:
        """Of all schemas that are known by now: with a registry there may be more of them."""
        known = schemas()
        if self._age != known.age:
            self._age = known.age
            self._reader = Reader(self.layout, known.writers(self.schema))
        return self._reader

    def _slot(self, name: str | None, kind: int) -> int:
        """Where a field lies that must always be there; -1 for none."""
        if name is None:
            return -1
        field = self.layout.by_name.get(name)
        if field is None or field.type.kind != kind or field.type.nullable:
            raise ValueError(f"{self.schema}.{name}: a field of type {NAMES[kind]} is wanted")
        return field.slot


class Plan:
    """What a processor is made of, ready to run on any of its partitions."""

    def __init__(
        self, processor: Processor, settings: Settings, partitions: int, keeper: bool = True
    ) -> None:
        """`keeper`: of its source. Where several read one, one alone writes dead letters of what
        nobody can read, and forwards what came to the wrong partition.
        """
        known = schemas()
        source = CATALOGUE[processor.source]
        if source.schema is None:
            raise ValueError(f"{processor.name}: {processor.source} has no schema to fold")
        self.processor = processor
        self.partitions = partitions
        self.policy = processor.policy(settings) if processor.policy is not None else None
        self.policy_digest = self.policy.digest if self.policy is not None else ""
        self.schema = source.schema
        self.public = source.public
        self.keeper = keeper
        if processor.policy is not None and not keeper:
            raise ValueError(
                f"{processor.name}: only the keeper of {processor.source} may ask a policy: "
                "answers don't say whom they are for"
            )
        self.source = settings.topic(processor.source)
        self.state = settings.topic(processor.state_topic)
        self.dlq = settings.topic(dlq_of(processor.source))
        self.epochs = settings.topic(EPOCHS)
        self.transactional_id = settings.prefix(processor.name)
        self.kinds = tuple(
            self._kind(name, reads)
            for name, reads in {source.schema: processor.reads, **processor.kinds}.items()
        )
        self.layout = self.kinds[0].layout
        self.sinks = tuple(self._sink(name, settings) for name in processor.sinks)
        self.state_layout = Layout(known.newest(processor.state_schema), processor.state_src)
        self.state_writer = Writer(self.state_layout, known.schema_id(processor.state_schema))
        self.row_layout = Layout(known.newest(processor.state_schema))
        self.state_reader = Reader(self.row_layout, known.writers(processor.state_schema))
        self.reserved = np.array(control_ids(), np.int64)
        self.batch_max = settings.batch_records_max
        self.unpacked_max = settings.batch_unpacked_bytes_max

    def _kind(self, schema: str, reads: Reads) -> Kind:
        try:
            return Kind(schema, reads)
        except ValueError as error:
            raise ValueError(f"{self.processor.name}: {self.processor.source}: {error}") from error

    def _sink(self, name: str, settings: Settings) -> Sink:
        known = schemas()
        schema = self.processor.sink_schemas.get(name, CATALOGUE[name].schema)
        if schema is None:
            raise ValueError(f"{self.processor.name}: sink {name} has no schema")
        layout = Layout(known.newest(schema), self.processor.sink_src.get(name, {}))
        return Sink(settings.topic(name), schema, layout, Writer(layout, known.schema_id(schema)))

    def context(self, place: Place, defaults: Mapping[str, str]) -> Context:
        """What this processor's folds get at birth."""
        return Context(place, defaults, self.policy, self.partitions)

    def output(self, sink: Sink) -> Output:
        """An empty output for one sink."""
        return Output(Columns(sink.layout), Buffer(), np.empty(0, np.int64))

    def state_rows(self) -> StateRows:
        """Empty state rows."""
        none = np.empty(0, np.int64)
        return StateRows(
            Columns(self.state_layout), Buffer(), 0, none, none.copy(), np.empty(0, np.uint8)
        )


def defaults_of(processor: Processor, settings: Settings) -> dict[str, str]:
    """All values that a processor's folds depend on, as text for the epochs log.

    Declared defaults are among them: a later version may have others.
    """
    declared = {name: setting.default for name, setting in processor.settings.items()}
    common = {name: value for name, value in settings.common().items() if name in declared}
    values = declared | common | settings.given(processor.name)
    return {name: str(value) for name, value in sorted(values.items())}
