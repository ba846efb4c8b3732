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
WRONG = (HistoryError, BrokerError, KafkaException)

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
        """Take those that are due at this time (seconds since 1970); returns how many.

        One that can't be taken keeps no other from being: each is named.
        """
        taken = 0
        failed: list[str] = []
        for name, processor in processors().items():
            try:
                plan = self._plan(name, processor)
            except WRONG as error:
                failed.append(f"{name}: {error}")
                continue
            for partition in range(plan.partitions):
                if self.stopping.is_set():
                    return taken
                try:
                    taken += self._of(plan, partition, now)
                except WRONG as error:
                    failed.append(f"{name}/{partition}: {error}")
        for one in failed:
            log.warning("no snapshot of %s", one)
        self._waits = f"no snapshot of {'; '.join(failed)}" if failed else ""
        return taken

    def _plan(self, name: str, processor: Processor) -> Plan:
        """HistoryError, BrokerError, KafkaException."""
        if name not in self._plans:
            self._plans[name] = plan_of(self._settings, processor)
        return self._plans[name]

    def _of(self, plan: Plan, partition: int, now: float) -> bool:
        """That of one partition, if it is due. HistoryError, BrokerError, KafkaException."""
        due = (now - self._settings.snapshot_every_h * HOUR_S) * 1e6
        good = (one for one in listed(self._settings, plan, partition) if not one.wrong)
        newest = next(good, None)
        if newest is not None and newest.ts > due:
            return False
        one = take(self._settings, plan, partition, self.stopping.is_set)
        if one is not None:
            place = f"{plan.processor.name}/{partition}"
            log.info("snapshot of %s to offset %d: %d rows", place, one.next_offset, one.rows)
        return one is not None


def services(settings: Settings) -> list[Service]:
    """It, unless snapshots are taken by command only."""
    return [Snapshots(settings)] if settings.snapshot_every_h else []
