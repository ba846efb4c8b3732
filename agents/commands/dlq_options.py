"""Which dead letters: the same options for every command that chooses some."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.commands.moment import moment
from agents.dlq.letters import STATUSES, DlqError

if TYPE_CHECKING:
    from agents.dlq.reading import Choice

F = TypeVar("F", bound=Callable[..., Any])

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
    from agents.dlq.choosing import choice  # the clients: when they are used

    if places and any(given.values()):
        raise click.UsageError("Give places, or options that choose among all, not both.")
    with told():
        return choice(statuses=statuses, places=places, **given)


def status_option(default: Sequence[str]) -> Callable[[F], F]:
    """Which letters, by what became of them."""
    said = f"[default: {', '.join(default)}]"
    return click.option(
        "--status", "statuses", multiple=True, type=click.Choice([*STATUSES, "all"]), help=said
    )


def statuses_of(given: Sequence[str], default: Sequence[str]) -> Sequence[str]:
    """The statuses that are meant: none for all."""
    return () if "all" in given else tuple(given) or tuple(default)


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
