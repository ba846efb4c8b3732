"""What the API answers, as typed values. Fields that a newer API adds are passed over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

from soma_client.errors import BadAnswer

T = TypeVar("T")


def take(kind: type[T], value: Any, **readers: Callable[[Any], Any]) -> T:
    """A dataclass of a JSON object; `readers` make more of single fields. `BadAnswer`."""
    if not isinstance(value, dict):
        raise BadAnswer(f"no {kind.__name__}: {str(value)[:80]}")
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    found = {name: one for name, one in value.items() if name in names}
    try:
        for name, read in readers.items():
            if found.get(name) is not None:
                found[name] = read(found[name])
        return kind(**found)
    except (TypeError, ValueError, KeyError) as error:
        raise BadAnswer(f"no {kind.__name__} of this version: {error}") from error


def several(kind: type[T], **readers: Callable[[Any], Any]) -> Callable[[Any], tuple[T, ...]]:
    """Reads a list of them."""
    return lambda value: tuple(take(kind, one, **readers) for one in value)


@dataclass(frozen=True, slots=True)
class Remembered:
    """An event of a memory is on the disk, and will act once."""

    tenant: str
    namespace: str
    id: str
    coordinate: str  # in canonical form
    event_id: str
    dedupe_key: str
    duplicate: bool  # it was there before
    journaled: bool  # kept by the API until PostgreSQL is back
    outbox_id: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory as it is now."""

    id: str
    coordinate: str
    namespace: str
    memory_type: str
    version: int
    payload: Any
    links: Mapping[str, str]  # memory id -> kind
    model_revision: str
    created: datetime
    updated: datetime
    accessed: datetime
    access_count: int
    importance: float | None = None
    payload_left_out: bool = False  # the answer was too long


@dataclass(frozen=True, slots=True)
class Found(Memory):
    """One that answers a question."""

    score: float = 0.0
    similarity: float | None = None  # None: found by its words alone


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another memory, and the link to it ("out") or from it ("in")."""

    id: str
    coordinate: str
    kind: str
    direction: str


@dataclass(frozen=True, slots=True)
class Step:
    """A memory on a path."""

    id: str
    coordinate: str


@dataclass(frozen=True, slots=True)
class Vectors:
    """How many memories have vectors of one kind."""

    dimension: int
    model_revision: str
    memories: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """What the process that answers holds of a tenant, and how far it has read."""

    tenant: str
    memories: int
    vectors: tuple[Vectors, ...]
    without_vector: int
    unusable_vectors: int
    bits: int
    ready: bool
    why: str
    began: str
    lag_records: int


@dataclass(frozen=True, slots=True)
class Event:
    """What became of one event."""

    dedupe_key: str
    duplicate: bool
    id: int | None = None  # in the outbox; None while it is in the journal


@dataclass(frozen=True, slots=True)
class Accepted:
    """All events are on the disk, and will be in the topic once each."""

    topic: str
    tenant: str
    journaled: bool
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """A reward or an opinion is on the disk."""

    tenant: str
    frame_id: str
    topic: str
    event: Event
    journaled: bool


@dataclass(frozen=True, slots=True)
class InForce:
    """What a request to sleep came to."""

    outcome: str  # changed, prolonged or unchanged
    state: str
    version: int
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SleepAsked:
    """A request to sleep is written."""

    sleep_request_id: str
    tenant: str
    target_state: str
    duplicate: bool
    in_force: InForce | None = None  # None unless it was waited for


@dataclass(frozen=True, slots=True)
class Sleep:
    """How deep a tenant sleeps."""

    tenant: str
    state: str  # active, light, deep or freeze
    cause: str
    wake_on_traffic: bool
    version: int
    powers: Mapping[str, float]
    since: datetime | None = None
    wake_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StateRow:
    """A state row: the tenant's own (no entity), or that of one of its domains or entities."""

    tenant: str
    fields: Mapping[str, Any]
    settings: Mapping[str, Any]
    entity: str = ""
    touched: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What a processor knows of a tenant, before the record at `offset`."""

    processor: str
    tenant: str
    partition: int
    offset: int
    end: int
    notes: tuple[str, ...]
    rows: tuple[StateRow, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """All matrices are committed."""

    tenant: str
    versions: Mapping[str, int]
    repeated: bool
    cached: bool  # else reads may give an older version for a while, unless min_version insists
    crcs: Mapping[str, str] = field(default_factory=dict)  # for `expected_crc`; no older API has it
