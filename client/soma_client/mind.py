"""Calls about what happens: events, rewards, opinions; how deep a tenant sleeps; what is known."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from urllib.parse import quote

from soma_client.answers import (
    Accepted,
    Event,
    Given,
    InForce,
    Sleep,
    SleepAsked,
    State,
    StateRow,
    several,
    take,
)
from soma_client.call import Answer, Call, as_json, given, new_key

Target = Literal["active", "light", "deep", "freeze"]
_WAKES = {"wake_at": datetime.fromisoformat}


class Reward(TypedDict, total=False):
    """What following a frame was worth. Default of the total: task + user + safety - costs."""

    r_task: float
    r_user: float
    r_latency: float
    r_safety: float
    r_cost: float
    total: float
    components: Mapping[str, float]
    ts: datetime


class NewEvent(TypedDict, total=False):
    """One of a batch; `payload` is the record as the topic's schema has it."""

    payload: Mapping[str, Any]
    dedupe_key: str
    key: str  # scope of order in the tenant
    headers: Mapping[str, str]


def publish(
    topic: str,
    *payloads: Mapping[str, Any],
    idempotency_key: str | None = None,
) -> Call[Accepted]:
    """Add records to a topic that users write, all or none; times and lists as they are."""
    return publish_events(
        topic, [{"payload": one} for one in payloads], idempotency_key=idempotency_key
    )


def publish_events(
    topic: str, events: Sequence[NewEvent], *, idempotency_key: str | None = None
) -> Call[Accepted]:
    """As `publish`, each with a key, dedupe key or headers of its own."""
    where = f"/events/{quote(topic, safe='')}"
    body, key = as_json(list(events)), idempotency_key or new_key()

    def read(answer: Answer) -> Accepted:
        return take(Accepted, answer.json(), events=several(Event))

    return Call("POST", where, read, body=body, key=key)


def reward(
    frame_id: str, *, idempotency_key: str | None = None, **worth: Unpack[Reward]
) -> Call[Given]:
    """Say what a frame was worth: `worth` as `Reward` has it. A frame has one."""
    where, key = f"/reward/{quote(frame_id, safe='')}", idempotency_key or new_key()
    return Call("POST", where, _given, body=as_json(worth), key=key)


def feedback(
    frame_id: str, rating: float, comment: str = "", *, idempotency_key: str | None = None
) -> Call[Given]:
    """Say what a user thinks of a frame: 1 (bad) to 5."""
    body = as_json({"frame_id": frame_id, "rating": rating, "comment": comment})
    key = idempotency_key or new_key()
    return Call("POST", "/teach/feedback", _given, body=body, key=key)


def sleep(
    target: Target, *, ttl_seconds: int | None = None, wait: bool = False, policy: bool = False,
    idempotency_key: str | None = None,
) -> Call[SleepAsked]:  # fmt: skip
    """Let the tenant sleep, or wake it (`active`); with `wait`, until it is in force.

    By `policy` its next observation wakes it, and no operator's sleep is changed.
    """
    where = "/api/brain/sleep_policy" if policy else "/api/util/sleep"
    body = as_json(given(target_state=target, ttl_seconds=ttl_seconds, async_mode=not wait))

    def read(answer: Answer) -> SleepAsked:
        return take(SleepAsked, answer.json(), in_force=lambda one: take(InForce, one, **_WAKES))

    return Call("POST", where, read, body=body, key=idempotency_key or new_key())


def sleep_state() -> Call[Sleep]:
    """How deep the tenant sleeps."""
    times = {"since": datetime.fromisoformat, **_WAKES}
    return Call("GET", "/api/sleep/state", lambda answer: take(Sleep, answer.json(), **times))


def state(processor: str, tenant: str) -> Call[State]:
    """What a processor knows of a tenant, from the worker that has it."""
    where = f"/state/{quote(processor, safe='')}/{quote(tenant, safe='')}"

    def read(answer: Answer) -> State:
        return take(State, answer.json(), rows=several(StateRow), notes=tuple)

    return Call("GET", where, read)


def _given(answer: Answer) -> Given:
    return take(Given, answer.json(), event=lambda one: take(Event, one))
