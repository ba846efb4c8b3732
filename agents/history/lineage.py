"""What a record came from, and what became of it: observation, update, frame, segment.

Each link says which field of a later record has the id of the earlier one. What a processor of
later versions makes of segments or frames is one more line here.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.history.errors import HistoryError, TookTooLong
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
OTHERS = 10  # records of other tenants that are told of a step
SHOWN = 60  # characters of a vector
# To a tenant nothing tells another's record from one that is gone or never was, nor how far a log
# goes that it shares with others.
ABSENT = "this tenant has no such record, or has it no more"
LATE = "not all was looked through in the time that there is"


@dataclass(frozen=True, slots=True)
class Step:
    """One record of a lineage; without a record `note` says why, else whose it is, if another's."""

    what: str
    place: Place | None
    id: str  # by its place
    shows: dict[str, Any]
    note: str = ""

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        place = str(self.place) if self.place is not None else None
        return {"what": self.what, "place": place, "id": self.id, **self.shows, "note": self.note}


def lineage(finder: Finder, record: Record, *, folded: bool, tenant: str | None) -> list[Step]:
    """The record's causes and what it caused, the first cause first. KafkaException.

    Empty where the record is of a topic that has no lineage. What wasn't folded caused nothing.
    Of `tenant`'s records alone, unless it is None: an id is what a record's writer says, and users
    write updates, whose ids may name anybody's. Then other tenants' that are named by one, or name
    one, are told beside the record's own tenant's, as what they are.
    """
    link = BY_TOPIC.get(record.place.topic)
    if link is None:
        return []
    known: dict[str, list[Record]] = {link.what: [record]}
    steps: dict[str, list[Step]] = {link.what: [_step(link, record)]}
    _up(finder, link, tenant, known, steps)
    if folded:
        _down(finder, tenant, known, steps)
    return [step for one in LINKS for step in steps.get(one.what, [])]


def _up(
    finder: Finder, link: Link, tenant: str | None, known: dict[str, list[Record]],
    steps: dict[str, list[Step]],
) -> None:  # fmt: skip
    """Cause by cause, as far as their topics have them."""
    (record,) = known[link.what]
    while link.of:
        text = str((record.fields or {}).get(link.field, ""))
        link = BY_WHAT[link.of]
        found = _cause(finder, link, text, tenant)
        if isinstance(found, Step):
            steps[link.what] = [found]
            return
        foreign = _foreign(found, record)
        record = found
        known[link.what], steps[link.what] = [record], [_step(link, record, foreign)]


def _cause(finder: Finder, link: Link, text: str, tenant: str | None) -> Record | Step:
    """The record that an id names; else a step that says why there is none."""
    if parts(text) is None:
        return Step(link.what, None, text, {}, f"its id isn't a place: {text or 'none'}")
    place = None
    try:
        place = finder.place(text)
        if place.topic == link.topic and (found := finder.at(place)).of(tenant):
            return found
        note = "of another topic"
    except HistoryError as error:
        note = str(error)
    if tenant is None:
        return Step(link.what, place, text, {}, note)
    return Step(link.what, None, text, {}, ABSENT)


def _down(
    finder: Finder, tenant: str | None, known: dict[str, list[Record]],
    steps: dict[str, list[Step]],
) -> None:  # fmt: skip
    """What each of the known records caused."""
    for link in LINKS:
        if link.what in steps or link.of not in known:
            continue
        found, none = list[Record](), "none" if link.most > 1 else "none (yet)"
        cause, others = known[link.of][0], list[Record]()
        owner = cause.owner if tenant is None else tenant
        try:
            found = finder.caused(link.topic, link.field, cause, link.most, owner, others)
        except TookTooLong as error:
            none = str(error) if tenant is None else LATE
        if found:
            known[link.what] = found
        named = others[:OTHERS] if tenant is None else []
        steps[link.what] = [
            *(_step(link, one, _foreign(one, cause)) for one in named),
            *([_step(link, one) for one in found] or [Step(link.what, None, "", {}, none)]),
        ]


def _foreign(record: Record, to: Record) -> str:
    """What is said of a record that isn't of the same tenant as what it is told beside."""
    if record.owner is not None and record.owner == to.owner:
        return ""
    return f"of another tenant: {' and '.join(sorted(record.tenants)) or 'nobody'}"


def _step(link: Link, record: Record, note: str = "") -> Step:
    data = record.data or {}
    shows = {name: data[name] for name in link.shows if name in data}
    return Step(link.what, record.place, record.id, shows, note)
