"""`soma observe`: this machine, or a file, as observations."""

import itertools
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import click

from agents.commands.importing import import_options, run_import, wish_of
from agents.settings import load
from agents.tools.feeds import TOPIC, send
from agents.tools.machine import TENANTS, Machine
from agents.tools.output import counted, until_interrupted
from agents.tools.publisher import Publisher


def tenants_of(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """Comma-separated names of the machine's tenants; BadParameter names what isn't one."""
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    unknown = [name for name in names if name not in TENANTS]
    if unknown or not names:
        wrong = ", ".join(unknown) or "nothing"
        raise click.BadParameter(f"{wrong} is none of {', '.join(TENANTS)}", ctx, param)
    return names


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    default=0.5,
    show_default=True,
    help="Seconds between samples.",
)
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many samples.")
@click.option(
    "--tenants",
    callback=tenants_of,
    default=",".join(TENANTS),
    show_default=True,
    help="Which of them.",
)
@import_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the observations instead; of a file: a summary."
)
@click.pass_context
def observe(
    ctx: click.Context,
    /,
    interval: float,
    count: int | None,
    tenants: tuple[str, ...],
    as_json: bool,
    **of_file: Any,
) -> None:
    """Publish observations of this machine, or of a file, to cog.observations.

    Without a file: this machine until Ctrl-C. Tenants are the processor, the memory, the disk and
    the network, each seen through three domains of four numbers: state (how full or busy), agent
    (what processes ask of it) and action (how its state has just changed).

    With --csv or --jsonl: each row becomes an observation whose vector is the columns of values,
    or with --domain-per-column one observation of each. JSON lines without --tenant are
    observations as they are (tenant, domain, ts, vector). Each row is published exactly once: an
    import that was interrupted in whatever way goes on when the same command is given again, and
    takes up what a file has grown by. How far each came is kept in soma.imports.

    \b
    Examples:
      soma observe
      soma observe --interval 0.1 --tenants cpu,memory --count 100
      soma observe --csv plant.csv --tenant plant --time-column time --columns temp,load
      soma observe --csv plant.csv --tenant plant --domain-per-column --shift-to-now --rate 50
      zcat old.jsonl.gz | soma observe --jsonl - --name old --skip-bad --bad bad.jsonl
    """
    wish = wish_of(ctx, of_file)
    if wish is not None:
        run_import(wish, as_json)
        return
    machine = Machine(tenants)
    if as_json:
        _print(machine, interval, count)
        return
    failed = 0

    def fail(_: int, why: str) -> None:
        nonlocal failed
        failed += 1
        click.echo(f"an observation was {why}", err=True)

    with Publisher(load(), TOPIC, fail) as publisher:
        click.echo(f"observing {', '.join(tenants)}: Ctrl-C ends it", err=True)
        with until_interrupted() as ending:
            for _ in _samples(count):
                publisher.poll(interval)
                send(publisher, machine.sample())
        unanswered = publisher.close()
    click.echo(f"{counted(publisher.delivered, 'observation')} delivered", err=True)
    ending.broken_off(count is not None)
    if failed or unanswered:
        sys.exit(1)


def _print(machine: Machine, interval: float, count: int | None) -> None:
    with until_interrupted() as ending:
        for _ in _samples(count):
            time.sleep(interval)
            for one in machine.sample():
                print(json.dumps(one.record()), flush=True)
    ending.broken_off(count is not None)


def _samples(count: int | None) -> Iterable[int]:
    return itertools.count() if count is None else range(count)
