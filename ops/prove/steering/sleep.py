"""The law of sleep, written again for the verifier: who may put to sleep or wake whom."""

import json
from dataclasses import dataclass

from ops.prove.dozing import ACTIVE, DEPTHS, FREEZE, STATES, heat_left, learning_left, time_left
from ops.prove.law import RefusedError, Row
from ops.prove.rowlaw import HERE, At, Out, RowLaw

REQUESTS, ENTERED, AUDIT = "brain.sleep.requests", "brain.sleep.states", "soma.audit"
CONCERNED = (
    "cog.observations", "cog.predictor.updates", "cog.global.frame", "cog.reward.events",
)  # fmt: skip
RANK = {"policy": 0, "circuit": 1, "operator": 2}
KINDS = (*RANK, "traffic")
SECOND = 1_000_000
DAY_US = 86_400 * SECOND
MEMORIES, TIME, RATE, DECAY, BUDGET = 100.0, 10.0, 0.1, 0.01, 0.5  # of whoever is awake
DECAYS = {"active": 1.0, "light": 0.8, "deep": 0.5, "freeze": 0.0}
EDGES = {"active": "light", "light": "deep", "deep": "freeze"}


@dataclass
class Sleeper:
    """A tenant's row."""

    state: str = ACTIVE
    cause: str = ""
    since: int = 0
    wake_at: int | None = None
    wakes: bool = False
    version: int = 0
    tokens: float = 100.0
    filled: int = 0
    due: int | None = None
    circuit: int = 0

    def enter(self, state: str, request: Row, now: int) -> None:
        """Be in a state, or go on being in it as was asked."""
        asleep, ttl = state != ACTIVE, request["ttl_seconds"]
        self.since = now if state != self.state else self.since
        self.state, self.version = state, self.version + 1
        self.cause = request["kind"] if asleep else ""
        self.wakes = asleep and (request["wake_on_traffic"] or request["kind"] == "policy")
        self.wake_at = now + ttl * SECOND if asleep and ttl is not None else None
        self.due = None
        if asleep:
            self.due = now + DAY_US if self.wake_at is None else self.wake_at

    def may_wake(self, request: Row) -> bool:
        """Whether a request can end the sleep."""
        kind = request["kind"]
        if kind == "traffic":
            return bool(self.wakes) and request["version"] in (0, self.version)
        return kind in ("operator", self.cause)

    def path(self, target: str) -> list[str] | None:
        """The states on the way; None where there is none."""
        if target == self.state or target == ACTIVE:
            return [] if target == self.state else [ACTIVE]
        if (self.state, target) == (FREEZE, "light"):
            return [target]
        way, at = [], self.state
        while at != target:
            if at not in EDGES:
                return None
            way.append(at := EDGES[at])
        return way


class Sleeping(RowLaw):
    """Folds sleep_requests; see rowlaw.RowLaw."""

    processor, topic, source = "sleep", REQUESTS, "sleep_request"
    schemas = ("sleep_request",)
    sinks = (ENTERED, AUDIT, *CONCERNED)
    state = "sleep_row"
    timed = False

    def fold(self, name: str, record: Row, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        target, now = record["target"].lower(), at.log_ms * 1000
        _must_be_sound(target, record)
        row = self.table.setdefault(record["tenant"], Sleeper())
        before, way = row.state, self._way(row, target, record)
        free = record["kind"] in ("traffic", "circuit") and target == ACTIVE and bool(way)
        if not free:
            filled = max(0, now - row.filled) / SECOND * 50.0 if row.filled else 0.0
            row.tokens, row.filled = min(100.0, row.tokens + filled), max(row.filled, now)
            if row.tokens < 1.0:
                raise RefusedError("too many")
            row.tokens -= 1.0
        if record["kind"] == "circuit":
            row.circuit = max(row.circuit, min(record["version"], at.log_ms))
        found: list[Out] = []
        for state in way or ():
            row.enter(state, record, now)
            found.append(_entered(row, record, now))
        outcome = "refused" if way is None else "changed" if way else "unchanged"
        if way == [] and target != ACTIVE and _renews(row, record):
            row.enter(target, record, now)
            found.append(_entered(row, record, now))
            outcome = "prolonged"
        if found:
            found += _acting(row, record["tenant"], now)
        actor = record["actor"] or record["kind"]
        return [*found, _told(row, record, outcome, before, now, actor)]

    def _way(self, row: Sleeper, target: str, record: Row) -> list[str] | None:
        """The states to enter; None for a request that is refused."""
        if record["kind"] == "circuit" and 0 < record["version"] < row.circuit:
            return None
        if target == ACTIVE:
            return row.path(target) if row.state == ACTIVE or row.may_wake(record) else None
        if row.cause and RANK[record["kind"]] < RANK[row.cause]:
            return None
        return row.path(target)

    def over(self, tenant: str, now: int) -> list[Out]:
        """See rowlaw.RowLaw."""
        row: Sleeper = self.table[tenant]
        if row.wake_at is None or row.wake_at > now:
            row.due = None
            if row.state != ACTIVE:
                row.due = now + DAY_US if row.wake_at is None else row.wake_at
            return []
        before = row.state
        ended = {"tenant": tenant, "kind": "expiry", "request_id": "", "ttl_seconds": None,
                 "wake_on_traffic": False, "target": ACTIVE}  # fmt: skip
        row.enter(ACTIVE, ended, now)
        told = _told(row, ended, "changed", before, now, "expiry")
        return [_entered(row, ended, now), *_acting(row, tenant, now), told]

    def unread(self, record: Row | None, key: str, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        asked = record["request_id"] if record is not None and "request_id" in record else ""
        said = {"ts": at.log_ms * 1000, "outcome": "refused", "request_id": asked, "read": False}
        return [Out(AUDIT, at.origin, said, HERE)]

    def view(self, topic: str, name: str, row: Row) -> Row | None:
        """See rowlaw.RowLaw."""
        if topic == ENTERED:
            return {name: one for name, one in row.items() if name != "trace_id"}
        if topic != AUDIT:
            return row if name == "control_sleep" else None
        if row["action"] != "sleep":
            return None
        detail = json.loads(row["detail"])
        why = detail.pop("why")
        if "state" not in detail:  # of a dead letter
            return {"ts": row["ts"], **detail, "read": False}
        refused = bool(why) == (detail["outcome"] == "refused")
        return {"ts": row["ts"], "actor": row["actor"], **detail, "read": refused}


def _must_be_sound(target: str, record: Row) -> None:
    """RefusedError for what can't be a request."""
    ttl, wakes = record["ttl_seconds"], record["wake_on_traffic"]
    sound = record["kind"] in KINDS and target in STATES
    sound &= ttl is None or 1 <= ttl <= 3600
    if target == ACTIVE:
        sound &= ttl is None and not wakes
    elif record["kind"] == "traffic":
        sound = False
    if not sound:
        raise RefusedError("malformed")


def _renews(row: Sleeper, record: Row) -> bool:
    """Whether a request for the state that is there changes whose it is, or its end."""
    wakes = record["wake_on_traffic"] or record["kind"] == "policy"
    timed = row.wake_at is not None or record["ttl_seconds"] is not None
    return timed or (row.cause, row.wakes) != (record["kind"], wakes)


def _entered(row: Sleeper, record: Row, now: int) -> Out:
    s = DEPTHS[row.state]
    said = {
        "tenant": record["tenant"], "state": row.state, "since": row.since, "wake_at": row.wake_at,
        "k": max(1, round((1.0 - 0.8 * s) * MEMORIES)), "t": time_left(row.state) * TIME,
        "tau": heat_left(row.state), "eta": learning_left(row.state) * RATE,
        "lambda": DECAY * DECAYS[row.state], "b": BUDGET + 0.5 * s, "reason": record["kind"],
        "version": row.version, "cause": row.cause, "wake_on_traffic": row.wakes,
        "request_id": record["request_id"], "ts": now,
    }  # fmt: skip
    return Out(ENTERED, record["tenant"], said, record["tenant"])


def _acting(row: Sleeper, tenant: str, now: int) -> list[Out]:
    said = {"tenant": tenant, "state": row.state, "version": row.version,
            "wake_on_traffic": row.wakes, "ts": now}  # fmt: skip
    return [Out(topic, tenant, said, tenant) for topic in CONCERNED]


def _told(row: Sleeper, record: Row, outcome: str, before: str, now: int, actor: str) -> Out:
    said = {
        "ts": now, "actor": actor, "outcome": outcome, "request_id": record["request_id"],
        "kind": record["kind"], "target": record["target"], "from": before, "state": row.state,
        "version": row.version, "wake_at": row.wake_at, "read": True,
    }  # fmt: skip
    return Out(AUDIT, record["tenant"], said, record["tenant"])
