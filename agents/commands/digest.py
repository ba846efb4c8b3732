"""`soma digest`: a hash of a processor's state, and the proof that it follows from the log."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from agents.commands.kernels import compile_ahead
from agents.commands.past import (
    Meter,
    data_of_position,
    in_a_line,
    json_option,
    partitions_of,
    plan_named,
    tenant_option,
)
from agents.settings import load
from agents.tools.output import counted

if TYPE_CHECKING:
    from agents.history.audit import Audited, Rebuilt

SHOWN = 20  # rows that differ, in a partition
LIVE, REBUILT = "live", "rebuilt"


@click.command()
@click.argument("processor")
@tenant_option
@click.option("--partition", type=click.IntRange(0), help="Only this one.")
@click.option("--each", is_flag=True, help="The digest of each tenant too.")
@click.option("--rebuild", is_flag=True, help="Fold the source anew, and compare each row.")
@click.option("--outputs", is_flag=True, help="With --rebuild: compare what it sends, too.")
@click.option(
    "--from", "begin", type=click.Choice(["log", "snapshot"]), default="log", show_default=True,
    help="Where --rebuild begins: as early as the log allows, or at the newest snapshot.",
)  # fmt: skip
@json_option
def digest(
    processor: str, tenant: str, partition: int | None, each: bool, rebuild: bool, outputs: bool,
    begin: str, as_json: bool,
) -> None:  # fmt: skip
    """Hash the state rows of PROCESSOR as its state topic has them now.

    Equal rows give the equal digest, whatever their order, the topic's compaction, the number of
    workers and the sizes of batches; digests of parts add up to that of the whole.

    With --rebuild the source is folded anew, through the settings, policies and skipped records as
    they were, up to exactly where the state is, while live traffic goes on. Rows that differ are
    listed with the fields that do, and the exit status is 1. Without --from snapshot it begins with
    nothing where the log is whole, and at the oldest snapshot that it goes on from where not.
    --outputs says how many of the outputs that the fold gives were published just so: after a
    change of law, how many differ.

    \b
    Examples:
      soma digest integrator
      soma digest predictors --rebuild --outputs
      soma digest segmentation --tenant cpu --rebuild --from snapshot --json
    """
    from agents.history.audit import audit, digest_of

    if outputs and not rebuild:
        raise click.ClickException("--outputs is of --rebuild")
    settings = load()
    plan = plan_named(settings, processor)
    if rebuild:
        compile_ahead(processor)
    found: list[Audited] = []
    with in_a_line(settings):
        for number in partitions_of(plan, tenant, partition):
            if rebuild:
                meter = Meter(lambda: None)
                newest = begin == "snapshot"
                found.append(audit(settings, plan, number, tenant, newest, meter, outputs))
            else:
                found.append(digest_of(settings, plan, number, tenant))
            if not as_json:
                _print(found[-1], each)
    if not as_json:
        click.echo(f"{processor}: {_total(found)}")
    else:
        click.echo(json.dumps(_data(processor, tenant, found, each, rebuild)))
    if tenant and not found[0].digest.rows and not _unequal(found):
        click.echo(f"{processor} has no state of the tenant {tenant}", err=True)
    if _unequal(found):
        sys.exit(1)


def _unequal(found: "list[Audited]") -> bool:
    return any(one.rebuilt is not None and one.rebuilt.differing for one in found)


def _print(one: "Audited", each: bool) -> None:
    if each:
        for name, own in one.tenants.items():
            click.echo(f"  {name}: {own.hex}  {counted(own.rows, 'row')}")
    at = f"to offset {one.position.next_offset}" if one.position else "nothing folded yet"
    rows = counted(one.digest.rows, "row")
    click.echo(f"partition {one.partition}: {one.digest.hex}  {rows}, {at}")
    if one.rebuilt is not None:
        _print_rebuilt(one.rebuilt)


def _print_rebuilt(one: "Rebuilt") -> None:
    rate = one.records / one.seconds if one.seconds > 0 else 0.0
    how = f"from {one.of}, {counted(one.records, 'record')} read in {one.seconds:.1f} s"
    unlike = len(one.differing)
    said = f"{counted(unlike, 'row differs', 'rows differ')}" if unlike else "equal"
    click.echo(f"  rebuilt: {said} ({how}, {rate:,.0f} a second)")
    for name, (count, found) in one.outputs.items():
        click.echo(f"  {name}: {found:,} of {counted(count, 'output')} as published")
    for note in one.notes:
        click.echo(f"  note: {note}")
    for row in one.differing[:SHOWN]:
        for line in row.lines(LIVE, REBUILT):
            click.echo(f"  {line}")
    if unlike > SHOWN:
        click.echo(f"  and {counted(unlike - SHOWN, 'row')} more; --json has all")


def _total(found: "list[Audited]") -> str:
    total = _sum(found)
    said = f"{total['digest']}  {counted(total['rows'], 'row')}"
    if any(one.rebuilt is not None for one in found):
        said += ", rebuilt: " + ("rows differ" if _unequal(found) else "all equal")
    return said


def _sum(found: "list[Audited]") -> dict[str, Any]:
    from agents.history.rows import Digest

    total = Digest()
    for one in found:
        total.join(one.digest)
    return {"digest": total.hex, "rows": total.rows}


def _data(
    processor: str, tenant: str, found: "list[Audited]", each: bool, rebuild: bool
) -> dict[str, Any]:
    said: dict[str, Any] = {"processor": processor}
    if tenant:
        said["tenant"] = tenant
    said |= _sum(found)
    if rebuild:
        said["equal"] = not _unequal(found)
    return said | {"partitions": [_part(one, each) for one in found]}


def _part(one: "Audited", each: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "partition": one.partition, "position": data_of_position(one.position),
        "digest": one.digest.hex, "rows": one.digest.rows,
    }  # fmt: skip
    if each:
        data["tenants"] = {name: own.hex for name, own in one.tenants.items()}
    if (anew := one.rebuilt) is not None:
        data["rebuilt"] = {
            "equal": not anew.differing, "digest": anew.digest.hex, "rows": anew.digest.rows,
            "from": anew.of, "begun": anew.begun, "records": anew.records,
            "seconds": round(anew.seconds, 3), "notes": anew.notes,
            "differing": [row.data(LIVE, REBUILT) for row in anew.differing],
            "outputs": {
                name: {"given": count, "published": found}
                for name, (count, found) in anew.outputs.items()
            },
        }  # fmt: skip
    return data
