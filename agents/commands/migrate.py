"""`soma migrate`: PostgreSQL's schema, brought up to this version."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agents.settings import load
from agents.tools.mapping import NAME
from agents.tools.output import counted
from stores import migrations
from stores.errors import StoreDown
from stores.grants import PURPOSES, Purpose, grants_to
from stores.migrations import Migration, MigrationError, Step
from stores.names import schema_of

if TYPE_CHECKING:
    from agents.settings import Settings

STATEMENT_S = 3600.0  # a migration may rewrite a large table

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def migrate() -> None:
    """Bring the schema in PostgreSQL up to this version, and say where it stands.

    The schema is `soma`, or `soma_<SOMA_NAMESPACE>`. The role of SOMA_POSTGRES_DSN becomes its
    owner; workers can do with less: see `soma migrate grants`.
    """


@migrate.command()
@click.option("--to", "upto", type=click.IntRange(1), help="Stop after this number.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and change nothing.")
@_json
def up(upto: int | None, dry_run: bool, as_json: bool) -> None:
    """Run the migrations that haven't run. May be repeated, and run on several hosts at once.

    \b
    Example:
      soma migrate up
      soma migrate up --dry-run
    """
    wanted, schema = _wanted(), schema_of(load().namespace)
    if upto is not None and upto > len(wanted):
        raise click.BadParameter(f"the last one is {len(wanted)}", param_hint="--to")
    done = asyncio.run(_up(load().postgres(), schema, wanted, upto, dry_run))
    if as_json:
        names = [{"number": m.number, "name": m.name, "checksum": m.checksum} for m in done]
        click.echo(json.dumps({"schema": schema, "dry_run": dry_run, "applied": names}))
        return
    for migration in done if dry_run else ():
        click.echo(f"would run {migration.number:04} {migration.name}")
    verb = "would run" if dry_run else "ran"
    rest = f"{verb} {counted(len(done), 'migration')}" if done else "nothing to do, all has run"
    click.echo(f"Schema {schema}: {rest}.")


@migrate.command()
@_json
def status(as_json: bool) -> None:
    """Show every migration and whether it ran. Fails unless all have.

    \b
    Example:
      soma migrate status
    """
    wanted, schema = _wanted(), schema_of(load().namespace)
    steps = asyncio.run(_status(schema, wanted))
    if as_json:
        shown = [asdict(step) for step in steps]
        click.echo(json.dumps({"schema": schema, "migrations": shown}))
    else:
        for step in steps:
            click.echo(str(step))
    _settled(schema, steps)


@migrate.command()
@click.argument("role")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(PURPOSES),
    default="worker",
    show_default=True,
    help="What the role is for. A writer is a service that adds events in its own transactions, "
    "a reader one who sees a tenant's memories.",
)
@click.option("--tenant", default="", help="Of a reader: whose memories.")
@_json
def grants(role: str, purpose: Purpose, tenant: str, as_json: bool) -> None:
    """Print the SQL that gives ROLE what it needs, and no more. Changes nothing.

    \b
    Examples:
      soma migrate grants soma_worker | psql …
      soma migrate grants orders --for writer | psql …
      soma migrate grants acme_reports --for reader --tenant acme | psql …
    """
    if (purpose == "reader") != bool(NAME.fullmatch(tenant)):
        raise click.BadParameter("a reader has a tenant, and no other", param_hint="--tenant")
    text = grants_to(role, schema_of(load().namespace), purpose, tenant)
    click.echo(json.dumps({"role": role, "for": purpose, "sql": text}) if as_json else text)


def bring_up(settings: "Settings") -> None:
    """Run what hasn't run; for a database that is ours alone, as the local stack's is."""
    asyncio.run(_up(settings.postgres(), schema_of(settings.namespace), _wanted(), None, False))


def _settled(schema: str, steps: Sequence[Step]) -> None:
    try:
        migrations.refuse(schema, steps)
    except MigrationError as error:
        raise click.ClickException(str(error)) from error
    pending = sum(step.state == "pending" for step in steps)
    if pending:
        raise click.ClickException(f"{pending} of {len(steps)} haven't run: `soma migrate up`.")


def _wanted() -> list[Migration]:
    try:
        return migrations.load()
    except MigrationError as error:
        raise click.ClickException(str(error)) from error


async def _up(
    dsn: str, schema: str, wanted: Sequence[Migration], upto: int | None, dry_run: bool
) -> list[Migration]:
    from stores.postgres import connected  # the client: when it is used

    def say(text: str) -> None:
        click.echo(f"schema {schema}: {text}", err=True)

    try:
        async with connected(dsn, "soma migrate", STATEMENT_S) as connection:
            if not dry_run:
                return await migrations.up(connection, schema, wanted, upto, say)
            steps = await migrations.status(connection, schema, wanted)
            migrations.refuse(schema, steps)
            pending = {step.number for step in steps if step.state == "pending"}
            last = upto or len(wanted)
            return [m for m in wanted if m.number in pending and m.number <= last]
    except (StoreDown, MigrationError) as error:
        raise click.ClickException(_explained(error)) from error


async def _status(schema: str, wanted: Sequence[Migration]) -> list[Step]:
    from stores.postgres import connected

    try:
        async with connected(load().postgres(), "soma migrate") as connection:
            return await migrations.status(connection, schema, wanted)
    except StoreDown as error:
        raise click.ClickException(_explained(error)) from error


def _explained(error: Exception) -> str:
    return str(error) if isinstance(error, MigrationError) else f"PostgreSQL: {error}"
