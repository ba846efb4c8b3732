"""Which dead letters: the same options for every command that chooses some."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.commands.moment import moment
from agents.dlq.advice import ADVICE
from agents.dlq.letters import STATUSES, DlqError, Place, place_of
from topics.catalogue import CATALOGUE, dlq_of, source_of

if TYPE_CHECKING:
    from agents.dlq.reading import Choice

F = TypeVar("F", bound=Callable[..., Any])
SLACK_S = 60.0  # how far the broker's clock may be ahead of ours

OPTIONS = (
    click.option("--topic", "topics", multiple=True, help="Where the records failed [all]."),
    click.option("--reason", "reasons", multiple=True, help="Only letters of this reason."),
    click.option("--tenant", "tenants", multiple=True, help="Only this tenant's."),
    click.option("--since", callback=moment, help="Written at this log time or later."),
    click.option("--until", callback=moment, help="Written before this log time."),
)
places_argument = click.argument("places", nargs=-1, metavar="[PLACE]...")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def choosing(command: F) -> F:
    """All of these options: given to the command together, for `choice_of`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def choice_of(
    given: dict[str, Any], statuses: Sequence[str] = (), places: Sequence[str] = ()
) -> "Choice":
    """The choice that the options say. ClickException names what isn't there or makes no sense."""
    from agents.dlq.reading import Choice, with_letters  # the clients: when they are used

    found = frozenset(place(text) for text in places)
    topics = tuple(dict.fromkeys(_topic(name) for name in given["topics"]))
    if found and any(value for value in given.values()):
        raise click.UsageError("Give places, or options that choose among all, not both.")
    if found:
        topics = tuple(sorted({one.source for one in found}))
    return Choice(
        topics or tuple(with_letters()),
        reasons=frozenset(_reason(name) for name in given["reasons"]),
        tenants=frozenset(_tenant(name) for name in given["tenants"]),
        statuses=frozenset() if found else frozenset(statuses),
        places=found,
        **_times(given["since"], given["until"]),
    )


def place(text: str) -> Place:
    """A letter's place; a topic's name may lack its `.dlq`. ClickException."""
    found = place_of(text)
    if found is None:
        raise click.ClickException(f"{text[:200]!r} isn't TOPIC/PARTITION/OFFSET")
    return found._replace(topic=dlq_of(_topic(found.topic)))


def status_option(default: Sequence[str]) -> Callable[[F], F]:
    """Which letters, by what became of them."""
    said = f"[default: {', '.join(default)}]"
    return click.option(
        "--status", "statuses", multiple=True, type=click.Choice([*STATUSES, "all"]), help=said
    )


def statuses_of(given: Sequence[str], default: Sequence[str]) -> Sequence[str]:
    """The statuses that are meant: none for all."""
    return () if "all" in given else tuple(given) or tuple(default)


def _topic(name: str) -> str:
    from agents.tools.known import topic_named

    bare = source_of(name)
    if dlq_of(bare) in CATALOGUE:
        return bare
    topic_named(bare)
    known = ", ".join(one for one in CATALOGUE if dlq_of(one) in CATALOGUE)
    raise click.ClickException(f"{bare} has no dead letters: nobody folds it. Those have: {known}.")


def _reason(name: str) -> str:
    known = {"foreign", *(one.rpartition(":")[2] for one in ADVICE)}
    if name in known:
        return name
    from agents.engine.registry import processors  # a plugin's own: seldom, and it takes a second

    own = {reason for one in processors().values() for reason in one.reasons}
    if name in own:
        return name
    listed = ", ".join(sorted(known | own))
    raise click.ClickException(f"There is no reason {name[:100]!r}. There are: {listed}.")


def _tenant(name: str) -> str:
    from agents.tools.mapping import NAME

    if NAME.fullmatch(name) is None:
        raise click.ClickException(f"--tenant: {name[:200]!r} isn't 1-128 of A-Za-z0-9._-")
    return name


def _times(since: datetime | None, until: datetime | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, when in (("since", since), ("until", until)):
        if when is None:
            continue
        if when.timestamp() > time.time() + SLACK_S:
            raise click.ClickException(f"--{name}: {when.isoformat()} is in the future")
        if when.timestamp() < 0:
            raise click.ClickException(f"--{name}: {when.isoformat()} is before 1970")
        found[f"{name}_ms"] = round(when.timestamp() * 1000)
    if since is not None and until is not None and since >= until:
        raise click.ClickException("--since isn't before --until: no letter lies between")
    return found


def when(ms: int) -> str:
    """A log time for people."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")[:19] + "Z"


@contextmanager
def told() -> Iterator[None]:
    """A `DlqError` as a ClickException."""
    try:
        yield
    except DlqError as error:
        raise click.ClickException(str(error)) from error
