"""Snapshots of a partition's state: its rows, then one closing record, in one transaction.

They are taken from the state topic, never from a worker's memory. One transactional id for each
partition keeps two that are taken at once apart, so the rows of a snapshot stand right before its
closing record, and whoever reads backwards finds all of them without reading their rows.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from faust.types import TP

from agents.engine.logs import inspect
from agents.engine.plan import Plan
from agents.engine.position import lost
from agents.engine.recovery import reader
from agents.history.errors import BadSnapshot, HistoryError
from agents.history.rows import Digest, Rows, counts_for
from agents.history.stored import stored
from agents.settings import Settings
from topics import codec
from topics.broker import connect, not_taking
from topics.chosen_ids import insist
from topics.missed import Admin
from topics.reading import TopicAndPartition, ends_of, read_to, span_of
from topics.topic import snapshots_of

CLOSING = b"@snapshot"  # the closing record's key
VERSION = 1
WINDOW, WINDOW_MAX = 16, 4096  # offsets looked at for a closing record
TRANSACTION_S = 300.0  # for all rows of a partition
CALL_S = 2.0  # of one call of the client, in which Python hears no signal
PATIENCE_S = 45.0  # for a coordinator that is away, or has only just begun
WAITING_MAX = 50_000  # records under way at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot, as its closing record says."""

    topic: str  # where it lies, as on the broker
    partition: int
    offset: int  # of its closing record
    topic_id: str
    next_offset: int
    epoch: int
    rows: int
    digest: str
    ts: int  # when it was taken, microseconds
    wrong: str = ""  # why it can't be used, as far as is known without reading its rows

    @property
    def first(self) -> int:
        """The offset of its first row."""
        return self.offset - self.rows

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return f"the snapshot at {self.topic}/{self.partition}/{self.offset}"


def place_of(settings: Settings, plan: Plan, partition: int) -> TopicAndPartition:
    """Where a partition's snapshots lie."""
    return settings.topic(snapshots_of(plan.processor.name)), partition


def take(
    settings: Settings, plan: Plan, partition: int, ended: Callable[[], bool] = lambda: False
) -> Snapshot | None:
    """Write a snapshot of what the state topic holds; None where nothing has been folded yet.

    `ended`: whether to give it up. HistoryError where it isn't written, or nobody knows;
    BrokerError, KafkaException.
    """
    found = stored(settings, plan, partition)
    rows, position = found.rows, found.position
    if position is None:
        return None
    source = inspect(settings, Admin(settings.librdkafka()), TP(plan.source, partition), plan.state)
    if lost(position, source):
        raise HistoryError(
            f"{plan.processor.name} at {plan.source}/{partition}: state_lost: its state topic was "
            "made anew, and lacks the rows before"
        )
    place = place_of(settings, plan, partition)
    record = {
        "processor": plan.processor.name, "partition": partition, "topic_id": position.topic_id,
        "next_offset": position.next_offset, "epoch": position.epoch, "rows": len(rows),
        "digest": Digest(rows).hex, "ts": time.time_ns() // 1000, "version": VERSION,
    }  # fmt: skip
    return _written(settings, place, rows, record, ended)


def _written(
    settings: Settings, place: TopicAndPartition, rows: Rows, record: dict[str, Any],
    ended: Callable[[], bool] = lambda: False,
) -> Snapshot:  # fmt: skip
    """Write rows and the closing record in one transaction. HistoryError, BrokerError."""
    if why := not_taking(connect(settings.librdkafka()), [place[0]]):
        raise HistoryError(f"no snapshot: {why}")
    insist(settings)
    told: list[int] = []
    deadline = time.monotonic() + TRANSACTION_S
    name = f"soma-snapshot-{record['processor']}-{place[1]}"
    producer = Producer(
        settings.librdkafka(**{
            "transactional.id": settings.prefix(name), "compression.type": "lz4", "linger.ms": 20,
            "transaction.timeout.ms": round(TRANSACTION_S * 1000), "message.max.bytes": 4 << 20,
            "queue.buffering.max.messages": WAITING_MAX,
        })
    )  # fmt: skip
    begun = False
    try:
        _insist(producer.init_transactions, time.monotonic() + PATIENCE_S)
        producer.begin_transaction()
        begun = True
        for key, value in rows.items():
            _produce(producer, place, key, value, deadline)
            if ended():
                raise HistoryError(f"no snapshot in {place[0]}/{place[1]}: we end")
        closing = codec.encode("snapshot", record)
        _produce(producer, place, CLOSING, closing, deadline, told)
        while producer.flush(CALL_S):
            if ended():
                raise HistoryError(f"no snapshot in {place[0]}/{place[1]}: we end")
            if time.monotonic() > deadline:
                raise HistoryError(f"no snapshot in {place[0]}/{place[1]}: no answer in time")
        _insist(producer.commit_transaction, deadline)
        begun = False
    except KafkaException as error:
        why = error.args[0].str()
        raise HistoryError(f"no snapshot in {place[0]}/{place[1]}: {why}") from error
    finally:
        if begun:
            _abort(producer)  # or it would hold up who reads the partition until it times out
    return _snapshot(place, told[0], record)


def _insist(call: Callable[[float], None], deadline: float) -> None:
    """The same call goes on while the broker doesn't answer. KafkaException."""
    while True:
        try:
            call(CALL_S)
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise


def _abort(producer: Producer) -> None:
    # The broker may be away, have fenced us, or have committed: then there is nothing to do.
    with suppress(KafkaException):
        producer.abort_transaction(CALL_S)
    producer.purge()


def _produce(
    producer: Producer, place: TopicAndPartition, key: bytes, value: bytes, deadline: float,
    told: list[int] | None = None,
) -> None:  # fmt: skip
    """Hand over a record; waits while too many are under way. `told` gets its offset."""

    def delivered(error: Any, message: Message) -> None:
        if error is None and told is not None:
            told.append(message.offset() or 0)

    while True:
        try:
            producer.produce(place[0], value, key, place[1], delivered)
            return
        except BufferError as error:
            if time.monotonic() > deadline:
                text = f"no snapshot in {place[0]}/{place[1]}: its rows aren't taken in time"
                raise HistoryError(text) from error
            producer.poll(0.1)


def _snapshot(place: TopicAndPartition, offset: int, record: dict[str, Any]) -> Snapshot:
    names = ("topic_id", "next_offset", "epoch", "rows", "digest", "ts")
    return Snapshot(*place, offset, *(record[name] for name in names))


def listed(settings: Settings, plan: Plan, partition: int) -> Iterator[Snapshot]:
    """The snapshots of a partition, newest first. KafkaException."""
    place = place_of(settings, plan, partition)
    consumer = reader(settings, "soma-history", [place])
    try:
        low, end = span_of(consumer, place, settings.answer_timeout_s)
        while end > low:
            found = _last(consumer, place, low, end)
            if found is None:
                return
            one = _read(found, place, plan.processor.name, partition)
            if one is not None:
                yield replace(one, wrong=_cut(one, low)) if not one.wrong else one
            end = (found.offset() or 0) if one is None or one.wrong else one.first
    finally:
        consumer.close()


def _cut(one: Snapshot, low: int) -> str:
    return (
        f"{one.place} has lost its first rows to the topic's retention" if one.first < low else ""
    )


def _last(consumer: Consumer, place: TopicAndPartition, low: int, end: int) -> Message | None:
    """The last committed closing record before `end`."""
    window = WINDOW
    while end > low:
        begin = max(low, end - window)
        for message in reversed(_messages(consumer, place, begin, end)):
            if message.key() == CLOSING:
                return message
        end, window = begin, min(4 * window, WINDOW_MAX)
    return None


def _messages(consumer: Consumer, place: TopicAndPartition, begin: int, end: int) -> list[Message]:
    """The committed records of a range."""
    consumer.assign([TopicPartition(*place, begin)])
    return [one for messages in read_to(consumer, {place: end}) for one in messages]


def _read(
    message: Message, place: TopicAndPartition, processor: str, partition: int
) -> Snapshot | None:
    """What a closing record says; None if it is of somebody else."""
    offset = message.offset() or 0
    newer = Snapshot(*place, offset, "", -1, -1, 0, "", 0, "")
    newer = replace(newer, wrong=f"{newer.place} is of a newer version")
    try:
        name, record = codec.decode(message.value() or b"")
    except codec.BadRecord as error:
        if error.reason == "unknown_schema":
            return newer
        return replace(newer, wrong=f"{newer.place} is damaged: {error.detail}")
    if name != "snapshot" or (record["processor"], record["partition"]) != (processor, partition):
        return replace(newer, wrong=f"{newer.place} isn't one of {processor}/{partition}")
    if record["version"] > VERSION:
        return newer
    return _snapshot(place, offset, record)


def load(settings: Settings, plan: Plan, one: Snapshot, tenant: str = "") -> Rows:
    """A snapshot's rows: all, or those on which a tenant's state depends.

    Raises BadSnapshot where they aren't those that were written; KafkaException.
    """
    if one.wrong:
        raise BadSnapshot(one.wrong)
    place = (one.topic, one.partition)
    consumer = reader(settings, "soma-history", [place], one.first)
    rows: Rows = {}
    digest = Digest()
    try:
        low = span_of(consumer, place, settings.answer_timeout_s)[0]
        if lost := _cut(one, low):
            raise BadSnapshot(lost)
        ends = {place: min(one.offset, ends_of(consumer, [place])[place])}
        for messages in read_to(consumer, ends):
            for message in messages:
                key, value = _bytes(message.key()), _bytes(message.value())
                digest.add(key, value)
                if counts_for(key, tenant):
                    rows[key] = value
    finally:
        consumer.close()
    if (digest.rows, digest.hex) != (one.rows, one.digest):
        said = f"{digest.rows} rows with the digest {digest.hex[:16]}…"
        wanted = f"{one.rows} with {one.digest[:16]}…"
        raise BadSnapshot(f"{one.place} is damaged: {said} instead of {wanted}")
    return rows


def _bytes(found: Any) -> bytes:
    return found if isinstance(found, bytes) else b""
