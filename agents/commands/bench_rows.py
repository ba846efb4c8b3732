"""`soma bench rows`, `laws`, `replay` and `canary`: verbs and options. The work is in ops/bench."""

from dataclasses import asdict
from typing import Any

import click

from agents.commands import benching
from agents.tools.output import say


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


@click.command()
@click.option("--parts", default="", help="Some of latency,slow.")
@click.option(
    "--rate", type=click.IntRange(1, 20_000), default=5000, show_default=True,
    help="Observations per second while the latency is measured.",
)  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1, 600), default=10.0, show_default=True)
@benching.runs
@benching.as_json
def laws(parts: str, rate: int, seconds: float, runs: int, as_json: bool) -> None:
    """How late a plain Python function is beside predictors, and what a slow one holds up.

    Slow: a millisecond a record, for one tenant; looked at are its first commit, the latency of
    other partitions, and /ready.

    \b
    Example:
      soma bench laws --rate 5000 --seconds 10
    """
    from ops.bench import laws as bench_laws
    from ops.examples.install import install

    workload = bench_laws.Workload(
        rate, seconds, runs, parts=benching.parts(parts, bench_laws.PARTS)
    )
    install()
    with benching.settings() as settings:
        found = bench_laws.run(settings, say, workload)
    benching.finish(bench_laws.report(workload, found), bench_laws.as_json(found), as_json)


@click.command()
@click.option("--parts", default="", help="Some of rebuild,beside,rebuilding.")
@click.option(
    "--events", type=click.IntRange(1000), default=2_000_000, show_default=True,
    help="Updates that are folded live, and anew.",
)  # fmt: skip
@click.option("--tenants", type=click.IntRange(1), default=1_000, show_default=True)
@click.option(
    "--rate", type=click.IntRange(1, 20_000), default=1_000, show_default=True,
    help="Observations per second while the latency is measured.",
)  # fmt: skip
@click.option(
    "--throttle", type=click.IntRange(1), default=5_000, show_default=True,
    help="Records per second that the job beside them may send.",
)  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1, 600), default=10.0, show_default=True)
@benching.runs
@benching.as_json
def replay(as_json: bool, parts: str, **given: Any) -> None:
    """How quickly a state is folded anew, and what live traffic feels of a replay job.

    Beside the job, and beside a rebuild at SOMA_REPLAY_RATE: the latency of live records, and how
    soon a pause is in force.

    \b
    Example:
      soma bench replay --events 10000000 --runs 1
    """
    from ops.bench import replay as bench_replay

    workload = bench_replay.Workload(parts=benching.parts(parts, bench_replay.PARTS), **given)
    with benching.settings() as settings:
        found = bench_replay.run(settings, say, workload)
    benching.finish(bench_replay.report(workload, found), bench_replay.as_json(found), as_json)


@click.command()
@click.option("--runs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seconds", type=click.IntRange(5), default=30, show_default=True, help="Of data.")
@click.option(
    "--quiet-seconds", type=click.IntRange(5), default=120, show_default=True,
    help="Of data, where the setting changes nothing.",
)  # fmt: skip
@benching.as_json
def canary(runs: int, seconds: int, quiet_seconds: int, as_json: bool) -> None:
    """How soon a setting that harms is taken back, how often one that doesn't. Needs no broker.

    \b
    Example:
      soma bench canary --runs 20
    """
    from ops.bench import canary as bench_canary

    found = bench_canary.run(runs, seconds, quiet_seconds, say)
    data = {kind: [asdict(one) for one in each] for kind, each in found.items()}
    benching.finish(bench_canary.report(found), data, as_json)
