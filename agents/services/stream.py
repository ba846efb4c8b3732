"""The Kafka side of a service that knows itself from where to read: its position is in a store.

A partition that is assigned is read once `place` has said from where; before that, and while the
store is away, it is paused and the membership of the group is kept. The group's offsets are written
for lag tools and never read.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from faust.types import TP

from agents.engine.held_up import HeldUp
from agents.engine.metrics import STALLED
from stores.errors import StoreDown
from topics.broker import BrokerError, topic_ids
from topics.missed import Admin, Missed, let_go
from topics.reading import TopicAndPartition, committed_of, offsets_at

if TYPE_CHECKING:
    from agents.settings import Settings

ANSWER_S = 5.0
NO_TOPIC = "there is no topic %s: `soma topics apply` makes it"
GROUP, TOPIC, RECORDS = "group", "topic", "records"  # what the broker may refuse
NAMED_EVERY_S = 10.0  # how soon a topic that was made anew is noticed where offsets don't tell

logger = logging.getLogger(__name__)


class LogBehindError(StoreDown):
    """The log ends before the store's position: Kafka went back in time. Only a rebuild helps.

    Its offsets are given out again, for other records: the store would take these for known ones.
    """


class ReadBuffer(Protocol):
    """What is read and waits: agents/tables/batch.py, agents/services/read_ahead.py."""

    upto: dict[int, int]
    replaced: int
    control: int

    def add(self, message: Message) -> None: ...
    def drop(self, partitions: set[int]) -> None: ...
    def records(self) -> list[Message]: ...
    def take(self) -> dict[int, int]: ...
    def __bool__(self) -> bool: ...


def group_of(settings: "Settings", name: str) -> str:
    """The group that reads for a service."""
    return settings.prefix(f"projection.{name}")


def client_of(settings: "Settings", name: str) -> str:
    """What its members call themselves: others are strangers (`strangers.py`)."""
    return settings.prefix(f"soma-{name}")


def consumer_of(settings: "Settings", name: str) -> Consumer:
    """A consumer of the group `projection.<name>`; its owner stores offsets when they are done."""
    return Consumer(
        settings.librdkafka(
            group_id=group_of(settings, name),
            client_id=client_of(settings, name),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_offset_store=False,  # the client commits each second what is stored
            auto_commit_interval_ms=1000,
            enable_partition_eof=True,
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(settings.heartbeat_s * 1000),
            fetch_queue_backoff_ms=10,
            queued_max_messages_kbytes=8192,
        )
    )


class Stream:
    """One topic, read by the group `projection.<name>` into `waiting`. For one thread only."""

    def __init__(self, settings: "Settings", name: str, topic: str, waiting: ReadBuffer) -> None:
        self.topic = settings.topic(topic)
        self.topic_id = ""
        self.waiting = waiting
        self.unplaced: set[int] = set()
        self.ends: dict[int, int] = {}  # partition -> its end, while there is nothing behind it
        self._next: dict[int, int] = {}  # partition -> the least offset that can come
        self._unanswered: set[int] = set()  # of those unplaced: nobody has said where they end
        self._paused = False
        self._named_at = 0.0
        self._admin = Admin(settings.librdkafka())
        self._lacks: dict[str, str] = {}  # what we don't have (GROUP and so on) -> why, in words
        self._missed = Missed(settings.librdkafka(), settings.stalled_after_s, open_too=True)
        self._held = HeldUp()
        self._unreadable: Mapping[TP, int] = {}  # records behind a transaction that stays open
        # Partitions that such a one holds up, for people; replaced whole, never changed.
        self.held_up: dict[str, dict[str, Any]] = {}
        self._shown: set[int] = set()  # partitions in the metrics
        self._of = settings, name
        self._consumer = consumer_of(settings, name)
        self._join()

    def read(self, most: int, seconds: float) -> None:
        """Add what comes within so many seconds to `waiting`, at most so many records."""
        if time.monotonic() - self._named_at > NAMED_EVERY_S:
            self._name_topic()
        if self._missed.due:
            self._look()
        for message in self._consumer.consume(most, seconds):
            if message.error() is not None:
                self._heard(message)
                continue
            partition, offset = message.partition() or 0, message.offset() or 0
            if partition not in self._next:
                continue  # fetched before it was placed
            if offset < self._next[partition]:
                self._name_topic()  # offsets start again: the topic was made anew
                self.unplace([partition])  # or its log went back: the store's position tells
                continue
            self._next[partition] = offset + 1
            self.ends.pop(partition, None)
            self._lacks.pop(RECORDS, None)
            self.waiting.add(message)

    def place(self, partition: int, offset: int, clamp: bool = False) -> int | None:
        """Read a partition from here on. What is gone from the log is named.

        Returns where the log let it begin; None: not yet, ask again. `LogBehindError` if the log
        ends before; with `clamp` its end is taken.
        """
        at = TopicPartition(self.topic, partition, offset)
        self._unanswered.add(partition)
        try:
            low, high = self._consumer.get_watermark_offsets(at, timeout=ANSWER_S)
            at.offset = min(max(offset, low), high)
            if at.offset != offset and not self._name_topic():
                return None  # the offset is another topic's, or nobody says: asked again
            if offset <= high or clamp:
                self._consumer.seek(at)
        except KafkaException as error:
            # Fetching hasn't begun yet, or the broker is away: asked again with the next turn.
            logger.debug("%s partition %d isn't placed: %s", self.topic, partition, error)
            return None
        self._unanswered.discard(partition)
        if offset > high and not clamp:
            raise LogBehindError(
                f"{self.topic} partition {partition}: the store is at offset {offset}, and the log "
                f"ends at {high}: Kafka went back in time"
            )
        if at.offset != offset:
            logger.error(
                "%s partition %d: the store is at offset %d, the log has %d to %d: going on at %d",
                *(self.topic, partition, offset, low, high, at.offset),
            )
        self.unplaced.discard(partition)
        self._next[partition] = at.offset
        if not self._paused:
            self._consumer.resume([at])
        return int(at.offset)

    def known(self, partition: int, since_ms: int) -> tuple[int, int, int]:
        """Where the group was (below 0: nowhere), the first offset since a time, and the end.

        KafkaException: nobody says.
        """
        place = self.topic, partition
        self._unanswered.add(partition)
        was = committed_of(self._consumer, place, ANSWER_S)
        # The end is asked for first: what is appended after this lies behind it.
        end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=ANSWER_S)[1]
        first = offsets_at(self._consumer, [place], since_ms, ANSWER_S)[place]
        self._unanswered.discard(partition)
        return -1 if was is None else was, end if first is None else first, end

    def unplace(self, partitions: Iterable[int]) -> None:
        """Forget what was read of these partitions, and read no more before they are placed."""
        some = set(partitions) & (self._next.keys() | self.unplaced)
        if not some:
            return
        self._consumer.pause([TopicPartition(self.topic, partition) for partition in some])
        self._forget(some)
        self.unplaced |= some

    def passed(self, held: Mapping[int, int]) -> dict[int, int]:
        """Partition -> its end, where nothing is left before it and `held` doesn't know it yet."""
        waits = self.waiting.upto
        return {p: end for p, end in self.ends.items() if p not in waits and end > held[p]}

    def done(self, upto: Mapping[int, int]) -> None:
        """The store has everything before these offsets: says so to the group."""
        # For lag tools: behind the last record there are only markers, which count as done.
        ends = {p: end for p, end in self.ends.items() if p not in self.waiting.upto}
        offsets = [
            TopicPartition(self.topic, p, max(offset, ends.get(p, 0))) for p, offset in upto.items()
        ]
        try:
            self._consumer.store_offsets(offsets=offsets)
        except KafkaException as error:
            logger.debug("%s: another owner has the partition: %s", self.topic, error)

    def pause(self) -> None:
        """Read nothing more, but stay a member of the group."""
        self._paused = True
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Read on. Where the log begins behind our place by now, it is to be placed anew."""
        self._paused = False
        try:
            self.unplace([p for p, offset in self._next.items() if self._low(p) > offset])
        except KafkaException as error:
            logger.warning("%s: whether all is there still isn't known: %s", self.topic, error)
        self._consumer.resume([TopicPartition(self.topic, p) for p in self._next])

    def _low(self, partition: int) -> int:
        at = TopicPartition(self.topic, partition)
        return int(self._consumer.get_watermark_offsets(at, timeout=ANSWER_S)[0])

    def lag(self, held: Mapping[int, int]) -> dict[int, int]:
        """Partition -> records behind the store's position (`held`), of the partitions placed."""
        lags: dict[int, int] = {}
        for partition in self._next.keys() & held.keys():
            at = TopicPartition(self.topic, partition)
            ends = self._consumer.get_watermark_offsets(at, cached=True)
            if ends is None or ends[1] < 0:
                continue
            # Between the last record and an end there are only the markers of transactions.
            idle = partition not in self.waiting.upto and self.ends.get(partition) == ends[1]
            lag = 0 if idle else max(0, ends[1] - held[partition])
            lags[partition] = lag + self._unreadable.get(TP(self.topic, partition), 0)
        return lags

    @property
    def stopped(self) -> dict[str, str]:
        """Partitions with records that haven't come for long: what `/ready` says of them."""
        return {f"{self._of[1]} {p[0]}/{p[1]}": "stalled" for p in self._missed.stalled}

    @property
    def troubles(self) -> str:
        """Why it doesn't have its partitions, or nothing of them, in words; mostly empty."""
        return "; ".join(self._lacks.values())

    def close(self) -> None:
        """Leave the group."""
        self._show({})
        self._watch_held(())
        self._consumer.close()

    def _join(self) -> None:
        self._consumer.subscribe(
            [self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def _look(self) -> None:
        """Take a new consumer where this one has missed records for long."""
        missed = self._missed.look({} if self._paused else self._reached())
        waits = self._missed.waits
        self._show({p: waits.get((self.topic, p), 0.0) for p in {*self._next, *self.unplaced}})
        self._watch_held({*self._next, *self.unplaced})
        if not missed:
            return
        logger.error(
            "%s stands still: the broker has %s and nothing came for %g s: a new consumer is taken",
            *(self._of[1], missed, self._of[0].stalled_after_s),
        )
        old, self._consumer = self._consumer, consumer_of(*self._of)
        self._forget({*self._next, *self.unplaced})
        self.unplaced = set()
        let_go(old)
        self._join()

    def _watch_held(self, partitions: Iterable[int]) -> None:
        """Show what nobody can read: behind a transaction that stays open."""
        ends = {TP(*place): span for place, span in self._missed.unstable.items()}
        owners = {TP(self.topic, p): f"projection.{self._of[1]}" for p in partitions}
        self._unreadable = self._held.look(ends, owners, time.time())
        self.held_up = self._held.shown()

    def _reached(self) -> dict[TopicAndPartition, int]:
        """Partition -> before which offset all has come; -1 where there isn't even an answer."""
        ends = {p: max(at, self.ends.get(p, 0)) for p, at in self._next.items()}
        ends |= dict.fromkeys(self._unanswered & self.unplaced, -1)
        if not self._next and not self.unplaced and not self._consumer.memberid():
            ends[0] = -1  # fallen out of the group, and it doesn't come back
        return {(self.topic, p): at for p, at in ends.items()}

    def _show(self, waits: Mapping[int, float]) -> None:
        for partition in self._shown - waits.keys():
            STALLED.remove(self._of[1], str(partition))
        for partition, wait in waits.items():
            STALLED.labels(self._of[1], str(partition)).set(wait)
        self._shown = set(waits)

    def _heard(self, message: Message) -> None:
        """What came instead of a record. KafkaException where the client is good for nothing more.

        An error of the group has no topic, and one of the topic as a whole no partition: until it
        is over nothing comes, and nothing else says why.
        """
        error, partition = message.error(), message.partition()
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF:
            self._lacks.pop(RECORDS, None)
            if partition in self._next:
                self.ends[partition or 0] = message.offset() or 0
        elif error.fatal():
            raise KafkaException(error)
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            what = TOPIC if partition is None else RECORDS
            self._lack(what, f"the broker refuses the topic {self.topic}: its ACLs lack Read of it")
        elif error.code() < 0 or (message.topic() is not None and partition is not None):
            logger.warning("%s: %s", self.topic, error.str())  # below 0: our client's own
        elif message.topic() is None:
            said, group = error.str(), group_of(*self._of)
            if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                said = "its ACLs lack Read of it"
            self._lack(GROUP, f"the broker refuses the group {group}: {said}")
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._lack(TOPIC, NO_TOPIC % self.topic)
        else:
            self._lack(TOPIC, f"the broker doesn't give the topic {self.topic}: {error.str()}")

    def _lack(self, what: str, why: str) -> None:
        """Note why it doesn't have something; the client may say the same each second."""
        if self._lacks.get(what) != why:
            logger.error("%s: %s", self._of[1], why)
        self._lacks[what] = why

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return  # it is being let go
        for what in (GROUP, RECORDS, *((TOPIC,) if partitions else ())):
            self._lacks.pop(what, None)
        self._name_topic()
        for tp in partitions:
            tp.offset = 0  # never read from: paused until it is placed
        consumer.assign(partitions)
        consumer.pause(partitions)
        self._forget({tp.partition for tp in partitions})
        self.unplaced = {tp.partition for tp in partitions}

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        gone = {tp.partition for tp in partitions}
        self._forget(gone)
        self.unplaced -= gone

    def _forget(self, partitions: set[int]) -> None:
        self.waiting.drop(partitions)
        for partition in partitions:
            self._next.pop(partition, None)
            self.ends.pop(partition, None)

    def _name_topic(self) -> bool:
        """Ask for the topic's id; if it is another, all partitions are to be placed anew.

        Whether it is known to be the same.
        """
        self._named_at = time.monotonic()
        try:
            with self._admin.client() as admin:
                found = topic_ids(admin, [self.topic]).get(self.topic, "")
        except BrokerError as error:
            logger.warning("%s: its id isn't known yet: %s", self.topic, error)
            return False
        if found:
            self._lacks.pop(TOPIC, None)
        else:
            self._lack(TOPIC, NO_TOPIC % self.topic)
        before, self.topic_id = self.topic_id, found
        if before and before != found:
            logger.warning("%s was made anew: reading it from its beginning", self.topic)
            self.unplace(list(self._next))
        return bool(found) and before == found
