"""What a stopped partition waits for: word in the epochs log that somebody has mended it."""

import asyncio
import logging
import time
from collections.abc import Sequence

from agents.engine.errors import Fenced, LawFailed, Rebuilding, RecordsGone, StateLost, Stopped
from agents.engine.host import Host
from agents.engine.plan import Plan
from agents.engine.rebuilds import BEGINS, DONE, ENDED, Rebuild

log = logging.getLogger(__name__)

LOOK_S = 2.0  # how often a partition that waits for people looks
HELD_LOOK_S = 0.25  # and one that waits for a job


class Mending:
    """Of one partition that stopped, from what the epochs log said when it was taken."""

    def __init__(self, host: Host, plan: Plan, partition: int, since: int) -> None:
        self._host, self._plan, self._partition = host, plan, partition
        self._since = since

    async def of(self, error: Stopped) -> Stopped | None:
        """Wait until the partition may be taken anew: then None. Or what stops it from here on,
        the same error where nothing will mend it. KafkaException, TimeoutError.
        """
        if isinstance(error, LawFailed):
            await self._news()
            return None
        if isinstance(error, Fenced):
            said = await self._said()
            if not said:
                return error  # by another worker, who has the partition now
            if not self._over(said):  # else it was quicker than this partition's next commit
                return Rebuilding(said[-1].job, said[-1].hold_s)
            return None
        if isinstance(error, Rebuilding):
            await self._held(error)
            return None
        if not isinstance(error, StateLost | RecordsGone):
            return error
        while not any(one.state == DONE for one in await self._said()):
            await self._news()
        return None

    async def _held(self, error: Rebuilding) -> None:
        until = time.monotonic() + error.hold_s
        while time.monotonic() < until:
            said = await self._said()
            if self._over(said):
                return
            if said and said[-1].state == BEGINS:  # once more: somebody fenced it in between
                until = time.monotonic() + said[-1].hold_s
            await asyncio.sleep(HELD_LOOK_S)
        log.warning("%s didn't end within %.0f s: taken anew as it is", error.job, error.hold_s)

    def _over(self, said: Sequence[Rebuild]) -> bool:
        """Whether the last of what was said is that a job is over; tells of it."""
        if not said or said[-1].state not in (DONE, ENDED):
            return False
        where = f"{self._plan.source}/{self._partition}"
        done = [one for one in said if one.state == DONE]
        for one in done:
            log.info("the state of %s was made anew by %s: %d rows differed", where, one.job,
                     one.rows)  # fmt: skip
        if not done:
            log.info("%s ended, and left the state of %s as it was", said[-1].job, where)
        return True

    async def _said(self) -> list[Rebuild]:
        if await self._end() <= self._since:
            return []
        found, self._since = await self._host.rebuilds(self._plan, self._partition, self._since)
        return found

    async def _news(self) -> None:
        """Until the epochs log has grown."""
        while True:
            await asyncio.sleep(LOOK_S)
            if await self._end() > self._since:
                return

    async def _end(self) -> int:
        """Where the epochs log ends. Where it is shorter than it was (Kafka went back in time),
        words come at offsets that others had: they are heard from its end on.
        """
        end = await self._host.epochs_end(self._plan, self._partition)
        self._since = min(self._since, end)
        return end
