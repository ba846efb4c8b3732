"""Folding records whose schemas a registry must tell of first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agents.engine.progress import Progress
from agents.engine.work import Unsettled
from agents.engine.workspace import Outcome
from topics.registry import RegistryError
from topics.schemas import schemas

log = logging.getLogger(__name__)

PAUSE_S, PAUSE_S_MAX = 0.2, 5.0
DOES = "the schema registry"


async def settled(
    where: str, progress: Progress, work: Callable[[], Awaitable[Outcome]]
) -> Outcome:
    """The outcome of `work`, done again when the registry has told what it needs.

    For as long as that is away nothing is folded and nothing becomes a dead letter: what can be
    read mustn't depend on when. The watchdog shows that it stands still, and why.
    """
    pause = PAUSE_S
    while True:
        try:
            return await work()
        except Unsettled as error:
            doing, progress.doing = progress.doing, DOES
            try:
                await asyncio.to_thread(schemas().settle, error.ids)
            except RegistryError as away:
                log.warning("%s: %s: %s; asked again in %.1f s", where, error, away, pause)
                await asyncio.sleep(pause)
                pause = min(PAUSE_S_MAX, 2 * pause)
            progress.doing = doing
