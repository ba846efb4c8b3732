"""brain.sleep.requests -> brain.sleep.states: who sleeps how deep, and until when.

How deep a tenant sleeps reaches the processors in which that acts in band: as a control record in
their sources, in the partition where the tenant lives. Each request has one answer on soma.audit:
what it changed, that it changed nothing, or why it is refused. Each state that is entered is a
record of its own; a request that leads over several enters all of them in one fold. Sleeps with an
end wake on a tick.
"""

import json
from typing import TYPE_CHECKING, Any

from agents.engine.answer import Answer
from agents.engine.reasons import CONTROL_REFUSED, NAMES
from agents.kit import Emit, Reads, Refuse, RowProcessor
from agents.kit.asleep import ACTIVE, STATES, powers
from agents.kit.row_counts import By
from agents.sleep import law
from agents.sleep.law import CIRCUIT, EXPIRY, Refused, Sleep, Wish
from topics import codec

if TYPE_CHECKING:
    from agents.engine.dead_letters import Letter

REQUESTS, STATUS, AUDIT = "brain.sleep.requests", "brain.sleep.states", "soma.audit"
REQUEST_SCHEMA, CONTROL_SCHEMA = "sleep_request", "control_sleep"
CONCERNED = (
    "cog.observations", "cog.predictor.updates", "cog.global.frame", "cog.reward.events",
)  # fmt: skip

MALFORMED, TOO_MANY = "malformed", "too_many"
CHANGED, PROLONGED, UNCHANGED, REFUSED = "changed", "prolonged", "unchanged", "refused"
NOBODY = Wish(ACTIVE, EXPIRY)
OFF = (
    "cognition is off for this tenant: SOMA_ENABLE_COG_THREADS=1 (or `soma config set TENANT "
    "cognition on --processor sleep`) switches it on"
)


def ask(row: Sleep, record: Any, out: Emit) -> None:
    """Do what a request wants, or say why not."""
    wish = _wish(record)
    now = record.log_ms * 1000
    before, way = row.state, law.judge(row, wish)
    if not law.free(wish, way):
        _spend(row, now)
    if wish.kind == CIRCUIT:
        law.number(row, wish, record.log_ms)
    if isinstance(way, Refused):
        _audit(row, record, REFUSED, before, way.why, out)
        return
    for state in way:
        law.enter(row, state, wish, now)
        _tell(row, record.kind, record.request_id, now, out)
    outcome = CHANGED if way else UNCHANGED
    if not way and law.renews(row, wish):
        law.enter(row, wish.target, wish, now)
        _tell(row, record.kind, record.request_id, now, out)
        outcome = PROLONGED
    if outcome != UNCHANGED:
        _act(row, now, out)
    _audit(row, record, outcome, before, "", out)


def stay(row: Sleep, record: Any, out: Emit) -> bool:
    """Nobody is put to sleep where cognition is off; who sleeps there can be woken."""
    if record.target.lower() == STATES[ACTIVE]:
        ask(row, record, out)
        return True
    _wish(record)
    _spend(row, record.log_ms * 1000)
    _audit(row, record, REFUSED, row.state, OFF, out)
    return False


def _spend(row: Sleep, now: int) -> None:
    """Count a request; one too many is a dead letter."""
    if not law.spend(row, now):
        raise Refuse(f"more than {law.PER_S:g} requests a second of one tenant", TOO_MANY)


def _wish(record: Any) -> Wish:
    """What a request asks for; a dead letter, if it can't be one."""
    target = record.target.lower()
    wakes, ttl_s = record.wake_on_traffic, record.ttl_seconds
    if (why := law.malformed(target, record.kind, ttl_s, wakes)) is not None:
        raise Refuse(why, MALFORMED)
    return Wish(STATES.index(target), record.kind, ttl_s, wakes, record.version)


def wake(row: Sleep, now: int, out: Emit) -> None:
    """The timer's call: a sleep's end may have come."""
    if not law.over(row, now):
        law.look(row, now)
        return
    before = row.state
    law.enter(row, ACTIVE, NOBODY, now)
    _tell(row, EXPIRY, "", now, out)
    _act(row, now, out)
    said = _detail(row, CHANGED, before, "", "", EXPIRY, STATES[ACTIVE])
    out.to(AUDIT, _event(out.tenant, EXPIRY, now, said), key=out.tenant)


def _act(row: Sleep, now: int, out: Emit) -> None:
    """Let the state act where there is something that it acts on."""
    control = {
        "tenant": out.tenant, "state": row.state, "version": row.version,
        "wake_on_traffic": row.wakes, "ts": now,
    }  # fmt: skip
    for topic in CONCERNED:
        out.to(topic, control)


def _tell(row: Sleep, reason: str, request_id: str, now: int, out: Emit) -> None:
    """Say which state a tenant is in now, and what it has there."""
    has = powers(STATES.index(row.state))
    out.to(STATUS, {
        "tenant": out.tenant, "state": row.state, "since": row.since, "wake_at": row.wake_at,
        "k": has.K, "t": has.t, "tau": has.tau, "eta": has.eta, "lambda": has.lam, "b": has.B,
        "reason": reason, "version": row.version, "cause": row.cause, "wake_on_traffic": row.wakes,
        "request_id": request_id, "ts": now,
    })  # fmt: skip


def _audit(row: Sleep, record: Any, outcome: str, before: str, why: str, out: Emit) -> None:
    said = _detail(row, outcome, before, why, record.request_id, record.kind, record.target)
    actor = record.actor or record.kind
    out.to(AUDIT, _event(out.tenant, actor, record.log_ms * 1000, said), key=out.tenant)


def _detail(
    row: Sleep, outcome: str, before: str, why: str, request_id: str, kind: str, target: str
) -> dict[str, Any]:
    """What became of a request."""
    return {
        "outcome": outcome, "why": why, "request_id": request_id, "kind": kind, "target": target,
        "from": before, "state": row.state, "version": row.version, "wake_at": row.wake_at,
    }  # fmt: skip


def _event(tenant: str, actor: str, now: int, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "ts": now, "actor": actor, "action": "sleep", "subject": tenant, "tenant": tenant,
        "detail": json.dumps(detail),
    }  # fmt: skip


def unread(letter: "Letter") -> Answer | None:
    """Answer a request that is a dead letter: refused, with the reason that its letter has."""
    if letter.reason == NAMES[CONTROL_REFUSED]:
        return None  # a setting
    asked = _request(letter.value)
    said = {
        "outcome": REFUSED, "why": f"{letter.reason}: {letter.detail}",
        "request_id": str(asked.get("request_id", ""))[: law.NAME_MAX],
    }  # fmt: skip
    key = (letter.key or b"")[: law.NAME_MAX].decode("utf-8", "backslashreplace")
    actor = str(asked.get("actor") or "unknown")[: law.NAME_MAX]
    event = _event(key or letter.origin, actor, letter.log_ms * 1000, said)
    return Answer(AUDIT, letter.origin.encode(), event)


def _request(value: bytes | None) -> dict[str, Any]:
    """A request as far as it can be read."""
    try:
        if value is not None and value[:1] == b"{":
            return codec.from_json(REQUEST_SCHEMA, value)
        name, record = codec.decode(value or b"")
    except codec.BadRecord:
        return {}
    return record if name == REQUEST_SCHEMA else {}


PROCESSOR = RowProcessor(
    "sleep", source=REQUESTS, sinks=(STATUS, AUDIT, *CONCERNED), row=Sleep, fold=ask,
    on_time=wake, unread=unread, off=stay, controls=dict.fromkeys(CONCERNED, CONTROL_SCHEMA),
    counts={"soma_sleep_tenants": By("state", STATES[1:], "Tenants that sleep, by how deep.")},
    reasons={
        MALFORMED: "no request can be so: a state, a kind or a time that there isn't",
        TOO_MANY: "the tenant has more requests a second than it may",
    },
    reads=Reads(domain=None, ts=None),  # whose clock it is doesn't matter
)  # fmt: skip
