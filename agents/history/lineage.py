"""What a record came from, and what became of it: observation, update, frame, segment.

Each link says which field of a later record has the id of the earlier one. What a processor of
later versions makes of segments or frames is one more line here.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.history.errors import Gone, TookTooLong
from agents.history.finding import Finder, Place, Record, parts

MANY = 1000  # of what one record can cause more than one of


class Link(NamedTuple):
    """Records of a topic, each caused by one of `of`, whose id stands in their field."""

    what: str
    topic: str
    field: str
    of: str
    most: int
    shows: tuple[str, ...]


ROOT = "observation"
LINKS = (
    Link(ROOT, "cog.observations", "", "", 1, ("domain", "vector")),
    Link("update", "cog.predictor.updates", "observation_id", ROOT, 1,
         ("domain", "error_metric", "confidence")),
    Link("frame", "cog.global.frame", "frame_id", "update", 1,
         ("domain", "leader", "confidence", "veto")),
    Link("segment", "cog.segments", "frame_id", "update", MANY,
         ("domain", "evidence", "score", "frames")),
)  # fmt: skip
BY_TOPIC = {one.topic: one for one in LINKS}
BY_WHAT = {one.what: one for one in LINKS}
SHOWN = 60  # characters of a vector


@dataclass(frozen=True, slots=True)
class Step:
    """One record of a lineage; without a record `note` says why."""

    what: str
    place: Place | None
    id: str  # by its place
    shows: dict[str, Any]
    note: str = ""

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        place = str(self.place) if self.place is not None else None
        return {"what": self.what, "place": place, "id": self.id, **self.shows, "note": self.note}


def lineage(finder: Finder, record: Record, *, folded: bool) -> list[Step]:
    """The record's causes and what it caused, the first cause first. HistoryError, KafkaException.

    Empty where the record is of a topic that has no lineage. What wasn't folded caused nothing.
    """
    link = BY_TOPIC.get(record.place.topic)
    if link is None:
        return []
    known: dict[str, list[Record]] = {link.what: [record]}
    steps: dict[str, list[Step]] = {link.what: [_step(link, record)]}
    _up(finder, link, record, known, steps)
    if folded:
        _down(finder, known, steps)
    return [step for one in LINKS for step in steps.get(one.what, [])]


def _up(
    finder: Finder, link: Link, record: Record, known: dict[str, list[Record]],
    steps: dict[str, list[Step]],
) -> None:  # fmt: skip
    """Cause by cause, as far as their topics have them."""
    while link.of:
        text = str((record.fields or {}).get(link.field, ""))
        link = BY_WHAT[link.of]
        if parts(text) is None:
            said = text or "none"
            steps[link.what] = [Step(link.what, None, text, {}, f"its id isn't a place: {said}")]
            return
        try:
            place = finder.place(text)
            if place.topic != link.topic:
                steps[link.what] = [Step(link.what, place, text, {}, "of another topic")]
                return
            record = finder.at(place)
        except Gone as error:
            steps[link.what] = [Step(link.what, place, text, {}, str(error))]
            return
        known[link.what], steps[link.what] = [record], [_step(link, record)]


def _down(finder: Finder, known: dict[str, list[Record]], steps: dict[str, list[Step]]) -> None:
    """What each of the known records caused."""
    for link in LINKS:
        if link.what in steps or link.of not in known:
            continue
        found, none = list[Record](), "none" if link.most > 1 else "none (yet)"
        try:
            found = finder.caused(link.topic, link.field, known[link.of][0], link.most)
        except TookTooLong as error:
            none = str(error)
        if found:
            known[link.what] = found
        steps[link.what] = [_step(link, one) for one in found] or [
            Step(link.what, None, "", {}, none)
        ]


def _step(link: Link, record: Record) -> Step:
    data = record.data or {}
    shows = {name: data[name] for name in link.shows if name in data}
    return Step(link.what, record.place, record.id, shows)
