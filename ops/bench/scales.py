"""`soma bench scales`: what one odd observation does to the unit in which errors are measured.

Three laws of level and scale, on the same made-up series: law 1 (a variance that forgets), medians
as they are usually run (each observation moves level and scale by a bounded step, which doubles in
a long run on one side), and the predictors' law, of agents.predictors.rule. No broker takes part.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.predictors import rule
from ops.bench.report import Report

Floats = NDArray[np.float64]
Follower = Callable[[Floats, Floats, int], Floats]  # x, the x before, its number: the scale

ROUNDS, ODD = 4000, 500  # observations, and the one at which something happens
WINDOW, SETTLED, LAST = 20, 2500, 500
FORGETTING = 0.01
WHOLE = 1.0  # part of what is learned by: that of whoever is awake
METHOD = (
    "{rounds:,} observations, something happens at number {odd}; each is predicted by the last "
    "one, and its error is (x - last)² / scale², at most 1,000. Blind: rounds after it in which "
    "the mean of {window} errors (clipped at 50) is below .3 of what the law's is in the last "
    "{last}; plain noise shows how many of these are chance. Wild: rounds in which it is above 10. "
    "Median: of the errors after round {settled:,}. Medians of {seeds} seeds."
)


@dataclass(frozen=True)
class Figures:
    """One law on one case."""

    blind: float
    wild: float
    median: float


@dataclass(frozen=True)
class Case:
    """One case, by law."""

    name: str
    by: dict[str, Figures]


def cases(seeds: int) -> Iterator[tuple[str, Floats]]:
    """(name, series [ROUNDS, seeds])."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(ROUNDS, seeds))
    spikes = (rng.random(noise.shape) < 0.05) * rng.choice([-100.0, 100.0], noise.shape)
    after = (np.arange(ROUNDS) >= ODD)[:, None]
    yield "noise", noise
    yield "a glitch of 1e6", np.where(np.arange(ROUNDS)[:, None] == ODD, 1e6, noise)
    yield "level moved by 1e6", noise + 1e6 * after
    yield "scale falls by 1,000", np.where(after, noise / 1000.0, noise)
    yield "scale grows by 1,000", np.where(after, noise * 1000.0, noise)
    yield "constant, then noise", noise * after
    yield "5 % spikes of 100", noise + spikes
    yield "random walk", noise.cumsum(axis=0)


class Variance:
    """Law 1: mean and variance that forget (Welford 1962; with weights West 1979)."""

    def __init__(self, first: Floats) -> None:
        self.weight, self.mean, self.m2 = 1.0, first.copy(), np.zeros_like(first)

    def __call__(self, x: Floats, last: Floats, n: int) -> Floats:
        self.weight = (1.0 - FORGETTING) * self.weight + 1.0
        off = x - self.mean
        self.mean += off / self.weight
        self.m2 = (1.0 - FORGETTING) * self.m2 + off**2 * (1.0 - 1.0 / self.weight)
        return np.sqrt(self.m2 / self.weight)


class Medians:
    """Level and median deviation, by steps that double: from the 8th, the 17th on one side."""

    def __init__(self, first: Floats) -> None:
        self.level, self.scale = first.copy(), np.zeros_like(first)
        self.wide, self.above = np.zeros_like(first), np.zeros_like(first)

    def __call__(self, x: Floats, last: Floats, n: int) -> Floats:
        off = x - self.level
        side, up = np.where(np.abs(off) > self.scale, 1.0, -1.0), np.sign(off)
        self.wide = np.where(self.wide * side > 0.0, self.wide + side, side)
        self.above = np.where(self.above * up > 0.0, self.above + up, up)
        gain = max(0.03, 1.0 / n) * 2.0 ** np.clip(np.abs(self.wide) - 7.0, 0.0, 60.0)
        moved = self.scale * np.exp(side * np.minimum(gain, math.log(8.0)))
        self.scale = np.where(self.scale == 0.0, np.abs(off), moved)
        reach = max(0.01, 1.0 / n) * 2.0 ** np.clip(np.abs(self.above) - 16.0, 0.0, 60.0)
        self.level += up * np.minimum(np.abs(off), np.minimum(reach, 64.0) * self.scale)
        return rule.CONSISTENT * self.scale


class Predictors:
    """The predictors' law, a component for each seed."""

    def __init__(self, first: Floats) -> None:
        self.n = first.shape[0]
        self.level, self.step, self.ratio = (np.empty(self.n) for _ in range(3))
        self.runs = np.empty(2 * self.n, np.int8)
        rule.begin(first, self.level, self.step, self.ratio, self.runs, self.n)

    def __call__(self, x: Floats, last: Floats, n: int) -> Floats:
        rule.follow(
            x, last, self.level, self.step, self.ratio, self.runs, self.n, n, FORGETTING, WHOLE
        )  # fmt: skip
        return rule.CONSISTENT * self.ratio * self.step


LAWS: dict[str, Callable[[Floats], Follower]] = {
    "law 1, variance": Variance,
    "medians": Medians,
    "law 2": Predictors,
}


def errors(law: Callable[[Floats], Follower], series: Floats) -> Floats:
    """[ROUNDS - 1, seeds]; the bound on the law's own errors isn't applied, so that all compare."""
    follower, found = law(series[0]), np.zeros((series.shape[0] - 1, series.shape[1]))
    for k in range(1, series.shape[0]):
        x, last = series[k].copy(), series[k - 1].copy()
        scale = follower(x, last, k + 1)
        miss = np.abs(x - last)
        found[k - 1] = np.where(miss == 0.0, 0.0, (miss / np.maximum(scale, 1e-300)) ** 2)
    return np.minimum(found, 1000.0)


def figures(found: Floats) -> Figures:
    """Of one law's errors."""
    blind, wild = [], []
    for one in found.T:
        after, clipped = one[ODD - 1 + 6 :], np.minimum(one, 50.0)
        usual = clipped[-LAST:].mean()
        blind.append(int((_means(clipped[ODD - 1 + 6 :]) < 0.3 * usual).sum()))
        wild.append(int((_means(after) > 10.0).sum()))
    return Figures(
        float(np.median(blind)), float(np.median(wild)), float(np.median(found[SETTLED:]))
    )


def _means(values: Floats) -> Floats:
    return np.convolve(values, np.full(WINDOW, 1.0 / WINDOW), "valid")


def run(seeds: int = 9) -> list[Case]:
    """Every case, by every law."""
    return [
        Case(name, {law: figures(errors(make, series)) for law, make in LAWS.items()})
        for name, series in cases(seeds)
    ]


def report(found: list[Case], seeds: int) -> Report:
    """The table."""
    rows = [
        (one.name, *(f"{f.blind:,.0f} / {f.wild:,.0f} / {f.median:.2g}" for f in one.by.values()))
        for one in found
    ]
    method = METHOD.format(
        rounds=ROUNDS, odd=ODD, window=WINDOW, last=LAST, settled=SETTLED, seeds=seeds
    )
    heads = ("series", *(f"{law}: blind / wild / median" for law in LAWS))
    return Report("scales", heads, rows, method)


def as_json(found: list[Case]) -> list[dict[str, Any]]:
    """The figures."""
    return [asdict(one) for one in found]
