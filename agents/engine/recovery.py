"""Reading a partition's state back from its compacted topic, and its position with it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Message, TopicPartition
from numpy.typing import NDArray

from agents.engine.epochs import Skip, epoch_key, read_skip, skip_key
from agents.engine.errors import UnknownVersion
from agents.engine.plan import Plan
from agents.engine.position import Position, Recovered, read_position
from agents.engine.processor import SEP, Fold, Place
from agents.engine.work import POSITION_KEY
from agents.settings import Settings
from topics import codec
from topics.broker import BrokerError
from topics.columns import UNKNOWN_SCHEMA, Columns
from topics.reading import ends_of, read_to

CHUNK = 10_000  # rows decoded at a time
_SEP = SEP.encode()


def reader(
    settings: Settings, group: str, topics: list[tuple[str, int]], offset: int = 0,
    reset: str = "earliest",
) -> Consumer:  # fmt: skip
    """A consumer of committed records of these partitions, that reports their ends; `reset` says
    what of an offset that the log doesn't have.
    """
    consumer = Consumer(
        settings.librdkafka(
            **{
                "group.id": settings.prefix(group),
                "enable.auto.commit": False,
                "auto.offset.reset": reset,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.queue.backoff.ms": 10,
                "fetch.wait.max.ms": 20,  # the end of a partition shows in an empty answer
                "queued.max.messages.kbytes": 4 * 1024,
            }
        )
    )
    # Offset 0, not "the beginning": librdkafka would look that up first, and wait half a second.
    consumer.assign([TopicPartition(topic, partition, offset) for topic, partition in topics])
    return consumer


def begun(plan: Plan, place: Place, defaults: Mapping[str, str]) -> "Loader":
    """A loader with a fresh fold."""
    return Loader(plan, place.partition, plan.processor.make(plan.context(place, defaults)))


def recover(settings: Settings, loader: "Loader", advanced: Callable[[], None]) -> Recovered:
    """Load the state of one partition from where the loader is, and find its last epoch.

    `advanced` is called whenever a part of it is there.
    Raises UnknownVersion for a row that this version can't read; KafkaException.
    """
    advanced()  # its turn has come
    began, before, plan = time.monotonic(), loader.rows, loader.plan
    places = [(plan.state, loader.partition), (plan.epochs, loader.partition)]
    consumer = reader(settings, "soma-recovery", places)
    if loader.at:
        consumer.assign([TopicPartition(*places[0], loader.at), TopicPartition(*places[1], 0)])
    try:
        ends = ends_of(consumer, places)
        if loader.at > ends[places[0]]:
            raise BrokerError(
                f"{plan.state}/{loader.partition} ends before what was followed of it"
            )
        for messages in read_to(consumer, ends, CHUNK):
            loader.take(messages)
            advanced()
    finally:
        consumer.close()
    return Recovered(
        loader.position, loader.epoch, loader.rows - before, time.monotonic() - began,
        tuple(loader.skips), ends[places[1]], before,
    )  # fmt: skip


class Loader:
    """Turns messages of a state topic into columns, chunk by chunk, and notes the last epoch.

    Every call on a message costs a tenth of a microsecond and there are many, so the epochs log's
    records are told apart by their key, which is read anyway: no tenant has a slash, and the entity
    of a row, which may have one, stands behind 0x1f.
    """

    def __init__(self, plan: Plan, partition: int, fold: Fold) -> None:
        self.plan = plan
        self.partition = partition
        self.fold = fold
        self.at = 0  # before this offset of the state topic all is loaded
        self.columns = Columns(plan.row_layout)
        self.position: Position | None = None
        self.epoch: dict[str, Any] | None = None
        self.skips: list[Skip] = []
        self.rows = 0

    def take(self, messages: list[Message]) -> None:
        """Decode and load one chunk, in order."""
        keys, values = [], []
        for message in messages:
            key, value = message.key(), message.value()
            if key == POSITION_KEY:
                self.position = read_position(value, self.plan.state)
            elif key is not None and b"/" in key and _SEP not in key:
                self._note_epoch(key, value)
            else:
                keys.append(key or b"")
                values.append(value)
        if keys:
            gone = np.array([value is None for value in values], np.uint8)
            self.load(keys, [value or b"" for value in values], gone)
        of_state = (one for one in reversed(messages) if one.topic() == self.plan.state)
        if (last := next(of_state, None)) is not None:
            self.at = (last.offset() or 0) + 1

    def _note_epoch(self, key: bytes, value: bytes | None) -> None:
        name = self.plan.processor.name
        try:
            if key == epoch_key(name, self.partition):
                self.epoch = codec.decode(value or b"")[1]
            elif key == skip_key(name, self.partition):
                self.skips.append(read_skip(value or b""))
        except codec.BadRecord as error:
            raise UnknownVersion(f"{self.plan.epochs}/{self.partition}: {error.detail}") from error

    def load(self, keys: list[bytes], values: list[bytes], gone: NDArray[np.uint8]) -> None:
        """Load rows: parallel lists of keys and wire values, in log order."""
        n = len(keys)
        constants = self.plan.state_reader.constants
        buf = np.frombuffer(bytearray(b"".join([*keys, *values, constants])), np.uint8)
        size = np.fromiter((len(part) for part in keys + values), np.int64, 2 * n)
        at = np.concatenate((np.zeros(1, np.int64), np.cumsum(size)[:-1]))
        status = gone.copy()  # tombstones aren't decoded
        self.columns.clear()
        reader = self.plan.state_reader
        reader.decode(buf, at[n:], size[n:], status, self.columns, buf.shape[0] - len(constants))
        bad = np.flatnonzero((status != 0) & (gone == 0))
        if bad.shape[0]:
            why = (
                "an unknown schema (a newer version wrote it?)"
                if status[bad[0]] == UNKNOWN_SCHEMA
                else "bad Avro"
            )
            raise UnknownVersion(
                f"{self.plan.state}/{self.partition}: row {keys[int(bad[0])]!r} has {why}"
            )
        try:
            self.fold.load(self.columns, 0, n, buf, at[:n], size[:n], gone)
        except ValueError as error:
            raise UnknownVersion(
                f"{self.plan.state}/{self.partition}: {error} (a newer version wrote it?)"
            ) from error
        self.rows += n
