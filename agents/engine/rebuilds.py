"""A state that is replaced by one made anew: how its owner hears of it, by the epochs log.

The job that does it says so first, and then fences the owner by the partition's own transactional
id. Whoever is fenced and finds that word waits for the end of it, and takes the partition anew; so
does one that stopped because its state or its records were lost.
"""

import time
from dataclasses import dataclass

from agents.engine.errors import UnknownVersion
from agents.engine.plan import Plan
from agents.engine.recovery import reader
from agents.settings import Settings
from topics import codec
from topics.reading import ends_of, read_to

BEGINS, DONE = "begins", "done"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One word of it (schema `rebuild`)."""

    processor: str
    partition: int
    topic_id: str  # 32 hex digits, of the source
    job: str
    actor: str
    state: str  # begins or done
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
    place = plan.epochs, partition
    key = rebuild_key(plan.processor.name, partition)
    found: list[Rebuild] = []
    consumer = reader(settings, "soma-rebuilds", [place], offset)
    try:
        end = ends_of(consumer, [place], settings.answer_timeout_s)[place]
        for messages in read_to(consumer, {place: end} if end > offset else {}):
            found += [_read(one.value() or b"", place) for one in messages if one.key() == key]
    finally:
        consumer.close()
    return found, end


def _read(value: bytes, place: tuple[str, int]) -> Rebuild:
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        raise UnknownVersion(f"{place[0]}/{place[1]}: {error.detail}") from error
    if name != "rebuild":
        raise UnknownVersion(f"{place[0]}/{place[1]}: {name} is not a rebuild")
    return Rebuild(*(record[field] for field in Rebuild.__slots__))
