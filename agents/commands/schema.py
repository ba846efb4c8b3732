"""`soma schema`: whether the schemas in avro/ may be used together, for ever; and their ids."""

import json
from typing import TYPE_CHECKING

import click

from agents.tools.output import counted
from topics.registry import RegistryError, chosen
from topics.schemacheck import check as check_folder
from topics.schemacheck import record as record_files
from topics.schemas import SchemaError, stem_of

if TYPE_CHECKING:
    from topics.registered import RegisteredSchemas
    from topics.subjects import Brought

TOLD = 20  # places between two lines of progress


@click.group()
def schema() -> None:
    """Check, record and register the Avro schemas in avro/."""


@schema.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(as_json: bool) -> None:
    """Check every schema against all earlier versions of it (BACKWARD_TRANSITIVE).

    Also: ids.json names exactly the files, shapes and defaults are right, and no recorded file
    has changed. Where ids come from a schema registry, it is asked whether it has every schema
    under its subjects, those of packages too, and gives the ids that are in use. Every problem is
    named at once.

    \b
    Example:
      soma schema check
    """
    try:
        report = check_folder()
    except SchemaError as error:
        raise click.ClickException(str(error)) from error
    if chosen() is not None:
        report.schemas, problems = _registered()
        report.problems += problems
    if as_json:
        click.echo(json.dumps({"schemas": report.schemas, "problems": report.problems}, indent=2))
    else:
        for number, stem in sorted(report.schemas.items()):
            click.echo(f"{number:>4}  {stem}")
    _refuse(report.problems)
    if not as_json:
        where = f", and registered with {known.url}" if (known := chosen()) is not None else ""
        click.echo(f"{len(report.schemas)} schemas, all compatible and unchanged{where}.")


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
@click.option("--dry-run", is_flag=True, help="Say what would be registered, or refused.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def register(dry_run: bool, as_json: bool) -> None:
    """Register all schemas, those of packages too, with SOMA_SCHEMA_REGISTRY_URL.

    Each under `soma.NAME`, and under `TOPIC-value` of the topics whose records it is of. What is
    there already stays; run it before each update, and as often as you like.

    \b
    Examples:
      soma schema register --dry-run
      soma schema register
    """
    known, done, left = _brought(dry=dry_run)
    problems = done.problems + left
    if not problems and not dry_run:
        try:
            known.ask(anew=True)  # as whoever starts next would
        except RegistryError as error:
            problems.append(str(error))
    if as_json:
        said = {"registered": done.registered, "there": done.there}
        texts = {word: [f"{one.subject} {stem_of(one.key)}" for one in said[word]] for word in said}
        click.echo(json.dumps({**texts, "dry_run": dry_run, "problems": problems}, indent=2))
    else:
        word = "would be registered" if dry_run else "registered"
        for place in done.registered:
            click.echo(f"{word}: {place}")
    _refuse(problems)
    if not as_json:
        click.echo(f"{len(done.registered)} {word}, {len(done.there)} were there already.")


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


def _registered() -> tuple[dict[int, str], list[str]]:
    """id -> schema as the registry has them, and what is wrong with it."""
    known, done, problems = _brought(dry=True)
    problems = done.problems + problems
    problems += [
        f"{place}: not registered; run `soma schema register`" for place in done.registered
    ]
    try:
        known.ask(anew=True)
    except RegistryError as error:
        problems.append(str(error))
    return {number: stem_of(key) for key, number in done.ids.items()}, problems


def _brought(*, dry: bool) -> "tuple[RegisteredSchemas, Brought, list[str]]":
    """Bring our schemas to the registry. The last: why that ended early, if it did."""
    from agents.settings import load
    from topics.registered import RegisteredSchemas
    from topics.registry import URL, Registry
    from topics.schemas import schemas
    from topics.subjects import Brought, bring, places

    settings, known = load(), schemas()
    if not isinstance(known, RegisteredSchemas):
        raise click.ClickException(f"{URL} isn't set: ids come from avro/ids.json")
    done, wanted = Brought(), places(known, settings.topic)
    try:
        with Registry(known.access) as registry:
            for n, place in enumerate(wanted, 1):
                bring(known, registry, place, done, dry=dry)
                if n % TOLD == 0:
                    click.echo(f"{n} of {len(wanted)} looked at", err=True)
    except RegistryError as error:
        at = len(done.registered) + len(done.there)
        return known, done, [f"after {at} of {len(wanted)}: {error}"]
    return known, done, []


def _refuse(problems: list[str]) -> None:
    if problems:
        text = "\n  ".join(problems)
        raise click.ClickException(f"{counted(len(problems), 'problem')}:\n  {text}")
