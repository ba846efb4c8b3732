"""`soma state`: a tenant's state rows, as they are or as they were."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from agents.commands.kernels import compile_ahead
from agents.commands.past import Meter, home_of, in_a_line, json_option, moment, plan_named
from agents.settings import load
from agents.tools.output import plain

if TYPE_CHECKING:
    from agents.history.moments import Moment
    from agents.history.view import View

WIDTH = 100  # of a value, in characters


@click.group()
def state() -> None:
    """Show what processors know of a tenant, now or at a moment of the past."""


@state.command()
@click.argument("processor")
@click.option("--tenant", required=True, help="Whose rows.")
@click.option(
    "--at", "at", callback=moment, metavar="TIME|OFFSET",
    help="Fold the log to this moment: a time of the log, or an offset of the tenant's partition "
    "(also PARTITION/OFFSET), before whose record the fold ends.",
)  # fmt: skip
@json_option
def show(processor: str, tenant: str, at: "Moment | None", as_json: bool) -> None:
    """Show the state rows of a tenant: its own and those of its domains or entities.

    Without --at they are as the state topic has them now. With it the tenant's records are folded
    anew, from the newest snapshot before that moment or from the whole log, through the settings as
    they were.

    \b
    Examples:
      soma state show integrator --tenant cpu
      soma state show predictors --tenant cpu --at "$(date -uIs -d '10 seconds ago')"
      soma state show segmentation --tenant cpu --json
    """
    from agents.history.states import Past, current
    from agents.history.view import views

    settings = load()
    plan = plan_named(settings, processor)
    partition = home_of(plan, tenant)
    if at is not None:
        compile_ahead(processor)
    said: dict[str, Any] = {"processor": processor, "tenant": tenant, "partition": partition}
    with in_a_line(settings):
        if at is None:
            found = current(settings, plan, partition, tenant)
            offset = found.position.next_offset if found.position else 0
            rows, said["from"], notes = found.rows, "the state topic", []
        else:
            meter = Meter(lambda: offset)
            past = Past(settings, plan, partition, tenant, told=lambda: meter(past))
            offset = at.offset_in(settings, plan, partition, past.source)
            said["from"] = past.start(offset)
            past.fold_to(offset)
            rows, notes = past.rows(), past.notes
    found_views = views(plan.processor, rows)
    said |= {"offset": offset, "notes": notes, "rows": [one.data() for one in found_views]}
    if as_json:
        click.echo(json.dumps(said))
    else:
        _print(said, found_views)
    if not rows:
        when = "" if at is None else f" at {at.text}"
        click.echo(f"{processor} has no state of the tenant {tenant}{when}.", err=True)
        sys.exit(1)


def _print(said: dict[str, Any], rows: "list[View]") -> None:
    place = f"partition {said['partition']}, to offset {said['offset']}"
    click.echo(f"{said['processor']}: {said['tenant']}, {place}, from {said['from']}")
    for note in said["notes"]:
        click.echo(f"note: {note}")
    for one in rows:
        name = f"{one.tenant}/{one.entity}" if one.entity else one.tenant
        own = "  ".join(f"{key}={value}" for key, value in one.settings.items())
        kit = f"last record {one.touched}" if one.touched else "no record"
        click.echo(f"\n{plain(name)}  ({kit}{'; set: ' if own else ''}{own})")
        width = max(map(len, one.fields), default=0)
        for field, value in one.fields.items():
            click.echo(f"  {field:{width}}  {_short(value)}")


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, list | dict) else plain(str(value))
    more = f" ({len(value)})" if isinstance(value, list | dict) and len(text) > WIDTH else ""
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}…{more}"
