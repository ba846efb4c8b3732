"""The Kafka side of a projection: a read_committed consumer that starts where it still matters."""

import logging
import time
from collections.abc import Iterable

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from agents.projections.batch import Waiting
from agents.settings import Settings
from topics import codec
from topics.broker import BrokerError, topic_ids

ANSWER_S = 5.0
NOWHERE = OFFSET_INVALID  # less than every offset: the client then starts by its own rules
CLOCKS_MS = 60_000  # our clock may differ from the broker's by so much

logger = logging.getLogger(__name__)


def consumer_of(settings: Settings, name: str) -> Consumer:
    """A consumer of the group `projection.<name>`; its owner stores offsets when they are done."""
    return Consumer(
        settings.librdkafka(
            group_id=settings.prefix(f"projection.{name}"),
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


class Log:
    """One topic, read by the consumer group `projection.<name>` into `waiting`.

    Records older than `keep_ms` are skipped: the store wouldn't keep them. For one thread only:
    the client's calls block each other.
    """

    def __init__(
        self, settings: Settings, name: str, topic: str, schema: str, keep_ms: int
    ) -> None:
        self.topic = settings.topic(topic)
        self.topic_id = ""
        self.waiting = Waiting(codec.headers(schema))
        self._keep_ms = keep_ms
        self._paused = False
        self._done: dict[int, int] = {}  # partition -> next offset that the store lacks
        self._ends: dict[int, int] = {}  # partition -> where its end was, when we were there
        self._admin = AdminClient(settings.librdkafka())
        self._consumer = consumer_of(settings, name)
        self._consumer.subscribe(
            [self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def read(self, most: int, seconds: float) -> None:
        """Add what comes within so many seconds to `waiting`, at most so many records."""
        if self.waiting and not self.topic_id:
            self._name_topic()
        for message in self._consumer.consume(most, seconds):
            if message.error() is not None:
                self._heard(message)
                continue
            offset = message.offset()
            if offset is not None and offset < self._done.get(message.partition() or 0, 0):
                self._name_topic()  # offsets start again: the topic was made anew
                self._ends.clear()
            self.waiting.add(message)

    def done(self, upto: dict[int, int]) -> None:
        """The store has everything before these offsets."""
        # Between the last record and an end there are only the markers of transactions.
        passed = {p: max(offset, self._ends.get(p, 0)) for p, offset in upto.items()}
        self._done |= passed
        self._tell(passed)

    def _tell(self, done: dict[int, int]) -> None:
        """The group: for lag tools, markers count as done too, or an idle partition lags by one."""
        offsets = [TopicPartition(self.topic, p, offset) for p, offset in done.items()]
        try:
            self._consumer.store_offsets(offsets=offsets)
        except KafkaException as error:
            # Another owner has a partition; that it writes the same again does no harm.
            logger.info("%s: position not kept: %s", self.topic, error)

    def pause(self) -> None:
        """Read nothing more, but stay a member of the group."""
        self._paused = True
        self._consumer.pause(self._consumer.assignment())

    def resume(self) -> None:
        """Read on, from where it still matters."""
        self._paused = False
        held = self._consumer.assignment()
        for partition, offset in self._floor(held).items():
            if offset > self._done.get(partition, 0):
                self._consumer.seek(TopicPartition(self.topic, partition, offset))
                self._done[partition] = offset
        self._consumer.resume(held)

    def lag(self) -> dict[int, int]:
        """Partition -> records that the store hasn't taken, of the partitions held."""
        lags: dict[int, int] = {}
        for partition, done in self._done.items():
            place = TopicPartition(self.topic, partition)
            ends = self._consumer.get_watermark_offsets(place, cached=True)
            if ends is not None and ends[1] >= 0:
                lags[partition] = max(0, ends[1] - done)
        return lags

    def close(self) -> None:
        """Commit what is done and leave the group."""
        self._consumer.close()

    def _heard(self, message: Message) -> None:
        error, partition = message.error(), message.partition()
        if error is None or partition is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends[partition] = message.offset() or 0
            if partition in self._done and partition not in self.waiting.upto:
                self._done[partition] = self._ends[partition]
                self._tell({partition: self._ends[partition]})
        elif error.fatal():
            raise KafkaException(error)
        else:
            logger.warning("%s: %s", self.topic, error.str())

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._name_topic()
        try:
            committed = consumer.committed(partitions, timeout=ANSWER_S)
        except KafkaException as error:
            logger.warning(
                "%s: starting where the client finds its position: %s", self.topic, error
            )
            committed = partitions
        floors = self._floor(partitions)
        starts = [
            TopicPartition(
                self.topic, tp.partition, max(tp.offset, floors.get(tp.partition, NOWHERE))
            )
            for tp in committed
        ]
        for tp in partitions:
            self._ends.pop(tp.partition, None)
        self._done |= {tp.partition: tp.offset for tp in starts if tp.offset >= 0}
        consumer.assign(starts)
        if self._paused:
            consumer.pause(starts)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {tp.partition for tp in partitions}
        self.waiting.drop(gone)
        self._done = {p: offset for p, offset in self._done.items() if p not in gone}

    def _floor(self, partitions: Iterable[TopicPartition]) -> dict[int, int]:
        """Partition -> the first offset that the store would still keep; {} if nobody answers."""
        since = int(time.time() * 1000) - self._keep_ms - CLOCKS_MS
        floors: dict[int, int] = {}
        try:
            for tp in partitions:
                # The end is asked for first: what is appended after this lies behind it.
                end = self._consumer.get_watermark_offsets(tp, timeout=ANSWER_S)[1]
                at = [TopicPartition(self.topic, tp.partition, since)]
                found = self._consumer.offsets_for_times(at, timeout=ANSWER_S)[0].offset
                floors[tp.partition] = found if found >= 0 else end
        except KafkaException as error:
            # Reading more than is needed does no harm: the store refuses what is too old.
            logger.warning("%s: reading from the last position: %s", self.topic, error)
            return {}
        return floors

    def _name_topic(self) -> None:
        try:
            self.topic_id = topic_ids(self._admin, [self.topic])[self.topic]
        except (BrokerError, KeyError) as error:
            logger.warning("%s: its id isn't known yet: %s", self.topic, error)
            self.topic_id = ""
