"""`soma worker`: run stream processors; the same as `faust -A agents.app worker`."""

import os
import signal
import sys

import click

from agents.settings import SettingsError, load
from agents.tools.signals import audible, handled


@click.command()
@click.option(
    "--agents",
    metavar="NAMES",
    help="Processors and services to run, comma separated; overrides SOMA_AGENTS.",
)
@click.option(
    "--web-port",
    type=click.IntRange(0, 65535),
    help="Port of /, /ready and /metrics; 0 = no web server. Overrides SOMA_WEB_PORT.",
)
@click.option(
    "--log-level",
    "-l",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Overrides SOMA_LOG_LEVEL.",
)
def worker(agents: str | None, web_port: int | None, log_level: str | None) -> None:
    """Run stream processors until SIGTERM or Ctrl-C.

    Several workers share the partitions; each may run other processors. A worker that is stopped
    finishes the transaction at hand; one that is killed loses nothing.

    \b
    Example:
      soma worker
      soma worker --agents integrator,predictors --web-port 6067
    """
    if agents is not None:
        os.environ["SOMA_AGENTS"] = agents
    if web_port is not None:
        os.environ["SOMA_WEB_PORT"] = str(web_port)
    try:
        settings = load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    web = ["--without-web"] if settings.web_port == 0 else ["--web-port", str(settings.web_port)]
    # `-l warn` would put Faust's root logger to DEBUG at the start, and cost an eighth of the rate.
    level = log_level or settings.log_level
    sys.argv = ["faust", "-A", "agents.app", "worker", "-l", level, *web]
    from faust.cli.faust import cli

    # Faust knows SIGTERM and SIGINT; a closed terminal ends it in the same way.
    hangups = {signal.SIGHUP}.intersection(audible())
    with handled(lambda *_: signal.raise_signal(signal.SIGTERM), *hangups):
        cli()
