"""`soma projection`: what PostgreSQL holds of the topics, how far it is, and making it anew."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click
from confluent_kafka import Consumer, KafkaException

from agents.commands import replay as jobs
from agents.commands import replay_projection
from agents.commands.actor import actor
from agents.settings import load
from agents.tables.declared import TOPICS
from agents.tools.output import counted, plain
from stores import projection_admin
from stores.errors import NotMigrated, StoreDown
from stores.names import schema_of
from stores.projection_admin import NoProjectionError, ProjectionStanding
from topics.reading import span_of

if TYPE_CHECKING:
    from agents.settings import Settings

ANSWER_S = 5.0
T = TypeVar("T")

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_yes = click.option("--yes", is_flag=True, help="Don't ask.")


@click.group()
def projection() -> None:
    """Show the projections into PostgreSQL, empty them, make them anew from the topics."""


@projection.command("list")
@_json
def list_(as_json: bool) -> None:
    """Show each projection's rows, its positions and how far it lags behind its topic.

    \b
    Example:
      soma projection list
    """
    settings = load()
    found = _asked(settings, lambda c, schema: projection_admin.standings(c, schema))
    ends = _ends(settings, found)
    if as_json:
        click.echo(json.dumps({"projections": [_data(one, ends) for one in found]}))
        return
    for one in found:
        lag = _lag(one, ends)
        state = "dropped" if one.dropped else "not begun" if not one.positions else f"lag {lag}"
        state += f", made anew by {plain(one.rebuilt_by)}" if one.rebuilt_by else ""
        rows = f"{'' if one.counted else 'about '}{counted(one.rows, 'row')}"
        click.echo(f"{one.name:<14} {rows:>18}  {state}  (generation {one.generation})")
        for partition, position in one.positions.items():
            end = ends.get((one.name, partition))
            of = "" if end is None else f" of {end}"
            click.echo(f"  partition {partition}: offset {position.next_offset}{of}")


@projection.command()
@click.argument("name")
@click.option("--in-place", is_flag=True, help="Empty it now; workers fill it, without a job.")
@click.option("--no-wait", is_flag=True, help="Return when the job is accepted.")
@_yes
@actor
@_json
def rebuild(name: str, in_place: bool, no_wait: bool, yes: bool, actor: str, as_json: bool) -> None:
    """Make the projection NAME anew from the start of its topic.

    A job of `soma replay` fills it beside the live one, and readers see the old rows until all of
    the new take their place at once: it takes a worker that runs `replay`. One that was dropped is
    filled by the workers as it is; so is one --in-place, whose readers see what is there by then.

    It holds what the topic still holds: frames of the last 30 days.

    \b
    Example:
      soma projection rebuild frames
    """
    if in_place or _dropped(load(), name):
        _reset(name, "rebuild", False, yes, as_json)
        return
    if not yes:
        click.confirm(
            f"{name} is made anew; rows that its topic no longer has will go. Go on?", abort=True
        )
    # That rows go was agreed to.
    record = replay_projection.record(name, partial=True, actor=actor)
    jobs.end(jobs.started(record, no_wait=no_wait), as_json)


@projection.command()
@click.argument("name")
@_yes
@_json
def drop(name: str, yes: bool, as_json: bool) -> None:
    """Empty the projection NAME; workers leave it alone until `soma projection rebuild NAME`.

    \b
    Example:
      soma projection drop frame_history --yes
    """
    _reset(name, "drop", True, yes, as_json)


def _reset(name: str, verb: str, dropped: bool, yes: bool, as_json: bool) -> None:
    settings = load()
    if not yes:
        _known(settings, name)
        schema = schema_of(settings.namespace)
        click.confirm(f"All rows of {name} in the schema {schema} will go. Go on?", abort=True)

    async def reset(connection: Any, schema: str) -> int:
        return await projection_admin.reset(connection, schema, name, dropped)

    generation = _asked(settings, reset)
    if as_json:
        click.echo(json.dumps({"projection": name, "done": verb, "generation": generation}))
    else:
        then = "stays empty until it is rebuilt" if dropped else "workers fill it again"
        click.echo(f"{name} is empty (generation {generation}) and {then}.")


def _known(settings: "Settings", name: str) -> None:
    """ClickException unless there is such a projection: nobody is asked about what isn't there."""

    async def check(connection: Any, schema: str) -> None:
        await projection_admin.known(connection, schema, name)

    _asked(settings, check)


def _dropped(settings: "Settings", name: str) -> bool:
    """Whether it is dropped; ClickException where there is none."""

    async def ask(connection: Any, schema: str) -> bool:
        return await projection_admin.dropped(connection, schema, name)

    return _asked(settings, ask)


def _asked(settings: "Settings", work: Callable[[Any, str], Awaitable[T]]) -> T:
    from stores.postgres import connected  # the client: when it is used

    async def ask() -> T:
        async with connected(settings.postgres(), "soma projection") as connection:
            return await work(connection, schema_of(settings.namespace))

    try:
        return asyncio.run(ask())
    except NoProjectionError as error:
        raise click.ClickException(str(error)) from error
    except NotMigrated as error:
        raise click.ClickException(f"{error}: run `soma migrate up` first.") from error
    except StoreDown as error:
        raise click.ClickException(f"PostgreSQL: {error}") from error


def _ends(settings: "Settings", found: list[ProjectionStanding]) -> dict[tuple[str, int], int]:
    """(projection, partition) -> the end of its log; what the broker doesn't say is left out."""
    ends: dict[tuple[str, int], int] = {}
    # What is behind an open transaction lacks too: the end of all, not of what can be read.
    group, isolation = settings.prefix("projection.list"), "read_uncommitted"
    consumer = Consumer(settings.librdkafka(group_id=group, isolation_level=isolation))
    try:
        for one in found:
            for partition in one.positions:
                at = settings.topic(TOPICS[one.name]), partition
                ends[one.name, partition] = span_of(consumer, at, ANSWER_S)[1]
    except KafkaException as error:
        click.echo(f"The broker doesn't say how long the logs are: {error.args[0].str()}", err=True)
    finally:
        consumer.close()
    return ends


def _lag(one: ProjectionStanding, ends: Mapping[tuple[str, int], int]) -> int | None:
    lags = [
        max(0, ends[one.name, partition] - position.next_offset)
        for partition, position in one.positions.items()
        if (one.name, partition) in ends
    ]
    return sum(lags) if lags else None


def _data(one: ProjectionStanding, ends: Mapping[tuple[str, int], int]) -> dict[str, Any]:
    return {
        "name": one.name,
        "generation": one.generation,
        "dropped": one.dropped,
        "rows": one.rows,
        "counted": one.counted,
        "lag": _lag(one, ends),
        "rebuilt_by": one.rebuilt_by or None,
        "positions": [
            {
                "partition": partition,
                "topic_id": position.topic_id,
                "next_offset": position.next_offset,
                "end": ends.get((one.name, partition)),
            }
            for partition, position in one.positions.items()
        ],
    }
