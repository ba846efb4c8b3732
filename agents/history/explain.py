"""One record explained: what it did to its tenant's state, why, whence it came, what it caused.

The state on both sides of it is folded from the log, by the settings and policies as they were. The
words are the processor's own: see `agents/kit/explaining.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agents.dlq import letters as dlq
from agents.dlq import listing
from agents.dlq.letters import DlqError, Letter
from agents.engine.plan import Plan
from agents.engine.processor import SEP
from agents.engine.registry import explainer, processors
from agents.history.errors import Gone, HistoryError
from agents.history.finding import ID, Finder, Place, Record
from agents.history.folded import FOLDED, FORWARDED, Folded
from agents.history.lineage import LINKS, Step, lineage
from agents.history.plans import plan_of
from agents.history.rows import Differing, Rows, differing
from agents.history.states import Past
from agents.history.view import View, views
from agents.kit.explaining import Case, Fields, values_of
from agents.kit.schema import SETTINGS
from agents.settings import Settings
from topics import codec
from topics.catalogue import dlq_of, keeper_of

FRAMES, SEGMENTS = (next(one for one in LINKS if one.what == what) for what in ("frame", "segment"))


class Subject(NamedTuple):
    """What an id names: a record that processors read, and what of it is meant."""

    record: Record
    letter: Mapping[str, Any] | None = None  # as `soma dlq show` has it
    processor: str = ""  # where the id says which


@dataclass(frozen=True, slots=True)
class Explained:
    """A record, its tenant's state on both sides of it, and what can be said of it."""

    subject: Subject
    processor: str
    tenant: str
    begun: str  # what the fold began with
    folded: Folded
    before: list[View]
    after: list[View]
    changed: list[Differing]
    words: list[str]
    steps: list[Step]
    notes: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        record = self.subject.record
        return {
            "place": str(record.place), "id": record.id, "log_ms": record.log_ms,
            "record": record.data, "processor": self.processor, "tenant": self.tenant,
            "fate": self.folded.fate, "reason": self.folded.reason, "detail": self.folded.detail,
            "letter": self.subject.letter, "words": self.words, "from": self.begun,
            "notes": self.notes, "before": [one.data() for one in self.before],
            "after": [one.data() for one in self.after],
            "changed": [one.data("before", "after") for one in self.changed],
            "lineage": [one.data() for one in self.steps],
        }  # fmt: skip


def subject(settings: Settings, finder: Finder, text: str) -> Subject:
    """What an id means: of a record, frame or segment, or the place of a record or dead letter.

    Gone where retention took it; HistoryError where it is of nothing here. KafkaException.
    """
    if ID.fullmatch(text):
        found = finder.at(finder.place(text))
    elif (place := dlq.place_of(text)) is not None:
        own = settings.prefix("")
        place = place._replace(topic=place.topic.removeprefix(own))
        if place.topic == dlq_of(place.source):
            return _of_letter(settings, finder, place)
        found = finder.at(Place(*place))
    elif ID.fullmatch(text.partition(":")[0]):
        return _of_segment(finder, text)
    else:
        raise HistoryError(
            f"{text!r} is neither an id (1a2b3c4d-0-1200, of a segment with :DOMAIN:EVIDENCE "
            "behind it) nor a place (TOPIC/PARTITION/OFFSET)"
        )
    if found.place.topic == SEGMENTS.topic and found.fields is not None:
        return _of_segment(finder, str(found.fields["segment_id"]))
    return Subject(found)


def _of_segment(finder: Finder, text: str) -> Subject:
    """The frame that showed a segment's end."""
    frame_id = text.partition(":")[0]
    place = finder.place(frame_id)
    try:
        cause = finder.at(place)
    except Gone:  # frames stay for longer than what caused them
        cause = Record(place, frame_id, 0, None, None)
    ended = finder.caused(SEGMENTS.topic, SEGMENTS.field, cause, SEGMENTS.most)
    if not any((one.fields or {}).get("segment_id") == text for one in ended):
        raise HistoryError(f"{text}: {SEGMENTS.topic} has no such segment")
    frames = finder.caused(FRAMES.topic, FRAMES.field, cause, 1)
    if not frames:
        raise Gone(f"{text}: the frame that showed it is gone from {FRAMES.topic}")
    return Subject(frames[0])


def _of_letter(settings: Settings, finder: Finder, place: dlq.Place) -> Subject:
    """The record that a dead letter is of, where it stands in its topic."""
    try:
        letter, marks = listing.one_of(settings, place)
    except DlqError as error:
        raise HistoryError(str(error)) from error
    origin = _origin(letter)
    return Subject(finder.at(origin), listing.shown(letter, marks), letter.processor)


def _origin(letter: Letter) -> Place:
    if letter.origin is None:
        raise HistoryError(f"{letter.place} isn't a letter that a processor wrote")
    return Place(*letter.origin)


def plan_for(settings: Settings, found: Subject, wanted: str) -> Plan:
    """The plan of the processor whose fold of it is asked for: the one wanted; or the one that the
    id says; or its topic's keeper; or any that reads it. HistoryError, BrokerError.
    """
    topic = found.record.place.topic
    readers = [name for name, one in processors().items() if one.source == topic]
    if not readers or wanted not in ("", *readers):
        asked = f", not {wanted}" if wanted else ""
        listed = ", ".join(readers) or "no processor"
        raise HistoryError(f"{found.record.place}: {listed} reads {topic}{asked}.")
    likely = (wanted, found.processor, keeper_of(topic))
    name = next((one for one in likely if one in readers), readers[0])
    return plan_of(settings, processors([name])[name])


def explained(
    settings: Settings, finder: Finder, plan: Plan, found: Subject,
    told: Callable[[Past], None], *, alone: bool,
) -> Explained:  # fmt: skip
    """Fold a record that `plan`'s processor reads, and say what came of it.

    `told` is called while it goes on. `alone`: nothing is told of other tenants' records, though
    its ids name them. HistoryError, KafkaException, BrokerError.
    """
    record, name = found.record, plan.processor.name
    tenant = tenant_of(record)
    past = Past(settings, plan, record.place.partition, tenant, told=lambda: told(past))
    begun = past.start(record.place.offset)
    past.fold_to(record.place.offset)
    before, everyone = past.rows(), past.everyone()
    fate = past.fold_next() or _elsewhere(record, tenant)
    after, notes = past.rows(), past.notes
    case = case_of(plan, record, (before, after, everyone), fate, past.epoch["settings"])
    words = _words(name, case, notes) if fate.fate == FOLDED else []
    sides = views(plan.processor, before), views(plan.processor, after)
    whose = tenant if alone else None
    steps = lineage(finder, record, folded=fate.fate == FOLDED, tenant=whose)
    changed = differing(before, after)
    return Explained(found, name, tenant, begun, fate, *sides, changed, words, steps, notes)


def _elsewhere(record: Record, tenant: str) -> Folded:
    """Of a record that isn't folded with its tenant's, for its key is another."""
    if record.key == tenant.encode():
        raise HistoryError(f"{record.place}: nothing of {tenant} is folded there")
    return Folded(FORWARDED, "", "", {})


def tenant_of(record: Record) -> str:
    """Whose it is. HistoryError."""
    tenant = (record.key or b"").decode(errors="replace")
    tenant = tenant or str((record.fields or {}).get("tenant", ""))
    if not tenant:
        raise HistoryError(f"{record.place} is nobody's: it has neither a key nor a tenant")
    return tenant


def case_of(
    plan: Plan, record: Record, states: tuple[Rows, Rows, bytes | None], fate: Folded,
    defaults: Mapping[str, str],
) -> Case:  # fmt: skip
    """What a processor needs to explain it."""
    before, after, everyone = states[0], states[1], states[2]
    fields, sides = record.fields or {}, (_entities(before), _entities(after))
    own = sides[0].get("", {}).get(SETTINGS, {})
    all_ = codec.decode_ours(everyone)[1].get(SETTINGS, {}) if everyone is not None else {}
    values = values_of(
        plan.processor.settings, defaults, all_, own, str(fields.get("domain", ""))
    )  # fmt: skip
    return Case(tenant_of(record), fields, *sides, fate.outputs, values)


def _entities(rows: Rows) -> dict[str, Fields]:
    """A tenant's rows by domain or entity."""
    return {
        key.decode(errors="replace").partition(SEP)[2]: codec.decode_ours(value)[1]
        for key, value in rows.items()
    }


def _words(name: str, case: Case, notes: list[str]) -> list[str]:
    """The processor's own words, where it has any."""
    explain = explainer(name)
    if explain is None:
        return []
    try:
        return explain(case)
    except Exception as error:  # anybody's code: the rest is worth showing all the same
        notes.append(f"{name} can't explain it: {error!r}")
        return []
