"""One canary that is under way: what its tenants do, read from the log, told block by block.

It keeps nothing that the log doesn't have: whoever takes a canary over reads the blocks before the
start again, and goes on behind the last one that the processor has taken.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, Message, TopicPartition

from agents.canary.agent import FRAMES, SEGMENTS
from agents.canary.blocks import Block, Groups, Values, mean
from agents.canary.state import BEFORE, MEASURING, SECOND, SETTLE
from topics import codec
from topics.reading import offsets_at

if TYPE_CHECKING:
    from agents.settings import Settings

GRACE_MS = 1000  # so long may a transaction take that a block has records of
PAST_S = 2 * BEFORE  # how far back one looks for what was before the start
READ_MAX = 2000  # messages at a time
ANSWER_S = 10.0


class Watch:
    """Reads the frames and boundaries of one canary's tenants."""

    def __init__(self, settings: "Settings", row: Mapping[str, Any]) -> None:
        """`row`: as the processor keeps it. KafkaException where the broker doesn't answer."""
        self.id, self.name = row["id"], row["name"]
        self._asked = row["asked"] // SECOND
        self.groups = Groups(frozenset(row["tenants"]), frozenset(row["control"]))
        self._topics = {settings.topic(FRAMES): FRAMES, settings.topic(SEGMENTS): SEGMENTS}
        self._measured: dict[int, dict[str, Values]] = {}  # blocks before the start
        self._level: tuple[int, int] | None = None  # the blocks that it is to be made of
        self._acts = self._done = 0  # the block in which the setting acts, the last one told
        self._ends: dict[tuple[str, int], float] = {}  # how far each partition is read, ms
        self._newest = 0
        first = self._asked - PAST_S
        if row["state"] != MEASURING:
            self._level, first = (row["first"], row["last_before"]), row["first"]
            self._acts = row["put_on"] // SECOND + SETTLE
            self._done = row["block"]
        self._consumer = Consumer(
            settings.librdkafka(
                group_id=settings.prefix("soma-canary-look"), isolation_level="read_committed",
                enable_auto_commit=False, enable_partition_eof=True, auto_offset_reset="earliest",
            )
        )  # fmt: skip
        self._begin(first)

    def _begin(self, second: int) -> None:
        """Read from a time of the log on."""
        places = [
            (topic, partition)
            for topic in self._topics
            for partition in self._consumer.list_topics(topic, ANSWER_S).topics[topic].partitions
        ]
        found = offsets_at(self._consumer, places, second * 1000)
        self._ends = dict.fromkeys(places, 0.0)
        self._consumer.assign(
            [
                TopicPartition(*place, OFFSET_END if at is None else at)
                for place, at in found.items()
            ]
        )

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def put_on(self, row: Mapping[str, Any]) -> None:
        """The setting acts: what was measured before is what is usual."""
        if self._level is None:
            self._acts = row["put_on"] // SECOND + SETTLE
            self._level = row["first"], row["last_before"]
            self._set_level()

    def read(self, seconds: float) -> None:
        """Take in what comes within so many seconds."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            messages = self._consumer.consume(READ_MAX, left)
            for message in messages:
                self._take(message)
            if len(messages) < READ_MAX:
                return

    def _take(self, message: Message) -> None:
        place = message.topic() or "", message.partition() or 0
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._ends[place] = float("inf")
            return  # others pass: the client tries again
        log_ms = message.timestamp()[1]
        self._newest = max(self._newest, log_ms)
        self._ends[place] = log_ms
        key, value = message.key(), message.value()
        tenant = key.decode("utf-8", "replace") if isinstance(key, bytes) else ""
        if tenant not in self.groups or not isinstance(value, bytes):
            return
        try:
            name, record = codec.decode(value)
        except codec.BadRecord:
            return  # somebody else's: the processors that fold it say so
        if name == "global_frame":
            self.groups.frame(log_ms // 1000, record)
        elif name == "segment_boundary":
            self.groups.boundary(log_ms // 1000, tenant)

    def told(self) -> tuple[bool, list[Block]]:
        """Blocks that are whole and weren't told yet; whether they are from before the start."""
        upto = min(self._newest, *self._ends.values()) if self._ends else 0
        whole = self.groups.take(int(upto - GRACE_MS) // 1000)
        if self._level is None:
            self._measured |= {s: one for s, one in whole.items() if s not in self._measured}
            return True, self._before(int(upto) // 1000)
        first, last = self._level
        early = {second: one for second, one in whole.items() if first <= second <= last}
        if early:
            self._measured |= early
            self._set_level()
        late = {second: one for second, one in whole.items() if second > self._acts}
        made = [one for one in self._made(late, True) if one.second > self._done]
        self._done = max([self._done, *late])
        return False, made

    def _before(self, now: int) -> list[Block]:
        """Those before the start, once there are enough and the start is read."""
        last = sorted(self._measured)[-BEFORE:]
        self._measured = {second: self._measured[second] for second in last}
        if now < self._asked or len(last) < BEFORE:
            return []
        self._set_level()
        return self._made(self._measured, False)

    def _set_level(self) -> None:
        first, last = self._level or (0, self._asked + PAST_S * 1000)
        self.groups.level(one for second, one in self._measured.items() if first <= second <= last)

    def _made(self, blocks: Mapping[int, Mapping[str, Values]], since: bool) -> list[Block]:
        made = [self.groups.block(k, values, since) for k, values in sorted(blocks.items())]
        return [one for one in made if one is not None]


def record_of(
    name: str, id_: str, before: bool, blocks: list[Block], groups: Groups
) -> dict[str, Any]:
    """What the processor is told of blocks: a canary_block."""
    spread, freedom = groups.apart()
    return {
        "name": name, "id": id_, "before": before, "first": blocks[0].second,
        "last": blocks[-1].second, "differences": [d for one in blocks for d in one.differences],
        "canary": mean([one.canary for one in blocks]),
        "control": mean([one.control for one in blocks]),
        "spread": spread, "freedom": freedom, "ts": (blocks[-1].second + 1) * SECOND,
    }  # fmt: skip
