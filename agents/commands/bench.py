"""`soma bench`: measure this engine beside its peers. The verbs' work is in ops/bench."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from agents.commands import benching
from agents.commands.bench_outbox import outbox
from agents.commands.bench_retrieval import retrieval
from agents.commands.bench_rho import rho
from agents.commands.bench_rows import (
    canary,
    control,
    laws,
    memory_events,
    rebalance,
    recall,
    replay,
    rows,
)
from agents.commands.bench_scaling import scaling
from agents.tools.output import say

_json = benching.as_json
_seed = click.option("--seed", default=1, show_default=True, help="Of the generated input.")
_runs = benching.runs
_tenants = click.option("--tenants", type=click.IntRange(1), default=300, show_default=True)
_COMPRESSIONS = ("none", "lz4", "zstd", "snappy", "gzip")


def _events(default: int) -> Any:
    return click.option(
        "--events", type=click.IntRange(1000), default=default, show_default=True,
        help="How many the topic is filled with.",
    )  # fmt: skip


@click.group()
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure this engine beside its peers, on the broker of the settings or one of its own.

    Each verb works in a namespace of its own, deletes its topics at the end, and rewrites its
    section of ops/bench/RESULTS.md.
    """
    ctx.obj = os.getloadavg()[0]


@bench.command()
@_events(2_000_000)
@_runs
@click.option("--peers", default="", help="Some of bare,faust,quix,quix-state,kstreams,soma.")
@_tenants
@click.option("--compression", type=click.Choice(_COMPRESSIONS), default="none", show_default=True)
@click.option("--kstreams-threads", type=click.IntRange(1, 16), default=1, show_default=True)
@_seed
@_json
def pipeline(
    events: int, runs: int, peers: str, tenants: int, compression: str, kstreams_threads: int,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Predictor updates to frames: this engine, and its peers on the same job.

    Peers that aren't installed are skipped with a note. Slow ones fold fewer events.

    \b
    Example:
      soma bench pipeline --events 600000 --runs 1 --peers bare,soma
    """
    from ops.bench import pipeline as bench_pipeline

    chosen = benching.peers(peers)
    workload = bench_pipeline.Workload(
        events, runs, chosen, tenants, compression, seed, kstreams_threads
    )
    with benching.site() as site:
        results = bench_pipeline.Pipeline(site, workload).run()
    benching.finish(
        bench_pipeline.report(workload, results), bench_pipeline.as_json(results), as_json
    )


@bench.command()
@click.option("--tenants", type=click.IntRange(1), default=100_000, show_default=True)
@_runs
@_seed
@_json
def recovery(tenants: int, runs: int, seed: int, as_json: bool) -> None:
    """How quickly a fresh worker reads a large state back.

    \b
    Example:
      soma bench recovery --tenants 100000
    """
    from ops.bench import recovery as bench_recovery

    with benching.site() as site:
        result = bench_recovery.run(site, tenants, runs, seed)
    data = {**vars(result), "runs": [{**vars(r), "rows_per_s": r.rows_per_s} for r in result.runs]}
    benching.finish(bench_recovery.report(result), data, as_json)


@bench.command()
@click.option("--rates", default="50,1000,5000", show_default=True, help="Events per second.")
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True)
@_json
def latency(rates: str, seconds: float, as_json: bool) -> None:
    """From produce to the committed frame, beside a bare transactional loop; and idle CPU.

    \b
    Example:
      soma bench latency --rates 50,1000 --seconds 10
    """
    from ops.bench import latency as bench_latency

    chosen = benching.numbers(rates, "--rates", "rates of 1 a second and more", lambda n: n > 0)
    with benching.site() as site:
        found, idle = bench_latency.run(site, chosen, seconds)
    table = bench_latency.report(found, idle, seconds)
    benching.finish(table, bench_latency.as_json(found, idle), as_json)


@bench.command()
@_events(1_000_000)
@_runs
@_tenants
@click.option("--dim", type=click.IntRange(1, 4096), default=16, show_default=True)
@_seed
@_json
def predictors(events: int, runs: int, tenants: int, dim: int, seed: int, as_json: bool) -> None:
    """Observations to predictor updates.

    \b
    Example:
      soma bench predictors --events 600000 --dim 16
    """
    from ops.bench import predictors as bench_predictors

    with benching.site() as site:
        rates = bench_predictors.run(site, events, runs, tenants, dim, seed)
    benching.finish(
        bench_predictors.report(rates, events, tenants, dim), benching.rates(rates), as_json
    )


@bench.command()
@_events(1_000_000)
@_runs
@_tenants
@click.option("--dim", type=click.IntRange(1, 4096), default=16, show_default=True)
@click.option(
    "--rate",
    type=click.IntRange(1, 20_000),
    default=1000,
    show_default=True,
    help="Observations per second while the latency is measured.",
)
@click.option("--seconds", type=click.FloatRange(1, 3600), default=20.0, show_default=True)
@click.option("--parts", default="", help="Some of chain,segmentation,latency.")
@_seed
@_json
def chain(
    events: int, runs: int, tenants: int, dim: int, rate: int, seconds: float, parts: str,
    seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Observations through all three processors of one worker, and how late boundaries are.

    \b
    Example:
      soma bench chain --events 600000 --runs 1 --parts chain,segmentation
    """
    from ops.bench import chain as bench_chain

    chosen = benching.parts(parts, bench_chain.PARTS)
    workload = bench_chain.Workload(events, runs, tenants, dim, seed, rate, seconds, chosen)
    with benching.site() as site:
        result = bench_chain.Chain(site, workload).run()
    benching.finish(bench_chain.report(workload, result), bench_chain.as_json(result), as_json)


@bench.command()
@_events(1_000_000)
@_runs
@_tenants
@click.option("--cases", default="", help="Some of straight,json,bad,control,one-tenant,misrouted.")
@_seed
@_json
def odd(events: int, runs: int, tenants: int, cases: str, seed: int, as_json: bool) -> None:
    """What odd records, one tenant with all the traffic, and misrouting cost.

    \b
    Example:
      soma bench odd --cases straight,json --runs 1
    """
    from ops.bench import odd as bench_odd

    chosen = cases.split(",") if cases else list(bench_odd.CASES)
    if wrong := sorted(set(chosen) - set(bench_odd.CASES)):
        known = ", ".join(bench_odd.CASES)
        raise click.BadParameter(f"no {', '.join(wrong)}; there are {known}", param_hint="--cases")
    with benching.settings() as settings:
        found = bench_odd.run(settings, say, events, runs, tenants, chosen, seed)
    data = {name: benching.rates(rates) for name, rates in found.items()}
    benching.finish(bench_odd.report(found, events, tenants), data, as_json)


@bench.command()
@click.option("--tenants", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--minutes", type=click.FloatRange(0.2), default=10.0, show_default=True)
@_seed
@_json
def memory(tenants: int, minutes: float, seed: int, as_json: bool) -> None:
    """A worker's resident memory under full load.

    \b
    Example:
      soma bench memory --tenants 100000 --minutes 10
    """
    from ops.bench import memory as bench_memory

    with benching.site() as site:
        samples = bench_memory.run(site, tenants, minutes, seed)
    data = [vars(sample) for sample in samples]
    benching.finish(bench_memory.report(samples, tenants, minutes), data, as_json)


@bench.command()
@click.option("--rounds", type=click.IntRange(1000), default=10_000, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@_json
def fusion(rounds: int, seeds: int, as_json: bool) -> None:
    """The regret of the fusion laws on known streams, with a plot. Needs no broker.

    \b
    Example:
      soma bench fusion --rounds 10000 --seeds 5
    """
    from ops.bench import fusion as bench_fusion

    found = bench_fusion.run(rounds, seeds)
    benching.finish(bench_fusion.report(found), found, as_json)


@bench.command()
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--seconds", type=click.IntRange(10), default=180, show_default=True, help="Of each stream."
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A recorded machine as CSV (second,tenant,domain,v0,…) instead of the one that ships.",
)
@_json
def learning(seeds: int, seconds: int, data: Path | None, as_json: bool) -> None:
    """Regret with the loop of learning closed and open, with a plot. Needs no broker.

    \b
    Example:
      soma bench learning --seeds 20
    """
    from ops.bench import learning as bench_learning

    try:
        found = bench_learning.run(seeds, seconds, data)
    except ValueError as error:
        raise click.ClickException(f"{data}: {error}") from None
    benching.finish(bench_learning.report(found), found, as_json)


@bench.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder in the format of the Turing Change Point Dataset, with annotations.json.",
)
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--points",
    type=click.IntRange(10_000),
    default=100_000,
    show_default=True,
    help="Of the endless stream.",
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a PNG.")
@click.option("--show", is_flag=True, help="Plot in the terminal.")
@_json
def segmentation(
    data: Path | None, seeds: int, points: int, plot: Path | None, show: bool, as_json: bool,
) -> None:  # fmt: skip
    """Change-point laws on annotated series and on streams of known changes. Needs no broker.

    Beside this engine's laws: no change at all, ruptures' binary segmentation (which sees the whole
    series first) and river's ADWIN, where they are installed.

    \b
    Examples:
      soma bench segmentation
      soma bench segmentation --data TCPD --plot segments.png
    """
    from agents.tools import pictures
    from ops.bench import segmentation as bench_segmentation

    found: dict[str, Any] = {}
    reports = []
    try:
        if data is not None:
            found["annotated"] = bench_segmentation.on_data(data, say)
            reports.append(bench_segmentation.data_report(found["annotated"]))
        drawn = bench_segmentation.panels(data) if plot or show else []
        if plot is not None:
            pictures.save_png(drawn, plot)
        if show:
            click.echo(pictures.terminal(drawn, sys.stderr.isatty()), err=True)
    except (ValueError, OSError, pictures.NoPicturesError) as error:
        raise click.ClickException(str(error)) from error
    found["known"] = bench_segmentation.on_streams(seeds, points, say)
    reports.append(bench_segmentation.stream_report(found["known"]))
    benching.finish_all(reports, found, as_json)


@bench.command()
@click.option("--samples", type=click.IntRange(400, 1_000_000), default=5000, show_default=True)
@click.option("--predictor", type=click.Choice(["heat", "persistence", "mahal"]), default="heat")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a PNG here.")
@_seed
@_json
def calibration(samples: int, predictor: str, plot: Path | None, seed: int, as_json: bool) -> None:
    """How often confidences come true, before and after calibration. Needs no broker.

    \b
    Example:
      soma bench calibration --plot reliability.png
    """
    from ops.bench import calibration as bench_calibration
    from ops.bench import reliability

    found = bench_calibration.run(samples, seed, predictor)
    if plot is not None:
        try:
            reliability.picture(found, plot)
        except ImportError as error:
            text = "a PNG needs matplotlib: pip install 'soma-stream[quality]'"
            raise click.ClickException(text) from error
        except OSError as error:
            raise click.ClickException(f"can't write {plot}: {error.strerror}") from error
    if not as_json:
        for one in found[:4]:
            click.echo(reliability.terminal(one))
    table = bench_calibration.report(found, samples, predictor, plot)
    benching.finish(table, bench_calibration.as_json(found), as_json)


@bench.command()
@click.option("--seeds", type=click.IntRange(1, 100), default=9, show_default=True)
@_json
def scales(seeds: int, as_json: bool) -> None:
    """What one odd observation does to the unit of an error, by three laws. Needs no broker.

    \b
    Example:
      soma bench scales
    """
    from ops.bench import scales as bench_scales

    found = bench_scales.run(seeds)
    benching.finish(bench_scales.report(found, seeds), bench_scales.as_json(found), as_json)


@bench.command()
@click.option("--backlog", type=click.IntRange(1000), default=200_000, show_default=True)
@click.option("--rate", type=click.IntRange(100), default=25_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(2), default=20.0, show_default=True)
@click.option("--tenants", type=click.IntRange(1), default=1000, show_default=True)
@_json
def projections(backlog: int, rate: int, seconds: float, tenants: int, as_json: bool) -> None:
    """Frames into PostgreSQL: the history's rate, and how fresh the last of each tenant is.

    Works in a schema of its own, dropped at the end, on the settings' PostgreSQL.

    \b
    Example:
      soma bench projections --rate 25000 --seconds 20
    """
    from ops.bench import projections as bench_projections
    from stores.errors import StoreDown

    try:
        with benching.site() as site:
            found = bench_projections.run(site, backlog, tenants, rate, seconds)
    except StoreDown as error:
        raise click.ClickException(f"PostgreSQL: {error}") from error
    table = bench_projections.report(found, backlog, tenants, rate, seconds)
    benching.finish(table, vars(found), as_json)


bench.add_command(outbox)
bench.add_command(rows)
bench.add_command(memory_events)
bench.add_command(canary)
bench.add_command(control)
bench.add_command(laws)
bench.add_command(rebalance)
bench.add_command(recall)
bench.add_command(replay)
bench.add_command(retrieval)
bench.add_command(rho)
bench.add_command(scaling)
