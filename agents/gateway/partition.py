"""A partition that the gateway holds, and how much all of them may hold in memory."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message

from agents.gateway.backlog import Backlog
from agents.gateway.sleepers import Sleepers


@dataclass(slots=True)
class GatewayPartition:
    """From the moment that its state is read until it is let go; then `live` is false."""

    partition: int
    topic_id: str
    backlog: Backlog[Message]
    sleepers: Sleepers = field(default_factory=Sleepers)
    owner: int = 0  # the offset of this owner's mark among the rows
    live: bool = True
    lanes: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # tenant -> its deliveries

    def has(self, tenant: str) -> bool:
        """Whether something of a tenant is undelivered here, or the gateway let it sleep."""
        backlog = self.backlog
        return tenant in backlog.behind or tenant in backlog.lanes or tenant in self.sleepers

    def named(self) -> int:
        """How many tenants its row must name. Asked each turn: who is behind may be thousands."""
        behind, lanes = self.backlog.behind, self.backlog.lanes
        others = sum(tenant not in behind for tenant in lanes)
        asleep = self.sleepers.names()
        return len(behind) + others + sum(one not in behind and one not in lanes for one in asleep)

    def leave(self) -> None:
        """Deliver nothing more of it."""
        self.live = False
        for task in self.lanes.values():
            task.cancel()


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """How much may be held in memory, over all partitions."""

    events: int
    size: int

    def share(self, parts: Iterable[GatewayPartition]) -> float:
        """How much of it is taken: 1 and more is full."""
        backlogs = [part.backlog for part in parts]
        return max(
            sum(backlog.queued for backlog in backlogs) / self.events,
            sum(backlog.queued_bytes for backlog in backlogs) / self.size,
        )
