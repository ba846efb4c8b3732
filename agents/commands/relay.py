"""`soma relay`: bring PostgreSQL's outbox to Kafka, in a process of its own."""

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

import click

from agents import addresses
from agents.commands.kernels import compile_ahead
from agents.engine.ending import CLIENTS, calm, end_in
from agents.settings import load
from agents.tools.output import say
from agents.tools.signals import audible

if TYPE_CHECKING:
    from agents.outbox.relay import Relay
    from agents.settings import Settings


@click.command()
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Serve Prometheus' /metrics on this port of SOMA_WEB_HOST; 0 = don't.",
)
def relay(metrics_port: int) -> None:
    """Relay events from PostgreSQL's outbox to Kafka until SIGTERM or Ctrl-C.

    Any number of relays share the outbox's 4 shards. One that is stopped finishes its batches;
    one that is killed loses nothing and doubles nothing. `soma worker` runs one as well, unless
    SOMA_AGENTS is set and doesn't name `outbox`. Says which shards it has whenever that changes.

    \b
    Example:
      soma relay
      SOMA_OUTBOX__QUOTA_PER_MINUTE=0 soma relay --metrics-port 9100
    """
    # Once it is at work it has handlers of its own; before, there is nothing to finish.
    with contextlib.suppress(KeyboardInterrupt):
        _relay(metrics_port)


def _relay(metrics_port: int) -> None:
    import uvloop  # clients: when they are used

    from agents.engine.security import security
    from agents.outbox.relay import Relay
    from stores.postgres import check

    settings = load()
    settings.bootstrap()
    try:
        check(settings.postgres())
        security(settings)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    where = _serve_metrics(settings.web_host, metrics_port)
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="[%(asctime)s] [%(levelname)s] %(name)s: %(message)s",
    )
    calm(*CLIENTS)
    compile_ahead("outbox")
    uvloop.run(_run(Relay, settings, where))


def _serve_metrics(host: str, port: int) -> str:
    """Where /metrics is; ClickException where the port isn't to be had."""
    if not port:
        return "no metrics (--metrics-port)"
    from prometheus_client import start_http_server

    try:
        start_http_server(port, host)
    except OSError as error:
        said = addresses.refused(error, (host, port), ("SOMA_WEB_HOST", "--metrics-port"))
        raise click.ClickException(said) from error
    return f"metrics: http://{host}:{port}/metrics"


async def _run(make: "type[Relay]", settings: "Settings", metrics: str) -> None:
    one = make(settings, told=lambda shards: say(f"soma relay: {shards}; {metrics}"))

    def stop() -> None:
        end_in()
        one.stop()

    for number in audible():
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await one.run()
