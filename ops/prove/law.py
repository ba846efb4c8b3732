"""What a processor's law is to the verifier: state, and one record at a time."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from ops.prove.dozing import Sleep

Row = dict[str, Any]
Rows = dict[str, list[Row]]  # outputs of one record by topic, each topic's in order
Written = Mapping[str, Sequence[Row]]  # what the workers wrote for a record, in the same form


class RefusedError(Exception):
    """A record that the law doesn't take; it must be found among the dead letters."""


class Sink(NamedTuple):
    """A topic that a processor writes, and the field that names the record that caused each."""

    topic: str
    schema: str
    cause: str
    shared: bool = True  # users write here too: causes of ours begin with the source topic's id


class Law(ABC):
    """A processor's law, written again from the text: state and one record at a time.

    A decision that rounding alone settles (within 1e-9 of its threshold) may follow what was
    written; each time that it does against the law's own arithmetic is counted in `near_ties`.
    """

    processor: ClassVar[str]
    topic: ClassVar[str]  # of the records folded
    source: ClassVar[str]  # their schema
    sinks: ClassVar[tuple[Sink, ...]]
    state: ClassVar[str]  # schema of the state rows
    tolerance: ClassVar[Mapping[str, float]]  # see compare.unequal_fields

    near_ties: int = 0

    @abstractmethod
    def epoch(self, settings: Mapping[str, str]) -> None:
        """The deployment's settings from here on."""

    @abstractmethod
    def control(self, tenant: str, setting: str, value: str, version: int = 0) -> None:
        """A setting changed in band; RefusedError where it can't be."""

    @abstractmethod
    def sleep(self, tenant: str, sleep: Sleep) -> None:
        """How deep a tenant sleeps from here on."""

    def cause(self, record: Row, place: str) -> str:
        """What outputs name as their cause: the record's place, <topic id>-<partition>-<offset>."""
        return place

    @abstractmethod
    def fold(self, record: Row, place: str, log_ms: int, written: Written) -> Rows:
        """The outputs expected for a record. `written` settles what lies within rounding only."""

    def output(self, row: Row) -> Row:
        """An output as it was written, in the form of `fold`."""
        return row

    @abstractmethod
    def rows(self) -> dict[bytes, Row]:
        """The state rows expected at the end, by key."""

    @abstractmethod
    def row(self, row: Row) -> Row:
        """A row as it was written, in the form of `rows`."""
