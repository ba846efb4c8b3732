"""A state that is replaced by one made anew: how its owner hears of it, by the epochs log.

The job that does it says so first, and then fences the owner by the partition's own transactional
id. Whoever is fenced and finds that word waits for the end of it, and takes the partition anew; so
does one that stopped because its state or its records were lost. A job that ends without rows says
that too, so that nobody waits for it.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from confluent_kafka import TopicPartition

from agents.engine.errors import UnknownVersion
from agents.engine.plan import Plan
from agents.engine.recovery import reader
from agents.settings import Settings
from topics import codec
from topics.reading import ends_of, read_to

BEGINS, DONE, ENDED = "begins", "done", "ended"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One word of it (schema `rebuild`)."""

    processor: str
    partition: int
    topic_id: str  # 32 hex digits, of the source
    job: str
    actor: str
    state: str  # begins; then done, or ended without rows
    next_offset: int = -1
    rows: int = 0  # written
    digest_before: str = ""
    digest_after: str = ""
    lost: str = ""  # FROM..TO
    hold_s: float = 0.0
    ts: int = 0  # microseconds; 0: when it is written

    def record(self) -> tuple[bytes, bytes]:
        """Key and value in the epochs log."""
        value = {name: getattr(self, name) for name in Rebuild.__slots__}
        value["ts"] = self.ts or time.time_ns() // 1000
        return rebuild_key(self.processor, self.partition), codec.encode("rebuild", value)


def rebuild_key(processor: str, partition: int) -> bytes:
    """Key in the epochs log: versions that know none read on."""
    return f"{processor}/{partition}/rebuild".encode()


def rebuilds_since(
    settings: Settings, plan: Plan, partition: int, offset: int
) -> tuple[list[Rebuild], int]:
    """What the epochs log says of a processor's partition from an offset on, and where it ends.

    UnknownVersion, KafkaException.
    """
    key = rebuild_key(plan.processor.name, partition)
    words, ends = words_since(settings, plan.epochs, {partition: offset}, {key})
    return [word for _, word in words], ends[partition]


def words_since(
    settings: Settings, epochs: str, since: Mapping[int, int], keys: Collection[bytes]
) -> tuple[list[tuple[int, Rebuild]], dict[int, int]]:
    """What the epochs log says under some keys, from an offset of each partition on: offsets and
    words; and where those partitions end. UnknownVersion, KafkaException.
    """
    found: list[tuple[int, Rebuild]] = []
    consumer = reader(settings, "soma-rebuilds", [])
    try:
        ends = ends_of(consumer, [(epochs, p) for p in since], settings.answer_timeout_s)
        left = {place: end for place, end in ends.items() if end > since[place[1]]}
        consumer.assign([TopicPartition(*place, since[place[1]]) for place in left])
        for messages in read_to(consumer, left):
            found += [
                (one.offset() or 0, _read(one.value() or b"", (epochs, one.partition() or 0)))
                for one in messages
                if one.key() in keys
            ]
    finally:
        consumer.close()
    return found, {p: end for (_, p), end in ends.items()}


def _read(value: bytes, place: tuple[str, int]) -> Rebuild:
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        raise UnknownVersion(f"{place[0]}/{place[1]}: {error.detail}") from error
    if name != "rebuild":
        raise UnknownVersion(f"{place[0]}/{place[1]}: {name} is not a rebuild")
    return Rebuild(*(record[field] for field in Rebuild.__slots__))
