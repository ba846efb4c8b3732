"""What a step that settles something waits for."""

import asyncio
from collections.abc import AsyncGenerator

from prometheus_client import CollectorRegistry

from agents.replay.budget import Budget
from agents.replay.command import Command
from agents.replay.jobs import Jobs, Status
from agents.replay.metrics import metrics_of
from agents.replay.modes import Step
from agents.replay.owner import Owner
from agents.replay.run import Event, Run
from agents.settings import Settings


class Announcing(Run):
    """A run of two steps; the second begins, and is seen to."""

    began = False
    settles = True

    async def _work(self) -> AsyncGenerator[Event, None]:
        yield Step({}, settles=self.settles)
        self.began = True
        yield Step({})


class Slow(Owner):
    """An owner whose commit takes its time: whatever may run beside it does."""

    began = False

    async def _commit_run(self, run: Run, step: Step | None) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        assert isinstance(run, Announcing)
        self.began = run.began


async def _advanced(settles: bool) -> tuple[bool, bool]:
    """Whether the second step began before the first was committed, and behind it."""
    settings = Settings(namespace="n")
    owner = Slow(settings, 0, Jobs(), Budget(0), metrics_of(CollectorRegistry()))
    run = Announcing(settings, Command(mode="rebuild"), Status("a"), Budget(0))
    run.settles = settles
    run.begin()
    assert run.task is not None
    await run.task
    await owner._advance(run)
    await run.task
    await run.close()
    return owner.began, run.began


def test_what_is_to_be_known_first_is_committed_before_the_next_step_begins() -> None:
    assert asyncio.run(_advanced(settles=True)) == (False, True)
    assert asyncio.run(_advanced(settles=False)) == (True, True), "other steps lose no time"
