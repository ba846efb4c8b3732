"""What people do to the journal by hand. It stands in the audit, or isn't done.

The audit is in PostgreSQL, and comes first: what it names may then fail, but nothing is done that
it doesn't name.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from stores.journal import PAGE_MAX, REPLAY_MAX, Journal, JournalRow, Replayed

logger = logging.getLogger(__name__)


class Notes(Protocol):
    """The part of the outbox that is used here."""

    async def note(self, actor: str, action: str, details: dict[str | None, Any]) -> None: ...


async def replay(
    journal: Journal, outbox: Notes, actor: str, seqs: Sequence[int], drained: bool
) -> Replayed:
    """`Journal.replay` of any number, audited. `StoreError`: nothing more was done."""
    done = Replayed((), (), ())
    for at in range(0, len(seqs), REPLAY_MAX):
        some = seqs[at : at + REPLAY_MAX]
        details: dict[str | None, Any] = {}
        for seq, tenant in (await journal.tenants_of(some)).items():
            details.setdefault(tenant, {"seqs": [], "drained": drained})["seqs"].append(seq)
        await _noted(outbox, actor, "journal.replay", details)
        one = await journal.replay(some, drained)
        done = Replayed(
            done.replayed + one.replayed,
            done.missing + one.missing,
            done.not_failed + one.not_failed,
        )
    return done


async def drained_since(journal: Journal, since: datetime) -> list[int]:
    """Seqs of all that were accepted since then, and brought into the outbox."""
    found: list[int] = []
    offset, moment = 0, since.timestamp()
    while rows := await journal.events(PAGE_MAX, offset, "drained"):
        found += [row.seq for row in rows if row.event.created >= moment]
        offset += len(rows)
    return found


async def drop_failed(journal: Journal, outbox: Notes, actor: str) -> int:
    """Delete all events that the outbox refused, audited; how many. `StoreError`: the rest stays.

    Those that are refused meanwhile stay, too.
    """
    dropped = 0
    last = 0
    while rows := await journal.events(PAGE_MAX, 0, "failed"):
        if rows[0].seq <= last:
            break
        last = rows[-1].seq
        await _noted(outbox, actor, "journal.drop", _lost(rows))
        dropped += await journal.forget_failed([row.seq for row in rows])
    return dropped


def _lost(rows: Sequence[JournalRow]) -> dict[str | None, Any]:
    """What is known of them afterwards, by tenant."""
    details: dict[str | None, Any] = {}
    for row in rows:
        one = {"seq": row.seq, "topic": row.event.topic, "dedupe_key": row.event.dedupe_key}
        details.setdefault(row.event.tenant, {"events": []})["events"].append(one)
    return details


async def _noted(outbox: Notes, actor: str, action: str, details: dict[str | None, Any]) -> None:
    if not details:
        return
    await outbox.note(actor, action, details)
    for tenant, detail in details.items():
        logger.warning("%s by %s, tenant %s: %s", action, actor, tenant, str(detail)[:2000])
