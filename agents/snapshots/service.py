"""The service `snapshots`: now and then it looks whether a partition's newest snapshot is old.

Each worker that runs it looks by itself, at moments of its own; of two that take one at once the
broker fences the first, and the other's counts.
"""

import logging
import random
import time

from confluent_kafka import KafkaException

from agents.engine.plan import Plan
from agents.engine.processor import Processor
from agents.engine.registry import processors
from agents.history.errors import HistoryError
from agents.history.plans import plan_of
from agents.history.snapshots import listed, take
from agents.services.base import Service
from agents.settings import Settings
from topics.broker import BrokerError

NAME = "snapshots"
FIRST_S = 600.0  # a worker that starts has other things to do
LOOK_S = 3600.0
HOUR_S = 3600.0

log = logging.getLogger(__name__)


class Snapshots(Service):
    """Takes snapshots of every processor's state, from the state topics."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(NAME)
        self._settings = settings
        self._plans: dict[str, Plan] = {}
        self._waits = ""

    def waits(self) -> str:
        return self._waits

    def work(self) -> None:
        wait = random.uniform(FIRST_S, 2 * FIRST_S)
        while not self.stopping.wait(wait):
            self.look(time.time())
            wait = random.uniform(LOOK_S / 2, LOOK_S)

    def look(self, now: float) -> int:
        """Take those that are due at this time (seconds since 1970); returns how many."""
        taken, failed = 0, ""
        for name, processor in processors().items():
            try:
                taken += self._of(name, processor, now)
            except (HistoryError, BrokerError, KafkaException) as error:
                failed = f"no snapshot of {name}: {error}"
                log.warning(failed)
        self._waits = failed
        return taken

    def _of(self, name: str, processor: Processor, now: float) -> int:
        """Those of one processor. HistoryError, BrokerError, KafkaException."""
        if name not in self._plans:
            self._plans[name] = plan_of(self._settings, processor)
        plan, taken = self._plans[name], 0
        due = (now - self._settings.snapshot_every_h * HOUR_S) * 1e6
        for partition in range(plan.partitions):
            good = (one for one in listed(self._settings, plan, partition) if not one.wrong)
            newest = next(good, None)
            if self.stopping.is_set() or (newest is not None and newest.ts > due):
                continue
            one = take(self._settings, plan, partition, self.stopping.is_set)
            if one is not None:
                taken += 1
                place = f"{name}/{partition}"
                log.info("snapshot of %s to offset %d: %d rows", place, one.next_offset, one.rows)
        return taken


def services(settings: Settings) -> list[Service]:
    """It, unless snapshots are taken by command only."""
    return [Snapshots(settings)] if settings.snapshot_every_h else []
