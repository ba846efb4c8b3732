"""The state machine of sleep, against every edge there is and every one that there isn't."""

import copy
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.kit.asleep import ACTIVE, DEEP, FREEZE, LIGHT, STATES, Powers, Rates, powers
from agents.sleep import law
from agents.sleep.law import CAUSES, KINDS, SECOND, Refused, Sleep, Wish

NOW = 1_700_000_000 * SECOND
WAYS = {  # (from, to) -> what is entered; every other pair is refused
    (ACTIVE, LIGHT): (LIGHT,),
    (ACTIVE, DEEP): (LIGHT, DEEP),
    (ACTIVE, FREEZE): (LIGHT, DEEP, FREEZE),
    (LIGHT, DEEP): (DEEP,),
    (LIGHT, FREEZE): (DEEP, FREEZE),
    (DEEP, FREEZE): (FREEZE,),
    (FREEZE, LIGHT): (LIGHT,),
    (LIGHT, ACTIVE): (ACTIVE,),
    (DEEP, ACTIVE): (ACTIVE,),
    (FREEZE, ACTIVE): (ACTIVE,),
} | {(one, one): () for one in range(len(STATES))}
parts = st.floats(0, 1)


@pytest.mark.parametrize(("state", "target"), [*product(range(4), range(4))])
def test_every_edge_leads_where_it_should_and_no_other_leads_anywhere(
    state: int, target: int
) -> None:
    assert law.path(state, target) == WAYS.get((state, target))


@given(
    st.builds(
        Rates,
        K0=st.floats(1, 1e6), t0=st.floats(0.1, 1e3), tau0=st.floats(1e-6, 1e3),
        eta0=parts, lam0=parts, B0=parts, alpha_k=parts, alpha_t=parts, alpha_tau=parts,
        alpha_eta=parts, beta_b=parts,
    )
)  # fmt: skip
def test_nothing_grows_with_depth_but_the_budget(rates: Rates) -> None:
    each = [powers(state, rates) for state in range(4)]
    for lighter, deeper in pairwise(each):
        assert lighter.K >= deeper.K >= 1 and lighter.t >= deeper.t > 0
        assert lighter.tau >= deeper.tau > 0 and lighter.eta >= deeper.eta >= 0
        assert lighter.lam >= deeper.lam >= 0 and lighter.B <= deeper.B


def test_the_powers_are_the_published_ones() -> None:
    wanted = (
        (100, 10, 1, 0.1, 0.01, 0.5), (60, 7.5, 0.75, 0.05, 0.008, 0.75),
        (20, 5, 0.5, 0, 0.005, 1), (1, 0.1, 1e-6, 0, 0, 5.5),
    )  # fmt: skip
    for state, numbers in enumerate(wanted):
        assert powers(state) == pytest.approx(Powers(*map(float, numbers)))  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [0, -1, 3601, 1_000_000])
def test_a_time_out_of_range_is_named(ttl: int) -> None:
    said = law.malformed("deep", "operator", ttl, False)
    assert said == f"ttl_seconds: from 1 to 3600, not {ttl}"


@pytest.mark.parametrize(
    ("target", "kind", "ttl", "wakes", "said"),
    [
        ("coma", "operator", None, False, "target: one of active"),
        ("deep", "expiry", None, False, "kind: one of policy"),
        ("deep", "traffic", None, False, "kind: traffic only wakes"),
        ("active", "operator", 60, False, "of a sleep"),
        ("active", "operator", None, True, "of a sleep"),
    ],
)
def test_what_no_request_can_be_is_named(
    target: str, kind: str, ttl: int | None, wakes: bool, said: str
) -> None:
    assert said in (law.malformed(target, kind, ttl, wakes) or "")


@given(st.lists(st.integers(0, 2 * SECOND), max_size=300))
def test_no_tenant_makes_more_requests_than_it_may(steps: list[int]) -> None:
    row, now, taken = Sleep(), NOW, 0
    for step in steps:
        now += step
        taken += law.spend(row, now)
    assert taken <= law.BURST + 1e-6 * (now - NOW) * law.PER_S + 1
    assert law.spend(row, now - 3600 * SECOND) in (True, False) and row.filled >= now * bool(steps)


def test_a_second_s_hundred_thousand_requests_take_a_burst() -> None:
    row = Sleep()
    taken = sum(law.spend(row, NOW + 10 * k) for k in range(100_000))
    assert taken == law.BURST + law.PER_S - 1


class Sleeper(RuleBasedStateMachine):
    """A tenant's sleep under any requests at any times, beside an independent account of it."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.now = Sleep(), NOW
        self.state, self.cause, self.wakes = ACTIVE, "", False
        self.ends: int | None = None

    @rule(
        goal=st.integers(0, 3), kind=st.sampled_from(KINDS),
        ttl=st.none() | st.integers(1, 3600), wakes=st.booleans(), stale=st.booleans(),
    )  # fmt: skip
    def asked(self, goal: int, kind: str, ttl: int | None, wakes: bool, stale: bool) -> None:
        ttl, wakes = (None, False) if goal == ACTIVE else (ttl, wakes)
        if law.malformed(STATES[goal], kind, ttl, wakes) is not None:
            assert kind == "traffic" and goal != ACTIVE
            return
        version = self.row.version + 1 if stale else 0
        wish = Wish(goal, kind, ttl, wakes, version if kind == "traffic" else 0)
        before, told = copy.copy(self.row), law.judge(self.row, wish)
        assert isinstance(told, Refused) != self.allowed(wish)
        assert self.row == before  # to judge changes nothing
        if isinstance(told, Refused):
            assert told.why
            return
        assert told == WAYS[self.state, goal]
        for state in told:
            law.enter(self.row, state, wish, self.now)
        if not told and law.renews(self.row, wish):
            law.enter(self.row, goal, wish, self.now)
        self.state = goal
        if goal == ACTIVE:
            self.cause, self.wakes, self.ends = "", False, None
        else:
            self.cause, self.wakes = kind, wakes or kind == "policy"
            self.ends = self.now + ttl * SECOND if ttl else None
        assert self.row.version >= before.version + len(told)

    def allowed(self, wish: Wish) -> bool:
        """Whether a request may change this sleep."""
        if wish.target == ACTIVE:
            mine = {
                "operator": True,
                "traffic": self.wakes and wish.version in (0, self.row.version),
            }.get(wish.kind, wish.kind == self.cause)
            return self.state == ACTIVE or mine
        rank = ("", *CAUSES)
        above = rank.index(wish.kind) >= rank.index(self.cause)
        return above and (self.state, wish.target) in WAYS

    @rule(seconds=st.integers(0, 4000))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND
        ended = self.ends is not None and self.ends <= self.now
        assert law.over(self.row, self.now) == ended
        if ended:
            law.enter(self.row, ACTIVE, Wish(ACTIVE, "expiry"), self.now)
            self.state, self.cause, self.wakes, self.ends = ACTIVE, "", False, None

    @invariant()
    def it_is_as_accounted(self) -> None:
        row = self.row
        assert (row.state, row.cause, row.wakes) == (STATES[self.state], self.cause, self.wakes)
        assert row.wake_at == self.ends and row.since <= self.now
        assert (row.due is None) == (self.state == ACTIVE)
        assert row.due is None or row.due <= self.now + law.LOOK_S * SECOND
        assert row.wake_at is None or row.due == row.wake_at


TestSleeper = Sleeper.TestCase
TestSleeper.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
