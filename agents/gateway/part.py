"""A partition that the gateway holds."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message

from agents.gateway.book import Book


@dataclass(slots=True)
class Part:
    """From the moment that its state is read until it is let go; then `live` is false."""

    partition: int
    topic_id: str
    book: Book[Message]
    live: bool = True
    lanes: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # tenant -> its deliveries

    def leave(self) -> None:
        """Deliver nothing more of it."""
        self.live = False
        for task in self.lanes.values():
            task.cancel()


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be held in memory, over all partitions."""

    events: int
    size: int

    def share(self, parts: Iterable[Part]) -> float:
        """How much of it is taken: 1 and more is full."""
        books = [part.book for part in parts]
        return max(
            sum(book.queued for book in books) / self.events,
            sum(book.queued_bytes for book in books) / self.size,
        )
