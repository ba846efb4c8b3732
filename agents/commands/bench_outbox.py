"""`soma bench outbox`: the verb and its options. The work is in ops/bench/outbox.py."""

import click

from agents.commands import benching
from agents.tools.output import say


@click.command()
@click.option("--rows", type=click.IntRange(20_000), default=200_000, show_default=True)
@benching.runs
@click.option(
    "--rate", type=click.IntRange(100), default=25_000, show_default=True,
    help="Rows per second that are added while the relay runs.",
)  # fmt: skip
@click.option("--seconds", type=click.FloatRange(2, 600), default=8.0, show_default=True)
@click.option("--parts", default="", help="Some of drain,peers,inserts,latency,idle.")
@benching.as_json
def outbox(rows: int, runs: int, rate: int, seconds: float, parts: str, as_json: bool) -> None:
    """PostgreSQL's outbox to Kafka: rate, latency, and relays as most are written beside it.

    Works in a schema of its own, dropped at the end, on the settings' PostgreSQL or one started
    for the run.

    \b
    Example:
      soma bench outbox --rows 200000 --runs 1 --parts drain,peers
    """
    from ops.bench import outbox as bench_outbox
    from ops.bench.site import on_postgres, opened
    from stores.errors import StoreDown

    chosen = benching.parts(parts, bench_outbox.PARTS)
    workload = bench_outbox.Workload(rows, runs, rate, seconds, chosen)
    try:
        with (
            benching.settings() as broker,
            on_postgres(broker, say) as settings,
            opened(settings, say) as site,
        ):
            found = bench_outbox.Outbox(site, workload).run()
    except StoreDown as error:
        raise click.ClickException(f"PostgreSQL: {error}") from error
    except bench_outbox.PeerFailedError as error:
        raise click.ClickException(str(error)) from error
    benching.finish(bench_outbox.report(workload, found), bench_outbox.as_json(found), as_json)
