"""Receipts: which rows a shard's last transaction sent, written in that transaction itself."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Consumer, KafkaException, TopicPartition

from agents.engine.builder import RawBuilder
from agents.engine.records import frame_one
from agents.outbox import RECEIPTS, SHARDS
from agents.outbox.digests import DIGEST
from agents.settings import Settings
from topics import codec
from topics.partition import partition_of
from topics.reading import TopicAndPartition, ends_of, read_to

SCHEMA = "outbox_receipt"
ANSWER_S = 30.0
SILENCE_S = 30.0  # without a step forward: the broker is gone, or a transaction stays open


class ReceiptsLost(Exception):
    """A receipt can't be read: without it nobody knows what was sent. Names the offset.

    Nobody knows it either while a transaction is open before the receipts' end.
    """


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a shard's last transaction sent. One of a relay that didn't count has batch 0."""

    ids: Sequence[int]
    batch: int = 0
    digests: bytes = b""

    def rows(self) -> dict[int, int]:
        """id -> digest of the row that was sent; empty where the relay noted none."""
        return dict(zip(self.ids, np.frombuffer(self.digests, DIGEST).tolist(), strict=False))


def key_of(shard: int) -> bytes:
    """A receipt's key."""
    return str(shard).encode()


def receipt(shard: int, what: Receipt, ts: int) -> RawBuilder:
    """The receipt of a batch as a record batch of its own; `ts` in microseconds."""
    fields = {"ids": what.ids, "batch": what.batch, "digests": what.digests}
    value = codec.encode(SCHEMA, {"shard": shard, "ts": ts, **fields})
    framed = frame_one(0, key_of(shard), value, [])
    return RawBuilder(np.frombuffer(bytearray(framed), np.uint8), 1)


class Receipts:
    """Reads receipts; those who ask while a reading is on share the next one."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._settings = settings
        self._partitions = partitions
        self._turn = asyncio.Lock()
        self._asked = self._answered = 0
        self._found: dict[int, Receipt] = {}

    def partition(self, shard: int) -> int:
        """Where a shard's receipts are."""
        return partition_of(key_of(shard), self._partitions)

    async def latest(self) -> dict[int, Receipt]:
        """The last receipt of each shard that has one; ask after fencing a shard's last owner.

        KafkaException, `ReceiptsLost`.
        """
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._answered < mine:
                upto = self._asked
                self._found = await asyncio.to_thread(self.read)
                self._answered = upto
        return self._found

    def read(self) -> dict[int, Receipt]:
        """The last receipt of each shard, up to where the log ended when this was called.

        Others' shards share the partitions, and while a transaction of theirs is open nothing
        behind its beginning is shown. So this reads up to the log's end, not to the first silence.
        """
        wanted = {key_of(shard): shard for shard in range(SHARDS)}
        last: dict[int, bytes] = {}
        ends = self._ends({self.partition(shard) for shard in wanted.values()})
        consumer = self._consumer("read_committed")
        try:
            consumer.assign([TopicPartition(*place, 0) for place in ends])
            for messages in read_to(consumer, ends, silence_s=SILENCE_S):
                for message in messages:
                    if (shard := wanted.get(message.key() or b"")) is not None:
                        last[shard] = message.value() or b""
        except KafkaException as error:
            if said := self._open(ends):
                raise ReceiptsLost(said) from error
            raise
        finally:
            consumer.close()
        return {shard: _receipt(value) for shard, value in last.items()}

    def _open(self, ends: Mapping[TopicAndPartition, int]) -> str:
        """Which transaction keeps us from these ends, in words; empty: none does."""
        consumer = self._consumer("read_committed")
        try:
            stable = ends_of(consumer, ends, ANSWER_S)
        finally:
            consumer.close()
        where = [f"{p[0]}/{p[1]} from offset {at}" for p, at in stable.items() if at < ends[p]]
        if not where:
            return ""
        return (
            f"a transaction is open in {', '.join(where)} on, and what was sent stands behind it: "
            "`soma doctor --hanging` says whose"
        )

    def _ends(self, partitions: Iterable[int]) -> dict[TopicAndPartition, int]:
        """The end of each partition's log, open transactions included."""
        consumer = self._consumer("read_uncommitted")
        try:
            topic = self._settings.topic(RECEIPTS)
            return ends_of(consumer, [(topic, partition) for partition in partitions], ANSWER_S)
        finally:
            consumer.close()

    def _consumer(self, isolation: str) -> Consumer:
        return Consumer(
            self._settings.librdkafka(
                **{
                    "group.id": self._settings.prefix("soma-relay"),
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "isolation.level": isolation,
                    "enable.partition.eof": True,
                    "fetch.queue.backoff.ms": 10,
                    "fetch.wait.max.ms": 20,
                }
            )
        )


def _receipt(value: bytes) -> Receipt:
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        raise ReceiptsLost(
            f"a receipt can't be read (a newer version wrote it?): {error}"
        ) from error
    if name != SCHEMA:
        raise ReceiptsLost(f"{name} among the receipts")
    found = Receipt(record["ids"], record["batch"], record["digests"])
    if found.batch and len(found.digests) != DIGEST.itemsize * len(found.ids):
        raise ReceiptsLost(f"a receipt of {len(found.ids)} ids has {len(found.digests)} bytes")
    return found
