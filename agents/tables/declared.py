"""Which topics become which tables of PostgreSQL, one projection each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import Message

from agents.tables.batch import Every, Waiting
from agents.tables.memories import KEY, MemoryRows
from agents.tables.rows import Rows, of_log
from agents.tables.sampling import Sampling, Sieve, parse
from stores.projection_sql import Target
from topics import codec

if TYPE_CHECKING:
    from agents.services.stream import ReadBuffer
    from agents.settings import Settings

# Projection -> its topic.
TOPICS = {
    "frames": "cog.global.frame",
    "frame_history": "cog.global.frame",
    "segments": "cog.segments",
    "calibration": "cog.predictor.calibration",
    "memories": "memory.latest",
}


@dataclass(frozen=True, slots=True)
class Declared:
    """A projection: its topic, its table, how records become rows, and what waits for the store."""

    topic: str
    target: Target
    rows: Rows
    waiting: "Callable[[], ReadBuffer]"

    @property
    def name(self) -> str:
        """Of the projection, as `soma projection` knows it."""
        return self.target.projection


class HistoryRows(Rows):
    """Frames with their slot in the history."""

    def __init__(self, rule: Sampling) -> None:
        super().__init__("global_frame")
        self.columns = (*self.columns, "slot", "seq")
        self._rule = rule

    def row(self, message: Message, topic_id: str) -> tuple[Any, ...]:
        slot, sequence = self._rule.slot(message.timestamp()[1], message.offset() or 0)
        return (*super().row(message, topic_id), of_log(slot), sequence)


def declared(settings: "Settings") -> list[Declared]:
    """The projections into PostgreSQL that these settings ask for."""
    found = [
        _whole("frames", "global_frame", ("tenant",), latest=True),
        _whole("segments", "segment_boundary", ("segment_id",)),
        _whole(
            "calibration", "predictor_calibration", ("tenant", "domain", "ts", "observation_id")
        ),
    ]
    if settings.projections.memories == "on":
        found.append(_memories())
    rule = parse(settings.projections.history)
    return [*found, _history(rule)] if rule else found


def _whole(name: str, schema: str, key: tuple[str, ...], latest: bool = False) -> Declared:
    rows = Rows(schema)
    target = Target(name, name, rows.columns, key, latest)
    headers = codec.headers(schema)
    kind = Waiting if latest else Every
    return Declared(TOPICS[name], target, rows, lambda: kind(headers))


def _memories() -> Declared:
    rows, name = MemoryRows(), "memories"
    headers = codec.headers(rows.schema)
    return Declared(
        TOPICS[name], Target(name, name, rows.columns, KEY, latest=True), rows,
        lambda: Waiting(headers, tombstones=True),
    )  # fmt: skip


def _history(rule: Sampling) -> Declared:
    rows = HistoryRows(rule)
    key = ("tenant", "slot", "seq")
    name = "frame_history"
    target = Target(name, name, rows.columns, key, days=True)
    return Declared(TOPICS[name], target, rows, lambda: _sampled(rule, rows.schema))


def _sampled(rule: Sampling, schema: str) -> Every:
    sieve = Sieve(rule)

    def takes(message: Message) -> bool:
        key = message.key() or b""
        name = key if isinstance(key, bytes) else key.encode()
        return sieve.takes(name, message.timestamp()[1], message.offset() or 0)

    return Every(codec.headers(schema), takes, sieve.forget)
