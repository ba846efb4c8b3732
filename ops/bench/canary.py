"""`soma bench canary`: how soon a setting that harms is taken back, how often one that doesn't.

Predictors, integrator, segmentation and the processor canary fold as in a worker, by the kit's
driver (agents/kit/driver.py); a second of the log's time is played at a time, as the service reads
it. Tenants differ: in what they observe, how much it moves, and when it changes its law. No broker
takes part.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from agents.canary.agent import BLOCK_SCHEMA, FRAMES, SEGMENTS, UPDATES
from agents.canary.agent import PROCESSOR as CANARY
from agents.canary.blocks import Block, Groups, Values
from agents.canary.state import BEFORE, BETTER, MEASURING, SETTLE, WORSE
from agents.canary.watch import record_of
from agents.integrator.agent import PROCESSOR as INTEGRATOR
from agents.kit import Driver
from agents.kit.run import LOG_MS
from agents.predictors.agent import PROCESSOR as PREDICTORS
from agents.segmentation.agent import PROCESSOR as SEGMENTATION
from ops.bench.report import Report

HARM = (  # to errors, changes of leader, boundaries
    ("predictors.predictor", "mahal"),
    ("integrator.fusion", "softmax"),
    ("segmentation.threshold", "on"),
)
NOTHING = (
    ("integrator.veto_retry_ms", "2000"),
    ("predictors.calibrate_every", "300"),
    ("segmentation.hmm_stay", "0.999"),
)
FEW, MANY = 4, 12  # tenants of the groups
DOMAINS = ("state", "agent")
PER_S = 4  # observations of a domain
CHAIN = ("cog.predictor.updates", FRAMES, SEGMENTS)  # what each of the processors hands on
SECOND = 1_000_000
WARM = 30  # seconds before anything is measured
SWITCH_S = 20  # a tenant's domains change places about so often
METHOD = (
    f"{FEW} tenants with the setting against {MANY}, each with {len(DOMAINS)} domains and {PER_S} "
    f"observations of each a second; vectors of 3 that walk as one, each by its own steps; "
    f"one domain at a time, for {SWITCH_S} s on average, is noisy. Measured for {BEFORE} s before. "
    "Seconds of data from the change to the verdict: median (least - most)."
)


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One canary: the processor's state at the end, and after how many seconds."""

    setting: str
    seed: int
    state: str
    seconds: int
    why: str


class Tenants:
    """What they observe."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.names = [f"t{k}" for k in range(FEW + MANY)]
        n = len(self.names)
        self._step = self._rng.lognormal(-2, 0.5, n)
        self._noisy = self._rng.integers(len(DOMAINS), size=n)
        self._at = self._rng.normal(size=(n, len(DOMAINS), 1))

    def second(self, ts: int) -> Iterator[dict[str, Any]]:
        """The observations of a second that begins at `ts`."""
        rng = self._rng
        self._noisy ^= rng.random(len(self.names)) < 1 / SWITCH_S
        for k in range(PER_S):
            self._at += rng.normal(size=self._at.shape) * self._step[:, None, None]
            for t, tenant in enumerate(self.names):
                for d, domain in enumerate(DOMAINS):
                    noise = self._step[t] * (2.0 if self._noisy[t] == d else 0.3)
                    vector = self._at[t, d] + noise * rng.normal(size=3)
                    yield {
                        "tenant": tenant, "domain": domain, "ts": ts + k * SECOND // PER_S,
                        "sequence": None, "vector": vector.astype("<f4").tobytes(),
                    }  # fmt: skip


class Pipeline:
    """The processors, and what a canary's service would see."""

    def __init__(self, seed: int, name: str) -> None:
        self._tenants = Tenants(seed)
        self.drivers = {one.name: Driver(one) for one in (PREDICTORS, INTEGRATOR, SEGMENTATION)}
        order = sorted(
            self._tenants.names,
            key=lambda one: hashlib.sha256(f"{seed}{name}{one}".encode()).digest(),
        )
        self.groups = Groups(frozenset(order[:FEW]), frozenset(order[FEW:]))

    def second(self, number: int) -> dict[str, Values]:
        """Fold a second; what each tenant was like."""
        records: Sequence[dict[str, Any]] = list(self._tenants.second(number * SECOND))
        for driver, topic in zip(self.drivers.values(), CHAIN, strict=True):
            driver.time = number * SECOND + SECOND // 2
            driver.send_all(records)
            found = driver.take()
            records = [one.record for one in found if one.topic == topic and one.record]
            for record in records:
                if topic == FRAMES:
                    self.groups.frame(number, record)
                elif topic == SEGMENTS:
                    self.groups.boundary(number, record["tenant"])
        return self.groups.take(number + 1).get(number, {})


def play(name: str, value: str, seed: int, seconds: int) -> Outcome:
    """A canary from its start to a verdict, or so many seconds after it was put on."""
    pipe, canary = Pipeline(seed, name), Driver(CANARY)
    first = LOG_MS // 1000
    for k in range(WARM):
        pipe.second(first - BEFORE - WARM + k)
    usual = {k: pipe.second(k) for k in range(first - BEFORE, first)}
    pipe.groups.level(usual.values())
    canary.send({
        "name": name, "type": "start", "id": "bench", "domain": "", "value": value,
        "tenants": sorted(pipe.groups.canary), "control": sorted(pipe.groups.control),
        "for_s": 86_400, "actor": "bench", "ts": 0,
    })  # fmt: skip
    _tell(canary, name, [pipe.groups.block(k, one, False) for k, one in usual.items()], pipe)
    processor, _, setting = name.partition(".")
    for change in [one.record for one in canary.take() if one.topic == UPDATES and one.record]:
        pipe.drivers[processor].setting(setting, change["value"], change["tenant"])
    for k in range(seconds):
        values = pipe.second(first + k)
        canary.time = (first + k + 1) * SECOND
        if k >= SETTLE:
            _tell(canary, name, [pipe.groups.block(first + k, values, True)], pipe)
        row = canary.rows[name]
        if row["state"] in (WORSE, BETTER):
            return Outcome(f"{name} = {value}", seed, row["state"], k + 1, row["why"])
    return Outcome(f"{name} = {value}", seed, row["state"], seconds, row["why"])


def _tell(canary: Driver, name: str, blocks: list[Block | None], pipe: Pipeline) -> None:
    before = canary.rows[name]["state"] == MEASURING
    if there := [one for one in blocks if one is not None]:
        canary.send(record_of(name, "bench", before, there, pipe.groups), schema=BLOCK_SCHEMA)


def run(runs: int, seconds: int, quiet: int, say: Say) -> dict[str, list[Outcome]]:
    """So many runs of settings that harm, for so many seconds, and of such that don't (`quiet`)."""
    found: dict[str, list[Outcome]] = {"harm": [], "nothing": []}
    for kind, tried, long, first in (("harm", HARM, seconds, 0), ("nothing", NOTHING, quiet, 1000)):
        for k in range(runs):
            one = play(*tried[k % len(tried)], first + k, long)
            found[kind].append(one)
            say(f"{one.setting}: {one.state} after {one.seconds} s {one.why}")
    return found


def report(found: dict[str, list[Outcome]]) -> Report:
    """A row for each setting."""
    rows = []
    for kind, outcomes in found.items():
        for name in dict.fromkeys(one.setting for one in outcomes):
            mine = [one for one in outcomes if one.setting == name]
            worse = [one for one in mine if one.state == WORSE]
            took = [one.seconds for one in worse]
            metrics = ", ".join(sorted({one.why.split(" ")[0] for one in worse})) or "-"
            better = sum(one.state == BETTER for one in mine)
            span = f"{median(took):g} ({min(took)} - {max(took)})" if took else "-"
            rows.append([
                kind, name, f"{len(worse)} of {len(mine)}", str(better), span, metrics,
            ])  # fmt: skip
    columns = ("kind", "setting", "taken back", "called better", "seconds", "by")
    return Report("canary", columns, rows, METHOD)
