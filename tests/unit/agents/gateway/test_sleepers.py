"""Nobody whom a circuit put to sleep is forgotten: by any crash, at any step of what is written."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agents.gateway.sleepers import Sleepers


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
