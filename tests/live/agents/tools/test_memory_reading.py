"""An export misses nothing, though the broker compacts what it is about to read."""

import json
import time
from collections.abc import Callable, Iterator

from agents.engine.recovery import reader
from agents.settings import Settings
from agents.tools.memory_reading import LATEST, Reading
from tests.live.agents.projections.test_memories import forgotten, memory
from tests.live.helpers import Record, eventually, produce
from topics.broker import alter, connect
from topics.partition import partition_of
from topics.reading import read_to, span_of

MADE = (LATEST,)
MANY, TEXT = 400, "x" * 50_000  # 20 MB, of which a client fetches some before it is read
SEGMENT_MS = 200
EAGER = {
    "segment.ms": str(SEGMENT_MS), "min.cleanable.dirty.ratio": "0.001",
    "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "1000", "delete.retention.ms": "0",
}  # fmt: skip


def eager(settings: Settings) -> None:
    """Let the broker compact the topic at once, as if the reader took minutes."""
    alter(connect(settings.librdkafka()), settings.topic(LATEST), EAGER)


def all_of(version: int, but: int = 0) -> list[Record]:
    """Every memory but the first ones at a version."""
    payload = json.dumps({"text": TEXT, "n": version})
    return [one for k in range(but, MANY) for one in memory("t0", str(k), version, payload)]


def place_of(settings: Settings) -> tuple[str, int]:
    return settings.topic(LATEST), partition_of(b"t0", settings.topics_partitions)


def left_before(settings: Settings, end: int) -> int:
    """Records that stand before an offset."""
    place = place_of(settings)
    consumer = reader(settings, "test", [place])
    try:
        return sum(len(found) for found in read_to(consumer, {place: end}))
    finally:
        consumer.close()


def end_of(settings: Settings) -> int:
    consumer = reader(settings, "test", [])
    try:
        return span_of(consumer, place_of(settings))[1]
    finally:
        consumer.close()


def replaced(settings: Settings, records: list[Record]) -> None:
    """Write these, and wait until what was before them is compacted away."""
    number, end = place_of(settings)[1], end_of(settings)
    produce(settings, LATEST, records, number)
    count = 0

    def gone() -> bool:
        nonlocal count
        count += 1
        time.sleep(SEGMENT_MS / 1000)  # segments end where another record comes
        produce(settings, LATEST, memory("t0", "last", count, "{}"), number)
        return left_before(settings, end) < MANY // 10

    eventually(gone, 60.0, "the broker compacts the topic")


class Meanwhile:
    """Does each of some works once, when the reading tells for the first time of a pass."""

    def __init__(self, *works: Callable[[], None]) -> None:
        self._works: Iterator[Callable[[], None]] = iter(works)
        self._before = 1 << 62

    def __call__(self, done: int, _total: int) -> None:
        before, self._before = self._before, done
        if done < before and (work := next(self._works, None)) is not None:
            work()


def test_what_is_compacted_while_it_is_read_is_found_where_it_went(topics: Settings) -> None:
    eager(topics)
    produce(topics, LATEST, all_of(1), place_of(topics)[1])
    end = end_of(topics)
    deleted = [one for k in range(5) for one in forgotten("t0", str(k))]
    reading = Reading(topics, "t0", Meanwhile(
        lambda: replaced(topics, all_of(2)),  # in the first reading
        lambda: replaced(topics, [*all_of(3, 5), *deleted]),  # in that of contents
    ))  # fmt: skip
    found = [
        (head["id"], head["content_version"], content["version"])
        for head, content in reading.all(lambda head: head["id"] != "last")
    ]
    assert len(found) == len({id_ for id_, _, _ in found}), "each once"
    assert {str(k) for k in range(5, MANY)} <= {id_ for id_, _, _ in found}
    assert {version for _, _, version in found} <= {2, 3} and reading.end > end
    assert all(wanted == is_ for _, wanted, is_ in found)
    again = [head["id"] for head, _ in Reading(topics, "t0").all()]
    assert sorted(again) == sorted(["last", *(str(k) for k in range(5, MANY))])
