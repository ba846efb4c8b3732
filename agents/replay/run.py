"""A job while it runs here: its mode's steps, and what they make of its status."""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any

from agents.replay import projection
from agents.replay.budget import Budget
from agents.replay.command import Command
from agents.replay.jobs import Status, now_us
from agents.replay.live import Live
from agents.replay.modes import PROJECTION, SHADOW, WHAT_IF, Mode, Plan, Step
from agents.replay.outbox import PutBack
from agents.replay.projection import Remaking
from agents.replay.rebuild import Rebuilding
from agents.replay.redrive import Redrive
from agents.replay.republish import TENANTS_TOLD, Republish
from agents.replay.whatif import WhatIf
from agents.settings import Settings

RATE_S = 5.0  # over which the rate is taken
RETRY_S = 2.0  # after which what the broker didn't answer is asked again
HOMES: Mapping[str, Callable[[Settings, str], Mode]] = {  # given the job's id
    "republish": lambda settings, _: Republish(settings),
    "rebuild": Rebuilding,
    "redrive": Redrive,
    "outbox": PutBack,
    WHAT_IF: lambda settings, _: WhatIf(settings),
    PROJECTION: Remaking,
    SHADOW: lambda settings, _: Live(settings),
}
# What is to be done when a job is stopped or fails, given its plan.
LEAVES: Mapping[str, Callable[[Settings, Mapping[str, Any]], Coroutine[Any, Any, None]]] = {
    PROJECTION: projection.leave
}

Event = Plan | Step | None  # None: all is done
Events = AsyncGenerator[Event, None]


class Run:
    """From the moment that a job has a turn until it is done, or is to stop. For one event loop."""

    def __init__(
        self, settings: Settings, command: Command, status: Status, budget: Budget
    ) -> None:
        """`status` is brought up to date as events are applied: whoever commits them writes it."""
        self.status = status
        self.told_at = 0.0  # when people were told last
        self.task: asyncio.Task[Event] | None = None
        self._settings, self._command = settings, command
        self._budget, self._own = budget, Budget(command.rate_limit)
        self._said: dict[str, Any] = status.said()
        self._tenants = Counter[str](self._said.get("tenants", {}))
        self._seen: deque[tuple[float, int, int]] = deque()
        self._events: Events | None = None

    async def _take(self, wanted: int) -> int:
        return await self._budget.take(await self._own.take(wanted))

    async def _work(self) -> Events:
        mode = HOMES[self._command.mode](self._settings, self.status.id)
        said = dict(self._said)
        if not said:
            plan = await mode.plan(self._command, self._take)
            said = dict(plan.said)
            yield plan
        position = {int(p): at for p, at in self.status.position.items()}
        async with aclosing(mode.steps(self._command, said, position, self._take)) as steps:
            async for step in steps:
                yield step

    def next(self) -> None:
        """Begin with the next step."""
        self.task = asyncio.create_task(self._next(0.0))

    def again(self) -> None:
        """Begin anew from what is committed, a little later."""
        events, self._events = self._events, None
        self.task = asyncio.create_task(self._next(RETRY_S, events))

    async def _next(self, wait_s: float, before: Events | None = None) -> Event:
        await _closed(before)
        await asyncio.sleep(wait_s)
        if self._events is None:
            self._events = self._work()
        return await anext(self._events, None)

    def apply(self, event: Plan | Step) -> None:
        """Bring the status up to date by what was found or done."""
        status = self.status
        status.state = "running"
        if isinstance(event, Plan):
            self._said = dict(event.said)
            status.total, status.message = event.total, event.warning
        else:
            self._said |= event.said
            status.message = self._said.get("told", "; ".join(self._said.get("missing", [])))
            status.position |= {str(p): at for p, at in event.position.items()}
            status.done += event.done
            status.read += event.read
            status.sent += event.sent
            status.sent_bytes += event.size
            if event.digests is not None:
                status.digest_before, status.digest_after = event.digests
            if event.sent:
                self._note(event)
        status.plan = json.dumps(self._said, separators=(",", ":"))
        self.measure()

    def _note(self, step: Step) -> None:
        """Times and tenants of what was sent."""
        if step.times is not None:
            first, last = self._said.get("times", step.times)
            self._said["times"] = [min(first, step.times[0]), max(last, step.times[1])]
        self._tenants.update(step.tenants)
        if len(self._tenants) > 2 * TENANTS_TOLD:
            self._said["tenants_more"] = True
            self._tenants = Counter(dict(self._tenants.most_common(TENANTS_TOLD)))
        self._said["tenants"] = dict(self._tenants.most_common(TENANTS_TOLD))

    def measure(self) -> None:
        """The rate of late, and what is left by it."""
        now, status = time.monotonic(), self.status
        self._seen.append((now, status.read, status.done))
        while len(self._seen) > 2 and self._seen[1][0] < now - RATE_S:
            self._seen.popleft()
        since, read, done = self._seen[0]
        if (seconds := now - since) > 0.0:
            status.rate = (status.read - read) / seconds
            pace = (status.done - done) / seconds
            status.left_s = (status.total - status.done) / pace if pace > 0.0 else None

    @property
    def ratio(self) -> float:
        """How much is done, 0 to 1."""
        return self.status.done / self.status.total if self.status.total else 0.0

    def begin(self) -> None:
        """It has its turn."""
        self.status.became("running")
        self.status.started = self.status.started or now_us()
        self.next()

    async def close(self) -> None:
        """Do no more, at once; what isn't committed is done again by who goes on."""
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        events, self._events = self._events, None
        await _closed(events)


async def _closed(events: Events | None) -> None:
    if events is not None:
        await events.aclose()
