"""Traffic wakes: one request a sleep, from the record that is the first to speak again."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agents.kit import Driver
from agents.kit.asleep import ACTIVE, DEEP, FREEZE, LIGHT, STATES
from agents.kit.driver import Written
from agents.predictors.agent import PROCESSOR, SLEEP_REQUESTS, UPDATES
from agents.sleep.agent import AUDIT, STATUS
from agents.sleep.agent import PROCESSOR as SLEEP
from tests.contract.harness import LOG_MS, TOPIC_ID, Message, Run, plan_of, setting
from tests.unit.agents.sleep.samples import BLANK
from topics import codec

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]  # it may compile kernels

PLAN = plan_of(PROCESSOR)
TENANTS, DOMAINS = ("a", "b", "c"), ("x", "y")
BAD = (struct.pack("<f", float("nan")), b"", b"odd")
SECOND = 1_000_000
tenants, domains = st.sampled_from(TENANTS), st.sampled_from(DOMAINS)


@dataclass
class Event:
    """A record of the log: an observation, a bad one, a sleep, a tick."""

    kind: str
    tenant: str = "a"
    domain: str = "x"
    state: int = ACTIVE
    wakes: bool = False
    bad: bytes = b""


@dataclass
class Told:
    """What is to come of a log: by offset."""

    updates: list[int] = field(default_factory=list)
    requests: list[tuple[int, str, int]] = field(default_factory=list)  # offset, tenant, version
    asleep: set[str] = field(default_factory=set)


events = st.one_of(
    st.builds(Event, st.just("observe"), tenants, domains),
    st.builds(Event, st.just("observe"), tenants, domains),
    st.builds(Event, st.just("bad"), tenants, domains, bad=st.sampled_from(BAD)),
    st.builds(Event, st.just("sleep"), tenants, st.just("x"), st.integers(0, 3), st.booleans()),
    st.just(Event("tick")),
)


def observation(tenant: str, domain: str = "x", vector: bytes = b"") -> bytes:
    record = {
        "tenant": tenant, "domain": domain, "ts": LOG_MS * 1000, "sequence": None,
        "vector": vector or struct.pack("<2f", 1.0, 2.0),
    }  # fmt: skip
    return codec.encode("observation", record)


def asleep(tenant: str, state: int, version: int, wakes: bool) -> bytes:
    record = {"tenant": tenant, "state": STATES[state], "version": version, "ts": LOG_MS * 1000}
    return codec.encode("control_sleep", record | {"wake_on_traffic": wakes})


def log_of(given: Sequence[Event]) -> tuple[list[Message], Told]:
    """The records, and what is to come of them, by an account of its own."""
    log, told = list[Message](), Told()
    sleeps: dict[str, tuple[int, int, bool]] = {}
    for offset, one in enumerate(given):
        key: bytes | None = one.tenant.encode()
        if one.kind == "tick":
            key, value = None, codec.encode("control_tick", {"ts": LOG_MS * 1000})
        elif one.kind == "sleep":
            value = asleep(one.tenant, one.state, offset + 1, one.wakes)
            sleeps[one.tenant] = one.state, offset + 1, one.wakes and one.state != ACTIVE
        elif one.kind == "bad":
            value = codec.encode(
                "observation", codec.decode(observation("a"))[1] | {
                    "tenant": one.tenant, "domain": one.domain, "vector": one.bad,
                },
            )  # fmt: skip
        else:
            value = observation(one.tenant, one.domain)
            state, version, wakes = sleeps.get(one.tenant, (ACTIVE, 0, False))
            if wakes:
                told.requests.append((offset, one.tenant, version))
                del sleeps[one.tenant]
            if wakes or state != FREEZE:
                told.updates.append(offset)
        log.append(Message(offset, key, value))
    told.asleep = {tenant for tenant, one in sleeps.items() if one[0] != ACTIVE}
    return log, told


def place(record: dict[str, Any], name: str) -> int:
    """The offset in a derived id."""
    prefix = f"{TOPIC_ID[:8]}-0-"
    assert record[name].startswith(prefix)
    return int(record[name].removeprefix(prefix))


def records(run: Run, topic: str) -> list[dict[str, Any]]:
    return [codec.decode(one.value or b"")[1] for one in run.of(topic)]


@settings(max_examples=150)
@given(st.lists(events, min_size=1, max_size=40), st.data())
def test_one_request_a_sleep_wherever_batches_are_cut_and_processes_restart(
    given: list[Event], data: st.DataObject
) -> None:
    log, told = log_of(given)
    whole = Run(PLAN).feed([log])
    assert [place(one, "observation_id") for one in records(whole, UPDATES)] == told.updates
    asked = records(whole, SLEEP_REQUESTS)
    found = [(place(one, "request_id"), one["tenant"], one["version"]) for one in asked]
    assert found == told.requests
    assert {(one["kind"], one["target"]) for one in asked} <= {("traffic", "active")}
    assert [one.key for one in whole.of(SLEEP_REQUESTS)] == [one[1].encode() for one in found]
    slept = {key.decode() for key in whole.rows() if b"\x1f" not in key}
    assert slept == told.asleep
    cuts = sorted(data.draw(st.sets(st.integers(1, len(log)), max_size=6)))
    pieces, at = Run(PLAN), 0
    for cut in [*cuts, len(log)]:
        pieces.feed([log[at:cut]])
        at = cut
        if data.draw(st.booleans()):
            rows = pieces.rows()
            order = data.draw(st.permutations(sorted(rows)))
            pieces.restart(PROCESSOR.make(pieces.context))
            pieces.load({key: rows[key] for key in order})
    assert pieces.outputs() == whole.outputs() and pieces.rows() == whole.rows()


def test_what_is_refused_wakes_nobody() -> None:
    bad = [Event("bad", bad=one) for one in BAD]
    log, told = log_of([Event("sleep", state=FREEZE, wakes=True), *bad, Event("observe")])
    assert told.requests == [(4, "a", 1)]
    run = Run(PLAN).feed([log])
    assert run.results["dead"] == 3 and len(records(run, UPDATES)) == 1


@pytest.mark.parametrize("state", [LIGHT, DEEP, FREEZE])
def test_the_record_that_wakes_is_folded_as_of_whoever_is_awake(state: int) -> None:
    log = [Message(k, b"a", observation("a", "x", struct.pack("<2f", k % 3, 1))) for k in range(9)]
    awake = Run(PLAN).feed([log])
    slept = Run(PLAN).feed([log[:6]])
    slept.feed([[Message(6, b"a", asleep("a", state, 1, True))]])
    slept.feed([[Message(one.offset + 1, one.key, one.value) for one in log[6:]]])
    parts = [records(run, UPDATES) for run in (slept, awake)]
    for one in (*parts[0], *parts[1]):
        del one["observation_id"]
    assert parts[0] == parts[1] and slept.rows() == awake.rows()


def test_a_hundred_tenants_wake_in_the_order_of_their_records() -> None:
    names = [f"t{k}" for k in np.random.default_rng(1).permutation(100)]
    run, each = Run(PLAN), enumerate(names)
    run.feed([[Message(k, one.encode(), asleep(one, FREEZE, k + 1, True)) for k, one in each]])
    back = names[::-1]
    twice = [*back, *names]
    run.feed([[Message(100 + k, n.encode(), observation(n)) for k, n in enumerate(twice)]])
    assert [one["tenant"] for one in records(run, SLEEP_REQUESTS)] == back
    assert len(records(run, UPDATES)) == 200


class Pair(RuleBasedStateMachine):
    """Predictors and sleep, each with its log, and records on their way for as long as may be."""

    def __init__(self) -> None:
        super().__init__()
        self.predictors, self.sleep = Run(PLAN), Driver(SLEEP)
        self.to_sleep: list[dict[str, Any]] = []
        self.to_predictors: list[tuple[str, bytes]] = []
        self.read = self.number = 0
        self.predictors.feed([[setting(0, "*", "sleep_after_s", "60")]])

    def observe_(self, tenant: str | None, value: bytes) -> None:
        run, key = self.predictors, tenant.encode() if tenant is not None else None
        run.feed([[Message(run.next, key, value)]], self.sleep.time // 1000)
        self.to_sleep += records(run, SLEEP_REQUESTS)[self.read :]
        self.read = len(records(run, SLEEP_REQUESTS))

    def ask(self, record: dict[str, Any]) -> None:
        before = self.sleep.rows.get(record["tenant"], {"version": 0, "state": STATES[ACTIVE]})
        self.sleep.send(record)
        found: list[Written] = self.sleep.take()
        for one in found:
            if one.topic == STATUS and one.record and one.record["reason"] == "traffic":
                assert record["version"] == before["version"], "an old wake ended a newer sleep"
            if one.topic == PROCESSOR.source and one.record is not None:
                value = codec.encode("control_sleep", one.record)
                self.to_predictors.append((one.record["tenant"], value))
        assert not self.sleep.dead_letters and [one for one in found if one.topic == AUDIT]

    @rule(tenant=tenants)
    def an_observation(self, tenant: str) -> None:
        self.observe_(tenant, observation(tenant))

    @rule(tenant=tenants, state=st.integers(0, 3), wakes=st.booleans(), policy=st.booleans())
    def a_request(self, tenant: str, state: int, wakes: bool, policy: bool) -> None:
        self.number += 1
        self.to_sleep.append(BLANK | {
            "request_id": f"r{self.number}", "tenant": tenant, "target": STATES[state],
            "wake_on_traffic": wakes and state != ACTIVE,
            "kind": "policy" if policy else "operator",
        })  # fmt: skip

    @rule(seconds=st.sampled_from((1, 59, 61)))
    def time_passes(self, seconds: int) -> None:
        self.sleep.time += seconds * SECOND
        self.observe_(None, codec.encode("control_tick", {"ts": self.sleep.time}))

    @rule()
    def sleep_reads(self) -> None:
        if self.to_sleep:
            self.ask(self.to_sleep.pop(0))

    @rule()
    def predictors_hear(self) -> None:
        if self.to_predictors:
            self.observe_(*self.to_predictors.pop(0))

    @rule()
    def predictors_restart(self) -> None:
        rows = self.predictors.rows()
        self.predictors.restart(PROCESSOR.make(self.predictors.context))
        self.predictors.load(rows)

    def teardown(self) -> None:
        """When all has arrived, both say the same of everybody; and one observation more of each
        wakes whom it may.
        """
        self.settle()
        for tenant in TENANTS:
            may = self.sleep.rows.get(tenant, {}).get("wakes", False)
            spoke = len(self.predictors.of(UPDATES))
            self.an_observation(tenant)
            self.settle()
            state = self.sleep.rows.get(tenant, {}).get("state", STATES[ACTIVE])
            assert not may or state == STATES[ACTIVE]
            assert len(self.predictors.of(UPDATES)) - spoke == (state != STATES[FREEZE])

    def settle(self) -> None:
        while self.to_sleep or self.to_predictors:
            self.sleep_reads()
            self.predictors_hear()
        slept = {key.decode() for key in self.predictors.rows() if b"\x1f" not in key} - {"*"}
        rows = self.sleep.rows.items()
        assert slept == {tenant for tenant, row in rows if row["state"] != STATES[ACTIVE]}


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
