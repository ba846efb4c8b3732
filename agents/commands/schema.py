"""`soma schema`: whether the schemas in avro/ may be used together, for ever."""

import json

import click

from agents.tools.output import counted
from topics.schemacheck import check as check_folder
from topics.schemacheck import record as record_files
from topics.schemas import SchemaError


@click.group()
def schema() -> None:
    """Check and record the Avro schemas in avro/."""


@schema.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(as_json: bool) -> None:
    """Check every schema against all earlier versions of it (BACKWARD_TRANSITIVE).

    Also: ids.json names exactly the files, shapes and defaults are right, and no recorded file
    has changed. Every problem is named at once.

    \b
    Example:
      soma schema check
    """
    try:
        report = check_folder()
    except SchemaError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps({"schemas": report.schemas, "problems": report.problems}, indent=2))
    else:
        for number, stem in sorted(report.schemas.items()):
            click.echo(f"{number:>4}  {stem}")
    if report.problems:
        text = "\n  ".join(report.problems)
        raise click.ClickException(f"{counted(len(report.problems), 'problem')}:\n  {text}")
    if not as_json:
        click.echo(f"{len(report.schemas)} schemas, all compatible and unchanged.")


@schema.command()
@click.argument("processor")
def row(processor: str) -> None:
    """Write the schema of PROCESSOR's rows, from their dataclass, as its next version.

    \b
    Example:
      soma schema row heartbeats
    """
    from agents.tools import newprocessor, rowschema

    try:
        path = rowschema.write(processor)
    except newprocessor.CantMakeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(path.name if path is not None else "Nothing new.")


@schema.command()
@click.option("--replace", multiple=True, metavar="NAME.vN", help="Record a changed file anew.")
def record(replace: tuple[str, ...]) -> None:
    """Record the fingerprints of new schema files, so that no later change goes unseen.

    A file may be recorded anew (--replace) only while nothing was ever written with it.

    \b
    Example:
      soma schema record
    """
    try:
        fresh = record_files(replace=replace)
    except SchemaError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(fresh) if fresh else "Nothing new.")


@schema.command()
def topics() -> None:
    """Print what a producer must know of each topic that users write: its schema, and its id.

    As JSON: what lies in client/soma_client/schemas.json, and topics of SOMA_PLUGINS.

    \b
    Example:
      soma schema topics > schemas.json
    """
    from topics.catalogue import CATALOGUE
    from topics.schemas import schemas

    known = schemas()
    found = {
        name: {"id": known.schema_id(one.schema), "schema": known.raw(one.schema)}
        for name, one in sorted(CATALOGUE.items())
        if one.of_tenants and one.schema is not None
    }
    click.echo(json.dumps(found, ensure_ascii=False, indent=1))
