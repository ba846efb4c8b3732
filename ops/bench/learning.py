"""`soma bench learning`: regret with the loop of learning closed, beside the same stream without.

The processors are those that a worker runs (integrator, lessons and learner, each by its driver),
and the loop is theirs: frames become lessons, what the learner says becomes settings of the
integrator, in force with the next second's records. No broker takes part. Streams: tenants whose
best domain changes, tenants whose domains are nearly lost in noise, and the recorded machine.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.integrator.agent import PROCESSOR as INTEGRATOR
from agents.kit import Driver
from agents.learner.agent import PROCESSOR as LEARNER
from agents.learner.agent import UPDATES
from agents.learner.law import loss
from agents.lessons.agent import PROCESSOR as LESSONS
from agents.tools import series
from ops.bench.calibration import folded
from ops.bench.lineplot import svg
from ops.bench.report import Report, spread
from topics import codec

Record = dict[str, Any]
Floats = NDArray[np.float64]

HERE = Path(__file__).parent
ALPHA = 2.0  # of the losses, the default of integrator and learner
DOMAINS = ("state", "agent", "action")
SECOND = 1_000_000
ROUNDS_PER_S = 3  # of each domain of a tenant
SWITCH_S = 60  # the best domain changes so often
KINDS = {"switching": (0.5, 1.0), "noisy": (0.8, 1.0)}  # σ of the errors: the best domain, others
START_US = 1_700_000_000_000_000
RECORDED = "recorded"
POINTS = 300  # of a line of the plot
WANTED = 0.9  # of the seeds
OPEN, CLOSED, PLAIN = "open", "closed", "closed, no annealing"
LOOPS: dict[str, dict[str, str] | None] = {OPEN: None, CLOSED: {}, PLAIN: {"anneal": "none"}}
METHOD = (
    "Cumulative loss of following the published weights, less that of the best fixed domain; "
    "median (least - most) of {seeds} seeds, {seconds} s of {rounds} updates a second of each of "
    "three domains. Errors are |N(0, σ)|. Switching: σ = 0.5 for the best domain, which changes "
    "every {switch} s, 1 for others; noisy: always the same, 0.8 and 1. A frame's reward is 1 less "
    "the next loss of whom it let be followed. Settings act a second later. No broker takes part."
)


@dataclass
class Told:
    """What a loop's frames cost, round by round, by tenant."""

    paid: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    led: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    losses: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    changes: int = 0


class Loop:
    """Integrator, lessons and learner over one stream; open: nobody listens to the learner."""

    def __init__(self, learner: Mapping[str, str] | None) -> None:
        self._closed = learner is not None
        self._integrator = Driver(INTEGRATOR)
        self._lessons = Driver(LESSONS, settings={"learning": "on"})
        self._learner = Driver(LEARNER, settings=learner)
        self._last: dict[str, Record] = {}  # frame by tenant
        self.told = Told()

    def play(self, updates: Sequence[Record]) -> None:
        """A second's updates; then what was learned from their frames is set."""
        self._integrator.send_all(updates)
        frames = [
            one.record for one in self._integrator.take()
            if one.topic == "cog.global.frame" and one.record is not None
        ]  # fmt: skip
        rewards = [reward for one in frames for reward in self._pay(one)]
        if self._closed:
            self._lessons.send_all(frames)
            lessons = [one.record for one in self._lessons.take() if one.record is not None]
            self._learner.send_all(lessons, schema="lesson")
            self._learner.send_all(rewards)
            said = [one.record for one in self._learner.take() if one.topic == UPDATES]
            self._integrator.send_bytes([control(one) for one in said if one is not None])
            self.told.changes += len(said)
        for driver in (self._integrator, self._lessons, self._learner):
            driver.time += SECOND

    def _pay(self, frame: Record) -> Iterator[Record]:
        """What following the tenant's last frame costs now; that is the frame's reward, too."""
        tenant, last = frame["tenant"], self._last.get(frame["tenant"])
        self._last[tenant] = frame
        if last is None:
            return
        now = {name: loss(error, ALPHA) for name, error in frame["errors"].items()}
        weights = {name: one for name, one in last["weights"].items() if name in now}
        if not weights or last["leader"] not in now:
            return
        total = sum(weights.values())
        self.told.paid[tenant].append(sum(w * now[name] for name, w in weights.items()) / total)
        self.told.led[tenant].append(now[last["leader"]])
        self.told.losses[tenant].append(now)
        yield {
            "frame_id": last["frame_id"], "tenant": tenant, "r_task": 1.0 - now[last["leader"]],
            "ts": frame["ts"],
        }  # fmt: skip


def control(said: Record) -> tuple[bytes, bytes]:
    """What the processor control makes of a change: key and value of a control record."""
    names = ("tenant", "setting", "value", "author", "ts", "processor")
    record = {name: said[name] for name in names} | {"version": said["ts"] // 1000}
    return said["tenant"].encode(), codec.encode("control_setting", record)


def update(tenant: str, domain: str, error: float, ts: int) -> Record:
    """A predictor's update."""
    return {
        "tenant": tenant, "domain": domain, "predictor_type": "bench", "error_metric": error,
        "prediction_latency_ms": 0.0, "vector_dim": 1, "ts": ts,
    }  # fmt: skip


def stream(kind: str, seeds: int, seconds: int, start: int) -> Iterator[list[Record]]:
    """A second's updates after the other; a tenant for each seed."""
    low, high = KINDS[kind]
    rngs = [np.random.default_rng([seed, len(kind)]) for seed in range(seeds)]
    for second in range(seconds):
        found = []
        for seed, rng in enumerate(rngs):
            turn = (second + 7 * seed) // SWITCH_S if kind == "switching" else 0
            best = (seed + turn) % len(DOMAINS)
            for k in range(ROUNDS_PER_S):
                for d, domain in enumerate(DOMAINS):
                    error = abs(float(rng.normal(0.0, low if d == best else high)))
                    ts = start + second * SECOND + k * SECOND // ROUNDS_PER_S + d
                    found.append(update(f"{kind}-{seed}", domain, error, ts))
        yield found


def recorded(start: int, rows: list[series.Row]) -> list[list[Record]]:
    """The recorded machine as the predictors see it, by seconds."""
    by_second: dict[int, list[Record]] = defaultdict(list)
    updates = folded(rows, {})
    first = min(one["ts"] for one in updates)
    for one in updates:
        by_second[(one["ts"] - first) // SECOND].append(one | {"ts": one["ts"] - first + start})
    return [by_second[second] for second in sorted(by_second)]


def compared(steps: Iterable[Sequence[Record]]) -> dict[str, Told]:
    """The same stream through each loop."""
    each = {name: Loop(learner) for name, learner in LOOPS.items()}
    for step in steps:
        for loop in each.values():
            loop.play(step)
    return {name: loop.told for name, loop in each.items()}


def regrets(told: Told) -> dict[str, float]:
    """By tenant: the loss paid, less that of its best fixed domain; one that isn't there costs what
    was paid then.
    """
    found = {}
    for tenant, losses in sorted(told.losses.items()):
        paid = told.paid[tenant]
        names = sorted(set().union(*losses))
        rounds = list(zip(losses, paid, strict=True))
        best = min(sum(one.get(name, cost) for one, cost in rounds) for name in names)
        found[tenant] = sum(paid) - best
    return found


def saved(told: Mapping[str, Told], loop: str) -> list[tuple[float, float]]:
    """(round, what a loop has cost less than the open one up to there), mean of the tenants."""
    each = [
        np.cumsum(np.array(told[OPEN].paid[one]) - np.array(told[loop].paid[one]))
        for one in told[OPEN].paid
    ]
    rounds = min(len(one) for one in each)
    mean = np.mean([one[:rounds] for one in each], axis=0)
    step = max(1, rounds // POINTS)
    return [(float(k + 1), float(mean[k])) for k in range(0, rounds, step)]


def run(
    seeds: int = 20, seconds: int = 180, data: Path | None = None, out: Path = HERE
) -> dict[str, Any]:
    """Play all streams; writes learning.svg into the folder `out`. Returns figures for JSON.

    `data`: a recorded machine in the form of agents/tools/recorded instead of that one. ValueError
    names a line of it that can't be read.
    """
    found: dict[str, Any] = {"seeds": seeds, "seconds": seconds, "streams": {}}
    if data is None:
        rows = series.recorded()
    else:
        with data.open(encoding="utf-8", newline="") as file:
            rows = series.read(file)
    streams: dict[str, Iterable[Sequence[Record]]] = {
        kind: stream(kind, seeds, seconds, START_US) for kind in KINDS
    }
    lines = {}
    for kind, steps in {**streams, RECORDED: recorded(START_US, rows)}.items():
        told = compared(steps)
        found["streams"][kind] = {
            loop: {"regret": regrets(one), "changes": one.changes} for loop, one in told.items()
        }
        lines[kind] = saved(told, CLOSED)
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "learning.svg"
    title = "Loss saved by the closed loop, mean of the tenants"
    picture.write_text(svg(title, "rounds", "loss saved", lines), encoding="utf-8")
    return found | {"plot": picture.name}


def lower(loops: Mapping[str, Any], loop: str) -> int:
    """For how many tenants a loop's regret is lower than the open one's."""
    own, usual = loops[loop]["regret"], loops[OPEN]["regret"]
    return sum(own[tenant] < usual[tenant] for tenant in usual)


def report(found: dict[str, Any]) -> Report:
    """The table of what `run` found."""
    rows = []
    for kind, loops in found["streams"].items():
        for loop, one in loops.items():
            count = "" if loop == OPEN else f"{lower(loops, loop)} of {len(one['regret'])}"
            mine, usual = (list(loops[name]["regret"].values()) for name in (loop, OPEN))
            less = "" if loop == OPEN else f"{statistics.mean(usual) - statistics.mean(mine):.2f}"
            rows.append([kind, loop, spread(mine, 2), less, count, f"{one['changes']:,}"])
    wanted = {kind: lower(found["streams"][kind], CLOSED) for kind in KINDS}
    least = int(np.ceil(WANTED * found["seeds"]))
    said = ", ".join(f"{kind} {n} of {found['seeds']}" for kind, n in wanted.items())
    notes = (
        f"Wanted: closed lower than open for {least} of {found['seeds']} seeds; {said}: "
        f"{'reached' if min(wanted.values()) >= least else 'NOT reached'}.",
        "Of the recorded machine each tenant counts as one; it is one recording, no sample.",
        f"Plot: {found['plot']}",
    )
    method = METHOD.format(
        seeds=found["seeds"], seconds=found["seconds"], rounds=ROUNDS_PER_S, switch=SWITCH_S
    )
    columns = ("stream", "loop", "regret", "less, mean", "lower", "changes of settings")
    return Report("learning", columns, rows, method, notes)
