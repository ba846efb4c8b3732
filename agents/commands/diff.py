"""`soma diff`: what became of a tenant's state between two moments."""

import json
from typing import TYPE_CHECKING, Any

import click

from agents.commands.kernels import compile_ahead
from agents.commands.past import Meter, home_of, in_a_line, json_option, moment, plan_named
from agents.settings import load
from agents.tools.output import counted

if TYPE_CHECKING:
    from agents.history.moments import Moment

BEFORE, AFTER = "before", "after"


@click.command()
@click.argument("processor")
@click.option("--tenant", required=True, help="Whose rows.")
@click.option(
    "--between", nargs=2, required=True, callback=moment, metavar="MOMENT MOMENT",
    help="Times of the log, or offsets of the tenant's partition; the earlier one first.",
)  # fmt: skip
@json_option
def diff(processor: str, tenant: str, between: "tuple[Moment, Moment]", as_json: bool) -> None:
    """Show which fields of a tenant's state rows differ between two moments.

    The tenant's records are folded to the first moment, and on to the second.

    \b
    Example:
      soma diff integrator --tenant cpu --between 10 100
    """
    from agents.history.rows import differing
    from agents.history.states import Past

    settings = load()
    plan = plan_named(settings, processor)
    partition = home_of(plan, tenant)
    compile_ahead(processor)
    with in_a_line(settings):
        meter = Meter(lambda: offsets[1])
        past = Past(settings, plan, partition, tenant, told=lambda: meter(past))
        offsets = [one.offset_in(settings, plan, partition, past.source) for one in between]
        if offsets[0] > offsets[1]:
            raise click.ClickException(f"{between[0].text} is behind {between[1].text}.")
        began = past.start(offsets[0])
        sides = []
        for offset in offsets:
            past.fold_to(offset)
            sides.append(past.rows())
    found = differing(*sides)
    if as_json:
        said: dict[str, Any] = {
            "processor": processor, "tenant": tenant, "partition": partition, "between": offsets,
            "from": began, "notes": past.notes, "rows": [one.data(BEFORE, AFTER) for one in found],
        }  # fmt: skip
        click.echo(json.dumps(said))
        return
    where = f"partition {partition}, offsets {offsets[0]} to {offsets[1]}"
    click.echo(f"{processor}: {tenant}, {where}: {counted(len(found), 'row')} changed")
    for note in past.notes:
        click.echo(f"note: {note}")
    for one in found:
        for line in one.lines(BEFORE, AFTER):
            click.echo(line)
