"""memory.events -> memory.latest and memory.audit: what is remembered, and orders to forget.

A row of the state topic per memory, dedupe key, namespace and order (`state.py`); `law.py` says
what an event does. A memory goes to memory.latest in two rows (agents/memory_rows.py), so that what
changes often rewrites no payload and no vector. Each record of memory.events has one answer on
memory.audit: what it did, or why nothing. An order to prune comes in band, by the processor
`prune`; what it lets go are events in memory.events again, so that everybody who reads them hears
of it, and a fold anew comes to the same.
"""

from typing import TYPE_CHECKING, Any

from agents.coordinates import event_id
from agents.engine.answer import Answer
from agents.engine.reasons import CONTROL_REFUSED, NAMES
from agents.kit import Emit, Reads, Refuse, RowProcessor
from agents.memory import checks, law, orders, state
from agents.memory.law import DELETED
from agents.memory.settings import GUARD, HORIZON, LINKS, SETTINGS
from agents.memory.state import Memory
from agents.memory_rows import CONTENT_PART, HEAD_PART, content_key, head_key
from topics import codec

if TYPE_CHECKING:
    from agents.engine.dead_letters import Letter

EVENTS, LATEST, AUDIT = "memory.events", "memory.latest", "memory.audit"
EVENT_SCHEMA, ORDER_SCHEMA = "memory_event", "prune_order"
DONE, REFUSED, DEAD, DRY_RUN = "done", "refused", "dead", "dry_run"
EPISODIC, SEMANTIC = "episodic", "semantic"
# The other part's fields, said for their defaults: a record that lacks some takes twice as long.
NO_HEAD: dict[str, Any] = {
    "content_version": 0, "memory_type": EPISODIC, "importance_raw": None, "created_ts": 0,
    "updated_ts": 0, "accessed_ts": 0, "access_count": 0, "links": {}, "deleted": False,
}  # fmt: skip
NO_CONTENT: dict[str, Any] = {"coordinate": "", "payload": "", "vector": b"", "model_revision": ""}
PRUNE = "prune"  # the type of an order's answer
SECOND = 1_000_000
NAME_MAX = 128  # characters of what is shown of names
CHANGES, REFUSALS = "soma_memory_changes_total", "soma_memory_refused_total"


def event(tenant: Memory, record: Any, out: Emit) -> None:
    """Fold one event of a memory."""
    if (bad := checks.bad(record)) is not None:
        raise Refuse(bad.detail, bad.reason)
    now, horizon = record.log_ms * 1000, out.setting(HORIZON) * SECOND
    key = state.seen(record.dedupe_key) if record.dedupe_key else ""
    if key:
        before = out.known(key)
        if before is not None and before.due is not None and before.due > now:
            _refuse(record, law.Why(law.DUPLICATE, "its dedupe key came before"), None, out)
            return
        seen = out.row(key)
        seen.due, seen.version, seen.number = now + horizon, 0, 0
    row, space = out.known(record.id), out.known(state.space(record.namespace))
    links = law.linked(row, record)
    written = out.known(state.seen(record.expected_key)) if record.expected_key else None
    why = (
        law.judge(record, row, space, horizon)
        or law.judge_key(record, row, written)
        or _unfit(record, links, space, out)
    )
    if why is not None:
        _refuse(record, why, row, out)
        return
    if record.type in checks.WRITES and record.embedding and (space is None or not space.number):
        space = out.row(state.space(record.namespace))
        space.number = len(record.embedding) // checks.FLOAT_BYTES
    there = row is not None and not row.deleted
    row = out.row(record.id)
    law.apply(row, record, links, horizon)
    if key and record.type in checks.WRITES:
        seen = out.row(key)
        seen.version, seen.number = row.content, state.begin_of(record.id)
    tenant.number += (not row.deleted) - there
    _tell(row, record, out)


def _unfit(
    record: Any, links: dict[str, str] | None, space: Memory | None, out: Emit
) -> law.Why | None:
    """Why an event doesn't fit what else the tenant has."""
    if links is not None:
        if len(links) > (most := out.setting(LINKS)):
            return law.Why(law.LINKS_MAX, f"{len(links)} links, at most {most}")
        for other, kind in record.links.items():
            there = out.known(other)
            if kind and (there is None or there.deleted):
                return law.Why(law.LINK, f"there is no memory {other}")
    size = len(record.embedding) // checks.FLOAT_BYTES if record.type in checks.WRITES else 0
    if size and space is not None and space.number not in (0, size):
        text = f"{size} numbers, and vectors of this namespace have {space.number}"
        return law.Why(law.DIMENSION, text)
    return None


def _tell(row: Memory, record: Any, out: Emit) -> None:
    """What a memory is now, and that an event was done: the content before its head."""
    tenant, namespace = record.tenant, row.namespace
    if record.type == DELETED:
        out.delete(LATEST, content_key(tenant, namespace, record.id), part=True)
    elif record.type in checks.WRITES:
        out.to(LATEST, {
            "id": record.id, "tenant": tenant, "namespace": namespace, "part": CONTENT_PART,
            "version": row.version, "offset": record.offset, "coordinate": record.coordinate,
            "payload": record.payload, "vector": record.embedding,
            "model_revision": record.model_revision, **NO_HEAD,
        }, key=content_key(tenant, namespace, record.id), part=True)  # fmt: skip
    out.to(LATEST, {
        "id": record.id, "tenant": tenant, "namespace": namespace, "part": HEAD_PART,
        "version": row.version, "offset": record.offset, "content_version": row.content,
        "memory_type": SEMANTIC if row.semantic else EPISODIC,
        "importance_raw": row.importance, "created_ts": row.created, "updated_ts": row.updated,
        "accessed_ts": row.accessed, "access_count": row.count, "links": state.links_of(row),
        "deleted": row.deleted, **NO_CONTENT,
    }, key=head_key(tenant, namespace, record.id), part=True)  # fmt: skip
    out.count(CHANGES)
    out.to(AUDIT, _answer(record, DONE, "", "", row.version))


def _refuse(record: Any, why: law.Why, row: Memory | None, out: Emit) -> None:
    version = 0 if row is None else row.version
    out.count(REFUSALS)
    out.to(AUDIT, _answer(record, REFUSED, why.reason, why.detail, version))


def _answer(record: Any, outcome: str, reason: str, detail: str, version: int) -> dict[str, Any]:
    return {
        "tenant": record.tenant, "ts": record.log_ms * 1000, "offset": record.offset,
        "type": record.type, "outcome": outcome, "reason": reason, "detail": detail,
        "namespace": record.namespace, "id": record.id, "event_id": record.event_id,
        "dedupe_key": record.dedupe_key, "version": version,
    }  # fmt: skip


def prune(tenant: Memory, record: Any, out: Emit) -> None:
    """Carry an order to prune out, say what it would do, or why it isn't carried out."""
    if why := orders.malformed(record):
        raise Refuse(why, orders.MALFORMED)
    now, horizon = record.log_ms * 1000, out.setting(HORIZON) * SECOND
    entity = state.order(record.order_id)
    before = out.known(entity)
    if before is not None and before.due is not None and before.due > now:
        _order(record, REFUSED, orders.KNOWN, "it was carried out before", out)
        return
    found = orders.find(record, out.known, out.rows)
    detail = found.detail(tenant.number)
    if record.dry_run:
        _order(record, DRY_RUN, "", detail, out)
    elif orders.guarded(record, found, tenant.number, out.setting(GUARD)):
        _order(record, REFUSED, orders.GUARD, detail, out)
    else:
        out.row(entity).due = now + horizon
        for id_ in found.ids:
            key = f"{PRUNE}:{record.order_id}:{id_}"
            out.to(EVENTS, {
                "event_id": event_id(record.tenant, key), "id": id_, "tenant": record.tenant,
                "namespace": record.namespace, "type": DELETED, "ts": now, "coordinate": "",
                "dedupe_key": key,
            })  # fmt: skip
        _order(record, DONE, "", detail, out)


def _order(record: Any, outcome: str, reason: str, detail: str, out: Emit) -> None:
    """The answer to an order."""
    out.to(AUDIT, {
        "tenant": record.tenant, "ts": record.log_ms * 1000, "offset": record.offset,
        "type": PRUNE, "outcome": outcome, "reason": reason, "detail": detail,
        "namespace": record.namespace, "id": record.order_id,
    })  # fmt: skip


def forget(row: Memory, now: int, out: Emit) -> None:
    """The timer's call: what was kept for the horizon goes."""
    if row.deleted:
        space = out.row(state.space(row.namespace))
        space.gone = max(space.gone, row.updated)
        out.delete(LATEST, head_key(out.tenant, row.namespace, out.entity), part=True)
    out.forget()


def unread(letter: "Letter") -> Answer | None:
    """Say of what became a dead letter that it did."""
    if letter.reason == NAMES[CONTROL_REFUSED]:
        return None  # a setting
    said = _read(letter.value)
    key = (letter.key or b"")[:NAME_MAX].decode("utf-8", "backslashreplace")
    return Answer(AUDIT, letter.origin.encode(), {
        "tenant": key, "ts": letter.log_ms * 1000, "offset": letter.offset,
        "type": str(said.get("type", PRUNE if "order_id" in said else "")), "outcome": DEAD,
        "reason": letter.reason, "detail": letter.detail,
        "namespace": str(said.get("namespace", ""))[:NAME_MAX],
        "id": str(said.get("id", said.get("order_id", "")))[:NAME_MAX],
        "event_id": str(said.get("event_id", ""))[:NAME_MAX],
        "dedupe_key": str(said.get("dedupe_key", ""))[:NAME_MAX],
    })  # fmt: skip


def _read(value: bytes | None) -> dict[str, Any]:
    """A record as far as it can be read."""
    try:
        if value is not None and value[:1] == b"{":
            return codec.from_json(EVENT_SCHEMA, value)
        return codec.decode(value or b"")[1]
    except codec.BadRecord:
        return {}


PROCESSOR = RowProcessor(
    "memory", source=EVENTS, sinks=(LATEST, AUDIT, EVENTS), row=Memory,
    folds={EVENT_SCHEMA: event, ORDER_SCHEMA: prune}, on_time=forget, unread=unread,
    settings=SETTINGS, lasting=True,
    reasons=checks.REASONS | {orders.MALFORMED: "an order to prune can't be so"},
    reads={
        EVENT_SCHEMA: Reads(domain=None, strings={"payload": checks.PAYLOAD_BYTES_MAX}),
        ORDER_SCHEMA: Reads(domain=None),
    },
    counts={
        CHANGES: "Events that changed a memory.",
        REFUSALS: "Events that changed none: duplicates, lost updates, of what isn't there.",
    },
)  # fmt: skip
