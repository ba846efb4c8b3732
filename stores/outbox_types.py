"""What goes into the outbox and comes out of it, as the HTTP API and the command line see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from stores.errors import StoreError

Status = Literal["pending", "failed", "skipped", "sent"]
STATUSES: tuple[Status, ...] = ("pending", "failed", "skipped", "sent")


class BadEvent(StoreError):
    """An event that can't be taken; `index` is its place in the batch, None if that isn't known."""

    def __init__(self, text: str, index: int | None = None) -> None:
        super().__init__(text)
        self.index = index


class TooManyPending(StoreError):
    """The tenant has as many events pending as it may; trying again later is right."""

    def __init__(self, text: str, tenant: str | None = None) -> None:
        super().__init__(text)
        self.tenant = tenant


class BadQuestion(StoreError):
    """A limit, filter or id out of its range; the text names it."""


class Defect(StoreError):
    """A statement of ours is wrong; trying again changes nothing."""


@dataclass(frozen=True, slots=True)
class Event:
    """What is to be added. `payload` is JSON text; `key` is the scope of order, else the tenant.

    `but_for`: a field of the payload that a repetition may have otherwise, for it isn't the
    sender's (a time that was given by us). Adding doesn't look at it: see `TenantOutbox.repeats`.
    """

    topic: str
    tenant: str
    payload: str
    dedupe_key: str
    key: str | None = None
    headers: Mapping[str, str] | None = None
    but_for: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """The event's id. A `duplicate` was there before; one that `differs` says something else."""

    id: int
    duplicate: bool
    differs: bool


@dataclass(frozen=True, slots=True)
class Row:
    """An event as it is listed; `payload` is JSON text, None if it is Avro or over 4,096 bytes."""

    id: int
    created_at: datetime
    topic: str
    tenant: str
    key: str
    shard: int
    status: Status
    retries: int
    next_attempt_at: datetime | None
    last_error: str | None
    dedupe_key: str
    headers: dict[str, Any] | None
    payload: str | None
    bytes: int


@dataclass(frozen=True, slots=True)
class TenantSummary:
    """What of a tenant waits."""

    tenant: str
    pending: int
    failed: int
    oldest_age_s: float  # of what is pending; 0 without
    refused: bool  # it may not add for now
    max_pending: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What waits in all, and the tenants with the most of it (at most 100)."""

    pending: int
    failed: int
    skipped: int
    kept: int  # events in the table; beyond 10,000 as the server estimates them
    oldest_age_s: float
    tenants: int  # that have anything waiting
    top: list[TenantSummary]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was put back into the queue. An event sent before gets a new id: `renumbered`."""

    replayed: list[int]
    missing: list[int]
    not_failed: list[int]  # pending already, or sent before and not asked for `again`
    renumbered: dict[int, int]
    more: bool = False  # of a tenant: the limit was reached


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was given up."""

    skipped: list[int]
    missing: list[int]
    not_failed: list[int]


@dataclass(frozen=True, slots=True)
class Check:
    """Tenants above the allowed number of pending events, and tenants with failed ones."""

    over: dict[str, int]
    failed: dict[str, int]
    oldest_age_s: float

    @property
    def well(self) -> bool:
        """Nothing is wrong."""
        return not self.over and not self.failed


@dataclass(frozen=True, slots=True)
class Limit:
    """How many pending events a tenant may have; `*`: each without a limit of its own."""

    tenant: str
    max_pending: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What somebody changed by hand."""

    id: int
    ts: datetime
    actor: str
    action: str
    tenant: str | None
    detail: dict[str, Any]
