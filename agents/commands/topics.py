"""`soma topics`: the broker's topics beside the catalogue."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agents.settings import load
from agents.tools.known import topic_named
from agents.tools.open_transactions import data, end, said, standing
from agents.tools.output import counted
from topics import preflight
from topics.catalogue import CATALOGUE
from topics.preflight import BrokerError, CannotApplyError, Difference

if TYPE_CHECKING:
    from agents.settings import Settings
    from topics.transactions import Open

Act = Callable[..., list[Difference]]

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_partitions = click.option(
    "--partitions", type=click.IntRange(1, 10_000), help="Instead of SOMA_TOPICS_PARTITIONS."
)


@click.group()
def topics() -> None:
    """Compare the broker's topics with the catalogue, and make them so."""


@topics.command()
@_partitions
@_json
def plan(partitions: int | None, as_json: bool) -> None:
    """Show what `soma topics apply` would do. Changes nothing.

    \b
    Example:
      soma topics plan --partitions 24
    """
    settings = load()
    differences = _asked(preflight.plan, settings, partitions)
    if as_json:
        _print_json(settings, differences)
        return
    for one in differences:
        click.echo(f"{_verb(one):<7} {one}")
    if not differences:
        click.echo(f"Nothing to do: all {len(CATALOGUE)} topics are as wanted.")


@topics.command()
@_partitions
@_json
def apply(partitions: int | None, as_json: bool) -> None:
    """Create what is missing and correct weaker settings. Never shrinks or deletes anything.

    Changes all or nothing: if something can't be applied (another partition count, too few
    replicas), it says so and leaves the broker alone. May be run as often as you like.

    \b
    Example:
      soma topics apply --partitions 24
    """
    settings = load()
    done = _asked(preflight.apply, settings, partitions)
    if as_json:
        _print_json(settings, done)
        return
    for one in done:
        click.echo(f"{_done(one)} {one.topic}" + (f": {_set(one)}" if one.setting else ""))
    click.echo(f"All {len(CATALOGUE)} topics are as wanted.")


@topics.command()
@_partitions
@_json
def check(partitions: int | None, as_json: bool) -> None:
    """Fail unless every topic is as the catalogue wants it; names every difference at once.

    \b
    Example:
      soma topics check
    """
    settings = load()
    differences = _asked(preflight.plan, settings, partitions)
    if as_json:
        _print_json(settings, differences)
    if differences:
        lines = "\n  ".join(f"{_weight(one)} {one}" for one in differences)
        hint = "See what can be done with `soma topics plan`."
        raise click.ClickException(f"{counted(len(differences), 'difference')}:\n  {lines}\n{hint}")
    if not as_json:
        click.echo(f"All {len(CATALOGUE)} topics are as wanted.")


@topics.command("abort-transaction")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.option("--producer", type=int, help="Its producer id, where several are open.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_json
def abort_transaction(
    topic: str, partition: int, producer: int | None, yes: bool, as_json: bool
) -> None:
    """Abort the transaction that has stayed open in a PARTITION of TOPIC: none of it counts.

    `soma doctor --hanging` lists them. One that has a transactional id is aborted in all its
    partitions, and its producer can't go on; for another, do this in each of its partitions.

    \b
    Example:
      soma topics abort-transaction cog.observations 1
    """
    settings = load()
    name = topic_named(topic).name
    try:
        one = _chosen(settings, name, partition, producer)
        if not yes:
            click.confirm(f"{said(one)}. Abort it?", abort=True)
        end(settings, one)
    except BrokerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(data(one)))
    else:
        click.echo(f"Aborted: {said(one)}", err=True)


def _chosen(settings: "Settings", topic: str, partition: int, producer: int | None) -> "Open":
    """The one that is meant. ClickException where there is none, or more than one."""
    found = [
        one
        for one in standing(settings, [topic])
        if one.partition == partition and producer in (None, one.producer_id)
    ]
    if not found:
        raise click.ClickException(
            f"No transaction stays open in {topic} partition {partition}"
            + (f" of producer {producer}." if producer is not None else ".")
        )
    if len(found) > 1:
        listed = "\n  ".join(said(one) for one in found)
        raise click.ClickException(f"Several are open; say which by --producer:\n  {listed}")
    return found[0]


def _asked(act: Act, settings: "Settings", partitions: int | None) -> list[Difference]:
    try:
        return act(settings, partitions=partitions)
    except (BrokerError, CannotApplyError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _print_json(settings: "Settings", differences: Iterable[Difference]) -> None:
    shown = {
        "topics": [settings.topic(name) for name in CATALOGUE],
        "differences": [asdict(one) for one in differences],
    }
    click.echo(json.dumps(shown, indent=2))


def _verb(one: Difference) -> str:
    if not one.fixable:
        return "CAN'T"
    return "create" if one.kind == "missing" else "set"


def _done(one: Difference) -> str:
    return "created" if one.kind == "missing" else "set"


def _set(one: Difference) -> str:
    return f"{one.setting}={one.want}"


def _weight(one: Difference) -> str:
    return "[a worker won't start]" if one.refused else "[weaker than wanted]"
