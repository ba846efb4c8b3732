"""Nobody whom a circuit put to sleep is forgotten: by any crash, at any step of what is written, or
by an owner that is heard behind its successor.
"""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agents.gateway.breakers import State
from agents.gateway.sleepers import Sleepers
from agents.kit.asleep import STATES
from agents.sleep import law
from agents.sleep.law import CIRCUIT, Refused, Sleep, Wish


def test_each_change_is_asked_once() -> None:
    one = Sleepers()
    for state in ("open", "half-open", "open", "open", "half-open", "closed", "closed"):
        one.change("a", state)  # type: ignore[arg-type]
    targets = ["freeze", "light", "freeze", "light", "active"]
    assert one.take() == [("a", target) for target in targets] and not one.take()
    assert "a" in one and one.names() == {"a"} and not one.asleep()
    assert [one.written("a") for _ in targets] == [False] * 4 + [True]
    assert "a" not in one


def test_half_open_puts_nobody_to_sleep() -> None:
    one = Sleepers()
    one.change("a", "half-open")
    one.change("a", "closed")
    assert not one.take() and "a" not in one


def test_who_was_left_asleep_is_woken_by_the_next_owner() -> None:
    one = Sleepers({"a", "b"})
    assert sorted(one.asleep()) == ["a", "b"] and not one.take()
    one.change("a", "open")  # as it was asked already
    one.change("b", "closed")
    assert one.take() == [("b", "active")] and one.names() == {"a", "b"}
    assert one.written("b") and one.names() == {"a"}


@given(st.lists(st.sampled_from(["open", "half-open", "closed"])))
def test_no_request_says_what_the_last_one_said(states: list[str]) -> None:
    one = Sleepers()
    for state in states:
        one.change("a", state)  # type: ignore[arg-type]
    said = [target for _, target in one.take()]
    assert all(a != b for a, b in zip(["active", *said], said, strict=False))
    assert said[-1:] in ([], ["active"]) or "a" in one.asleep()


class Crashes(RuleBasedStateMachine):
    """Rows and requests are written in the order in which they are handed over, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.row: frozenset[str] = frozenset()  # as the state topic has it
        self.log = "active"  # what was asked for last, as the requests' topic has it
        self.one = Sleepers()
        self.rows: list[tuple[frozenset[str], list[str]]] = []  # handed over, not written
        self.requests: list[str] = []

    @rule(state=st.sampled_from(["open", "half-open", "closed"]))
    def change(self, state: str) -> None:
        self.one.change("a", state)  # type: ignore[arg-type]

    @rule()
    def commit(self) -> None:
        self.rows.append((self.one.names(), [target for _, target in self.one.take()]))

    @rule()
    def a_row_is_written(self) -> None:
        if self.rows:
            self.row, wishes = self.rows.pop(0)
            self.requests += wishes

    @rule()
    def a_request_is_written(self) -> None:
        if self.requests:
            self.log = self.requests.pop(0)
            self.one.written("a")

    @rule(rows=st.integers(0, 3), requests=st.integers(0, 3))
    def crash(self, rows: int, requests: int) -> None:
        """Some of what was handed over is written all the same, and nobody hears of it."""
        for names, _ in self.rows[:rows]:
            self.row = names
        for target in self.requests[:requests]:
            self.log = target
        self.rows, self.requests, self.one = [], [], Sleepers(self.row)
        assert self.log == "active" or self.one.asleep()


TestCrashes = Crashes.TestCase


def test_a_row_follows_unless_another_was_written_since() -> None:
    one = Sleepers(end=7)
    assert [one.follows(offset) for offset in (7, 8, 10, 11)] == [True, True, False, True]


@dataclass(slots=True)
class Owner:
    """One that reads the rows up to `end`, behind its mark, and then hands over its own."""

    mark: int
    one: Sleepers
    rows: list[tuple[frozenset[str], list[str]]] = field(default_factory=list)
    requests: list[tuple[str, int]] = field(default_factory=list)  # to be written, with numbers
    left: bool = False  # it has met another's row, and heard that it is none any more


class Overtaken(RuleBasedStateMachine):
    """Owners follow one another; what those before have handed over is written at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[int, frozenset[str]] | None] = []  # rows with their owners; marks
        self.sleep = Sleep()
        self.owners: list[Owner] = []
        self.take_over()

    @rule()
    def take_over(self) -> None:
        self.log.append(None)
        mark, best = len(self.log) - 1, (-1, frozenset[str]())
        for row in self.log:
            if row is not None and row[0] >= best[0]:
                best = row
        self.owners.append(Owner(mark, Sleepers(best[1], len(self.log))))

    @rule(state=st.sampled_from(["open", "half-open", "closed"]), late=st.booleans())
    def change(self, state: State, late: bool) -> None:
        self.of(late).one.change("a", state)

    @rule(late=st.booleans())
    def commit(self, late: bool) -> None:
        self.hand_over(self.of(late))

    def hand_over(self, one: Owner) -> None:
        one.rows.append((one.one.names(), [target for _, target in one.one.take()]))

    @rule(late=st.booleans())
    def a_row_is_written(self, late: bool) -> None:
        self.write_row(self.of(late))

    def write_row(self, one: Owner) -> None:
        if not one.rows:
            return
        names, wishes = one.rows.pop(0)
        self.log.append((one.mark, names))
        at = len(self.log) - 1
        one.left |= not one.one.follows(at)
        if not one.left:
            one.requests += [(target, at) for target in wishes]

    @rule(late=st.booleans())
    def a_request_is_written(self, late: bool) -> None:
        self.write_request(self.of(late))

    def write_request(self, one: Owner) -> None:
        if not one.requests:
            return
        target, number = one.requests.pop(0)
        wish = Wish(STATES.index(target), CIRCUIT, version=number)
        way = law.judge(self.sleep, wish)
        self.sleep.circuit = max(self.sleep.circuit, number)
        for state in () if isinstance(way, Refused) else way:
            law.enter(self.sleep, state, wish, 0)
        one.one.written("a")

    @rule()
    def all_is_well_in_the_end(self) -> None:
        """The last one finds circuits closed; what is left of the others comes behind it."""
        one = self.owners[-1]
        while one.left or one.rows or one.requests or one.one.asleep():
            if one.left:
                self.take_over()  # of a partition that is its own
                one = self.owners[-1]
            for tenant in one.one.asleep():
                one.one.change(tenant, "closed")
            self.hand_over(one)
            self.drain(one)
        for before in self.owners[:-1]:
            self.drain(before)
        assert self.sleep.state == "active"

    def of(self, late: bool) -> Owner:
        """The owner, or who was it before."""
        return self.owners[-2 if late and len(self.owners) > 1 else -1]

    def drain(self, one: Owner) -> None:
        while one.rows or one.requests:
            self.write_row(one)
            self.write_request(one)


TestOvertaken = Overtaken.TestCase


def test_what_an_overtaken_owner_asks_for_behind_its_successor_is_refused() -> None:
    world = Overtaken()
    world.change("open", late=False)
    world.commit(late=False)
    world.a_row_is_written(late=False)
    world.take_over()  # before the request is written
    world.all_is_well_in_the_end()
    assert world.sleep.circuit > 1 and not world.sleep.version
