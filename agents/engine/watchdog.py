"""Tells a partition that stands still, from a thread of its own with a client of its own.

Every wait on the broker has its deadline, so this should find nothing. It is here for what nobody
thought of: it shares no loop, no task and no connection with the partitions it watches.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import KafkaException, TopicPartition
from faust.types import TP

from agents.engine import metrics
from agents.engine.host import Part
from agents.engine.progress import FETCH, Progress
from agents.settings import Settings
from topics.missed import Admin

log = logging.getLogger(__name__)

LOOK_S_MAX = 5.0
ANSWER_S = 5.0


class Watched(Protocol):
    """What the watchdog reads of a partition, from its own thread."""

    tp: TP
    part: Part
    progress: Progress

    @property
    def done(self) -> int:
        """Everything before this offset is committed, or a marker; -1: not known yet."""

    @property
    def resting(self) -> bool:
        """Whether it isn't meant to work: stopped by a named error, or let go."""


@dataclass(slots=True)
class _Case:
    """A partition with work to do: since when, and how many commits ago that was."""

    since: float
    commits: int
    renewed: int = 0  # how often it was taken anew since
    named: float = 0.0  # when it was named last


class Watchdog:
    """Looks every few seconds, from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        partitions: Callable[[], Iterable[Watched]],
        renew: Callable[[Part, str, bool], None],
    ) -> None:
        """`renew(part, why, consumer)` is called, in this thread: it is to be taken anew.

        And the consumer that reads it, too, where `consumer` says so.
        """
        self.stalled: Mapping[Part, float] = {}  # seconds; replaced whole, never changed
        self._after = settings.stalled_after_s
        # No single step that has a deadline of its own lasts longer.
        self._step = max(self._after, settings.commit_timeout_s, 2 * settings.answer_timeout_s)
        self._partitions = partitions
        self._renew = renew
        self._admin = Admin(settings.librdkafka())
        self._cases: dict[Part, _Case] = {}
        self._ends: Mapping[TP, int] = {}
        self._shown: dict[Part, tuple[str, str]] = {}
        self._silent = ""
        self._last = 0.0  # when any of them got on, monotonic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; doesn't wait."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(min(LOOK_S_MAX, self._after / 4)):
            try:
                watched = [one for one in self._partitions() if not one.resting]
                self._ask([one.tp for one in watched])
                self.look(watched, self._ends, time.monotonic())
            except Exception:
                # A watchdog that dies is the silence that it is against.
                log.exception("the watchdog couldn't look; it tries again")

    def look(self, found: Iterable[Watched], ends: Mapping[TP, int], now: float) -> None:
        """Judge these partitions by where what can be read of each ends; `now` is monotonic."""
        self._ends = ends
        watched = {one.part: one for one in found}
        stalled = {}
        self._last = max((one.progress.advanced for one in watched.values()), default=now)
        for part, one in watched.items():
            waits = self._waits(part, one, now)
            metrics.STALLED.labels(*one.progress.labels).set(waits)
            if waits >= self._after:
                stalled[part] = waits
                self._tell(part, one, waits, now)
        for part in self._shown.keys() - watched.keys():
            metrics.STALLED.remove(*self._shown[part])
            self._cases.pop(part, None)
        self._shown = {part: one.progress.labels for part, one in watched.items()}
        self.stalled = stalled

    def _waits(self, part: Part, one: Watched, now: float) -> float:
        """For how many seconds it has had work and done nothing of it."""
        progress, done = one.progress, one.done
        if done >= 0 and self._ends.get(part.tp, 0) <= done:
            self._cases.pop(part, None)
            return 0.0
        case = self._cases.setdefault(part, _Case(now, progress.commits))
        if case.commits != progress.commits:
            self._cases[part] = case = _Case(progress.advanced, progress.commits)
        elif progress.queued:  # it waits for others, as long as these get on
            case.since = max(case.since, self._last)
        elif not case.renewed:  # reading its state back is work, but not what one waits for then
            case.since = max(case.since, progress.advanced)
        return max(0.0, now - case.since)

    def _tell(self, part: Part, one: Watched, waits: float, now: float) -> None:
        """Name it; and have it taken anew, unless it was a moment ago or is at work."""
        case, progress, renew = self._cases[part], one.progress, False
        if progress.folding:
            verdict = "its fold is still under way"
        elif progress.queued:
            verdict = "its state is read back when others' is"
        elif now - progress.moved < self._step:
            verdict = "it is being tried again"
        else:
            verdict, renew = "taken anew", True
        if renew or now - case.named >= self._after:
            case.named = now
            log.error(
                "%s/%d stands still: %s has done to offset %d of %d, nothing committed for %.0f s, "
                "waiting for %s%s: %s",
                *part, one.done, self._ends.get(part.tp, -1), waits, progress.doing,
                self._silent, verdict,
            )  # fmt: skip
        if renew:
            case.renewed += 1
            progress.moved = now  # not again at once
            consumer = case.renewed > 1 and progress.doing == FETCH
            self._renew(part, f"nothing committed for {waits:.0f} s", consumer)

    def _ask(self, watched: Iterable[TP]) -> None:
        """The ends of what can be read, as the broker says; kept as they were if it doesn't."""
        wanted = [TopicPartition(*tp) for tp in watched]
        if not wanted:
            return
        self._silent, ends = "", dict(self._ends)
        for place, future in self._admin.ends(wanted, ANSWER_S).items():
            try:
                ends[TP(place.topic, place.partition)] = future.result(ANSWER_S + 1).offset
            except (KafkaException, TimeoutError) as error:
                self._silent = f" (the broker doesn't say its end: {error})"
                self._admin.renew()
        self._ends = ends
