"""Receipts: which rows a shard's last transaction sent, written in that transaction itself."""

import asyncio
from collections.abc import Iterable

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from agents.engine.builder import RawBuilder
from agents.engine.records import frame_one
from agents.outbox import RECEIPTS
from agents.settings import Settings
from topics import codec
from topics.partition import partition_of
from topics.reading import Place, ends_of, read_to

SCHEMA = "outbox_receipt"
ANSWER_S = 30.0


class ReceiptsLost(Exception):
    """A receipt can't be read: without it nobody knows what was sent. Names the offset."""


def key_of(shard: int) -> bytes:
    """A receipt's key."""
    return str(shard).encode()


def receipt(shard: int, ids: list[int], ts: int) -> RawBuilder:
    """The receipt of a batch as a record batch of its own; `ts` in microseconds."""
    value = codec.encode(SCHEMA, {"shard": shard, "ids": ids, "ts": ts})
    framed = frame_one(0, key_of(shard), value, [])
    return RawBuilder(np.frombuffer(bytearray(framed), np.uint8), 1)


class Receipts:
    """Reads receipts; those who ask while a reading is on share the next one."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._settings = settings
        self._partitions = partitions
        self._turn = asyncio.Lock()
        self._wanted: set[int] = set()
        self._found: dict[int, list[int]] = {}

    def partition(self, shard: int) -> int:
        """Where a shard's receipts are."""
        return partition_of(key_of(shard), self._partitions)

    async def latest(self, shard: int) -> list[int]:
        """The ids of the shard's last receipt; ask after fencing its last owner.

        KafkaException, `ReceiptsLost`.
        """
        self._wanted.add(shard)
        async with self._turn:
            if shard in self._wanted:
                wanted, self._wanted = self._wanted, set()
                try:
                    self._found |= await asyncio.to_thread(self._read, wanted)
                except BaseException:
                    self._wanted |= wanted  # the others of them try for themselves
                    raise
        return self._found.pop(shard)

    def _read(self, shards: Iterable[int]) -> dict[int, list[int]]:
        """The last receipt of each shard, up to where the log ended when this was called.

        Others' shards share the partitions, and while a transaction of theirs is open nothing
        behind its beginning is shown. So this reads up to the log's end, not to the first silence.
        """
        wanted = {key_of(shard): shard for shard in shards}
        last: dict[int, bytes] = {}
        ends = self._ends({self.partition(shard) for shard in wanted.values()})
        consumer = self._consumer("read_committed")
        try:
            consumer.assign([TopicPartition(*place, 0) for place in ends])
            for messages in read_to(consumer, ends, silence_s=ANSWER_S):
                for message in messages:
                    if (shard := wanted.get(message.key() or b"")) is not None:
                        last[shard] = message.value() or b""
        finally:
            consumer.close()
        return {shard: _ids(last.get(shard)) for shard in wanted.values()}

    def _ends(self, partitions: Iterable[int]) -> dict[Place, int]:
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


def _ids(value: bytes | None) -> list[int]:
    if value is None:
        return []
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        raise ReceiptsLost(
            f"a receipt can't be read (a newer version wrote it?): {error}"
        ) from error
    if name != SCHEMA:
        raise ReceiptsLost(f"{name} among the receipts")
    return list(record["ids"])
