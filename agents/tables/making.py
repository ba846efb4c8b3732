"""Rows of a table from records that were read: by the live projection, and by a job beside it."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from confluent_kafka import Message

from agents.settings import Settings
from agents.tables.declared import Declared
from agents.tables.rows import Gone
from topics import codec

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Made:
    """Rows, the place of each in words, their days, and how many records became none (and why)."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    gone: list[tuple[Any, ...]] = field(default_factory=list)  # keys, each with topic id, offset
    days: set[date] = field(default_factory=set)  # of a table that has a partition for each
    counts: dict[str, int] = field(default_factory=lambda: {"unreadable": 0, "expired": 0})


def make(
    settings: Settings, what: Declared, messages: Iterable[Message], topic: str, topic_id: str
) -> Made:
    """The rows of some records; `topic` is its name on the broker. What is none is logged."""
    found = Made()
    since = first_day(settings) if what.target.days else None
    for message in messages:
        day = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).date()
        if since is not None and day < since:
            found.counts["expired"] += 1
            continue
        place = f"{topic} partition {message.partition()} offset {message.offset()}"
        try:
            taken = what.rows.taken(message, topic_id)
        except codec.BadRecord as error:
            found.counts["unreadable"] += 1
            logger.error("%s is no %s: %s", place, what.rows.schema, error)
            continue
        if isinstance(taken, Gone):
            found.gone += [(*key, topic_id, message.offset()) for key in taken.keys]
            continue
        found.rows.append(taken)
        found.places.append(place)
        if since is not None:
            found.days.add(day)
    return found


def first_day(settings: Settings) -> date:
    """The first day that a table with a partition for each keeps."""
    return (datetime.now(UTC) - timedelta(days=settings.projections.history_days)).date()
