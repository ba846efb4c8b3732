"""The law of breakers against a plain model of one tenant, under any order of calls and time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.gateway.breakers import Breakers, Ticket

TENANTS = ("a", "b", "c")
OPEN_S = 60.0


def opened(breakers: Breakers, tenant: str, now: float) -> None:
    for _ in range(3):
        ticket = breakers.admit(tenant, now)
        assert ticket is not None
        breakers.failed(ticket, now)
    assert breakers.state(tenant) == "open"


class Model(RuleBasedStateMachine):
    """Each tenant's circuit by the words of the law; the machine's may differ in nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.breakers = Breakers(3, OPEN_S)
        self.now = 1000.0
        self.down = False
        self.row = dict.fromkeys(TENANTS, 0)  # failures in a row
        self.retry: dict[str, float] = {}  # of the broken: when a probe may go out
        self.probe: dict[str, Ticket] = {}
        self.calls: list[Ticket] = []  # admitted while closed, not answered

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0, 59.0, 60.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(tenant=st.sampled_from(TENANTS))
    def call(self, tenant: str) -> None:
        ticket = self.breakers.admit(tenant, self.now)
        if tenant not in self.retry:
            assert ticket is not None  # a closed circuit never stands in the way
            self.calls.append(ticket)
            return
        due = not self.down and self.now >= self.retry[tenant] and tenant not in self.probe
        assert (ticket is not None) == due  # half-open admits one; open none before its time
        if ticket is not None:
            self.probe[tenant] = ticket

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), well=st.booleans())
    def answer(self, data: st.DataObject, well: bool) -> None:
        ticket = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        tenant = ticket.tenant
        if well:
            self.breakers.succeeded(ticket)
        else:
            self.breakers.failed(ticket, self.now)
        if tenant in self.retry:
            return  # a late answer moves nothing
        self.row[tenant] = 0 if well else self.row[tenant] + 1
        if self.row[tenant] == 3:
            self.row[tenant] = 0
            self.retry[tenant] = self.now + OPEN_S

    @precondition(lambda self: self.probe)
    @rule(data=st.data(), outcome=st.sampled_from(["well", "failed", "dropped"]))
    def answer_probe(self, data: st.DataObject, outcome: str) -> None:
        tenant = data.draw(st.sampled_from(sorted(self.probe)))
        ticket = self.probe.pop(tenant)
        if outcome == "well":
            self.breakers.succeeded(ticket)
            del self.retry[tenant]
        elif outcome == "failed":
            assert self.breakers.failed(ticket, self.now)
            self.retry[tenant] = self.now + OPEN_S
        else:
            self.breakers.dropped(ticket, self.now)
            self.retry[tenant] = self.now

    @rule(well=st.booleans())
    def health(self, well: bool) -> None:
        self.breakers.health(well, self.now)
        if well and self.down:
            for tenant, at in self.retry.items():
                if tenant not in self.probe:
                    self.retry[tenant] = min(at, self.now)
        self.down = not well

    @invariant()
    def states_agree(self) -> None:
        assert self.breakers.broken().keys() == self.retry.keys()
        for tenant in TENANTS:
            if tenant in self.probe:
                assert self.breakers.state(tenant) == "half-open"
            elif tenant in self.retry:
                assert self.breakers.state(tenant) == "open"
            else:
                assert self.breakers.state(tenant) == "closed"
                assert self.breakers.failures(tenant) == self.row[tenant]


TestModel = Model.TestCase


def test_three_failures_open_sixty_seconds_one_probe_success_closes() -> None:
    breakers = Breakers()
    opened(breakers, "a", 0.0)
    assert breakers.admit("a", 59.9) is None
    probe = breakers.admit("a", 60.0)
    assert probe is not None and breakers.state("a") == "half-open"
    assert breakers.admit("a", 1e9) is None  # exactly one, however long it takes
    breakers.succeeded(probe)
    assert breakers.state("a") == "closed" and breakers.admit("a", 60.0) is not None


def test_a_failed_probe_opens_for_another_sixty_seconds() -> None:
    breakers = Breakers()
    opened(breakers, "a", 0.0)
    probe = breakers.admit("a", 60.0)
    assert probe is not None and breakers.failed(probe, 65.0)
    assert not breakers.may("a", 124.9) and breakers.may("a", 125.0)
    assert breakers.broken()["a"].since == 0.0  # open since the first time


def test_a_success_between_failures_starts_the_row_again() -> None:
    breakers = Breakers()
    for _ in range(10):
        for well in (False, False, True):
            ticket = breakers.admit("a", 0.0)
            assert ticket is not None
            if well:
                breakers.succeeded(ticket)
            else:
                assert not breakers.failed(ticket, 0.0)
    assert breakers.state("a") == "closed"


def test_late_answers_of_calls_from_before_it_opened_move_nothing() -> None:
    breakers = Breakers()
    late = [breakers.admit("a", 0.0) for _ in range(5)]
    opened(breakers, "a", 0.0)
    first, second, *_ = (ticket for ticket in late if ticket is not None)
    breakers.succeeded(first)
    assert breakers.state("a") == "open"
    assert breakers.failed(second, 50.0) and breakers.may("a", 60.0)  # nor the time


def test_one_tenant_s_circuit_is_no_other_s() -> None:
    breakers = Breakers()
    opened(breakers, "a", 0.0)
    assert breakers.state("b") == "closed" and breakers.admit("b", 0.0) is not None


def test_while_the_remote_is_down_no_probe_goes_out_and_back_again_all_do() -> None:
    breakers = Breakers()
    opened(breakers, "a", 0.0)
    opened(breakers, "b", 30.0)
    breakers.health(False, 31.0)
    assert not breakers.may("a", 1000.0)
    assert breakers.admit("c", 31.0) is not None  # a closed circuit finds out for itself
    breakers.health(True, 40.0)
    assert breakers.may("a", 40.0) and breakers.may("b", 40.0)


def test_a_remote_that_was_well_all_the_time_changes_nothing() -> None:
    breakers = Breakers()
    opened(breakers, "a", 0.0)
    for second in range(0, 60, 5):
        breakers.health(True, float(second))
        assert not breakers.may("a", float(second))


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200))
def test_memory_is_bounded_and_no_probe_is_forgotten(
    most: int, events: list[tuple[int, bool]]
) -> None:
    breakers = Breakers(2, 1.0, most)
    probes: dict[str, Ticket] = {}
    for second, (number, probe) in enumerate(events):
        ticket = breakers.admit(f"t{number}", float(second))
        if ticket is None:
            continue
        if ticket.round and probe:
            probes[ticket.tenant] = ticket  # stays out
        else:
            breakers.failed(ticket, float(second))
        assert all(breakers.state(tenant) == "half-open" for tenant in probes)
        assert len(breakers.broken()) <= max(most, len(probes) + 1)


@pytest.mark.parametrize(
    ("failures", "open_s", "most"),
    [(0, 60.0, 1), (3, -1.0, 1), (3, float("nan"), 1), (3, float("inf"), 1), (3, 60.0, 0)],
)
def test_a_law_that_can_t_work_is_refused(failures: int, open_s: float, most: int) -> None:
    with pytest.raises(ValueError, match="a breaker needs"):
        Breakers(failures, open_s, most)
