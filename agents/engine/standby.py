"""States of partitions that others own, followed in memory: taking one over costs the last seconds.

Kafka Streams' standby replicas are the model, but that each worker with SOMA_STANDBY=1 follows all
that it might be given, as far as its processors go: there is nobody to choose, and nothing to agree
on. It costs the memory of those states and the reading of what their owners write. Nothing relies
on it: what isn't followed, or is in doubt, is read back as without it.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from agents.engine import metrics
from agents.engine.errors import UnknownVersion
from agents.engine.plan import Plan
from agents.engine.processor import Place
from agents.engine.recovery import CHUNK, Loader, begun, reader
from agents.settings import Settings
from topics.broker import BrokerError
from topics.reading import AWAY, PASSED

POLL_S = 0.2
RETRY_S = 5.0  # for a broker that doesn't say what a topic is, or what was in doubt
BEGIN_MAX = 50  # folds begun between two reads
LOOK_S = 10.0  # how often the broker is asked for the ends
ANSWER_S = 5.0
# Out of touch for longer, a state is read anew: brokers keep tombstones for a day, and a row whose
# tombstone is gone would stay for ever.
TRUST_S = 3600.0

log = logging.getLogger(__name__)

Key = tuple[str, int]  # processor, partition


@dataclass(slots=True)
class Followed:
    """A state as far as it was read."""

    loader: Loader
    place: Place  # where its fold thinks it is: the source's id belongs to it
    state_id: str  # of the topic that holds its rows
    fresh: float  # when it had all that the broker had, or came nearer to it; time.time()
    seen: int = 0  # before this offset there is nothing more: markers count

    @property
    def where(self) -> tuple[str, int]:
        """The partition of the state topic."""
        return self.loader.plan.state, self.loader.partition


class Standby:
    """Follows state topics in a thread of its own; `take` gives one away to be owned."""

    def __init__(
        self, settings: Settings, ids_of: Callable[[Plan], Mapping[str, str]],
        defaults_of: Callable[[Plan], Mapping[str, str]],
    ) -> None:  # fmt: skip
        """`ids_of` asks the broker for the ids of a plan's topics; KafkaException, BrokerError."""
        self._settings, self._ids_of, self._defaults_of = settings, ids_of, defaults_of
        self._lock = threading.Lock()
        self._wanted: dict[Key, Plan] = {}
        self._followed: dict[Key, Followed] = {}
        self._retry_at: dict[Key, float] = {}  # inf: not before it is wanted anew
        self._over = threading.Event()
        self._shown: set[Key] = set()
        self._reads: Mapping[Key, Loader] = {}  # for whom the consumer reads now
        self._looked = 0.0
        self._thread = threading.Thread(target=self._run, name="standby", daemon=True)

    def start(self) -> None:
        """Begin; what `follow` names is followed from then on."""
        self._thread.start()

    def end(self) -> None:
        """Let it end; what it is at ends with the process."""
        self._over.set()

    def follow(self, wanted: Mapping[Key, Plan]) -> None:
        """Follow these states. One that is owned here by now is followed until it is taken."""
        with self._lock:
            self._wanted = dict(wanted)
            self._retry_at.clear()

    def take(self, plan: Plan, place: Place, state_id: str) -> Loader | None:
        """A state as far as it was followed; it isn't any more. None: read it from the beginning.

        `place` and `state_id` as the broker says now: a topic may have been made anew meanwhile.
        Called in a thread: it waits for the rows at hand.
        """
        key = plan.processor.name, place.partition
        with self._lock:
            # What is wanted stays as it is: who asks late may have lost the partition meanwhile.
            found = self._followed.pop(key, None)
            if found is None or (found.place, found.state_id) != (place, state_id):
                return None
            return found.loader if time.time() - found.fresh <= TRUST_S else None

    # --- its thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._over.is_set():
            consumer = reader(self._settings, "soma-standby", [], reset="error")
            self._reads = {}
            try:
                self._follow(consumer)
            except KafkaException as error:
                log.warning("standby begins anew: %s", error)
                self._doubt(list(self._followed))
                self._over.wait(RETRY_S)
            except Exception:
                # Nothing relies on it, and the worker owns partitions: those go on.
                log.exception("standby has ended: states are read back as without it")
                self._doubt(list(self._followed))
                self._over.set()
            finally:
                consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        """Until it is over. KafkaException: with another consumer."""
        while not self._over.is_set():
            self._begin()
            self._assign(consumer)
            if not self._reads:
                self._over.wait(POLL_S)
                continue
            messages = consumer.consume(CHUNK, POLL_S)
            self._distrust()  # before what comes is taken for a sign: this process may have stood
            self._load(messages)
            if time.monotonic() - self._looked > LOOK_S:
                self._looked = time.monotonic()
                self._look(consumer)

    def _doubt(self, keys: list[Key]) -> None:
        """Forget these, and begin with them anew a little later."""
        with self._lock:
            for key in keys:
                self._followed.pop(key, None)
                self._retry_at[key] = time.monotonic() + RETRY_S

    def _distrust(self) -> None:
        """KafkaException where nothing was heard of a state for too long."""
        with self._lock:
            old = [k for k, one in self._followed.items() if time.time() - one.fresh > TRUST_S]
        if old:
            text = f"nothing is known of {len(old)} states for {TRUST_S:.0f} s"
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, text))

    def _begin(self) -> None:
        """Make folds for some of what is wanted and isn't followed yet."""
        with self._lock:
            now = time.monotonic()
            new = [
                (key, plan) for key, plan in self._wanted.items()
                if key not in self._followed and self._retry_at.get(key, 0.0) <= now
            ][:BEGIN_MAX]  # fmt: skip
        ids: dict[str, Mapping[str, str]] = {}
        for key, plan in new:
            try:
                found = ids.get(key[0]) or self._ids_of(plan)
                ids[key[0]] = found
                source_id, state_id = found[plan.source], found[plan.state]
            except (KafkaException, BrokerError, TimeoutError, KeyError) as error:
                log.info("standby: %s isn't followed yet: %r", plan.state, error)
                self._doubt([key for key, _ in new])
                return
            place = Place(source_id[:8], key[1])
            loader = begun(plan, place, self._defaults_of(plan))
            with self._lock:
                if key in self._wanted:
                    self._followed[key] = Followed(loader, place, state_id, time.time())

    def _assign(self, consumer: Consumer) -> None:
        """Read what is followed, and nothing else; each from where it is."""
        with self._lock:
            states = {key: one.loader for key, one in self._followed.items()}
        # One that was dropped and is followed anew begins anew.
        kept = {key for key, one in states.items() if self._reads.get(key) is one}
        if gone := self._reads.keys() - kept:
            consumer.incremental_unassign(
                [TopicPartition(self._reads[key].plan.state, key[1]) for key in gone]
            )
        if new := states.keys() - kept:
            consumer.incremental_assign(
                [TopicPartition(states[key].plan.state, key[1], states[key].at) for key in new]
            )
        self._reads = states

    def _load(self, messages: list[Message]) -> None:
        by_place: dict[tuple[str, int], list[Message]] = defaultdict(list)
        ended: dict[tuple[str, int], int] = {}
        lost: set[tuple[str, int]] = set()
        for message in messages:
            where = message.topic() or "", message.partition() or 0
            error = message.error()
            if error is None:
                by_place[where].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended[where] = message.offset() or 0
            elif not error.retriable() and error.code() not in (*AWAY, *PASSED):
                log.warning("standby: %s/%d: %s", *where, error)
                lost.add(where)
        with self._lock:
            keys = {one.where: key for key, one in self._followed.items()}
            for where in by_place.keys() | ended.keys():
                if where in keys:
                    of = by_place.get(where, [])
                    self._take_in(keys[where], of, ended.get(where, 0))
        if lost:  # where an error doesn't say of which it is, none is believed
            self._doubt([key for where, key in keys.items() if where in lost or not lost & {*keys}])

    def _take_in(self, key: Key, messages: list[Message], end: int) -> None:
        one = self._followed[key]
        if self._reads.get(key) is not one.loader:
            return  # what comes is for the one before, which was at another place
        try:
            if messages:
                one.loader.take(messages)
        except UnknownVersion as error:
            log.warning("standby doesn't follow %s/%d: %s", *one.where, error)
            del self._followed[key]
            self._retry_at[key] = float("inf")
            return
        one.seen, one.fresh = max(one.seen, one.loader.at, end), time.time()

    def _look(self, consumer: Consumer) -> None:
        """Ask the broker for the ends: who has all is fresh though nothing came. Shows the lag."""
        with self._lock:
            followed = list(self._followed.items())
        for key, one in followed:
            if self._over.is_set():
                return
            place = TopicPartition(*one.where)
            try:
                _, end = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
            except KafkaException as error:
                log.info("standby: %s/%d: the broker says no end: %s", *one.where, error)
                return
            with self._lock:
                left = max(0, end - max(one.seen, one.loader.at))
                if not left:
                    one.fresh = time.time()
            metrics.STANDBY.labels(key[0], str(key[1])).set(left)
        for name, number in self._shown - {key for key, _ in followed}:
            metrics.STANDBY.remove(name, str(number))
        self._shown = {key for key, _ in followed}
