"""`soma bench rebalance`: how long partitions are silent when a worker joins, and when one dies.

Silent is a partition between two committed frames, while updates come to it all the time.
"""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from agents.settings import Settings
from ops.bench.filling import fill_at_once, tenant_names, update, updates
from ops.bench.report import Report, spread
from ops.bench.site import Say, Site, opened
from ops.bench.worker import Worker, WorkerError
from topics import codec
from topics.partition import partition_of

PROCESSOR, SOURCE, SINK = "integrator", "cog.predictor.updates", "cog.global.frame"
PARTS = ("join", "death", "standby")
BEFORE_S, AFTER_S = 2.0, 3.0  # of traffic around what happens, which are looked at too
BEAT_S = 0.02  # between two updates of a partition
LATE_S = 240.0
STATE_PER_TENANT = 4  # rows: three domains and the tenant's own
WANTED = {
    "join": "stay: < 300 ms", "death": "-", "standby": "session timeout + 1 s",
}  # fmt: skip
METHOD = (
    "Integrator, {partitions} partitions, {workers} workers of one group on this machine beside "
    "one broker, about {rows:,} state rows, an update every {beat:.0f} ms for each partition. "
    "Silence: the longest time between two committed frames of a partition, in a read_committed "
    "consumer's hands, from {before:.0f} s before a worker's process starts (or one gets SIGKILL) "
    "until {after:.0f} s after all partitions run. Of those that stay with their worker and of "
    "those that move apart; each row is the worst partition of each of {runs} runs: median (min - "
    "max). Session timeout {session:.0f} s. Standby: the others run with SOMA_STANDBY=1."
)


@dataclass(frozen=True)
class Workload:
    """What to run."""

    partitions: int = 24
    workers: int = 4
    rows: int = 1_000_000
    runs: int = 3
    seed: int = 1
    parts: tuple[str, ...] = PARTS


@dataclass
class Silence:
    """The longest of each run, seconds: of partitions that stay, and of those that move."""

    part: str
    stay: list[float] = field(default_factory=list)
    move: list[float] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)

    def add(self, worst: Mapping[int, float], moved: Iterable[int]) -> None:
        """One run's, by partition."""
        gone = set(moved)
        self.moved.append(len(gone))
        if stay := [seconds for partition, seconds in worst.items() if partition not in gone]:
            self.stay.append(max(stay))
        if move := [worst[partition] for partition in gone]:
            self.move.append(max(move))


def longest(seen: Mapping[int, Sequence[float]], since: float, until: float) -> dict[int, float]:
    """The longest time without a frame in a window, by partition; its ends count as frames."""
    found = {}
    for partition, times in seen.items():
        marks = [since, *(at for at in times if since < at < until), until]
        found[partition] = max(b - a for a, b in itertools.pairwise(marks))
    return found


class Traffic:
    """An update for each partition every BEAT_S, and when their frames were seen."""

    def __init__(self, site: Site, partitions: int) -> None:
        own = site.settings
        self._topic, sink = site.topic(SOURCE), site.topic(SINK)
        names = {partition_of(name, partitions): name for name in tenant_names(100 * partitions)}
        self._names = sorted(names.items())
        self._producer = Producer(own.librdkafka(linger_ms=0, enable_idempotence=True))
        self._consumer = Consumer(own.librdkafka(
            group_id="unused", enable_auto_commit=False, isolation_level="read_committed",
            fetch_queue_backoff_ms=1,
        ))  # fmt: skip
        self._consumer.assign(
            [TopicPartition(sink, p, end) for p, end in enumerate(site.broker.ends(sink))]
        )
        self._due = time.monotonic()
        self.seen: dict[int, list[float]] = {partition: [] for partition in range(partitions)}

    def step(self) -> None:
        """Send what is due, note what came."""
        if (now := time.monotonic()) >= self._due:
            self._due = now + BEAT_S
            for partition, name in self._names:
                record = update(name, "state", 0.5, time.time_ns() // 1000)
                value = codec.encode("predictor_update", record)
                self._producer.produce(self._topic, value, name.encode(), partition)
        self._producer.poll(0)
        for message in self._consumer.consume(1000, 0.002):
            if message.error() is None:
                self.seen[message.partition() or 0].append(time.monotonic())

    def until(self, what: str, over: Any, workers: Iterable[Worker]) -> None:
        """Go on until it is over. WorkerError after LATE_S."""
        began, looked = time.monotonic(), 0.0
        while True:
            self.step()
            if (now := time.monotonic()) - looked > 0.25:
                looked = now
                if over():
                    return
                for one in workers:
                    one.check()
                if now - began > LATE_S:
                    raise WorkerError(f"{what} not seen in {LATE_S:.0f} s")

    def go_on(self, seconds: float) -> None:
        """For so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.step()

    def close(self) -> None:
        """Leave the broker."""
        self._producer.flush(30.0)
        self._consumer.close()


def run(settings: Settings, say: Say, workload: Workload) -> list[Silence]:
    """Each part, so many times."""
    results = []
    for part in workload.parts:
        found = Silence(part)
        for k in range(workload.runs):
            _run(settings, say, workload, found)
            move = f"{found.move[-1]:.2f} s" if found.move else "-"
            say(f"{part}, run {k + 1}: stay {found.stay[-1]:.3f} s, move {move}")
        results.append(found)
    return results


def _run(settings: Settings, say: Say, workload: Workload, found: Silence) -> None:
    many, parts = workload.workers, workload.partitions
    tenants = max(100 * parts, workload.rows // STATE_PER_TENANT)
    env = {"SOMA_STANDBY": "1"} if found.part == "standby" else {}
    with opened(settings, say, parts) as site, ExitStack() as running:
        own = site.settings
        fill_at_once(own, site.topic(SOURCE), updates(3 * tenants, tenants, workload.seed))

        def started() -> Worker:
            return running.enter_context(Worker(own, PROCESSOR, site.folder, **env))

        each = [started() for _ in range(many)]
        _settle(site, each, parts, 3 * tenants, followed=bool(env))
        with closing(Traffic(site, parts)) as traffic:
            traffic.until("frames", lambda: all(traffic.seen.values()), each)
            traffic.go_on(BEFORE_S)
            before, since = _owners(each), time.monotonic()
            traffic.go_on(BEFORE_S)
            if found.part == "join":
                each.append(started())
            else:
                each.pop(0).kill()
            traffic.until("all partitions to run", lambda: _all_run(each, parts), each)
            traffic.go_on(AFTER_S)
            after = _owners(each)
            worst = longest(traffic.seen, since, time.monotonic())
        found.add(worst, (p for p in range(parts) if before[p] != after[p]))


def _settle(site: Site, each: Sequence[Worker], parts: int, events: int, followed: bool) -> None:
    """All is folded, each has its share, and where there are standbys they have all."""
    sink = site.topic(SINK)
    each[0].wait("the fill", lambda: sum(site.broker.ends(sink)) >= events, LATE_S)
    each[0].wait("all partitions to run", lambda: _all_run(each, parts), LATE_S)
    share = parts - parts // len(each)

    def behind() -> bool:
        lags = [
            value for one in each for name, value in one.metrics().items()
            if name.startswith("soma_standby_lag_records")
        ]  # fmt: skip
        return len(lags) >= share * len(each) and not any(lags)

    if followed:
        each[0].wait("standbys to have all", behind, LATE_S)


def _owners(each: Sequence[Worker]) -> dict[int, Worker]:
    """Who runs which partition."""
    return {int(name.rpartition("/")[2]): one for one in each for name in one.partitions()}


def _all_run(each: Sequence[Worker], parts: int) -> bool:
    states = [one.partitions() for one in each]
    return all(states) and [p for one in states for p in one.values()] == ["running"] * parts


def report(workload: Workload, results: Sequence[Silence], session_s: float) -> Report:
    """The table."""
    names = {
        "join": "one more joins", "death": "one dies", "standby": "one dies, the others stand by",
    }  # fmt: skip
    rows = [
        (
            names[one.part], spread([1e3 * s for s in one.stay]), spread(one.move, 2),
            spread(one.moved), WANTED[one.part],
        )
        for one in results
    ]  # fmt: skip
    columns = ("what happens", "silence of who stays, ms", "of who moves, s", "moved", "wanted")
    method = METHOD.format(
        beat=1e3 * BEAT_S, before=BEFORE_S, after=AFTER_S, session=session_s, **vars(workload)
    )
    return Report("rebalance", columns, rows, method)


def as_json(results: Sequence[Silence]) -> list[dict[str, Any]]:
    """The results as JSON data."""
    return [asdict(one) for one in results]
