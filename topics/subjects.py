"""Under which subjects of a registry our schemas are, and bringing them there.

Each version of a schema is under `soma.NAME` (Confluent's RecordNameStrategy): there its id is
asked for, and there are those of control records, positions and snapshots, which stand beside other
records in many topics. And it is under `TOPIC-value` (TopicNameStrategy, the default of Confluent's
clients) of each topic whose records it is of: so clients that look for a topic's schema find it,
and what another's producer registers for that topic is compared with ours. A schema has one id
under all of its subjects, unless such a producer was there first with other white space, and the
registry takes that for another schema; then both ids are read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from topics.catalogue import CATALOGUE
from topics.registered import differs, subject_of, text_of
from topics.registry import Registry, RegistryRefused
from topics.schemas import Key, Schemas, stem_of


@dataclass(frozen=True, slots=True)
class Place:
    """A version of a schema under a subject."""

    subject: str
    key: Key

    def __str__(self) -> str:
        return f"{stem_of(self.key)} under {self.subject}"


@dataclass(slots=True)
class Brought:
    """What became of places: `registered` are new there, `there` were so before."""

    registered: list[Place] = field(default_factory=list)
    there: list[Place] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ids: dict[Key, int] = field(default_factory=dict)


def places(known: Schemas, topic: Callable[[str], str]) -> list[Place]:
    """All that is to be registered, older versions first. `topic` gives a topic's name as it is on
    the broker.
    """
    found = [Place(subject_of(key[0]), key) for key in known.all()]
    for name, row in sorted(CATALOGUE.items()):
        if row.schema is not None:
            subject = f"{topic(name)}-value"
            found += [Place(subject, (row.schema, n)) for n in known.versions(row.schema)]
    return found


def bring(known: Schemas, registry: Registry, place: Place, done: Brought, *, dry: bool) -> None:
    """Register a place if it isn't there yet (`dry`: only ask whether it could be), and note it.

    That it is refused is a problem among others. RegistryError: nobody can be asked any more; what
    is registered by then stays.
    """
    raw = known.raw(*place.key)
    text = text_of(raw)
    at = registry.lookup(place.subject, text)
    if at is not None:
        done.there.append(place)
        if why := differs(at[1], raw):
            done.problems.append(f"{place}: {why.format(at[0])}")
        done.ids.setdefault(place.key, at[0])  # that of its own subject, which comes first
    elif dry and (why := registry.refusal(place.subject, text)):
        done.problems.append(f"{place}: refused: {why}")
    elif dry:
        done.registered.append(place)
    else:
        try:
            done.ids.setdefault(place.key, registry.register(place.subject, text))
            done.registered.append(place)
        except RegistryRefused as error:
            done.problems.append(f"{place}: refused: {error}")
