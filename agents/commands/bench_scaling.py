"""`soma bench scaling`: the verb and its options. The work is in ops/bench/scaling.py."""

import click

from agents.commands import benching
from agents.tools.output import say

SMALLEST, LARGEST = 50, 130_000  # bytes of an observation: of one number, and of the most


@click.command()
@click.option("--parts", default="", help="Some of tenants,workers,domains,sizes.")
@click.option(
    "--tenants", type=click.IntRange(1000, 10_000_000), default=1_000_000, show_default=True,
    help="How many one worker has; three domains each.",
)  # fmt: skip
@click.option(
    "--events", type=click.IntRange(10_000), default=1_000_000, show_default=True,
    help="How many updates the parts with workers and domains have.",
)  # fmt: skip
@click.option("--workers", default="1,2,4", show_default=True, help="Each divides 24.")
@click.option("--sizes", default="100,1000,10000,100000", show_default=True, help="In bytes.")
@benching.runs
@click.option("--seed", default=1, show_default=True, help="Of the generated input.")
@benching.as_json
def scaling(
    parts: str, tenants: int, events: int, workers: str, sizes: str, runs: int, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """A million tenants, 24 partitions on several workers, 16 domains, records up to 100 kB.

    Each part is a section of RESULTS.md by itself; that of sizes has a plot beside it. All of it
    takes about ten minutes, most of them for the tenants.

    \b
    Examples:
      soma bench scaling --parts sizes
      soma bench scaling --parts tenants --tenants 100000 --runs 1
    """
    from ops.bench import scaling as bench_scaling
    from ops.bench.scaling_workers import PARTITIONS

    chosen = benching.parts(parts, bench_scaling.PARTS)
    many = benching.numbers(
        workers,
        "--workers",
        f"numbers that divide {PARTITIONS}",
        lambda n: n > 0 and PARTITIONS % n == 0,
    )
    large = benching.numbers(
        sizes, "--sizes", f"sizes from {SMALLEST} to {LARGEST:,} bytes",
        lambda n: SMALLEST <= n <= LARGEST,
    )  # fmt: skip
    workload = bench_scaling.Workload(tenants, events, runs, large, many, seed)
    data: dict[str, object] = {}
    with benching.settings() as settings:
        reports = bench_scaling.run(settings, say, workload, chosen, data)
        benching.finish_all(reports, data, as_json)
