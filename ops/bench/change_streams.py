"""Streams whose changes are known, and how a law does on them."""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.tools.scores import matches
from ops.bench.change_laws import Changes, Floats, Law

Generator = np.random.Generator
NOISES: dict[str, Callable[[Generator, int], Floats]] = {
    "white noise": lambda r, n: r.normal(size=n),
    "AR(.9)": lambda r, n: _autoregressive(r.normal(size=n), 0.9),
    "random walk": lambda r, n: np.cumsum(r.normal(size=n)),
    "t3": lambda r, n: r.standard_t(3, size=n),
}
NOISE_POINTS = 2_000  # of a series
STEPS_SD = (1.0, 2.0, 3.0)
BEFORE, AFTER = 200, 100  # points around a step
STEP_SERIES = 10  # per seed
NEAR = 10  # points between a change and the one that is found, at most
ENDLESS_STEP = 500  # points
CHANGES = 29
REGIME = (20, 200)  # points
TURNS = {"volatility × 3": (0.0, 3.0), "level + 3 sd": (3.0, 1.0)}  # (level, spread) of VOLATILE


def _autoregressive(noise: Floats, phi: float) -> Floats:
    out, last = np.empty_like(noise), 0.0
    for k, e in enumerate(noise):
        last = phi * last + float(e)
        out[k] = last
    return out


def false_alarms(law: Law, noise: str, seeds: int) -> float:
    """Changes declared per 1,000 points of stationary noise (or of a random walk)."""
    count = 0
    for seed in range(seeds):
        values = NOISES[noise](np.random.default_rng(seed), NOISE_POINTS)
        count += len(law.find(values))
    return 1000.0 * count / (seeds * NOISE_POINTS)


def steps(law: Law, size_sd: float, seeds: int) -> dict[str, Any]:
    """A step in white noise: in how many series something was declared after it, and the median
    delay in points. Ten series per seed, for a median of 20 moves by a point from seed to seed.
    """
    delays = []
    for seed in range(STEP_SERIES * seeds):
        values = np.random.default_rng(1000 + seed).normal(size=BEFORE + AFTER)
        values[BEFORE:] += size_sd
        after = [at for _, at in law.find(values) if at >= BEFORE]
        if after:
            delays.append(min(after) - BEFORE)
    return {
        "found": len(delays),
        "of": STEP_SERIES * seeds,
        "delay": statistics.median(delays) if delays and law.online else None,
    }


def endless_stream(points: int, seed: int) -> Floats:
    """White noise whose level goes up and down by 3 sd every 500 points."""
    level = 3.0 * ((np.arange(points) // ENDLESS_STEP) % 2)
    return np.random.default_rng(seed).normal(size=points) + level


def endless(law: Law, points: int, seed: int) -> dict[str, float]:
    """Share of the steps found, and false ones per 1,000 points: first tenth, last tenth, all."""
    found = {index for index, _ in law.find(endless_stream(points, seed))}
    truth = range(ENDLESS_STEP, points, ENDLESS_STEP)
    taken = matches(truth, found, NEAR)
    tenth = points // 10
    parts = {"first": (0, tenth), "last": (points - tenth, points), "all": (0, points)}
    shares = {}
    for name, (begin, end) in parts.items():
        own = [cut for cut in truth if begin <= cut < end]
        shares[name] = sum(cut in taken for cut in own) / len(own)
    wrong = found - set(taken.values())
    return shares | {"false_per_1000": 1000 * len(wrong) / points}


def regimes(turn: str, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """(values, the places of 29 changes) of regimes that are stable and volatile in turn."""
    level, spread = TURNS[turn]
    r = np.random.default_rng(seed)
    lengths = r.integers(REGIME[0], REGIME[1] + 1, CHANGES + 1)
    volatile = np.repeat(np.arange(CHANGES + 1) % 2, lengths)
    noise = r.normal(size=len(volatile))
    return np.where(volatile == 1, level + spread * noise, noise), np.cumsum(lengths)[:-1]


def returning(law: Law, turn: str, seeds: int) -> dict[str, float | None]:
    """Median over seeds: changes found within 10 points, false ones, and the median delay."""
    hits, wrong, delays = [], [], []
    for seed in range(seeds):
        values, truth = regimes(turn, seed)
        found = dict(reversed(law.find(values)))
        taken = matches([int(cut) for cut in truth], found, NEAR)
        hits.append(len(taken))
        wrong.append(len(found) - len(taken))
        delays += [found[one] - cut for cut, one in taken.items()]
    return {
        "found": statistics.median(hits),
        "false": statistics.median(wrong),
        "delay": statistics.median(delays) if delays and law.online else None,
    }


def example(points: int = 600) -> tuple[Floats, Changes]:
    """A short stream for a picture, and its changes."""
    r = np.random.default_rng(5)
    values = r.normal(size=points) * np.where(np.arange(points) < 400, 1.0, 3.0)
    values += 3.0 * ((np.arange(points) >= 100) & (np.arange(points) < 250))
    return values, [(cut, cut) for cut in (100, 250, 400)]
