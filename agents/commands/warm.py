"""`soma warm`: compile the kernels ahead, as when an image is built."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agents.tools.output import counted, say
from agents.tools.signals import unbroken

if TYPE_CHECKING:
    from agents.engine.compiling import Compiling

BAR_EVERY_S = 0.2
SAY_EVERY_S = 10.0


def compile_all(units: Sequence[str], jobs: int = 0, quiet: bool = False) -> "Compiling":
    """Compile the kernels of these, and wait. What a signal breaks off leaves nothing running."""
    from agents.engine.compiling import Compiling

    compiling = None
    try:
        with unbroken():  # else its processes might begin, and nobody have them
            compiling = Compiling(units, jobs)
        wait_for(compiling, quiet)
        return compiling
    finally:
        if compiling is not None:
            compiling.close()


def wait_for(compiling: "Compiling", quiet: bool = False) -> None:
    """Show how far it is until it is done, unless `quiet`. ClickException if it fails."""
    from agents.engine.compiling import CompilingError

    try:
        if quiet:
            compiling.wait(lambda *_: None, SAY_EVERY_S)
        elif sys.stderr.isatty():
            _with_bar(compiling)
        else:
            compiling.wait(_say, SAY_EVERY_S)
    except CompilingError as error:
        raise click.ClickException(str(error)) from error


def _say(done: int, of: int) -> None:
    say(f"{done} of {of} kernels")


def _with_bar(compiling: "Compiling") -> None:
    columns = (
        TextColumn("compiling kernels"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        compiling.wait(
            lambda done, known: bar.update(task, completed=done, total=known), BAR_EVERY_S
        )


@click.command()
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes at a time; default: one a core."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@click.argument("names", metavar="[NAMES]...", nargs=-1)
def warm(jobs: int | None, as_json: bool, names: tuple[str, ...]) -> None:
    """Compile the kernels of NAMES (default: all) into the cache, so that workers start at once.

    They lie in SOMA_KERNELS_DIR, or in the user's cache, for these sources and this kind of
    processor; where all are there, nothing is done. An image is built with them: NUMBA_CPU_NAME
    and NUMBA_CPU_FEATURES say for which processors, where those that build and run differ.

    \b
    Examples:
      soma warm
      soma warm --jobs 1 integrator
    """
    from agents.engine.compiling import misplaced, missing, units  # numba: when used
    from topics import compiled

    if unknown := set(names) - set(units()):
        raise click.UsageError(
            f"no kernels of: {', '.join(sorted(unknown))}; there are {', '.join(units())}"
        )
    if said := misplaced():
        raise click.ClickException(said)
    todo = missing(units(names))
    compiling = compile_all(todo, jobs or 0)
    done, _ = compiling.progress
    seconds = round(compiling.seconds, 1)
    place = compiled.config.CACHE_DIR
    if as_json:  # "rooms": as the first versions said it
        click.echo(
            json.dumps({"folder": place, "rooms": todo, "kernels": done, "seconds": seconds})
        )
    elif todo:
        click.echo(
            f"compiled {counted(done, 'kernel')} of {', '.join(todo)} in {seconds} s into {place}"
        )
    else:
        click.echo(f"all kernels are there, in {place}")
