"""The state machine of a tenant's sleep: which requests change it, and how.

Edges: active -> light -> deep -> freeze, freeze -> light, and any state -> active. A request for a
state that lies further on walks the edges to it; one that no edges lead to is refused.

A sleep belongs to its cause, of `CAUSES` in rising order. Whoever stands lower can't change it, who
stands as high or higher takes it over. An operator wakes everybody; the circuit and the policy what
they put to sleep themselves; traffic what the policy put to sleep, or an operator whose request
said so; and a sleep with an end wakes at it. Waking is only of the sleep that is meant: traffic
says which version it came upon.

Circuits are asked about by owners that follow one another, and one that was overtaken may be heard
behind its successor. So their requests have a number that rises from owner to owner (`version`),
and one that is lower than what a tenant's circuit asked with before is refused. It is a time of the
log: when the row was written that the owner asks by.

Time is the log's, and at the end of a sleep the tick's; both are microseconds.
"""

from dataclasses import dataclass
from typing import NamedTuple

from agents.kit.asleep import ACTIVE, FREEZE, LIGHT, STATES
from agents.kit.setting import SHOWN

BACK = (FREEZE, LIGHT)  # the one edge that leads up without waking

POLICY, CIRCUIT, OPERATOR = "policy", "circuit", "operator"
CAUSES = (POLICY, CIRCUIT, OPERATOR)
TRAFFIC, EXPIRY = "traffic", "expiry"  # which only wake
KINDS = (*CAUSES, TRAFFIC)  # of requests: an expiry is the house's own

NAME_MAX = 128  # characters of what is shown of names
TTL_S_MAX = 3600
SECOND = 1_000_000
LOOK_S = 86_400  # a sleeper without an end is looked at so often, for it isn't to be forgotten
PER_S, BURST = 50.0, 100.0  # requests of one tenant


@dataclass(slots=True)
class Sleep:
    """A tenant's sleep, as the state topic has it. Times are microseconds."""

    state: str = STATES[ACTIVE]
    cause: str = ""  # whose sleep it is; "" while awake
    since: int = 0
    wake_at: int | None = None
    wakes: bool = False  # whether traffic wakes it
    version: int = 0  # states entered so far, and sleeps prolonged
    tokens: float = BURST  # requests that may come at once
    filled: int = 0  # when `tokens` was counted last
    due: int | None = None  # when to look again
    circuit: int = 0  # the number that its circuit asked with last


class Wish(NamedTuple):
    """What a request asks for."""

    target: int
    kind: str
    ttl_s: int | None = None
    wakes: bool = False
    version: int = 0  # of traffic: the sleep that it came upon; of a circuit: its number; 0: any


class Refused(NamedTuple):
    """Why a request changes nothing."""

    why: str


def malformed(target: str, kind: str, ttl_s: int | None, wakes: bool) -> str | None:
    """Why a request can't be one, whoever sleeps how."""
    if kind not in KINDS:
        return f"kind: one of {', '.join(KINDS)}, not {kind[:SHOWN]!r}"
    if target not in STATES:
        return f"target: one of {', '.join(STATES)}, not {target[:SHOWN]!r}"
    if ttl_s is not None and not 1 <= ttl_s <= TTL_S_MAX:
        return f"ttl_seconds: from 1 to {TTL_S_MAX}, not {ttl_s}"
    if target == STATES[ACTIVE] and (ttl_s is not None or wakes):
        return "ttl_seconds and wake_on_traffic are of a sleep: waking has none"
    if kind == TRAFFIC and target != STATES[ACTIVE]:
        return "kind: traffic only wakes"
    return None


def path(state: int, target: int) -> tuple[int, ...] | None:
    """The states entered on the way, in their order; None where there is no way."""
    if target == ACTIVE:
        return () if state == ACTIVE else (ACTIVE,)
    if target >= state:
        return tuple(range(state + 1, target + 1))
    return (target,) if (state, target) == BACK else None


def judge(row: Sleep, wish: Wish) -> tuple[int, ...] | Refused:
    """The states that a request lets a tenant enter, or why none; () if it is there already."""
    state = STATES.index(row.state)
    if overtaken(row, wish):
        return Refused(f"it is number {wish.version} of its circuit, and {row.circuit} came before")
    if wish.target == ACTIVE:
        why = None if state == ACTIVE else _unable_to_wake(row, wish)
        return Refused(why) if why is not None else path(state, ACTIVE) or ()
    if row.cause in CAUSES and CAUSES.index(wish.kind) < CAUSES.index(row.cause):
        return Refused(f"the sleep is the {row.cause}'s, whom the {wish.kind} can't overrule")
    way = path(state, wish.target)
    if way is None:
        target = STATES[wish.target]
        return Refused(f"no way leads from {row.state} to {target}: wake it first")
    return way


def _unable_to_wake(row: Sleep, wish: Wish) -> str | None:
    """Why a request can't end a sleep."""
    if wish.kind == OPERATOR:
        return None
    if wish.kind == TRAFFIC:
        if wish.version and wish.version != row.version:
            return f"it came upon sleep {wish.version}, and this is {row.version}"
        return None if row.wakes else f"the {row.cause}'s sleep isn't ended by traffic"
    if wish.kind == row.cause:
        return None
    return f"the {wish.kind} wakes whom it put to sleep, and this sleep is the {row.cause}'s"


def overtaken(row: Sleep, wish: Wish) -> bool:
    """Whether a circuit's request is older than one that was heard before it."""
    return wish.kind == CIRCUIT and 0 < wish.version < row.circuit


def number(row: Sleep, wish: Wish, log_ms: int) -> None:
    """Note a circuit's number. It is a time that has been, by the log's clock: one that hasn't
    would refuse all that the circuit asks for later.
    """
    row.circuit = max(row.circuit, min(wish.version, log_ms))


def free(wish: Wish, way: tuple[int, ...] | Refused) -> bool:
    """Whether a request isn't counted: traffic or a circuit that ends a sleep does so once for
    each of them, and nobody asks again. A circuit's sleep was counted when it began.
    """
    ends = wish.kind in (TRAFFIC, CIRCUIT) and wish.target == ACTIVE
    return ends and not isinstance(way, Refused) and bool(way)


def enter(row: Sleep, state: int, wish: Wish, now: int) -> None:
    """Let a tenant be in a state from now on, or (its own state again) stay in it as now asked."""
    if STATES[state] != row.state:
        row.since = now
    row.state, row.version = STATES[state], row.version + 1
    asleep = state != ACTIVE
    row.cause = wish.kind if asleep else ""
    row.wakes = asleep and (wish.wakes or wish.kind == POLICY)
    row.wake_at = now + wish.ttl_s * SECOND if asleep and wish.ttl_s is not None else None
    look(row, now)


def renews(row: Sleep, wish: Wish) -> bool:
    """Whether a request for the state that is there changes whose sleep it is, or its end."""
    if wish.target == ACTIVE:
        return False
    same = row.cause == wish.kind and row.wakes == (wish.wakes or wish.kind == POLICY)
    return not same or row.wake_at is not None or wish.ttl_s is not None


def over(row: Sleep, now: int) -> bool:
    """Whether a sleep's end has come."""
    return row.wake_at is not None and row.wake_at <= now


def look(row: Sleep, now: int) -> None:
    """Set when a tenant is looked at again."""
    asleep = row.state != STATES[ACTIVE]
    later = row.wake_at if row.wake_at is not None else now + LOOK_S * SECOND
    row.due = later if asleep else None


def spend(row: Sleep, now: int) -> bool:
    """Take one of the requests that a tenant may make: PER_S, and BURST at once; False: none left.

    A clock that goes back fills nothing.
    """
    filled = max(0, now - row.filled) / SECOND * PER_S if row.filled else 0.0
    row.tokens = min(BURST, row.tokens + filled)
    row.filled = max(row.filled, now)
    if row.tokens < 1.0:
        return False
    row.tokens -= 1.0
    return True
