"""The circuit against its words, under any order of calls, answers and time."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.recall.breaker import FAILURES, LONGEST_S, OPEN_S, Breaker


class Model(RuleBasedStateMachine):
    """What a plain model says; `late` are calls from before the circuit's last change."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(lambda: self.now)
        self.failures, self.until, self.open_s = 0, -1.0, OPEN_S
        self.calls: list[int] = []
        self.late: list[int] = []
        self.probe: int | None = None

    @property
    def closed(self) -> bool:
        return self.failures < FAILURES

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, 8.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        ticket = self.breaker.enter()
        if self.closed:
            assert ticket is not None
            self.calls.append(ticket)
        else:
            assert (ticket is not None) == (self.probe is None and self.now >= self.until)
            self.probe = self.probe if ticket is None else ticket

    @precondition(lambda self: self.calls)
    @rule(well=st.booleans(), data=st.data())
    def answer(self, well: bool, data: st.DataObject) -> None:
        self.breaker.done(self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1))), well)
        self.failures = 0 if well else self.failures + 1
        self.open_s = OPEN_S if well else self.open_s
        if not self.closed:
            self.until = self.now + self.open_s
            self.late, self.calls = self.late + self.calls, []

    @precondition(lambda self: self.late)
    @rule(well=st.booleans())
    def answer_late(self, well: bool) -> None:
        self.breaker.done(self.late.pop(), well)  # moves nothing, nor takes the probe's place

    @precondition(lambda self: self.probe is not None)
    @rule(well=st.booleans())
    def answer_probe(self, well: bool) -> None:
        assert self.probe is not None
        self.breaker.done(self.probe, well)
        self.probe = None
        self.open_s = OPEN_S if well else min(2 * self.open_s, LONGEST_S)
        self.failures = 0 if well else self.failures
        self.until = self.now + self.open_s

    @invariant()
    def rests_as_long(self) -> None:
        assert self.breaker.rest_s() == (0 if self.closed else max(0.0, self.until - self.now))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=50)


def opened(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        ticket = breaker.enter()
        assert ticket is not None
        breaker.done(ticket, False)


def test_a_late_call_takes_nothing_of_the_probe() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    late, other = breaker.enter(), breaker.enter()
    opened(breaker)
    now += OPEN_S
    probe = breaker.enter()
    assert late is not None and other is not None and probe is not None
    breaker.done(late, True)
    breaker.done(other, False)
    assert breaker.enter() is None  # the probe is out still
    breaker.done(probe, True)
    assert breaker.enter() is not None


def test_it_is_open_twice_as_long_each_time_up_to_a_limit() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    opened(breaker)
    rests = []
    for _ in range(9):
        rests.append(breaker.rest_s())
        now += breaker.rest_s()
        ticket = breaker.enter()
        assert ticket is not None and breaker.enter() is None  # half open: that one alone
        breaker.done(ticket, False)
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
