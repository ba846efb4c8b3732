"""`soma bench rows`: the verb and its options. The work is in ops/bench/rows.py."""

import click

from agents.commands import benching


@click.command()
@click.option("--events", type=click.IntRange(1000), default=1_000_000, show_default=True)
@benching.runs
@click.option("--peers", default="", help="Some of bare,faust,quix,quix-state,kstreams,soma.")
@click.option("--tenants", type=click.IntRange(1), default=300, show_default=True)
@click.option("--kstreams-threads", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Of the generated input.")
@benching.as_json
def rows(
    events: int, runs: int, peers: str, tenants: int, kstreams_threads: int, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """A processor that is a plain Python function, and its peers on the same job.

    One row of state and one record out for each record in. Peers that aren't installed are skipped
    with a note. Slow ones fold fewer events.

    \b
    Example:
      soma bench rows --events 300000 --runs 1 --peers bare,soma
    """
    from ops.bench import rows as bench_rows
    from ops.examples.install import install

    chosen = benching.peers(peers)
    install()
    workload = bench_rows.Workload(
        events, runs, chosen, tenants, seed=seed, threads=kstreams_threads
    )
    with benching.site() as site:
        results = bench_rows.RowsPipeline(site, workload).run()
    benching.finish(bench_rows.report(workload, results), bench_rows.as_json(results), as_json)
