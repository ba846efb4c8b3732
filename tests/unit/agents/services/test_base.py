"""A service's life: begun, asked to stop, ended by an error that its worker hears."""

import threading

from agents.services.base import Service

WAIT_S = 20.0


class Turns(Service):
    """Does nothing until it is stopped, and then raises what it was given."""

    def __init__(self, ends_with: Exception | None = None) -> None:
        super().__init__("turns")
        self.begun = threading.Event()
        self.woken = False
        self._ends_with = ends_with

    def wake(self) -> None:
        self.woken = True

    def work(self) -> None:
        self.begun.set()
        assert self.stopping.wait(WAIT_S)
        if self._ends_with is not None:
            raise self._ends_with


def test_it_runs_until_it_is_stopped() -> None:
    heard: list[Exception] = []
    one = Turns()
    one.start(heard.append)
    assert one.begun.wait(WAIT_S)
    assert [thread.name for thread in threading.enumerate()].count("turns") == 1
    one.stop(WAIT_S)
    assert one.woken and one.error is None and heard == []
    assert "turns" not in [thread.name for thread in threading.enumerate()]


def test_what_ends_it_is_kept_and_heard() -> None:
    heard: list[Exception] = []
    broken = ValueError("no more")
    one = Turns(broken)
    one.start(heard.append)
    one.stop(WAIT_S)
    assert one.error is broken and heard == [broken]


def test_one_that_never_began_can_be_stopped() -> None:
    one = Turns()
    one.stop()
    assert not one.begun.is_set() and one.error is None
