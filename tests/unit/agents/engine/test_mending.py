"""When a partition that a job has fenced goes on, by what the epochs log says."""

import asyncio
import logging
import time
from typing import Any, cast

import pytest

from agents.engine.errors import Fenced, Rebuilding
from agents.engine.host import Host
from agents.engine.mending import Mending
from agents.engine.plan import Plan
from agents.engine.rebuilds import BEGINS, DONE, ENDED, Rebuild

HOLD_S = 30.0


def word(state: str) -> Rebuild:
    hold_s = HOLD_S if state == BEGINS else 0.0
    return Rebuild("integrator", 3, "0" * 32, "nightly", "eva", state, rows=7, hold_s=hold_s)


class Log:
    """An epochs log that grows by one part each time that somebody looks."""

    def __init__(self, *parts: tuple[str, ...]) -> None:
        self._parts = [[word(state) for state in part] for part in parts]
        self.looks = 0

    async def epochs_end(self, *_: Any) -> int:
        return 1 + sum(len(part) for part in self._parts)

    async def rebuilds(self, *_: Any) -> tuple[list[Rebuild], int]:
        self.looks += 1
        found = self._parts.pop(0)
        return found, 0  # so that what is left is more

    def mending(self) -> Mending:
        class Named:
            source = "cog.predictor.updates"

        return Mending(cast(Host, self), cast(Plan, Named()), 3, 0)


FENCED = Fenced("another owner took over")


@pytest.mark.parametrize(
    ("said", "tells"),
    [
        ((BEGINS, DONE), "was made anew by nightly: 7 rows differed"),
        ((BEGINS, ENDED), "nightly ended, and left the state of cog.predictor.updates/3"),
        ((BEGINS, BEGINS, ENDED), "nightly ended"),
        ((BEGINS, DONE, ENDED), "was made anew by nightly"),
    ],
)
def test_who_is_fenced_by_a_job_that_is_over_is_taken_anew(
    said: tuple[str, ...], tells: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert asyncio.run(Log(said).mending().of(FENCED)) is None
    assert tells in caplog.text


def test_who_is_fenced_by_a_job_that_goes_on_waits_for_it_and_else_stays_fenced() -> None:
    found = asyncio.run(Log((DONE, BEGINS)).mending().of(FENCED))
    assert isinstance(found, Rebuilding) and (found.job, found.hold_s) == ("nightly", HOLD_S)
    assert asyncio.run(Log(()).mending().of(FENCED)) is FENCED


@pytest.mark.parametrize("last", [DONE, ENDED])
def test_the_end_of_a_job_ends_the_wait_for_it_whatever_it_said_before(last: str) -> None:
    log = Log((), (BEGINS,), (last,))
    began = time.monotonic()
    assert asyncio.run(log.mending().of(Rebuilding("nightly", HOLD_S))) is None
    assert log.looks == 3 and time.monotonic() - began < HOLD_S


def test_the_wait_for_a_job_that_says_nothing_ends_with_its_time() -> None:
    assert asyncio.run(Log(*[()] * 40).mending().of(Rebuilding("nightly", 0.3))) is None


def test_words_of_a_log_that_went_back_are_heard_from_its_end_on() -> None:
    class Shorter(Log):
        since = 0

        async def epochs_end(self, *_: Any) -> int:
            return 40 if self.looks == 0 and not self.since else 42

        async def rebuilds(self, _: Any, __: Any, since: int) -> tuple[list[Rebuild], int]:
            self.since = since
            return await super().rebuilds()

    log = Shorter((BEGINS, DONE))
    mending = log.mending()
    mending._since = 100  # of the log that is lost
    assert asyncio.run(mending._said()) == []
    log.since = 1
    assert [one.state for one in asyncio.run(mending._said())] == [BEGINS, DONE]
    assert log.since == 40
