"""`soma snapshot`: states kept for longer than their source."""

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from agents.commands.past import in_a_line, json_option, partitions_of, plan_named
from agents.settings import load
from agents.tools.output import counted

if TYPE_CHECKING:
    from agents.history.snapshots import Snapshot

partition_option = click.option("--partition", type=click.IntRange(0), help="Only this one.")


@click.group()
def snapshot() -> None:
    """Take, list and verify snapshots of processors' states.

    A state can be folded anew as long as the log is whole, or goes on from a snapshot. They are
    kept for 90 days, in soma.<processor>.snapshots. Workers that run the service `snapshots` take
    one of each partition daily.
    """


@snapshot.command()
@click.argument("processor")
@partition_option
@json_option
def take(processor: str, partition: int | None, as_json: bool) -> None:
    """Take a snapshot of each partition of PROCESSOR, from its state topic; workers go on.

    \b
    Example:
      soma snapshot take integrator
    """
    from agents.history import snapshots

    settings = load()
    plan = plan_named(settings, processor)
    taken: list[Snapshot] = []
    with in_a_line(settings):
        for number in partitions_of(plan, "", partition):
            one = snapshots.take(settings, plan, number)
            if one is None:
                click.echo(f"partition {number}: nothing folded yet", err=True)
                continue
            taken.append(one)
            if not as_json:
                click.echo(_line(one))
    if as_json:
        data = {"processor": processor, "snapshots": [_data(one) for one in taken]}
        click.echo(json.dumps(data))


@snapshot.command("list")
@click.argument("processor")
@partition_option
@json_option
def list_(processor: str, partition: int | None, as_json: bool) -> None:
    """List the snapshots of PROCESSOR, the newest of each partition first.

    \b
    Example:
      soma snapshot list integrator
    """
    _each(processor, partition, as_json, verify=False)


@snapshot.command()
@click.argument("processor")
@partition_option
@json_option
def verify(processor: str, partition: int | None, as_json: bool) -> None:
    """Read each snapshot of PROCESSOR and compare its rows with its digest.

    The exit status is 1 if one of them can't be used.

    \b
    Example:
      soma snapshot verify integrator
    """
    if _each(processor, partition, as_json, verify=True):
        sys.exit(1)


def _each(processor: str, partition: int | None, as_json: bool, verify: bool) -> int:
    """Show them; how many can't be used."""
    from agents.history import snapshots
    from agents.history.errors import BadSnapshot

    settings = load()
    plan = plan_named(settings, processor)
    found: list[dict[str, Any]] = []
    with in_a_line(settings):
        for number in partitions_of(plan, "", partition):
            for one in snapshots.listed(settings, plan, number):
                wrong = one.wrong
                if verify and not wrong:
                    try:
                        snapshots.load(settings, plan, one)
                    except BadSnapshot as error:
                        wrong = str(error)
                found.append(_data(one) | ({"wrong": wrong} if wrong else {}))
                if not as_json:
                    click.echo(wrong or _line(one) + (", good" if verify else ""))
    if as_json:
        click.echo(json.dumps({"processor": processor, "snapshots": found}))
    elif not found:
        click.echo(f"There is no snapshot of {processor}: `soma snapshot take {processor}`.")
    return sum("wrong" in one for one in found)


def _line(one: "Snapshot") -> str:
    at = datetime.fromtimestamp(one.ts / 1e6, UTC).isoformat(timespec="seconds")
    rows = counted(one.rows, "row")
    return f"partition {one.partition}: {at}  to offset {one.next_offset}, {rows}, {one.digest}"


def _data(one: "Snapshot") -> dict[str, Any]:
    return {
        "partition": one.partition, "offset": one.offset, "next_offset": one.next_offset,
        "epoch": one.epoch, "topic_id": one.topic_id, "rows": one.rows, "digest": one.digest,
        "taken": datetime.fromtimestamp(one.ts / 1e6, UTC).isoformat(),
    }  # fmt: skip
