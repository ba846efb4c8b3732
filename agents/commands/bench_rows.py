"""`soma bench rows|memory-events|laws|replay|control|canary|recall`: ops/bench does it."""

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


@click.command("memory-events")
@click.option("--events", type=click.IntRange(1000), default=100_000, show_default=True)
@benching.runs
@click.option("--tenants", type=click.IntRange(1), default=100, show_default=True)
@click.option("--dimension", type=click.IntRange(1, 4096), default=384, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Of the generated input.")
@benching.as_json
def memory_events(
    events: int, runs: int, tenants: int, dimension: int, seed: int, as_json: bool
) -> None:
    """Events of memories, folded into memory.latest by one worker.

    \b
    Example:
      soma bench memory-events --events 20000 --runs 1
    """
    from ops.bench import memory_events as bench_memory

    workload = bench_memory.Workload(events, runs, tenants, dimension, seed)
    with benching.site() as site:
        found = bench_memory.run(site, workload)
    benching.finish(bench_memory.report(workload, found), vars(found), as_json)


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
@click.option("--parts", default="", help="Some of config,sleep,wake,frozen.")
@click.option(
    "--changes", type=click.IntRange(1), default=200, show_default=True, help="Of each kind."
)
@click.option(
    "--rate", type=click.IntRange(1, 20_000), default=400, show_default=True,
    help="Observations per second beside them, of 8 tenants.",
)  # fmt: skip
@click.option(
    "--events", type=click.IntRange(1000), default=600_000, show_default=True,
    help="Observations of frozen tenants.",
)  # fmt: skip
@benching.runs
@benching.as_json
def control(parts: str, changes: int, rate: int, events: int, runs: int, as_json: bool) -> None:
    """How soon settings and sleep are in force, how soon traffic wakes, what the frozen cost.

    \b
    Example:
      soma bench control --parts config,sleep --changes 100
    """
    from ops.bench import control as bench_control

    workload = bench_control.Workload(
        changes, rate, events=events, runs=runs,
        parts=benching.parts(parts, bench_control.PARTS),
    )  # fmt: skip
    with benching.site() as site:
        found = bench_control.run(site, workload)
    benching.finish(bench_control.report(workload, found), bench_control.as_json(found), as_json)


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


@click.command()
@click.option("--parts", default="", help="Some of exact,large,open,foreign.")
@click.option("--rows", type=click.IntRange(1000), default=100_000, show_default=True)
@click.option("--large", type=click.IntRange(1000), default=1_000_000, show_default=True)
@click.option("--queries", type=click.IntRange(10), default=100, show_default=True)
@click.option("--searches", type=click.IntRange(100), default=100_000, show_default=True)
@benching.as_json
def recall(
    parts: str, rows: int, large: int, queries: int, searches: int, as_json: bool
) -> None:  # fmt: skip
    """Exact search in memory beside faiss, and of many tenants. Needs no broker.

    \b
    Example:
      soma bench recall --parts exact,open
    """
    from ops.bench import recall as bench_recall

    chosen = benching.parts(parts, bench_recall.PARTS)
    workload = bench_recall.Workload(
        chosen, rows, large, queries, min(queries, bench_recall.CHECKED), searches=searches
    )
    try:
        found = bench_recall.run(workload)
    except bench_recall.FailedError as error:
        raise click.ClickException(str(error)) from error
    benching.finish(bench_recall.report(found), found, as_json)


@click.command()
@click.option("--parts", default="", help="Some of join,death,standby.")
@click.option("--partitions", type=click.IntRange(2, 240), default=24, show_default=True)
@click.option("--workers", type=click.IntRange(2, 16), default=4, show_default=True)
@click.option(
    "--rows", type=click.IntRange(10_000), default=1_000_000, show_default=True, help="Of state."
)
@benching.runs
@benching.as_json
def rebalance(
    parts: str, partitions: int, workers: int, rows: int, runs: int, as_json: bool
) -> None:  # fmt: skip
    """How long partitions are silent when a worker joins, and when one is killed.

    \b
    Examples:
      soma bench rebalance
      soma bench rebalance --parts join --rows 100000 --runs 1
    """
    from ops.bench import rebalance as bench_rebalance

    chosen = benching.parts(parts, bench_rebalance.PARTS)
    workload = bench_rebalance.Workload(partitions, workers, rows, runs, parts=chosen)
    with benching.settings() as settings:
        found = bench_rebalance.run(settings, say, workload)
        table = bench_rebalance.report(workload, found, settings.session_timeout_s)
        benching.finish(table, bench_rebalance.as_json(found), as_json)
