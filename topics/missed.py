"""Whether a consumer that hears nothing has missed something: another client asks the broker.

A client of librdkafka that outlives a restart of its broker may know no leader any more (issues
5301 and 5430 of github.com/confluentinc/librdkafka): it fetches nothing, without an error, and the
ends that it remembers stay as they were. Only a new client helps.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from topics.broker import BrokerError
from topics.reading import TopicAndPartition

LOOK_S_MAX = 5.0
ANSWER_S = 5.0
LONGEST = 8  # times as long, where new clients don't help either

logger = logging.getLogger(__name__)


class Admin:
    """An admin client that is replaced when it hasn't answered: it may be such a one itself."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._client: AdminClient | None = None

    @contextmanager
    def client(self) -> Iterator[AdminClient]:
        """The client, for a question that raises where it isn't answered."""
        one = self._client
        if one is None:  # not `or`: a client that has nothing to do has the length 0
            one = self._client = AdminClient(self._config)
        try:
            yield one
        except (KafkaException, BrokerError, TimeoutError):
            self.renew()
            raise

    def ends(
        self, places: Iterable[TopicPartition], answer_s: float, committed: bool = True
    ) -> Mapping[TopicPartition, Future[Any]]:
        """Asks where partitions end for who reads what is `committed`, or everything; the answers
        come later.

        Who doesn't get one calls `renew`.
        """
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = dict.fromkeys(places, latest)
        if not wanted:
            return {}
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        with self.client() as client:
            asked: Mapping[TopicPartition, Future[Any]] = client.list_offsets(
                wanted, isolation_level=level, request_timeout=answer_s
            )
        return asked

    def renew(self) -> None:
        """Ask by a new client from now on."""
        self._client = None


class Missed:
    """Looks every few seconds, without waiting; it asks only about what didn't move meanwhile."""

    def __init__(self, config: Mapping[str, Any], after_s: float, open_too: bool = False) -> None:
        """`after_s`: how long something may be there and nothing come.

        `open_too`: look behind open transactions as well, for `unstable`.
        """
        self.waits: Mapping[TopicAndPartition, float] = {}  # seconds; replaced, never changed
        # Of what didn't move: the last stable offset and the log's end. Replaced, never changed.
        self.unstable: Mapping[TopicAndPartition, tuple[int, int]] = {}
        self._open_too = open_too
        self._after = self._patience = after_s
        self._admin = Admin(config)
        self._look_at = self._asked_at = self._told_at = 0.0
        self._before: Mapping[TopicAndPartition, int] = {}
        self._since: dict[TopicAndPartition, float] = {}  # when something was first found there
        self._asked: Mapping[TopicPartition, Future[Any]] = {}
        self._asked_all: Mapping[TopicPartition, Future[Any]] = {}  # open transactions included

    @property
    def stalled(self) -> set[TopicAndPartition]:
        """Where something has been there for long and nothing came."""
        return {place for place, wait in self.waits.items() if wait >= self._after}

    @property
    def due(self) -> bool:
        """Whether it is time to look: asking costs nothing before."""
        return time.monotonic() >= self._look_at

    def look(self, reached: Mapping[TopicAndPartition, int]) -> str:
        """What has been missed for so long that a new client is to be taken, in words; mostly "".

        `reached`: of each partition that should be read, the offset before which all has come.
        """
        now = time.monotonic()
        self._look_at = now + min(LOOK_S_MAX, self._after / 4)
        asked = [*self._asked.values(), *self._asked_all.values()]
        if now - self._asked_at < ANSWER_S and not all(one.done() for one in asked):
            return ""
        ends, logs = self._answers(self._asked), self._answers(self._asked_all)
        idle = {place: at for place, at in reached.items() if self._before.get(place) == at}
        self._since = {
            place: self._since.get(place, self._asked_at)
            for place, at in idle.items()
            if (ends[place] > at if place in ends else place in self._since)
        }
        self.waits = {place: now - since for place, since in self._since.items()}
        self.unstable = {
            place: (ends[place], logs[place]) for place in idle if place in ends and place in logs
        }
        self._before = dict(reached)
        # The old answers are used up, whatever comes.
        self._asked, self._asked_all, self._asked_at = {}, {}, now
        places = [TopicPartition(*place) for place in idle]
        if self._open_too:
            self._asked_all = self._admin.ends(places, ANSWER_S, committed=False)
        self._asked = self._admin.ends(places, ANSWER_S)
        if ends and not self._since:
            self._patience = self._after
        late = self.stalled & ends.keys()
        if not late or now - self._told_at < self._patience:
            return ""
        self._told_at, self._patience = now, min(2 * self._patience, LONGEST * self._after)
        return ", ".join(f"{p[0]}/{p[1]} from {reached[p]} to {ends[p]}" for p in sorted(late))

    def _answers(self, asked: Mapping[TopicPartition, Future[Any]]) -> dict[TopicAndPartition, int]:
        """The ends that came; where one didn't, a new client asks the next time."""
        ends = {
            (place.topic, place.partition): int(one.result(0).offset)
            for place, one in asked.items()
            if one.done() and one.exception() is None
        }
        if len(ends) < len(asked):
            self._admin.renew()
        return ends


def let_go(client: Consumer, seconds: float = ANSWER_S) -> None:
    """Close a client that may have lost its broker: after so long it ends by itself, or never."""
    leaving = threading.Thread(target=client.close, name="leaving", daemon=True)
    leaving.start()
    leaving.join(seconds)
    if leaving.is_alive():
        logger.warning("a client of Kafka doesn't close within %g s: it is left alone", seconds)
