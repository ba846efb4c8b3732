"""Whoever is silent sleeps by itself: at the time that the settings say, asked for once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.kit.asleep import ACTIVE, LIGHT, STATES
from agents.predictors import requests
from agents.predictors.agent import PROCESSOR, SLEEP_REQUESTS
from tests.contract.harness import LOG_MS, Message, Run, batch_of, setting
from tests.unit.agents.predictors.test_waking import (
    DOMAINS,
    PLAN,
    SECOND,
    TENANTS,
    asleep,
    observation,
    place,
    records,
)
from topics import codec

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]  # it may compile kernels

DAY_S = 86_400
FORGET_S = 30 * DAY_S
EVERYONE = "*"
owners = st.sampled_from((*TENANTS, EVERYONE))
Asked = tuple[int, str, str, str, int]  # offset, kind, target, tenant, version


@dataclass
class Event:
    """A record of the log, so many seconds behind the one before."""

    kind: str
    after_s: int
    tenant: str = "a"
    domain: str = "x"
    state: int = ACTIVE
    wakes: bool = False
    value: str = ""


@dataclass
class Account:
    """What is to come of a log, kept by itself."""

    now: int = LOG_MS * 1000
    seen: dict[str, dict[str, int]] = field(default_factory=dict)  # tenant -> domain -> log time
    sleeps: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def due(self) -> list[tuple[int, str]]:
        """When who is to sleep."""
        found = []
        for tenant, domains in self.seen.items():
            after = self.after.get(tenant, self.after.get(EVERYONE, 0))
            if domains and after and tenant not in self.sleeps:
                found.append((max(domains.values()) + after * SECOND, tenant))
        return sorted(found)

    def tick(self, offset: int) -> None:
        may = [t for t, one in self.sleeps.items() if one[2] and self.seen.get(t)]
        for domains in self.seen.values():
            for name in [n for n, at in domains.items() if at + FORGET_S * SECOND <= self.now]:
                del domains[name]
        for tenant in sorted(one for one in may if not self.seen[one]):
            self.asked.append((offset, "policy", STATES[ACTIVE], tenant, 0))
            if self.sleeps[tenant][1] == 0:
                del self.sleeps[tenant]
        for at, tenant in self.due():
            if at <= self.now:
                self.asked.append((offset, "policy", STATES[LIGHT], tenant, 0))
                self.sleeps[tenant] = LIGHT, 0, True

    def take(self, offset: int, one: Event) -> None:
        self.now += one.after_s * SECOND
        if one.kind == "tick":
            self.tick(offset)
        elif one.kind == "setting":
            self.after = {k: v for k, v in self.after.items() if k != one.tenant}
            if one.value:
                self.after[one.tenant] = int(one.value)
        elif one.kind == "sleep":
            slept = self.sleeps.pop(one.tenant, None)
            if slept and one.state == ACTIVE:
                self.seen[one.tenant] = dict.fromkeys(self.seen.get(one.tenant, {}), self.now)
            if one.state != ACTIVE:
                self.sleeps[one.tenant] = one.state, offset + 1, one.wakes
        else:
            _, version, wakes = self.sleeps.get(one.tenant, (ACTIVE, 0, False))
            if wakes:
                del self.sleeps[one.tenant]
                if version:
                    self.asked.append((offset, "traffic", STATES[ACTIVE], one.tenant, version))
            self.seen.setdefault(one.tenant, {})[one.domain] = self.now


steps = st.sampled_from((0, 0, 1, 30, 59, 60, 61, 3600))
tenants = st.sampled_from(TENANTS)
events = st.one_of(
    st.builds(Event, st.just("observe"), steps, tenants, st.sampled_from(DOMAINS)),
    st.builds(Event, st.just("tick"), steps | st.just(FORGET_S)),
    st.builds(Event, st.just("tick"), steps),
    st.builds(
        Event, st.just("setting"), steps, owners,
        value=st.sampled_from(("", "0", "30", "60", "3600", "60")),
    ),
    st.builds(
        Event, st.just("sleep"), steps, tenants, st.just("x"), st.integers(0, 3), st.booleans()
    ),
)  # fmt: skip


def message(offset: int, one: Event, now: int) -> Message:
    if one.kind == "tick":
        return Message(offset, None, codec.encode("control_tick", {"ts": now}))
    if one.kind == "setting":
        return setting(offset, one.tenant, "sleep_after_s", one.value)
    key = one.tenant.encode()
    if one.kind == "sleep":
        return Message(offset, key, asleep(one.tenant, one.state, offset + 1, one.wakes))
    return Message(offset, key, observation(one.tenant, one.domain))


def asked(run: Run) -> list[Asked]:
    return [
        (place(one, "request_id"), one["kind"], one["target"], one["tenant"], one["version"])
        for one in records(run, SLEEP_REQUESTS)
    ]


@settings(max_examples=200)
@given(st.lists(events, min_size=1, max_size=30), st.booleans(), st.data())
def test_the_silent_are_asked_to_sleep_once_at_their_time(
    given: Sequence[Event], all_: bool, data: st.DataObject
) -> None:
    given = [Event("setting", 0, EVERYONE, value="60"), *given] if all_ else given
    account, run = Account(), Run(PLAN)
    batches = []
    for offset, one in enumerate(given):
        account.take(offset, one)
        batches.append(batch_of([message(offset, one, account.now)], account.now // 1000))
        run.transaction(batches[-1:])
        deadline, due = run.fold.deadline(), account.due()
        assert not due or (deadline is not None and deadline <= due[0][0])
    assert asked(run) == account.asked
    assert all(one.key is not None for one in run.of(SLEEP_REQUESTS))
    slept = {key.decode() for key, row in run.rows().items() if sleeps(key, row)}
    assert slept == set(account.sleeps)
    other, at = Run(PLAN), 0
    cuts = data.draw(st.sets(st.integers(1, len(batches)), max_size=5))
    for cut in [*sorted(cuts), len(batches)]:
        if at < cut:
            other.transaction(batches[at:cut])
            at = cut
        rows = other.rows()
        order = data.draw(st.permutations(sorted(rows)))
        other.restart(PROCESSOR.make(other.context))
        other.load({key: rows[key] for key in order})
    assert other.outputs() == run.outputs() and other.rows() == run.rows()


def sleeps(key: bytes, row: bytes) -> bool:
    """Whether a row is a tenant's who sleeps."""
    return b"\x1f" not in key and "sleep" in codec.decode(row)[1]["settings"]


def test_only_so_many_are_asked_a_tick_and_the_longest_silent_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "ASKED_MAX", 3)
    names = ["c", "b", "e", "a", "d", "f", "g"]
    run = Run(PLAN).feed([[setting(0, EVERYONE, "sleep_after_s", "60")]])
    for k, name in enumerate(names):
        seen = Message(run.next, name.encode(), observation(name))
        run.feed([[seen]], LOG_MS + 1000 * (k // 2))
    now, tick = LOG_MS + 3600_000, codec.encode("control_tick", {"ts": (LOG_MS + 3600_000) * 1000})
    for count in (3, 6, 7, 7):
        deadline = run.fold.deadline()
        assert deadline is not None and (deadline <= now * 1000 or len(asked(run)) == len(names))
        run.feed([[Message(run.next, None, tick)]], now)
        assert len(asked(run)) == count
    assert [one[3] for one in asked(run)] == ["b", "c", "a", "e", "d", "f", "g"]


def test_nobody_sleeps_unless_a_setting_says_so() -> None:
    run = Run(PLAN).feed([[Message(0, b"a", observation("a"))]])
    tick = codec.encode("control_tick", {"ts": LOG_MS * 1000 + FORGET_S * SECOND - 1})
    run.feed([[Message(1, None, tick)]], LOG_MS + FORGET_S * 1000)
    assert asked(run) == [] and run.fold.deadline() == LOG_MS * 1000 + FORGET_S * SECOND
