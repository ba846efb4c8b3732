"""A memory as a recall node holds it, and what it can be asked by."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EPISODIC, SEMANTIC = TYPES = ("episodic", "semantic")
NO_SHELF = -1
MISSING = 0  # the hash of a field that a payload doesn't have

Scalar = str | int | float | bool | None


@dataclass(slots=True)
class Entry:
    """One memory. Times are microseconds; `payload` is the text of a JSON object."""

    id: str
    namespace: str
    version: int
    memory_type: str
    importance_raw: float | None
    created_ts: int
    updated_ts: int
    accessed_ts: int
    access_count: int
    links: dict[str, str]
    content_version: int
    coordinate: str
    payload: str
    model_revision: str
    shelf: int = NO_SHELF  # which of the tenant's, if it has a vector
    place: int = 0  # in it


@dataclass(frozen=True, slots=True)
class Filters:
    """Which memories are asked for; all of it must hold. Times are of the last change, in
    microseconds, from `since` and before `until`.
    """

    namespace: str | None = None
    memory_type: str | None = None
    since: int | None = None
    until: int | None = None
    payload: Mapping[str, Scalar] = field(default_factory=dict)  # fields of it, by equality

    def __bool__(self) -> bool:
        asked = (self.namespace, self.memory_type, self.since, self.until)
        return bool(self.payload) or any(one is not None for one in asked)


def fits(entry: Entry, filters: Filters) -> bool:
    """Whether a memory fits them; what a shelf says of its rows by columns."""
    return (
        filters.namespace in (None, entry.namespace)
        and filters.memory_type in (None, entry.memory_type)
        and (filters.since is None or entry.updated_ts >= filters.since)
        and (filters.until is None or entry.updated_ts < filters.until)
        and all(
            field_of(entry.payload, name) == hashed(value)
            for name, value in filters.payload.items()
        )
    )


def hashed(value: Any) -> int:
    """A scalar of JSON as 63 bits, of this process: equal for equal values (1 and 1.0, not true).

    Python's hash of texts has a key of its own in each process, so nobody can aim at collisions.
    """
    if not isinstance(value, str | int | float | bool | None):
        return MISSING
    kind = "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
    return (hash((kind, value)) & ((1 << 63) - 1)) or 1


def field_of(payload: str, name: str) -> int:
    """The hash of a payload's field."""
    if name not in payload and "\\" not in payload:
        return MISSING  # most often, and without parsing
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return MISSING
    if not isinstance(value, dict) or name not in value:
        return MISSING
    return hashed(value[name])
