"""`soma demo`: the whole of it on this machine, live."""

import io
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live

from agents.commands.observe import tenants_of
from agents.commands.stack import local, migrate_own
from agents.commands.warm import wait_for
from agents.settings import load
from agents.tools.machine import TENANTS
from agents.tools.output import counted, say
from agents.tools.screen import screen
from agents.tools.show import DemoOptions, Show, hints, how_to_call_soma
from agents.tools.signals import ENDING, deaf, handled, unbroken
from ops.stack import StackError
from ops.stack.ports import free_port
from topics import preflight
from topics.broker import BrokerError

if TYPE_CHECKING:
    from agents.engine.compiling import Compiling

PICTURES_PER_S = 4
PICTURE_WIDTH = 118  # characters
SAY_EVERY_S = 5.0


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@click.option("--headless", is_flag=True, help="No screen; a line now and then.")
@click.option(
    "--tenants",
    callback=tenants_of,
    default=",".join(TENANTS),
    show_default=True,
    help="What of the machine is observed.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    default=0.25,
    show_default=True,
    help="Seconds between samples of this machine.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.1, max=10_000),
    default=20.0,
    show_default=True,
    help="How much faster than life the recorded series is played.",
)
@click.option("--picture", type=click.Path(dir_okay=False), help="Save the last picture as SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON at the end.")
def demo(
    seconds: float | None,
    headless: bool,
    tenants: tuple[str, ...],
    interval: float,
    speed: float,
    picture: str | None,
    as_json: bool,
) -> None:
    """Watch a live stream become predictions and fused frames.

    Starts the local stack and a worker, observes this machine, plays a recorded one beside it, and
    shows who leads, with what weight, how fast and how late, and where a segment ended. Load a core
    (`timeout 15 yes > /dev/null`) and see a boundary of the tenant cpu appear. Ctrl-C stops all
    that it started; a stack that ran before goes on. The status is non-zero when no frame came.

    \b
    Examples:
      soma demo
      soma demo --headless --seconds 10 --json
    """
    options = DemoOptions(tenants, interval, speed, free_port())
    # In a script's background too, where a shell makes us ignore Ctrl-C.
    ours = handled(signal.default_int_handler, *ENDING)
    with ours, _kernels() as kernels, _stack_up():
        settings = load()
        migrate_own(settings)
        try:
            preflight.apply(settings)
        except (BrokerError, preflight.CannotApplyError, ValueError) as error:
            raise click.ClickException(str(error)) from error
        if kernels is not None:
            say("compiling the kernels: the first start after an update does")
            wait_for(kernels)
        show = Show(settings, options)
        try:
            show.open(say)
            with suppress(KeyboardInterrupt):
                _run(show, seconds, headless or not sys.stdout.isatty())
            if picture is not None:
                _save(show, picture)
            summary = show.summary()
        finally:
            with deaf():
                say("stopping")
                status = show.close()
    _report(summary | {"worker_status": status}, as_json)
    if status:
        raise click.ClickException(show.worker_gone())


def _run(show: Show, seconds: float | None, headless: bool) -> None:
    """Show it until the time is over or something broke."""
    if headless:
        said = 0.0
        while not _over(show, seconds):
            time.sleep(0.1)
            if show.seconds - said > SAY_EVERY_S:
                said = show.seconds
                say(f"{said:.0f} s: {_came(show.observations, show.frames, ',')}")
        return
    tips = hints(how_to_call_soma(sys.argv[0], sys.executable))
    console = Console()

    def picture() -> Group:
        return screen(show.moment(tips), console.width, console.height)

    with Live(picture(), console=console, auto_refresh=False, screen=True) as live:
        while not _over(show, seconds):
            live.update(picture(), refresh=True)
            time.sleep(1 / PICTURES_PER_S)
    # The screen is gone with what it showed: leave the last picture in the terminal.
    console.print(picture())


def _came(observations: int, frames: int, between: str) -> str:
    return f"{counted(observations, 'observation')}{between} {counted(frames, 'frame')}"


def _save(show: Show, path: str) -> None:
    """The picture of this moment, as wide as it needs to be."""
    console = Console(file=io.StringIO(), width=PICTURE_WIDTH, record=True, force_terminal=True)
    console.print(screen(show.moment(hints("soma"))))
    console.save_svg(path, title="soma demo")


def _over(show: Show, seconds: float | None) -> bool:
    return bool(show.trouble()) or (seconds is not None and show.seconds >= seconds)


def _report(summary: dict[str, object], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(summary))
    else:
        seen, frames = int(str(summary["observations"])), int(str(summary["frames"]))
        say(_came(seen, frames, " became"))
        bounds = summary["boundaries"]
        if isinstance(bounds, dict) and bounds:
            say("boundaries: " + ", ".join(f"{name} {bounds[name]}" for name in sorted(bounds)))
    if summary["trouble"]:
        raise click.ClickException(str(summary["trouble"]))
    if not summary["frames"]:
        raise click.ClickException("no frame came: the worker's log is in SOMA_HOME/logs")


@contextmanager
def _kernels() -> "Iterator[Compiling | None]":
    """Kernels that aren't there yet, compiling while the servers start."""
    from agents.engine.compiling import Compiling, missing, units  # numba: when it is used

    todo = missing(units())
    kernels = None
    try:
        with unbroken():  # else its processes might begin, and nobody have them
            kernels = Compiling(todo) if todo else None
        yield kernels
    finally:
        if kernels is not None:
            kernels.close()


@contextmanager
def _stack_up() -> Iterator[None]:
    """The local stack for as long as the block runs; one that ran before stays up."""
    one = local(load())
    ours = not any(part.running for part in one.status())
    try:
        one.up()
        yield
    except StackError as error:
        raise click.ClickException(str(error)) from error
    finally:
        if ours:
            with deaf():
                one.down()
