"""`soma bench replay`: how quickly the past is folded anew, and what live traffic feels of it."""

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from agents.replay.client import Statuses, command, say
from agents.settings import Settings
from ops.bench import refold
from ops.bench.filling import fill, observations, updates
from ops.bench.probe import NUMBERS, TENANTS, WARM_S, Latencies, Probe, an_observation
from ops.bench.refold import Measured
from ops.bench.report import Report, spread
from ops.bench.site import Say, Site, opened
from ops.bench.worker import Worker

PARTS = ("rebuild", "beside", "rebuilding")
SOURCE, SINK = "cog.observations", "cog.predictor.updates"
JOB = "bench"
ANSWER_S = 30.0
LOOK_S = 0.02
FOLDED_S = 300.0
BESIDE_NAMES = ("live p99 without a job, ms", "beside a job", "the job sent", "a pause")
REBUILDING_NAMES = (
    "live p99 without a rebuild, ms", "beside a rebuild", "it read", "its pause"
)  # fmt: skip
STILL_S = 2.0  # so long after a pause must nothing come any more
SHOWN = (50, 95, 99, 100)  # percentiles
REBUILD = (
    "Rebuild: a worker folds {events:,} predictor updates of {tenants:,} tenants into frames, "
    "which is the live rate (from the first commit seen to the last). Then the integrator's state "
    "is folded anew from the log in one process, partition by partition, and every row compared "
    "with the live one; then one tenant's alone, the records of others read and passed over. "
    "{runs} runs: median (min - max). "
)
BESIDE = (
    "Beside: {rate:,} observations of {numbers} numbers a second through predictors, {seconds:.0f} "
    "s after {warm:.0f} s that don't count, from just before produce() to the committed update in "
    "a read_committed consumer's hands; then as long while a job of the same worker sends updates "
    "into a shadow namespace, {throttle:,} a second at most. Pause: from when the command is given "
    "to the last record seen of that job (last stable offsets, every {look:.0f} ms). "
)
REBUILDING = (
    "Rebuilding: {rate:,} observations of {numbers} numbers a second through predictors, timed in "
    "the same way as beside a job, without a rebuild and then while a job of the same worker folds "
    "the predictors' state anew from {past:,} observations, as quickly as SOMA_REPLAY_RATE "
    "({allowed:,}) allows. Pause: from when the command is given to the status that says so."
)
SPARE_S = 10.0  # that a rebuild goes on for, if nobody pauses it


@dataclass(frozen=True)
class Workload:
    """What to run."""

    events: int = 2_000_000
    tenants: int = 1_000
    runs: int = 3
    rate: int = 1_000
    throttle: int = 5_000
    seconds: float = 10.0
    parts: tuple[str, ...] = PARTS
    warm_s: float = WARM_S

    def folded(self, rate: int) -> int:
        """Records for a rebuild at so many a second: more than it can fold in the time."""
        return int(rate * (self.seconds + 1.0 + SPARE_S))

    @property
    def past(self) -> int:
        """Records for the job: more than it can send in the time."""
        return int(self.throttle * (2 * self.seconds + ANSWER_S))


@dataclass
class Beside:
    """What live traffic felt of a job."""

    alone: Latencies
    beside: Latencies
    sent: int = 0  # by the job, while the second were measured; read, of a rebuild
    pause_s: float = 0.0
    allowed: int = 0  # records a second, to a rebuild


@dataclass
class Result:
    """All runs."""

    rebuild: Measured | None = None
    beside: list[Beside] = field(default_factory=list)
    rebuilding: list[Beside] = field(default_factory=list)


def run(settings: Settings, tell: Say, workload: Workload) -> Result:
    """All parts that the workload asks for."""
    result = Result()
    if "rebuild" in workload.parts:
        with opened(settings, tell) as site:
            result.rebuild = refold.measure(site, workload.events, workload.tenants, workload.runs)
    for _ in range(workload.runs if "beside" in workload.parts else 0):
        with opened(settings, tell) as site:
            result.beside.append(beside(site, workload))
    for _ in range(workload.runs if "rebuilding" in workload.parts else 0):
        with opened(settings, tell) as site:
            result.rebuilding.append(rebuilding(site, workload))
    return result


def beside(site: Site, workload: Workload) -> Beside:
    """One worker with live traffic, without a job and beside one."""
    alone, other = (Latencies("predictors", workload.rate) for _ in range(2))
    found = Beside(alone, other)
    source, sink = site.topic(SOURCE), site.topic(SINK)
    site.say(f"filling {SINK} with {workload.past:,} updates")
    fill(site.settings, sink, updates(workload.past, TENANTS, 1))
    with Worker(site.settings, "predictors,replay", site.folder) as worker:
        worker.ready()
        with closing(Probe(site, source, sink, an_observation)) as probe:
            probe.measure(found.alone, workload.seconds, workload.warm_s)
            with Statuses(site.settings, JOB) as statuses:
                shadow = f"{site.settings.namespace}-shadow"
                _say(site, statuses, "start", mode="republish", source=SINK, shadow=shadow,
                     rate_limit=workload.throttle)  # fmt: skip
                target = site.settings.model_copy(update={"namespace": shadow}).topic(SINK)
                site.broker.wait(target)
                before = sum(site.broker.ends(target))
                probe.measure(found.beside, workload.seconds, 1.0)
                found.sent = sum(site.broker.ends(target)) - before
                found.pause_s = _paused(site, statuses, target)
    site.say(
        f"p99 {found.alone.at(99):.1f} ms alone, {found.beside.at(99):.1f} ms beside a job that "
        f"sent {found.sent:,} records; it rested after {found.pause_s:.2f} s"
    )
    return found


def rebuilding(site: Site, workload: Workload) -> Beside:
    """One worker with live traffic, without a rebuild of its own state and beside one."""
    alone, other = (Latencies("predictors", workload.rate) for _ in range(2))
    found = Beside(alone, other, allowed=site.settings.replay_rate)
    source, sink = site.topic(SOURCE), site.topic(SINK)
    past = workload.folded(found.allowed)
    site.say(f"filling {SOURCE} with {past:,} observations")
    fill(site.settings, source, observations(past, TENANTS, 1, NUMBERS))
    own = {"SOMA_REPLAY_RATE": str(found.allowed)}
    with Worker(site.settings, "predictors,replay", site.folder, **own) as worker:
        worker.ready()
        worker.wait("all to be folded", lambda: sum(site.broker.ends(sink)) >= past, FOLDED_S)
        with closing(Probe(site, source, sink, an_observation)) as probe:
            probe.measure(found.alone, workload.seconds, workload.warm_s)
            with Statuses(site.settings, JOB) as statuses:
                _say(site, statuses, "start", mode="rebuild", target="predictors")
                probe.measure(found.beside, workload.seconds, 1.0)
                began = time.monotonic()
                say(site.settings, command({"id": JOB, "type": "pause"}))
                said = statuses.answer(JOB, "pause", ANSWER_S)
                found.sent, found.pause_s = said["read"], time.monotonic() - began
                if said["state"] != "paused":
                    raise RuntimeError(f"the rebuild was over before it rested: {said['state']}")
    site.say(
        f"p99 {found.alone.at(99):.1f} ms alone, {found.beside.at(99):.1f} ms beside a rebuild "
        f"that read {found.sent:,} records; it rested after {found.pause_s:.2f} s"
    )
    return found


def _say(site: Site, statuses: Statuses, type_: str, **more: Any) -> None:
    """Say a command, and wait until it is answered. RuntimeError where that is no."""
    say(site.settings, command({"id": JOB, "type": type_} | more))
    check(type_, statuses.answer(JOB, type_, ANSWER_S))


def check(type_: str, said: Mapping[str, Any]) -> None:
    """RuntimeError says why a command's answer, a status, is no."""
    if said["state"] in ("refused", "failed"):
        raise RuntimeError(f"{type_}: {said['state']}: {said['message']}")


def _paused(site: Site, statuses: Statuses, target: str) -> float:
    """Seconds from the command to the last record that comes."""
    began = last = time.monotonic()
    end = sum(site.broker.ends(target))
    say(site.settings, command({"id": JOB, "type": "pause"}))
    while (now := time.monotonic()) < max(last, began) + STILL_S:
        if (now_end := sum(site.broker.ends(target))) > end:
            end, last = now_end, now
        if now > began + ANSWER_S:
            raise TimeoutError(f"the job goes on {ANSWER_S:.0f} s after a pause")
        time.sleep(LOOK_S)
    if (said := statuses.answer(JOB, "pause", ANSWER_S))["state"] != "paused":
        raise RuntimeError(f"the job was over before it rested: {said['state']}")
    return last - began


def report(workload: Workload, result: Result) -> Report:
    """The table."""
    rows: list[tuple[str, str, str]] = []
    method = []
    if (anew := result.rebuild) is not None:
        times = statistics.median(anew.anew) / anew.live
        rows += [
            ("live, records/s", f"{anew.live:,.0f}", ""),
            ("anew, records/s", spread(anew.anew), ""),
            ("anew / live", f"{times:.2f} ×", "≥ 0.90 ×"),
            (f"one tenant of {workload.tenants:,}, records/s", spread(anew.alone), "≥ 1,000,000"),
            ("rows equal to the live ones", "all" if anew.equal else "not all", "all"),
        ]
        method.append(REBUILD.format(**vars(workload)))
    if found := result.beside:
        rows += _beside_rows(workload, found, BESIDE_NAMES, workload.throttle)
        method.append(BESIDE.format(
            numbers=NUMBERS, warm=workload.warm_s, look=1e3 * LOOK_S, **vars(workload)
        ))  # fmt: skip
    if found := result.rebuilding:
        allowed = found[0].allowed
        rows += _beside_rows(workload, found, REBUILDING_NAMES, allowed)
        past = workload.folded(allowed)
        method.append(
            REBUILDING.format(rate=workload.rate, numbers=NUMBERS, past=past, allowed=allowed)
        )
    return Report("replay", ("what", "measured", "wanted"), rows, "".join(method))


def _beside_rows(
    workload: Workload, found: Sequence[Beside], names: tuple[str, str, str, str], most: int
) -> list[tuple[str, str, str]]:
    alone, beside_ = ([getattr(one, name).at(99) for one in found] for name in ("alone", "beside"))
    sent = [one.sent / (workload.seconds + 1.0) for one in found]
    times = [b / a for a, b in zip(alone, beside_, strict=True)]
    return [
        (names[0], spread(alone, 1), ""),
        (f"  {names[1]}, ms", spread(beside_, 1), ""),
        (f"  {names[1]} / without", f"{spread(times, 2)} ×", "≤ 2 ×"),
        (f"  {names[2]}, records/s", spread(sent), f"{most:,} at most"),
        (f"{names[3]} is in force after, s", spread([one.pause_s for one in found], 2), "≤ 1"),
    ]


def as_json(result: Result) -> dict[str, Any]:
    """The results as JSON data; of latencies the percentiles."""
    return {
        "rebuild": result.rebuild.data() if result.rebuild is not None else None,
        "beside": [_data(one) for one in result.beside],
        "rebuilding": [_data(one) for one in result.rebuilding],
    }


def _data(one: Beside) -> dict[str, Any]:
    latencies = {name: getattr(one, name).percentiles(*SHOWN) for name in ("alone", "beside")}
    return asdict(one) | latencies
