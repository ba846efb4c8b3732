"""The ends of a range of a topic, as people give them: a time, offsets, or a record's id."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from topics import moments

EVERY = -1  # as a partition: all of them
SHOWN = 60  # characters of a text in an error
ID = re.compile(r"([0-9a-f]{8})-(\d{1,9})-(\d{1,18})")
OFFSET = re.compile(r"\d{1,18}")
PLACES = re.compile(r"\d{1,9}:\d{1,18}(?:,\d{1,9}:\d{1,18})*")


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range. Either a time, or offsets of some partitions, or of all."""

    time: int | None = None  # of the log, microseconds
    offsets: Mapping[int, int] = field(default_factory=dict)  # by partition, or EVERY
    topic_id: str = ""  # of a record's id: the first 8 hex digits of its topic's

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return "a time" if self.time is not None else "an id" if self.topic_id else "offsets"

    @property
    def partitions(self) -> frozenset[int]:
        """Those that it names; none: all of them are meant."""
        return frozenset(self.offsets) - {EVERY}


def bound(text: str) -> Bound | None:
    """The meaning of a text; None: it is empty. ValueError for one that is none of these."""
    text = text.strip()
    if not text:
        return None
    if found := ID.fullmatch(text):
        return Bound(offsets={int(found[2]): int(found[3])}, topic_id=found[1])
    if OFFSET.fullmatch(text):
        return Bound(offsets={EVERY: int(text)})
    if PLACES.fullmatch(text):
        pairs = [one.split(":") for one in text.split(",")]
        offsets = {int(partition): int(offset) for partition, offset in pairs}
        if len(offsets) < len(pairs):
            raise ValueError(f"{text[:SHOWN]} names a partition twice")
        return Bound(offsets=offsets)
    try:
        return Bound(time=moments.iso(text)[0])
    except ValueError:
        raise ValueError(
            f"{text[:SHOWN]!r} is no time (2026-01-31T12:00:00Z), offset (1200), list of "
            "PARTITION:OFFSET (0:1200,1:1100), or record's id (1a2b3c4d-0-1200)"
        ) from None


def refusal(since: Bound | None, until: Bound | None, now: int) -> str | None:
    """Why such a range can't be, as far as it can be told without the log; `now` in us."""
    for name, one in (("since", since), ("until", until)):
        if one is not None and one.time is not None and one.time > now:
            return f"{name} is in the future of the log"
    if since is None or until is None:
        return None
    if since.kind != until.kind:
        return f"since is {since.kind} and until {until.kind}: give both of one sort"
    if since.topic_id != until.topic_id:
        return "since and until are ids of records of different topics"
    if since.offsets.keys() != until.offsets.keys():
        return "since and until name different partitions"
    begins, ends = _pairs(since), _pairs(until)
    if any(begins[part] >= ends[part] for part in begins):
        return "the range is reversed or empty: since must lie before until"
    return None


def _pairs(one: Bound) -> dict[int, int]:
    return {EVERY: one.time} if one.time is not None else dict(one.offsets)
