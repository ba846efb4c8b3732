"""Open transactions in our topics that last too long, in words."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agents.settings import SettingsError
from topics.broker import BrokerError, connect, look
from topics.catalogue import CATALOGUE

if TYPE_CHECKING:
    from agents.settings import Settings
    from topics.transactions import Open

LONG_S = 10.0  # ours take less than a second, an import's two


def standing(settings: "Settings", topics: Iterable[str] = CATALOGUE) -> "list[Open]":
    """What has been open for long in these of the catalogue's topics, as far as they are there.

    BrokerError; SettingsError.
    """
    names = sorted(look(connect(settings.librdkafka()), map(settings.topic, topics)))
    before = (time.time() - LONG_S) * 1000
    return [one for one in _asked(settings, names) if one.since_ms < before]


def _asked(settings: "Settings", names: list[str]) -> "list[Open]":
    from topics import transactions  # aiokafka: when it is used

    secured = _secured(settings)
    return asyncio.run(transactions.look(settings.bootstrap(), secured, names)) if names else []


def _secured(settings: "Settings") -> dict[str, Any]:
    from agents.engine.security import security  # Faust: when it is used

    try:
        return security(settings)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def said(one: "Open") -> str:
    """One of them for people."""
    since = datetime.fromtimestamp(one.since_ms / 1000, UTC)
    ago = time.time() - one.since_ms / 1000
    whose = (
        f"transactional id {one.transactional_id!r} (producer {one.producer_id}; the broker ends "
        f"it after {one.timeout_ms / 1000:g} s)"
        if one.transactional_id
        else f"producer {one.producer_id} (no broker coordinates it: only a hand ends it)"
    )
    return (
        f"{one.topic} partition {one.partition}: nothing from offset {one.first_offset} on can be "
        f"read since {since:%Y-%m-%dT%H:%M:%SZ} ({ago:.0f} s): an open transaction of {whose}"
    )


def data(one: "Open") -> dict[str, Any]:
    """One of them as JSON data."""
    return {
        "topic": one.topic,
        "partition": one.partition,
        "first_offset": one.first_offset,
        "since_ms": one.since_ms,
        "producer_id": one.producer_id,
        "transactional_id": one.transactional_id or None,
        "timeout_ms": one.timeout_ms or None,
    }


def end(settings: "Settings", one: "Open") -> None:
    """Abort it. BrokerError, also if it has ended meanwhile."""
    from topics import transactions

    if one.transactional_id:
        transactions.fence(settings.librdkafka(), one.transactional_id)
        return
    if one not in _asked(settings, [one.topic]):
        raise BrokerError(f"It has ended or gone on meanwhile: {said(one)}")
    asyncio.run(transactions.abort(settings.bootstrap(), _secured(settings), one))
