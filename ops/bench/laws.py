"""`soma bench laws`: how late a row processor is beside predictors, what a slow law holds up."""

import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from agents.settings import Settings
from ops.bench.filling import fill, fill_at_once, observations, tenant_names
from ops.bench.probe import NUMBERS, TENANTS, WARM_S, Latencies, Probe, an_observation
from ops.bench.report import Report, spread
from ops.bench.site import Say, Site, opened
from ops.bench.worker import Worker
from ops.examples import COUNTS, WEIGHTS
from ops.examples.install import ENVIRONMENT
from topics import codec
from topics.partition import partition_of

PARTS = ("latency", "slow")
SOURCE = "cog.observations"
SINKS = {"predictors": "cog.predictor.updates", "counting": COUNTS}
SLOW, TAKES_US = "weighing", 1000
BESIDE_RATE = 1000  # of the others' records, while one tenant's law is slow
LOOK_S = 0.05
SHOWN = (50, 95, 99, 100)  # percentiles
FIRST_S = 30.0  # within which a first commit must be seen
LATENCY = (
    "Latency: {rate:,} observations of {numbers} numbers a second, {tenants} tenants, "
    "{seconds:.0f} s after {warm:.0f} s that don't count, predictors (heat) and a row processor "
    "(ops/examples/counting.py) in turns, each in a worker of its own; from just before produce() "
    "to the committed output in a read_committed consumer's hands, one clock in one process. "
    "{runs} runs: median (min - max) of their percentiles."
)
SLOW_METHOD = (
    "Slow law: ops/examples/weighing.py takes {ms:g} ms for each record of one tenant, whose "
    "{events:,} observations become visible at once; from then until the first commit is seen in "
    "its partition of the output (every {look:.0f} ms). Beside it {beside:,} observations a second "
    "of tenants of the other three partitions, {seconds:.0f} s; before that as many without it. "
    "/ready is asked as often as commits are looked for."
)


@dataclass(frozen=True)
class Workload:
    """What to run."""

    rate: int = 5000
    seconds: float = 10.0
    runs: int = 3
    seed: int = 1
    parts: tuple[str, ...] = PARTS
    warm_s: float = WARM_S

    @property
    def backlog(self) -> int:
        """The slow tenant's records: more than it can do in the time."""
        return int(2 * self.seconds * 1e6 / TAKES_US)


@dataclass
class Slow:
    """What one slow law held up, and what not."""

    first_s: float = 0.0  # to its first commit
    alone: Latencies = field(default_factory=lambda: Latencies(SLOW, BESIDE_RATE))
    beside: Latencies = field(default_factory=lambda: Latencies(SLOW, BESIDE_RATE))
    asked: int = 0  # /ready
    ready: int = 0  # answers that said so
    slowest_ms: float = 0.0  # of the answers


@dataclass
class Result:
    """All runs."""

    latency: dict[str, list[Latencies]] = field(default_factory=lambda: {n: [] for n in SINKS})
    slow: list[Slow] = field(default_factory=list)


def run(settings: Settings, say: Say, workload: Workload) -> Result:
    """All parts that the workload asks for; the examples are installed."""
    result = Result()
    for _ in range(workload.runs):
        for name in SINKS if "latency" in workload.parts else ():
            with opened(settings, say) as site:
                result.latency[name].append(latency(site, workload, name))
        if "slow" in workload.parts:
            with opened(settings, say) as site:
                result.slow.append(slow(site, workload))
    return result


def latency(site: Site, workload: Workload, name: str) -> Latencies:
    """One processor's, in a worker of its own."""
    found = Latencies(name, workload.rate)
    with Worker(site.settings, name, site.folder, **ENVIRONMENT) as worker:
        worker.ready()
        source, sink = site.topic(SOURCE), site.topic(SINKS[name])
        with closing(Probe(site, source, sink, an_observation)) as probe:
            probe.measure(found, workload.seconds, workload.warm_s)
    site.say(f"{name}, {workload.rate:,}/s: p99 {found.at(99):.1f} ms")
    return found


class Watch(threading.Thread):
    """Looks at /ready and at one partition's commits, while others are measured."""

    def __init__(self, site: Site, worker: Worker, home: int, found: Slow) -> None:
        super().__init__(name="watch", daemon=True)
        self._site, self._worker, self._home, self._found = site, worker, home, found
        self._over, self._since = threading.Event(), self._end()
        self.failure: Exception | None = None

    def _end(self) -> int:
        return self._site.broker.ends(self._site.topic(WEIGHTS))[self._home]

    def run(self) -> None:
        try:
            self._look(time.monotonic())
        except Exception as error:  # raised again where the figures are taken
            self.failure = error

    def _look(self, start: float) -> None:
        found = self._found
        while not self._over.wait(LOOK_S):
            now = time.monotonic()
            if not found.first_s and self._end() > self._since:
                found.first_s = now - start
            if not found.first_s and now - start > FIRST_S:
                raise TimeoutError(f"no commit of the slow law within {FIRST_S:.0f} s")
            began = time.monotonic()
            status, _ = self._worker.page("/ready")
            found.slowest_ms = max(found.slowest_ms, 1e3 * (time.monotonic() - began))
            found.asked += 1
            found.ready += status == 200

    def stop(self) -> None:
        """Stop, once a commit was seen; raise what went wrong."""
        while self.is_alive() and not self._found.first_s:
            time.sleep(LOOK_S)
        self._over.set()
        self.join(FIRST_S)
        if self.is_alive():
            raise TimeoutError(f"/ready doesn't answer for {FIRST_S:g} s")
        if self.failure is not None:
            raise self.failure


def slow(site: Site, workload: Workload) -> Slow:
    """One tenant's law is slow, the others' isn't."""
    found = Slow()
    names = tenant_names(TENANTS)
    home = partition_of(names[0], site.broker.partitions)
    others = [name for name in names if partition_of(name, site.broker.partitions) != home]
    elsewhere = [p for p in range(site.broker.partitions) if p != home]
    source, sink = site.topic(SOURCE), site.topic(WEIGHTS)
    with Worker(site.settings, SLOW, site.folder, **ENVIRONMENT) as worker:
        worker.ready()
        with closing(Probe(site, source, sink, an_observation, others, elsewhere)) as probe:
            probe.measure(found.alone, workload.seconds, workload.warm_s)
            fill(site.settings, source, iter([(names[0].encode(), slow_down(names[0]))]))
            watch = Watch(site, worker, home, found)
            backlog = observations(workload.backlog, 1, workload.seed, NUMBERS, 1)
            fill_at_once(site.settings, source, backlog)
            watch.start()
            probe.measure(found.beside, workload.seconds, 0.0)
            watch.stop()
    site.say(
        f"slow law: first commit after {found.first_s:.2f} s, others' p99 "
        f"{found.alone.at(99):.1f} ms without and {found.beside.at(99):.1f} ms beside it"
    )
    return found


def slow_down(tenant: str) -> bytes:
    """The control record that makes a tenant's law slow."""
    return codec.encode("control_setting", {
        "tenant": tenant, "setting": "takes_us", "value": str(TAKES_US), "author": "bench",
        "ts": time.time_ns() // 1000, "processor": SLOW,
    })  # fmt: skip


def _percentiles(found: Sequence[Latencies], percent: float) -> list[float]:
    return [one.at(percent) for one in found]


def report(workload: Workload, result: Result) -> Report:
    """The table."""
    rows, method = [], []
    if "latency" in workload.parts:
        p99 = {name: _percentiles(found, 99) for name, found in result.latency.items()}
        for name, title in (("predictors", "predictors"), ("counting", "row processor")):
            for q in (50, 99):
                what = f"{title}, {workload.rate:,}/s: p{q}, ms"
                rows.append((what, spread(_percentiles(result.latency[name], q), 1), ""))
        times = statistics.median(p99["counting"]) / statistics.median(p99["predictors"])
        rows.append(("row processor's p99 / predictors'", f"{times:.2f} ×", "≤ 1 ×"))
        method.append(
            LATENCY.format(tenants=TENANTS, numbers=NUMBERS, warm=workload.warm_s, **vars(workload))
        )
    if "slow" in workload.parts:
        rows += _slow_rows(result.slow)
        method.append(SLOW_METHOD.format(
            ms=TAKES_US / 1000, events=workload.backlog, look=1e3 * LOOK_S, beside=BESIDE_RATE,
            seconds=workload.seconds,
        ))  # fmt: skip
    return Report("laws", ("what", "measured", "wanted"), rows, " ".join(method))


def _slow_rows(found: Sequence[Slow]) -> list[tuple[str, str, str]]:
    asked, ready = sum(one.asked for one in found), sum(one.ready for one in found)
    alone, beside = (
        spread(_percentiles([getattr(one, name) for one in found], 99), 1)
        for name in ("alone", "beside")
    )
    return [
        ("slow law: first commit after, s", spread([one.first_s for one in found], 2), "≤ 1"),
        ("  others' p99 without it, ms", alone, ""),
        ("  others' p99 beside it, ms", beside, ""),
        ("  /ready said so", f"{ready:,} of {asked:,} times", "always"),
        ("  its slowest answer, ms", spread([one.slowest_ms for one in found]), ""),
    ]


def as_json(result: Result) -> dict[str, Any]:
    """The results as JSON data; of latencies the percentiles."""
    return {
        "latency": {
            name: [one.percentiles(*SHOWN) for one in runs] for name, runs in result.latency.items()
        },
        "slow": [
            asdict(one)
            | {name: getattr(one, name).percentiles(*SHOWN) for name in ("alone", "beside")}
            for one in result.slow
        ],
    }
