"""`soma bench control`: how soon settings and sleep are in force, and what a frozen tenant costs.

A change is published to its topic; in force it is with the first frame of an update that stands
behind its control record, and that frame is what is waited for, committed.
"""

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from agents.kit.asleep import ACTIVE, FREEZE, LIGHT, STATES
from ops.bench.broker import PARTITIONS
from ops.bench.chain import follow
from ops.bench.commits import Rate
from ops.bench.filling import fill, observations, tenant_names
from ops.bench.probe import NUMBERS, Latencies, an_observation
from ops.bench.report import Report, spread
from ops.bench.site import Site
from ops.bench.worker import Worker
from topics import codec
from topics.partition import partition_of

PROCESSORS = "predictors,integrator,control,sleep"
OBSERVATIONS, UPDATES, FRAMES = "cog.observations", "cog.predictor.updates", "cog.global.frame"
CHANGES, REQUESTS = "cog.config.updates", "brain.sleep.requests"
STATE = "soma.predictors.state"
PARTS = ("config", "sleep", "wake", "frozen")
WARM = 20  # changes at the beginning: not counted
EACH_S = 0.1  # between two changes
WAKE_PER_S = 50  # observations of a tenant that is to be woken
LATE_S = 30.0  # without an answer
SETTLE_S = 0.5  # from a tenant's freezing to the first observation after it
FROZEN_TENANTS = 300
WANTED = {
    "config": "p99 ≤ 500 ms", "sleep": "p99 ≤ 500 ms", "wake": "p99 ≤ 200 ms", "frozen": "≥ 5 ×",
}  # fmt: skip
METHOD = (
    "One worker with predictors, integrator, control and sleep, {rate:,} observations/s of "
    f"{NUMBERS} numbers of {{tenants}} tenants beside it, {PARTITIONS} partitions. {{changes}} "
    "changes of each kind, {each:.1f} s after one another, after {warm} that don't count. From "
    "just before produce() of the change (of a wake: of the observation) to its control record, "
    "and to the first frame of an update behind that record, committed, in a read_committed "
    "consumer's hands, by one clock in one process. Who is woken has {wake} observations/s from "
    "then on; what is written again is the waking observation's own update. Frozen: {events:,} "
    "observations of {frozen} tenants lie in the topic, who all sleep in the second kind of run; "
    "{runs} runs of a fresh worker of each kind in turns: median (min - max)."
)


@dataclass(frozen=True)
class Workload:
    """What to run."""

    changes: int = 200
    rate: int = 400
    tenants: int = 8  # each is observed often: no change waits long for a frame
    events: int = 600_000
    runs: int = 3
    seed: int = 1
    parts: tuple[str, ...] = PARTS


@dataclass
class Result:
    """What came of it: latencies by what they are of; rates of active and frozen tenants."""

    ms: dict[str, Latencies] = field(default_factory=dict)
    active: list[Rate] = field(default_factory=list)
    frozen: list[Rate] = field(default_factory=list)

    def add(self, what: str, seconds: float) -> None:
        """One latency."""
        self.ms.setdefault(what, Latencies(what, 0)).ms.append(1e3 * seconds)


@dataclass
class Asked:
    """A change that was published, and what is known of it by now."""

    tenant: str
    began: float  # time.time()
    offset: int = -1  # of its control record, in cog.predictor.updates
    written: float = 0.0  # when that was seen
    framed: float = 0.0  # and the first frame behind it
    frames: list[tuple[int, float]] = field(default_factory=list)  # (cause's offset, seen)

    def in_force(self) -> float | None:
        """When the first frame behind it was seen."""
        if self.offset < 0:
            return None
        return min((at for cause, at in self.frames if cause > self.offset), default=None)


class Watch:
    """Sends observations at a rate, and says when the changes of tenants are in force."""

    def __init__(self, site: Site, rate: int, tenants: Sequence[str]) -> None:
        self._site, self._rate, self._tenants = site, rate, tenants
        own = site.settings
        self._producer = Producer(own.librdkafka(linger_ms=0, partitioner="murmur2_random"))
        self._consumer = Consumer(own.librdkafka(
            group_id="unused", enable_auto_commit=False, isolation_level="read_committed",
            fetch_queue_backoff_ms=1,
        ))  # fmt: skip
        self._updates, frames = site.topic(UPDATES), site.topic(FRAMES)
        self._consumer.assign([
            TopicPartition(topic, p, end)
            for topic in (self._updates, frames)
            for p, end in enumerate(site.broker.ends(topic))
        ])  # fmt: skip
        self._rng = random.Random(7)
        self._began, self._sent = time.time(), 0
        self.waiting: dict[str, Asked] = {}
        self.woken: dict[str, list[tuple[str, float]]] = defaultdict(list)  # (topic, seen)

    def send(self, topic: str, tenant: str, record: dict[str, Any]) -> None:
        """A record of the tenant, as JSON."""
        self._producer.produce(self._site.topic(topic), json.dumps(record), tenant.encode())

    def observe(self, tenant: str) -> None:
        """An observation of the tenant."""
        value = an_observation(tenant, "state", int(time.time() * 1e6), self._rng)
        self._producer.produce(self._site.topic(OBSERVATIONS), value, tenant.encode())

    def step(self) -> None:
        """Send what is due, take in what came."""
        due = int((time.time() - self._began) * self._rate) - self._sent
        for _ in range(due):
            self.observe(self._tenants[self._sent % len(self._tenants)])
            self._sent += 1
        self._producer.poll(0)
        for message in self._consumer.consume(1000, 0.001):
            if message.error() is None:
                name, record = codec.decode(message.value() or b"")
                mine = message.topic() == self._updates
                self._take(name, record, mine, message.offset() or 0, time.time())

    def _take(
        self, name: str, record: dict[str, Any], update: bool, offset: int, now: float
    ) -> None:
        tenant = record["tenant"]
        if name in ("predictor_update", "global_frame"):
            self.woken[tenant].append((UPDATES if update else FRAMES, now))
        asked = self.waiting.get(tenant)
        if asked is None:
            return
        if name == "global_frame":
            asked.frames.append((int(record["frame_id"].rpartition("-")[2]), now))
        elif name.startswith("control_") and asked.offset < 0:
            asked.offset, asked.written = offset, now

    def awaited(self, asked: Asked) -> float:
        """When a change is in force. TimeoutError."""
        while (at := asked.in_force()) is None:
            self.step()
            if time.time() - asked.began > LATE_S:
                raise TimeoutError(f"a change of {asked.tenant} isn't in force after {LATE_S:g} s")
        del self.waiting[asked.tenant]
        return at

    def rest(self, seconds: float) -> None:
        """Let so much time go by."""
        until = time.time() + seconds
        while time.time() < until:
            self.step()

    def ask(self, tenant: str) -> Asked:
        """What is to be told of a change that is published now."""
        self.waiting[tenant] = Asked(tenant, time.time())
        return self.waiting[tenant]

    def close(self) -> None:
        """Leave the broker."""
        self._producer.flush(LATE_S)
        self._consumer.close()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _setting(tenant: str, k: int) -> dict[str, Any]:
    """A setting that no change had before."""
    value = f"{0.5 + k * 1e-4:.4f}"
    return {
        "tenant": tenant, "setting": "temperature", "value": value, "author": "bench",
        "processor": "integrator", "ts": _now(),
    }  # fmt: skip


def _sleep(tenant: str, k: int, state: int, wakes: bool = False) -> dict[str, Any]:
    return {
        "request_id": f"{tenant}-{k}-{state}", "tenant": tenant, "target": STATES[state],
        "wake_on_traffic": wakes, "actor": "bench", "ts": _now(),
    }  # fmt: skip


def change(watch: Watch, what: str, tenants: Sequence[str], changes: int) -> Iterator[Asked]:
    """Publish changes of settings, or of sleep, one after the other; each once it is in force."""
    for k in range(changes):
        tenant = tenants[k % len(tenants)]
        asked = watch.ask(tenant)
        if what == "config":
            watch.send(CHANGES, tenant, _setting(tenant, k))
        else:
            state = LIGHT if k // len(tenants) % 2 == 0 else ACTIVE
            watch.send(REQUESTS, tenant, _sleep(tenant, k, state))
        asked.framed = watch.awaited(asked)
        yield asked
        watch.rest(EACH_S)


def wake(watch: Watch, tenants: Sequence[str], changes: int) -> Iterator[tuple[float, float]]:
    """Freeze tenants and wake them by traffic: seconds to their first update, and frame."""
    for k in range(changes):
        tenant = tenants[k % len(tenants)]
        asked = watch.ask(tenant)
        watch.send(REQUESTS, tenant, _sleep(tenant, k, FREEZE, wakes=True))
        while asked.offset < 0:
            watch.step()
            if time.time() - asked.began > LATE_S:
                raise TimeoutError(f"{tenant} isn't frozen after {LATE_S:g} s")
        watch.rest(SETTLE_S)
        watch.waiting.pop(tenant)
        watch.woken[tenant].clear()
        yield _woken(watch, tenant)


def _woken(watch: Watch, tenant: str) -> tuple[float, float]:
    began, sent, seen = time.time(), 0, watch.woken[tenant]
    while not {UPDATES, FRAMES} <= {topic for topic, _ in seen}:
        if (now := time.time()) - began > LATE_S:
            raise TimeoutError(f"{tenant} isn't awake after {LATE_S:g} s")
        if (now - began) * WAKE_PER_S >= sent:
            watch.observe(tenant)
            sent += 1
        watch.step()
    first = {topic: at - began for topic, at in reversed(seen)}
    return first[UPDATES], first[FRAMES]


def latencies(site: Site, workload: Workload, result: Result) -> None:
    """The parts beside live traffic."""
    names = tenant_names(2 * workload.tenants)
    busy, sleepers = names[: workload.tenants], names[workload.tenants :]
    env = {"SOMA_ENABLE_COG_THREADS": "1"}
    with Worker(site.settings, PROCESSORS, site.folder, **env) as worker:
        worker.ready()
        with closing(Watch(site, workload.rate, busy)) as watch:
            watch.rest(2.0)
            for what in ("config", "sleep"):
                if what in workload.parts:
                    for k, one in enumerate(change(watch, what, busy, WARM + workload.changes)):
                        if k >= WARM:
                            result.add(f"{what}, record", one.written - one.began)
                            result.add(what, one.framed - one.began)
                    _tell(site, result, f"{what}, record", what)
            if "wake" in workload.parts:
                woken = wake(watch, sleepers, WARM + workload.changes)
                for k, (update, frame) in enumerate(woken):
                    if k >= WARM:
                        result.add("wake, update", update)
                        result.add("wake", frame)
                _tell(site, result, "wake, update", "wake")


def _tell(site: Site, result: Result, *parts: str) -> None:
    for what in parts:
        p50, p99, most = map(result.ms[what].at, (50, 99, 100))
        site.say(f"{TITLES[what]}: p50 {p50:.0f}, p99 {p99:.0f}, max {most:.0f} ms")


def _all_frozen(site: Site) -> None:
    """Freeze all tenants in the predictors' input, before its first observation."""
    topic, now = site.topic(OBSERVATIONS), int(time.time() * 1e6)
    producer = Producer(site.settings.librdkafka(linger_ms=5))
    for tenant in tenant_names(FROZEN_TENANTS):
        record = {"tenant": tenant, "state": STATES[FREEZE], "version": 1, "ts": now}
        value = codec.encode("control_sleep", record | {"wake_on_traffic": False})
        producer.produce(topic, value, tenant.encode(), partition_of(tenant, PARTITIONS))
    if producer.flush(LATE_S):
        raise TimeoutError(f"the broker didn't take {FROZEN_TENANTS} records in {LATE_S:g} s")


def passing(site: Site, workload: Workload, frozen: bool) -> Rate:
    """How fast observations are folded whose tenants all sleep, or none of whom does."""
    site.forget("")
    if frozen:
        _all_frozen(site)
    records = observations(workload.events, FROZEN_TENANTS, workload.seed, NUMBERS)
    fill(site.settings, site.topic(OBSERVATIONS), records)
    state = site.topic(STATE)
    with Worker(site.settings, "predictors", site.folder) as worker:
        rate = follow(site.broker, state, state, worker, "predictors", workload.events)
    kind = "frozen" if frozen else "active"
    site.say(f"predictors, {kind}: {rate.events_per_s:,.0f} observations/s")
    return rate


def run(site: Site, workload: Workload) -> Result:
    """All parts that the workload asks for."""
    result = Result()
    if set(workload.parts) - {"frozen"}:
        latencies(site, workload, result)
    if "frozen" in workload.parts:
        for _ in range(workload.runs):
            result.active.append(passing(site, workload, frozen=False))
            result.frozen.append(passing(site, workload, frozen=True))
    return result


TITLES = {
    "config, record": "a setting's control record", "config": "a setting is in force",
    "sleep, record": "a sleep's control record", "sleep": "a sleep is in force",
    "wake, update": "a frozen tenant's observation to its update",
    "wake": "a frozen tenant's observation to its first frame",
}  # fmt: skip


def report(workload: Workload, result: Result) -> Report:
    """The table."""
    rows = []
    for what, found in result.ms.items():
        cells = [f"{found.at(q):.0f}" for q in (50, 99, 100)]
        wanted = WANTED[what.partition(",")[0]]
        rows.append((TITLES[what], f"{len(found.ms)}", *cells, wanted))
    notes = []
    if result.frozen:
        for title, rates in (("active", result.active), ("frozen", result.frozen)):
            speeds, cpu = (
                spread([rate.events_per_s for rate in rates]),
                spread([rate.cpu_us_per_event for rate in rates], 2),
            )
            notes.append(f"Predictors, {title}: {speeds} observations/s, {cpu} µs of CPU each")
        times = _middle(result.frozen) / _middle(result.active)
        notes.append(f"Frozen beside active: {times:.1f} × (wanted: {WANTED['frozen']})")
    return Report(
        "control",
        ("what", "changes", "p50 ms", "p99 ms", "max ms", "wanted"),
        rows,
        METHOD.format(
            warm=WARM, each=EACH_S, wake=WAKE_PER_S, frozen=FROZEN_TENANTS, **vars(workload)
        ),
        notes,
    )


def _middle(rates: Sequence[Rate]) -> float:
    return median(rate.events_per_s for rate in rates)


def as_json(result: Result) -> dict[str, object]:
    """The results as JSON data."""
    data: dict[str, object] = {
        what: {"changes": len(found.ms)} | found.percentiles(50, 99, 100)
        for what, found in result.ms.items()
    }
    for name in ("active", "frozen"):
        data[name] = [
            {"events_per_s": rate.events_per_s, "cpu_us_per_event": rate.cpu_us_per_event}
            for rate in getattr(result, name)
        ]
    return data
