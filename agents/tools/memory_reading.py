"""A tenant's memories, read out of memory.latest: as they are at its end.

Twice: first for the newest head of each memory and the place of its content, then for those
contents, so that payloads needn't be held.

The topic is compacted meanwhile: a record that isn't read yet goes when a newer one of its key is
written, which lies behind the end as it was. So the first reading goes on to the end as it is then,
and on, until nothing came meanwhile: then no key's newest record was missed. Where writers never
rest, a round of ROUND_S must do: the topic keeps what was replaced for longer than that
(min.compaction.lag.ms). A content that went before the second reading came to it is looked for
anew, behind that end.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import Message

from agents.engine.recovery import reader
from agents.memory_rows import CONTENT_PART, read_key
from agents.tools.known import partitions_of
from topics import codec
from topics.messages import as_bytes
from topics.partition import partition_of
from topics.reading import ends_of, read_to

if TYPE_CHECKING:
    from agents.settings import Settings

LATEST, SCHEMA = "memory.latest", "memory_state"
GROUP = "soma-memory-export"
CHUNK = 1000  # records at a time: a payload may have 900 kB
ROUND_S = 10.0  # less than the minute that memory.latest keeps what was replaced
ROUNDS_MAX, TRIES_MAX = 20, 10

Told = Callable[[int, int], None]
Row = dict[str, Any]


def _nobody(_done: int, _total: int) -> None:
    """Nobody is told."""


@dataclass(slots=True)
class Remembered:
    """What a tenant remembers: heads by id, where contents are, and the ids' coordinates."""

    heads: dict[str, Row] = field(default_factory=dict)
    places: dict[tuple[str, int], int] = field(default_factory=dict)  # (id, version) -> offset
    names: dict[str, str] = field(default_factory=dict)

    def take(self, key: str, row: Row | None, offset: int) -> None:
        """One record."""
        id_, content = read_key(key)[2:]
        if row is None or row["deleted"]:
            if not content:
                self.heads.pop(id_, None)
                self.names.pop(id_, None)
        elif row["part"] == CONTENT_PART:
            self.places[id_, row["version"]] = offset
            self.names[id_] = row["coordinate"]
        else:
            before = self.heads.get(id_)
            if before is not None and before["content_version"] != row["content_version"]:
                self.places.pop((id_, before["content_version"]), None)
            self.heads[id_] = row

    def live(self) -> dict[int, Row]:
        """Offset of a content -> its head, of all that are there, in the order of contents."""
        found = {
            self.places[place]: head
            for id_, head in self.heads.items()
            if (place := (id_, head["content_version"])) in self.places
        }
        return dict(sorted(found.items()))

    def lacking(self) -> int:
        """Of how many the content isn't there, though the head is: it was replaced meanwhile."""
        return sum((id_, head["content_version"]) not in self.places
                   for id_, head in self.heads.items())  # fmt: skip

    def coordinates(self) -> dict[str, str]:
        """id -> coordinate, of what is there."""
        return {id_: self.names[id_] for id_ in self.heads if id_ in self.names}


class Reading:
    """The tenant's partition, to its end: `end` is where that was, `names` the coordinates of ids
    there.
    """

    def __init__(self, settings: "Settings", tenant: str, told: Told = _nobody) -> None:
        self._settings, self._tenant, self._told = settings, tenant.encode(), told
        self.remembered = Remembered()
        self.names: dict[str, str] = {}
        self.end = 0

    def all(self, wanted: Callable[[Row], bool] = lambda _: True) -> Iterator[tuple[Row, Row]]:
        """(head, content) of each memory whose head is wanted. KafkaException, ClickException."""
        probe = reader(self._settings, GROUP, [])
        try:
            many = len(partitions_of(probe, self._settings, LATEST))
        finally:
            probe.close()
        place = self._settings.topic(LATEST), partition_of(self._tenant, many)
        left: set[str] | None = None  # ids; None: all
        for _ in range(TRIES_MAX):
            self._fold(place)
            live = self.remembered.live()
            kept = {at: head for at, head in live.items()
                    if wanted(head) and (left is None or head["id"] in left)}  # fmt: skip
            for offset, _, row in self._rows(place, min(kept), max(kept) + 1) if kept else ():
                if row is not None and (head := kept.pop(offset, None)) is not None:
                    yield head, row
            if not kept:
                return
            left = {head["id"] for head in kept.values()}
        raise click.ClickException(
            f"{len(kept)} memories were written anew and compacted each time that they were to be "
            "read: give the command again"
        )

    def _fold(self, place: tuple[str, int]) -> None:
        """Take in what is to the end, and what comes meanwhile. ClickException: without an end."""
        for _ in range(ROUNDS_MAX):
            since, begin = time.monotonic(), self.end
            for offset, key, row in self._rows(place, begin):
                self.remembered.take(key, row, offset)
            rests = self.end == begin or (begin > 0 and time.monotonic() - since < ROUND_S)
            if rests and not self.remembered.lacking():
                self.names = self.remembered.coordinates()
                return
        lacking = self.remembered.lacking()
        why = f"{lacking} memories have no contents" if lacking else "there was always more"
        raise click.ClickException(
            f"{place[0]}/{place[1]} can't be read to its end: {why}, {ROUNDS_MAX} times"
        )

    def _rows(
        self, place: tuple[str, int], begin: int, end: int | None = None
    ) -> Iterator[tuple[int, str, Row | None]]:
        """Records of the tenant: offset, key, row (None: a tombstone). Without an end: to that of
        the partition, which is kept.
        """
        start = self._tenant + b"\x1f"
        consumer = reader(self._settings, GROUP, [place], begin)
        try:
            if end is None:
                end = ends_of(consumer, [place], self._settings.answer_timeout_s)[place]
                self.end = max(begin, end)
            for messages in read_to(consumer, {place: end} if end > begin else {}, CHUNK):
                for one in messages:
                    key = as_bytes(one.key()) or b""
                    if key.startswith(start):
                        yield one.offset() or 0, key.decode(), _row(one)
                self._told(messages[-1].offset() or 0, end)
        finally:
            consumer.close()


def _row(message: Message) -> Row | None:
    value = as_bytes(message.value())
    if value is None:
        return None
    name, row = codec.decode_ours(value)
    if name != SCHEMA:
        raise codec.BadRecord("unknown_schema", f"a {name} in {LATEST}")
    return row
