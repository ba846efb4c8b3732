"""`soma stack`: the servers of the local stack."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agents.commands.migrate import bring_up
from agents.settings import load
from agents.tools.output import say
from ops.stack import Stack, StackError

if TYPE_CHECKING:
    from agents.settings import Settings

# A setting that names the user's own server, and the part that then isn't started.
OWN = {"kafka_bootstrap": "kafka", "redis_url": "valkey", "postgres_dsn": "postgres"}

as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object.")


@click.group()
def stack() -> None:
    """Start and stop Kafka, PostgreSQL and Valkey on this machine.

    \b
    Example:
      soma stack up
    """


@stack.command()
@click.option("--ephemeral", is_flag=True, help="Remove the data on `soma stack down`.")
@as_json
def up(ephemeral: bool, json_: bool) -> None:
    """Start what doesn't run, wait until all of it answers, and migrate its PostgreSQL.

    \b
    Example:
      soma stack up --json
    """
    with _clear_errors():
        one = local(load(), ephemeral)
        ends = one.up()
    migrate_own(load())
    if json_:
        click.echo(json.dumps({"home": str(one.home), **asdict(ends)}))
        return
    click.echo(f"Kafka    {ends.kafka_bootstrap or 'your own'}")
    click.echo(f"Postgres {ends.postgres_dsn.rpartition('@')[2] or 'your own'}")
    click.echo(f"Valkey   {ends.redis_url or 'your own'}")
    click.echo(f"Logs in {one.home / 'logs'}; stop it with: soma stack down")


@stack.command()
@as_json
def down(json_: bool) -> None:
    """Stop all parts cleanly; data is kept unless the stack is ephemeral.

    \b
    Example:
      soma stack down
    """
    with _clear_errors():
        local(load()).down()
    click.echo(json.dumps({"stopped": True}) if json_ else "The stack is stopped.")


@stack.command()
@as_json
def status(json_: bool) -> None:
    """Show which parts run and answer; fails when one doesn't.

    \b
    Example:
      soma stack status --json
    """
    with _clear_errors():
        parts = local(load()).status()
    if json_:
        click.echo(json.dumps({part.name: asdict(part) for part in parts}))
    else:
        for part in parts:
            state = "answers" if part.ready else "runs, no answer" if part.running else "stopped"
            where = f"port {part.port}, pid {part.pid}" if part.running else ""
            click.echo(f"{part.name:9} {state:16} {where}")
    if not all(part.ready for part in parts):
        raise click.exceptions.Exit(1)


def local(settings: "Settings", ephemeral: bool = False) -> Stack:
    """The local stack as the settings want it: without the servers that the user has himself."""
    own = [part for name, part in OWN.items() if name in settings.model_fields_set]
    return Stack(settings.home, ephemeral, without=own, say=say)


def migrate_own(settings: "Settings") -> None:
    """Bring the schema up to date in the stack's own PostgreSQL; the user's own is his."""
    if "postgres_dsn" not in settings.model_fields_set:
        bring_up(settings)


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except (StackError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
