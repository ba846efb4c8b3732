"""Where to read on: the position that the state holds, beside what the log says of itself."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from faust.types import TP

from agents.engine.epochs import Skip
from agents.engine.errors import RecordsGone, StateLost, UnknownVersion
from topics import codec
from topics.preflight import WAY_BACK

log = logging.getLogger(__name__)

REBUILD = "`soma replay start rebuild --apply` makes its rows anew from the log"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition is folded (schema `position`)."""

    next_offset: int
    seen: int
    topic_id: str
    epoch: int
    state_id: str = ""  # of the topic that holds the rows, 32 hex digits; empty: it isn't known

    def encode(self) -> bytes:
        """The row's value on the wire."""
        return codec.encode("position", {
            "next_offset": self.next_offset, "seen": self.seen,
            "topic_id": self.topic_id, "epoch": self.epoch, "version": 1,
            "state_id": self.state_id,
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the state topic held: its rows are in the fold."""

    position: Position | None
    epoch: dict[str, Any] | None  # the last one of this processor and partition
    rows: int
    seconds: float
    skips: tuple[Skip, ...] = ()  # in the epochs log
    epochs_end: int = 0  # where that ended, when it was read
    followed: int = 0  # rows that a standby had read before


@dataclass(frozen=True, slots=True)
class Input:
    """What the broker says of the source partition."""

    topic_id: str  # 32 hex digits
    low: int
    high: int
    state_id: str = ""  # of the state topic, where it was asked for


def read_position(value: bytes | None, topic: str) -> Position:
    """The position row. Raises UnknownVersion if it can't be read."""
    try:
        name, row = codec.decode(value or b"")
    except codec.BadRecord as error:
        raise UnknownVersion(f"{topic}: the position row can't be read: {error.detail}") from error
    if name != "position" or row["version"] != 1:
        raise UnknownVersion(
            f"{topic}: the position row has version {row.get('version')} of {name!r}"
        )
    return Position(row["next_offset"], row["seen"], row["topic_id"], row["epoch"], row["state_id"])


def start_at(tp: TP, found: Input, recovered: Recovered) -> Position:
    """Where to read on. Raises StateLost and RecordsGone: never a silent start from nothing."""
    position = recovered.position
    where = f"{tp.topic}/{tp.partition}"
    if position is None:
        if recovered.epoch is not None:
            raise StateLost(
                f"{where}: the epochs log says this partition was worked on, yet its state topic "
                f"is empty. Starting over would write every output a second time. {REBUILD}"
            )
        return Position(found.low, found.low, found.topic_id, 0, found.state_id)
    if lost(position, found):
        raise StateLost(
            f"{where}: its state topic was deleted and made anew: the rows before are gone. "
            f"{REBUILD}"
        )
    if position.topic_id != found.topic_id:
        log.warning(
            "%s was recreated: starting at offset %d of the new topic, with the state as it is",
            where,
            found.low,
        )
        return Position(found.low, found.low, found.topic_id, position.epoch, found.state_id)
    if found.low > max(position.next_offset, position.seen):
        raise RecordsGone(
            f"{where}: offsets {position.seen} to {found.low - 1} were deleted before they were "
            "read. Nothing was folded past them. `soma replay start rebuild --apply` with "
            f"`--accept-loss {tp.partition}:{position.seen}..{found.low - 1}` goes on behind them"
        )
    if found.high < position.next_offset:
        raise RecordsGone(
            f"{where}: the log ends at {found.high}, before the position {position.next_offset}"
        )
    return Position(
        max(position.next_offset, found.low), position.seen, position.topic_id, position.epoch,
        found.state_id,
    )  # fmt: skip


def recreated(known: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Which of the topics of which an id is known has another now, if one has."""
    return next((name for name, one in known.items() if found.get(name, one) != one), "")


def lost(position: Position, found: Input) -> bool:
    """Whether the rows were written to another state topic than the one that is here.

    Where the source is another too, all of Kafka was restored or moved: then rows are believed.
    """
    same = position.state_id in ("", found.state_id) or not found.state_id
    return not same and position.topic_id == found.topic_id


def added(tp: TP, partitions: int) -> str:
    """What to do about a partition that came after the others."""
    return (
        f"{tp.topic} has been given more than its {partitions} partitions. Partition "
        f"{tp.partition} has no state and isn't read; what producers send there waits. "
        f"{WAY_BACK.format(partitions=partitions)}. State and outputs stay as they are"
    )
