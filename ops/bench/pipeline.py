"""`soma bench pipeline`: the integrator's job by this engine and by its peers, alternating."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.bench.broker import PARTITIONS
from ops.bench.filling import fill, updates
from ops.bench.job import Job
from ops.bench.peers import kstreams
from ops.bench.report import Report, spread
from ops.bench.site import Site
from ops.bench.worker import ROOT
from ops.bench.works import FUSION

SOURCE, SINK = "cog.predictor.updates", "cog.global.frame"
PEERS = ("bare", "faust", "quix", "quix-state", "kstreams", "soma")
TITLES = {
    "bare": "bare confluent loop, fastavro",
    "faust": "Faust, naive (agent, table, send)",
    "quix": "Quix Streams, without state",
    "quix-state": "Quix Streams, with state",
    "kstreams": "Kafka Streams 4.1, exactly once",
    "kstreams-warm": "Kafka Streams 4.1, warm half",
    "soma": "this engine, exactly once",
}
GOALS = {
    "bare": "≥ 8 ×", "faust": "≥ 150 ×", "quix-state": "≥ 30 ×", "kstreams-warm": "≥ 2.5 ×",
    "soma": "≤ 3 µs CPU",
}  # fmt: skip
COLUMNS = ("program", "events", "events/s", "CPU µs/event", "rate ratio", "wanted", "CPU ratio")
EVENTS_MAX = {"bare": 200_000, "faust": 20_000, "quix": 100_000, "quix-state": 100_000}
PEER_S = 600.0
PROBE_S = 60.0
METHOD = (
    "Every program reads the same topic ({events:,} predictor_update records, {tenants:,} tenants, "
    "{partitions} partitions, compression {compression}) from its beginning on one broker, on the "
    "same machine, in alternation, {runs} times each: median (min - max). All fold the full law "
    "with default settings and write one global_frame per record. Peers: the clock runs from the "
    "first record in hand to the last one folded. This engine: from the first commit seen on the "
    "output topic to the last (last stable offsets, sampled every 20 ms; what the first commit "
    "holds isn't counted), state, transactions and CRC checks on. CPU: the program's own process, "
    "all threads, over the same span. Slow peers fold fewer records (column events). Rate ratio: "
    "the engine's median over the program's; CPU ratio: the program's over the engine's."
)


class PeerError(Exception):
    """A peer failed; the text has the end of what it said."""


@dataclass
class Workload:
    """What to run."""

    events: int = 2_000_000
    runs: int = 3
    peers: tuple[str, ...] = PEERS
    tenants: int = 300
    compression: str = "none"
    seed: int = 1
    threads: int = 1  # of Kafka Streams

    def share(self, peer: str) -> int:
        """How many events a peer folds."""
        return min(self.events, EVENTS_MAX.get(peer, self.events))


@dataclass
class Result:
    """A peer's runs."""

    events: int
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


Results = dict[str, Result]


def quix_python() -> Path | None:
    """A Python with quixstreams: this one, or that of .venv-bench (it pins an older client)."""
    for python in (Path(sys.executable), ROOT / ".venv-bench/bin/python"):
        if python.exists():
            probe = [str(python), "-c", "import quixstreams, fastavro"]
            done = subprocess.run(probe, capture_output=True, check=False, timeout=PROBE_S)
            if done.returncode == 0:
                return python
    return None


def absent(peer: str) -> str | None:
    """Why a peer can't run here; None if it can."""
    if peer == "kstreams":
        return kstreams.absent()
    if peer.startswith("quix") and quix_python() is None:
        return "quixstreams isn't installed: `make bench` makes .venv-bench with it"
    return None


def command(job: Job, threads: int, cache: Path) -> list[str]:
    """The command line of a peer's program."""
    if job.peer == "kstreams":
        return kstreams.command(job, kstreams.build(cache), threads)
    if job.peer.startswith("quix"):
        return [str(quix_python()), "-m", "ops.bench.peers.quix"]
    module = "faust_naive" if job.peer == "faust" else job.peer
    return [sys.executable, "-m", f"ops.bench.peers.{module}"]


def run_peer(job: Job, threads: int, cache: Path) -> dict[str, float]:
    """Run a peer's program to its end; returns the numbers of its JSON line."""
    done = subprocess.run(
        command(job, threads, cache), cwd=ROOT, env=job.env(), capture_output=True, text=True,
        timeout=PEER_S, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"peer"')]
    if done.returncode or not lines:
        said = (done.stdout + done.stderr)[-2000:]
        raise PeerError(f"{job.peer} ended with {done.returncode}:\n{said}")
    return {k: v for k, v in json.loads(lines[-1]).items() if k != "peer"}


class Pipeline:
    """One run set on one broker."""

    work, processor, source_name, sink_name = FUSION, "integrator", SOURCE, SINK
    environment: Mapping[str, str] = {}  # of our worker

    def __init__(self, site: Site, workload: Workload) -> None:
        self.site, self.workload = site, workload
        self.source = site.topic(self.source_name)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """What the topic is filled with."""
        return updates(self.workload.events, self.workload.tenants, self.workload.seed)

    def run(self) -> Results:
        """Fill the topic, and run every peer that is here, alternating."""
        workload = self.workload
        self.site.say(f"filling {self.source} with {workload.events:,} events")
        fill(self.site.settings, self.source, self.records(), workload.compression)
        here = [peer for peer in workload.peers if absent(peer) is None]
        results = {peer: Result(workload.share(peer)) for peer in here}
        for k in range(workload.runs):
            for peer in here:
                self._once(peer, k, results)
        return {peer: results[peer] for peer in TITLES if peer in results}

    def _once(self, peer: str, k: int, results: Results) -> None:
        measured = self._engine(k) if peer == "soma" else self._peer(peer, k)
        result = results[peer]
        result.rates.append(measured["events_per_s"])
        result.cpu_us.append(measured["cpu_us_per_event"])
        if "warm_events_per_s" in measured:
            warm = results.setdefault("kstreams-warm", Result(result.events // 2))
            warm.rates.append(measured["warm_events_per_s"])
            warm.cpu_us.append(measured["warm_cpu_us_per_event"])
        self.site.say(
            f"run {k + 1}, {TITLES[peer]}: {measured['events_per_s']:,.0f} events/s, "
            f"{measured['cpu_us_per_event']:.2f} µs CPU per event"
        )

    def _peer(self, peer: str, k: int) -> dict[str, float]:
        site = self.site
        name = f"{site.settings.namespace}-{peer}-{k}"
        sink = f"{name}.out"
        site.broker.create(sink)
        job = Job(
            peer, name, site.settings.bootstrap(), self.source, sink,
            site.broker.id_prefix(self.source), self.workload.share(peer), PARTITIONS,
            str(site.folder / name), self.work,
        )  # fmt: skip
        Path(job.folder).mkdir()
        return run_peer(job, self.workload.threads, site.settings.home / "bench")

    def _engine(self, k: int) -> dict[str, float]:
        if k:
            self.site.forget(self.source_name)
        rate = self.site.measure(
            self.processor, self.sink_name, self.workload.events, **self.environment
        )
        return {"events_per_s": rate.events_per_s, "cpu_us_per_event": rate.cpu_us_per_event}


def ratio(results: Results, peer: str) -> float | None:
    """The engine's median rate over a peer's; None if one of them is absent."""
    if "soma" not in results or peer not in results:
        return None
    mine, other = (statistics.median(results[p].rates) for p in ("soma", peer))
    return mine / other


def cpu_ratio(results: Results, peer: str) -> float | None:
    """A peer's median CPU time per event over the engine's; None if one of them is absent."""
    if "soma" not in results or peer not in results:
        return None
    mine, other = (statistics.median(results[p].cpu_us) for p in ("soma", peer))
    return other / mine if mine else None


def report(
    workload: Workload, results: Results, goals: Mapping[str, str] = GOALS, title: str = "pipeline",
    method: str = METHOD,
) -> Report:  # fmt: skip
    """The table of a run set."""
    rows = []
    for peer, result in results.items():
        times, cpu_times = ratio(results, peer), cpu_ratio(results, peer)
        beside = peer != "soma"
        rows.append((
            TITLES[peer], f"{result.events:,}", spread(result.rates), spread(result.cpu_us, 2),
            f"{times:,.1f} ×" if times and beside else "",
            goals.get(peer, ""),
            f"{cpu_times:,.1f} ×" if cpu_times and beside else "",
        ))  # fmt: skip
    notes = [f"{TITLES[p]}: skipped, {why}" for p in workload.peers if (why := absent(p))]
    if "kstreams" in results:
        notes.append(f"Kafka Streams: {workload.threads} stream thread(s), commit every second")
    return Report(
        title if workload.compression == "none" else f"{title} ({workload.compression})",
        COLUMNS,
        rows,
        method.format(partitions=PARTITIONS, **vars(workload)),
        notes,
    )  # fmt: skip


def as_json(results: Results) -> dict[str, object]:
    """The results as JSON data."""
    return {
        peer: vars(result)
        | {"soma_times": ratio(results, peer), "cpu_times": cpu_ratio(results, peer)}
        for peer, result in results.items()
    }


def parse_peers(text: str) -> tuple[str, ...]:
    """'bare,soma' → peers in the order of `PEERS`; ValueError names what there isn't."""
    asked: Sequence[str] = [name.strip() for name in text.split(",") if name.strip()]
    if wrong := [name for name in asked if name not in PEERS]:
        raise ValueError(f"no peer {', '.join(wrong)}; there are {', '.join(PEERS)}")
    return tuple(name for name in PEERS if name in asked)
