"""Which letters people mean: names and times are checked before anything is read."""

import time
from collections.abc import Collection, Iterable
from datetime import datetime

from agents.dlq.advice import ADVICE
from agents.dlq.letters import BadChoiceError, Place, place_of
from agents.dlq.reading import FOREIGN, Choice, with_letters
from agents.tools.mapping import NAME
from topics.catalogue import CATALOGUE, dlq_of, source_of

SLACK_S = 60.0  # how far the broker's clock may be ahead of ours


def choice(
    topics: Iterable[str] = (), reasons: Iterable[str] = (), tenants: Iterable[str] = (),
    since: datetime | None = None, until: datetime | None = None,
    statuses: Collection[str] = (), places: Iterable[str] = (),
) -> Choice:  # fmt: skip
    """The choice; of nothing at all: every letter. `BadChoiceError` names what is wrong."""
    found = frozenset(place(text) for text in places)
    named = tuple(dict.fromkeys(topic(name) for name in topics))
    if found:
        named = tuple(sorted({one.source for one in found}))
    return Choice(
        named or tuple(with_letters()),
        frozenset(_reason(name) for name in reasons),
        frozenset(_tenant(name) for name in tenants),
        _ms("since", since),
        _ms("until", until, since),
        frozenset() if found else frozenset(statuses),
        found,
    )


def place(text: str) -> Place:
    """A letter's place; the name of its topic may lack the `.dlq`. `BadChoiceError`."""
    found = place_of(text)
    if found is None:
        raise BadChoiceError(f"{text[:200]!r} isn't TOPIC/PARTITION/OFFSET")
    return found._replace(topic=dlq_of(topic(found.topic)))


def topic(name: str) -> str:
    """The topic where records failed, from its own name or that of its letters'."""
    bare = source_of(name)
    if dlq_of(bare) in CATALOGUE:
        return bare
    known = ", ".join(with_letters())
    if bare in CATALOGUE:
        raise BadChoiceError(f"{bare} has no dead letters: nobody folds it. Those have: {known}.")
    raise BadChoiceError(f"There is no topic {bare[:249]!r}. These have dead letters: {known}.")


def _reason(name: str) -> str:
    known = {FOREIGN, *(one.rpartition(":")[2] for one in ADVICE)}
    if name in known:
        return name
    from agents.engine.registry import processors  # a plugin's own: seldom, and it takes a second

    own = {reason for one in processors().values() for reason in one.reasons}
    if name in own:
        return name
    listed = ", ".join(sorted(known | own))
    raise BadChoiceError(f"There is no reason {name[:100]!r}. There are: {listed}.")


def _tenant(name: str) -> str:
    if NAME.fullmatch(name) is None:
        raise BadChoiceError(f"tenant: {name[:200]!r} isn't 1-128 of A-Za-z0-9._-")
    return name


def _ms(name: str, when: datetime | None, after: datetime | None = None) -> int | None:
    """A moment in milliseconds, if it is one at which a letter can have been written."""
    if when is None:
        return None
    if when.timestamp() > time.time() + SLACK_S:
        raise BadChoiceError(f"{name}: {when.isoformat()} is in the future")
    if when.timestamp() < 0:
        raise BadChoiceError(f"{name}: {when.isoformat()} is before 1970")
    if after is not None and after >= when:
        raise BadChoiceError("since isn't before until: no letter lies between")
    return round(when.timestamp() * 1000)
