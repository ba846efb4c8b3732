"""What a row processor's law is to the verifier: rows by tenant, one record or tick at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from typing import Any, ClassVar, NamedTuple

from ops.prove.dozing import Sleep
from ops.prove.law import RefusedError, Row
from ops.prove.overrides import Overrides

SEPARATOR = "\x1f"
HERE = "\0"  # whose an output is that stays in the partition of its source


class Out(NamedTuple):
    """An output in the form of `RowLaw.view`."""

    topic: str
    key: str
    said: Row
    whose: str  # the tenant in whose partition it is, or HERE; '' of one that is in each


class At(NamedTuple):
    """Where and when a record stands."""

    place: str  # <topic id>-<partition>-<offset>
    origin: str  # topic/partition/offset
    log_ms: int


class RowLaw(ABC):
    """A row processor's law, written again from the text.

    `table` holds a row, a dataclass with the state schema's fields, for each tenant that has one.
    """

    processor: ClassVar[str]
    topic: ClassVar[str]
    source: ClassVar[str]  # the schema that a JSON object is taken for
    schemas: ClassVar[tuple[str, ...]]  # those that are folded
    sinks: ClassVar[tuple[str, ...]]
    state: ClassVar[str]
    kinds: ClassVar[Mapping[str, Callable[[str], Any]]] = {}
    tenant: ClassVar[str] = "tenant"  # the field that says whose a record is
    domain: ClassVar[bool] = False  # whether a field of that name is checked
    timed: ClassVar[bool] = True  # whether ts is
    of_settings: ClassVar[bool] = False  # '*' may be the tenant, and keys go on behind it
    keeper: ClassVar[bool] = True  # writes the topic's dead letters and forwards
    tolerance: ClassVar[Mapping[str, float]] = {"": 1e-9}

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}
        self.settings = Overrides(self.kinds)
        self.texts: dict[str, dict[str, str]] = {}  # own values as they came

    def epoch(self, settings: Mapping[str, str]) -> None:
        """The deployment's settings from here on."""
        self.settings.epoch(settings)

    def control(self, tenant: str, setting: str, value: str, version: int = 0) -> None:
        """A setting changed in band."""
        self.settings.change(tenant, setting, value, version)
        own = self.texts.setdefault(tenant, {})
        own.pop(setting, None)
        if value:
            own[setting] = value

    def sleep(self, tenant: str, sleep: Sleep) -> None:
        """How deep a tenant sleeps from here on; most laws don't care."""
        return

    def take(self, name: str, record: Row, at: At) -> list[Out]:
        """Fold a record. RefusedError leaves no trace."""
        tenant = record[self.tenant]
        before = deepcopy(self.table.get(tenant))
        try:
            return self.fold(name, record, at)
        except RefusedError:
            self.table.pop(tenant, None)
            if before is not None:
                self.table[tenant] = before
            raise

    @abstractmethod
    def fold(self, name: str, record: Row, at: At) -> list[Out]:
        """The outputs of a record, which is a `name`."""

    def tick(self, now: int) -> list[Out]:
        """The outputs of a tick: rows whose `due` has come, by time and name."""
        late = [(row.due, one) for one, row in self.table.items() if self._is_due(row, now)]
        found = []
        for _, tenant in sorted(late):
            self.table[tenant].due = None
            found += self.over(tenant, now)
        return found

    @staticmethod
    def _is_due(row: Any, now: int) -> bool:
        due = getattr(row, "due", None)
        return due is not None and due <= now

    def over(self, tenant: str, now: int) -> list[Out]:
        """A row's time has come."""
        return []

    def unread(self, record: Row | None, key: str, at: At) -> list[Out]:
        """What is said of a record that became a dead letter; None: it can't be read."""
        return []

    @abstractmethod
    def view(self, topic: str, name: str, row: Row) -> Row | None:
        """What is compared of a record of a sink; None if another wrote it."""

    def row(self, row: Row) -> Row:
        """A row as it was written, in the form of `rows`."""
        return row

    def rows(self) -> dict[bytes, Row]:
        """The state rows expected at the end, by key."""
        found: dict[bytes, Row] = {}
        for tenant in {*self.table, *(one for one, own in self.texts.items() if own)}:
            fields = asdict(self.table[tenant]) if tenant in self.table else {}
            found[tenant.encode()] = fields | {"settings": self.texts.get(tenant, {})}
        return found
