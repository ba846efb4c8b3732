"""Owners hear within seconds of a state that was put in place, even if they commit nothing.

Whoever commits is fenced by the job, and hears of it then (`mending.py`). A partition to which
nothing comes would go on with the rows of before, and show them to whoever asks.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Executor

from confluent_kafka import KafkaException, TopicPartition

from agents.engine.errors import UnknownVersion
from agents.engine.host import Part
from agents.engine.logs import ends_now
from agents.engine.partition import Partition
from agents.engine.rebuilds import DONE, Rebuild, rebuild_key, words_since
from agents.settings import Settings
from topics.broker import BrokerError
from topics.missed import Admin

LOOK_S = 5.0  # one question to the broker, about all partitions at once

log = logging.getLogger(__name__)


class Rebuilt:
    """Looks at the end of the epochs log, and reads on where it has grown."""

    def __init__(self, settings: Settings, admin: Admin, threads: Executor, epochs: str) -> None:
        self._settings, self._admin, self._threads, self._epochs = settings, admin, threads, epochs
        self._heard: dict[int, int] = {}  # partition of the log -> before which all is heard
        self._shorter: dict[int, int] = {}  # partition of the log -> its end, below what was heard
        self._look_at = 0.0

    async def look(self, owned: Mapping[Part, Partition]) -> None:
        """Take partitions anew whose state was replaced since they were taken."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        since = self._since(owned.values())
        keys = {rebuild_key(part.processor, part.partition) for part in owned}
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._news, since, keys
            )
        except (BrokerError, KafkaException, TimeoutError, UnknownVersion) as error:
            log.info("whether states were made anew isn't known just now: %r", error)
            return
        self._lower(owned.values())
        for offset, word in found:
            for part, one in owned.items():
                of_it = (part.processor, part.partition) == (word.processor, word.partition)
                if of_it and one.phase == "running" and offset >= one.epochs_end:
                    one.take_anew(f"its state was made anew by {word.job}")

    def _lower(self, owned: Collection[Partition]) -> None:
        """Where the log is shorter than it was, words come at offsets that others had."""
        for p, end in self._shorter.items():
            said = "%s/%d ends at %d, before what was heard of it: Kafka went back in time"
            log.warning(said, self._epochs, p, end)
            self._heard[p] = end
            for one in owned:
                if one.tp.partition == p:
                    one.epochs_end = min(one.epochs_end, end)
        self._shorter = {}

    def _since(self, owned: Collection[Partition]) -> dict[int, int]:
        """From where on each partition of the log is to be heard.

        Not while an owner is being taken: what is written meanwhile it may know, or not.
        """
        found: dict[int, int] = {}
        for one in owned:
            if one.phase == "running":
                before = found.get(one.tp.partition, one.epochs_end)
                found[one.tp.partition] = min(before, one.epochs_end)
        for one in owned:
            if one.phase == "recovering":
                found.pop(one.tp.partition, None)
        return {p: max(at, self._heard.get(p, 0)) for p, at in found.items()}

    def _news(self, since: Mapping[int, int], keys: set[bytes]) -> list[tuple[int, Rebuild]]:
        """In a thread."""
        places = [TopicPartition(self._epochs, partition) for partition in since]
        ends = ends_now(self._admin, places, self._settings.answer_timeout_s)
        self._shorter = {
            p: ends[self._epochs, p] for p, at in since.items() if ends[self._epochs, p] < at
        }
        grown = {p: at for p, at in since.items() if ends[self._epochs, p] > at}
        if not grown:
            return []
        words, heard = words_since(self._settings, self._epochs, grown, keys)
        self._heard |= heard
        return [(offset, word) for offset, word in words if word.state == DONE]
