"""A read replica of memory.latest: all its partitions, read to their ends and followed.

It belongs to no group: each node reads everything by itself. A snapshot on its disk lets it begin
where that was taken; without one, or where it is refused, it reads from the beginning. What makes
the log another (made anew, gone back in time, records deleted unread) lets it begin anew, and so
does a defect: what is held is thrown away, and nothing is served before all is read again.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from agents.recall import snapshot
from agents.recall.embedder import Embedder
from agents.recall.embedding import HashedNgrams, Provider
from agents.recall.memories import Holding
from agents.recall.remote import provider_of
from agents.recall.rows import Rows
from agents.recall.shelf import Law
from agents.recall.trail import GoneError, Trails, mark_of
from agents.recall.vectors import warm
from topics.broker import BrokerError, topic_ids
from topics.messages import as_bytes
from topics.missed import Admin, Missed, let_go
from topics.reading import PASSED, TopicAndPartition, committed_of, ends_of, span_of

if TYPE_CHECKING:
    from agents.settings import Settings

LATEST, EVENTS = "memory.latest", "memory.events"
READ_MAX, READ_S = 2000, 0.05
FETCH_WAIT_MS = 20  # of the broker, for a record that comes: staleness
ANSWER_S = 5.0
AGAIN_S = 1.0  # after an error of the broker
DEFECT_S = 10.0  # after one of our own
NAMED_EVERY_S = 10.0  # how soon a topic that was made anew is noticed
STOP_S = 10.0

logger = logging.getLogger(__name__)


def holding_of(settings: "Settings") -> Holding:
    """How this deployment keeps vectors and scores memories."""
    own = settings.recall
    provider: Provider | None = None
    if own.provider == "ngrams":
        provider = HashedNgrams(own.dimension)
    elif own.provider == "http":
        provider = provider_of(own)
    half_life_s = own.half_life_s or float("inf")
    return Holding(Law(own.alpha, half_life_s), int(own.bits), provider)


class Replica:
    """Follows memory.latest in a thread of its own from `start` to `stop`."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._topic = settings.topic(LATEST)
        self._file = (settings.recall.folder or settings.home / "recall") / "memories.snapshot"
        self.rows = Rows(holding_of(settings))
        self.why = "memory.latest isn't read yet"  # not ready, in words; "" when it is
        self.whole = (
            False  # all that was there when it began is read: it stays so while Kafka is away
        )
        self.began = ""  # from a snapshot or from the log, and why
        self._id = ""
        self._places: list[TopicAndPartition] = []
        self.reached: dict[int, int] = {}  # partition -> next offset; of the thread
        self.ends: dict[int, int] = {}  # as they were asked for
        self._trails = Trails()
        self._stopping = threading.Event()
        self._admin = Admin(settings.librdkafka())
        self._saved_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="recall", daemon=True)
        self.embedder = Embedder(lambda: self.rows.tenants, self.rows.holding.provider)

    # --- from other threads ---

    def start(self) -> None:
        self._thread.start()
        self.embedder.start()

    def stop(self) -> None:
        """End, with a snapshot if there is anything new."""
        self._stopping.set()
        self.embedder.stop(STOP_S)
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                logger.warning("recall hasn't ended within %g s", STOP_S)
        if (provider := self.rows.holding.provider) is not None:
            provider.close()

    @property
    def topic_id(self) -> str:
        """Of what is read."""
        return self._id

    def lag(self) -> dict[int, int]:
        """Records of each partition that aren't taken in, as far as known."""
        ends = dict(self.ends)
        return {number: max(0, end - self.reached.get(number, 0)) for number, end in ends.items()}

    def has(self, partition: int, event: int) -> bool:
        """Whether a row says that this event of memory.events, or a later one, was folded."""
        return self.rows.folded.get(partition, -1) >= event

    def folded_at(self, partition: int, event: int) -> int | None:
        """For events that write no row: up to which offset memory.latest is to be read, once the
        processor has committed it; None: it hasn't. KafkaException. It blocks.
        """
        with _client(self._settings, self._settings.prefix("soma")) as consumer:
            place = self._settings.topic(EVENTS), partition
            committed = committed_of(consumer, place, ANSWER_S)
            if committed is None or committed <= event:
                return None
            return span_of(consumer, (self._topic, partition), ANSWER_S)[1]

    # --- the thread ---

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                warm(self.rows.holding.bits)
                self._follow()
            except GoneError as error:
                logger.warning("recall begins anew: %s", error)
                self._forget(str(error))
            except (KafkaException, BrokerError) as error:
                self.why = f"Kafka: {error}"
                logger.warning("recall: %s", error)
                self._stopping.wait(AGAIN_S)
            except Exception as error:  # a defect: what is held may be wrong
                logger.exception("recall begins anew in %g s, for a defect", DEFECT_S)
                self._forget(f"a defect: {error!r}")
                self._stopping.wait(DEFECT_S)
        self._save()

    def _follow(self) -> None:
        """Begin, or go on, and read until stopped. KafkaException, GoneError."""
        self._name()
        consumer = self._consumer()
        missed = Missed(self._settings.librdkafka(), self._settings.stalled_after_s)
        try:
            self._begin(consumer)
            named = time.monotonic()
            while not self._stopping.is_set():
                self._read(consumer)
                if missed.due and (what := missed.look(self._all())):
                    logger.warning("nothing came of %s: a new client goes on there", what)
                    return
                if time.monotonic() - named > NAMED_EVERY_S:
                    named = time.monotonic()
                    self._name()
                    self.ends = {p: end for (_, p), end in ends_of(consumer, self._places).items()}
                every = self._settings.recall.snapshot_every_s
                if every and not self.why and time.monotonic() - self._saved_at > every:
                    self._save()
        finally:
            let_go(consumer)

    def _name(self) -> None:
        """Ask for the topic's id. GoneError where it is another; BrokerError."""
        with self._admin.client() as admin:
            found = topic_ids(admin, [self._topic]).get(self._topic, "")
        if not found:
            raise BrokerError(f"there is no topic {self._topic}: `soma topics apply` makes it")
        before, self._id = self._id, found
        if before and before != found:
            raise GoneError(f"{self._topic} was made anew")

    def _begin(self, consumer: Consumer) -> None:
        """Say from where each partition is read."""
        listed = consumer.list_topics(self._topic, ANSWER_S).topics[self._topic].partitions
        self._places = [(self._topic, number) for number in sorted(listed)]
        if not self.began:
            self._restore()
        starts = []
        for place in self._places:
            number, (low, end) = place[1], span_of(consumer, place, ANSWER_S)
            # Compaction leaves the log's start where it is: below it are rows deleted by age.
            at = self.reached[number] = max(self.reached.get(number, 0), low)
            self.ends[number] = end
            # What was read last is read again: is it still this log?
            starts.append(TopicPartition(*place, self._trails.begin(number, low, at)))
            if at > end:
                self._trails.ended(number, end)
        consumer.assign(starts)

    def _restore(self) -> None:
        """Begin with the snapshot, if it may be used."""
        self.began = "from the log: there is no snapshot"
        try:
            taken, tenants = snapshot.load(self._file, self._topic, self._id, self.rows.holding)
        except FileNotFoundError:
            return
        except (snapshot.RefusedError, OSError) as error:
            logger.warning("recall reads the log: %s", error)
            self.began = f"from the log: {error}"
            snapshot.discard(self._file)
            return
        if set(taken.positions) - {number for _, number in self._places}:
            self.began = "from the log: the snapshot has partitions that the topic hasn't"
            return
        self.rows.tenants, self.rows.folded = tenants, dict(taken.folded)
        self.reached, self._trails = dict(taken.positions), Trails(taken.trails)
        self.began = f"from the snapshot of {time.strftime('%FT%TZ', time.gmtime(taken.at))}"
        logger.info("recall begins %s", self.began)

    def _read(self, consumer: Consumer) -> None:
        """Take in what comes. KafkaException, GoneError."""
        good = []
        for message in consumer.consume(READ_MAX, READ_S):
            error, partition = message.error(), message.partition() or 0
            if error is None:
                if self._new(message):
                    good.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._trails.ended(partition, message.offset() or 0)
                self.ends[partition] = self.reached[partition] = message.offset() or 0
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise GoneError(f"partition {partition}: what came next is gone from the log")
            elif error.code() not in PASSED and not error.retriable():
                raise KafkaException(error)
        self.rows.take(good)
        for message in good:
            self.reached[message.partition() or 0] = (message.offset() or 0) + 1
        self._trails.settle(self.reached, self.ends)
        if not self._trails.proved:
            return
        if self.why and all(self.reached[p] >= end for p, end in self.ends.items()):
            self.whole, self.why = True, ""

    def _new(self, message: Message) -> bool:
        """Whether it isn't taken in yet. GoneError."""
        key, value = as_bytes(message.key()) or b"", as_bytes(message.value())
        mark = mark_of(message.offset() or 0, key, value, message.timestamp()[1])
        return self._trails.new(message.partition() or 0, mark)

    def _all(self) -> Mapping[TopicAndPartition, int]:
        return {place: self.reached[place[1]] for place in self._places}

    def _consumer(self) -> Consumer:
        return Consumer(
            self._settings.librdkafka(
                group_id=self._settings.prefix("soma-recall-look"),  # never joined
                isolation_level="read_committed", enable_auto_commit=False,
                enable_partition_eof=True, auto_offset_reset="error", fetch_queue_backoff_ms=10,
                fetch_wait_max_ms=FETCH_WAIT_MS, queued_max_messages_kbytes=32_768,
            )
        )  # fmt: skip

    def _forget(self, why: str) -> None:
        self.whole, self.why = False, why  # before the rows go: nobody takes them for all
        self.rows, self._trails = Rows(self.rows.holding), Trails()
        self.began = f"from the log: {why}"
        self._id, self.reached, self.ends = "", {}, {}
        snapshot.discard(self._file)

    def _save(self) -> None:
        """Take a snapshot of what is whole, if there is any."""
        self._saved_at = time.monotonic()
        if self.why or not (self._trails.proved and self._settings.recall.snapshot_every_s):
            return
        taken = snapshot.Taken(
            self._topic, self._id, dict(self.reached), dict(self.rows.folded), time.time(),
            self._trails.kept,
        )  # fmt: skip
        try:
            snapshot.save(self._file, taken, self.rows.tenants, self.rows.holding)
        except OSError as error:
            logger.warning("recall has no snapshot: %s", error)


@contextmanager
def _client(settings: "Settings", group: str) -> Iterator[Consumer]:
    """A consumer for one question."""
    consumer = Consumer(
        settings.librdkafka(
            group_id=group, enable_auto_commit=False, isolation_level="read_committed"
        )
    )
    try:
        yield consumer
    finally:
        consumer.close()


def numbers(replica: Replica) -> dict[str, Any]:
    """What a node says of itself, as JSON data."""
    rows = replica.rows
    return {
        "ready": not replica.why, "why": replica.why, "began": replica.began,
        "tenants": len(rows.tenants), "memories": rows.total(len),
        "array_bytes": rows.total(lambda one: one.nbytes),
        "rows": rows.taken, "unreadable": rows.bad,
        "waiting": rows.total(lambda one: len(one.waiting)), "embedding": replica.embedder.why,
        "bits": rows.holding.bits,
        "partitions": {
            str(number): {"offset": at, "lag": replica.lag().get(number, 0)}
            for number, at in sorted(dict(replica.reached).items())
        },
    }  # fmt: skip
