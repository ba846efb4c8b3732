"""`soma bench rho`: the verb and its options. The work is in ops/bench/rho.py."""

import click

from agents.commands import benching
from agents.settings import load
from agents.tools.output import say


@click.command()
@click.option("--dimension", type=click.IntRange(1, 1024), default=512, show_default=True)
@click.option("--readers", type=click.IntRange(1, 32), default=2, show_default=True)
@click.option("--writers", default="0,2", show_default=True, help="Numbers of them, in turn.")
@click.option(
    "--rate", type=click.FloatRange(0, 10_000), default=20.0, show_default=True,
    help="Reads per second, of all readers; 0: each asks when it has the last answer.",
)  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1, 600), default=10.0, show_default=True)
@benching.as_json
def rho(
    dimension: int, readers: int, writers: str, rate: float, seconds: float, as_json: bool
) -> None:
    """Reads of density matrices by HTTP, while others are committed.

    On the settings' PostgreSQL and Redis, in a schema of its own, or on servers started for the
    run.

    \b
    Example:
      soma bench rho --dimension 512 --writers 0,2,4
    """
    from ops.bench import rho as bench_rho
    from ops.bench.site import on_stores
    from ops.stack import StackError
    from stores.errors import StoreError

    wanted = "numbers of writers, 0 to 8"
    chosen = benching.numbers(writers, "--writers", wanted, lambda n: n <= bench_rho.WRITERS_MAX)
    workload = bench_rho.Workload(dimension, readers, chosen, rate, seconds)
    try:
        with on_stores(load(), say) as settings:
            found = bench_rho.run(settings, workload, say)
    except (StackError, StoreError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    benching.finish(bench_rho.report(workload, found), bench_rho.as_json(found), as_json)
