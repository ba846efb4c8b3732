"""Calibration written again from its docstring, over what a fold published: plain and slow."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

Record = dict[str, Any]

LIMIT, LEVELS, STEP = 6.0, 32, 0.375


@dataclass
class One:
    """One (tenant, domain)."""

    dim: int
    n: int = 0
    median: float = 0.0
    temperature: float = 1.0
    waiting: int = -1
    samples: int = 0
    table: Any = field(default_factory=lambda: np.zeros((2, LEVELS, 2), int))


def logit(error: float, alpha: float) -> float:
    """Of exp(-alpha·error), within the limits."""
    x = alpha * error
    z = -x - math.log(-math.expm1(-x)) if x > 0 else math.inf
    return max(-LIMIT, min(LIMIT, z))


def score(table: Any, temperature: float) -> tuple[float, float]:
    """(ECE, NLL) of a half's table."""
    z = STEP * (np.arange(LEVELS) + 0.5) - LIMIT
    p, n = expit(z / temperature), table.sum(axis=1)
    bins = np.minimum(np.floor(10 * p).astype(int), 9)
    gaps = [abs((n * p - table[:, 1])[bins == b].sum()) for b in range(10)]
    loss = table[:, 1] * np.logaddexp(0, -z / temperature)
    loss = loss + table[:, 0] * np.logaddexp(0, z / temperature)
    return sum(gaps) / n.sum(), loss.sum() / n.sum()


def fitted(table: Any) -> float:
    """The best temperature for a half's table."""
    z = STEP * (np.arange(LEVELS) + 0.5) - LIMIT

    def loss(beta: float) -> float:
        worth = table[:, 1] * np.logaddexp(0, -beta * z) + table[:, 0] * np.logaddexp(0, beta * z)
        return float(worth.sum())

    found = minimize_scalar(loss, bounds=(0.2, 10.0), method="bounded", options={"xatol": 1e-10})
    return 1.0 / min((found.x, 0.2, 10.0), key=loss)


def refit(one: One) -> None:
    """What a full window does."""
    best = fitted(one.table[0])
    plain, after = score(one.table[1], 1.0), score(one.table[1], best)
    if after[0] <= 0.7 * plain[0] and after[1] <= plain[1]:
        one.temperature = best
    elif one.temperature != 1.0:
        now = score(one.table[1], one.temperature)
        if now[0] > plain[0] or now[1] > plain[1]:
            one.temperature = 1.0


def confidences(updates: Sequence[Record], every: int, alpha: float = 2.0) -> list[float]:
    """The confidence that each update should have, from its error alone."""
    held: dict[Any, One] = defaultdict(lambda: One(0))
    found = []
    for update in updates:
        key, error = (update["tenant"], update["domain"]), update["error_metric"]
        one = held[key]
        if one.dim != update["vector_dim"]:
            one = held[key] = One(update["vector_dim"])
        one.n += 1
        z = logit(error, alpha)
        if one.n > 1:
            follow(one, error, z, every)
        raw = max(math.exp(-alpha * error), 2.0**-126)
        found.append(raw if one.temperature == 1.0 else float(expit(z / one.temperature)))
    return found


def follow(one: One, error: float, z: float, every: int) -> None:
    """Steps 1 to 3."""
    if one.waiting >= 0:
        one.table[one.samples % 2, one.waiting, int(error <= one.median)] += 1
        one.samples += 1
        if one.samples % every == 0:
            refit(one)
        if one.samples >= 8192 and one.samples % 4096 == 0:
            one.table //= 2
    if one.median == 0.0:
        one.median = error
    elif error != one.median:
        step = 1 + max(0.05, 1 / one.n)
        one.median = one.median * step if error > one.median else one.median / step
    one.median = max(1e-3, min(1e6, one.median))
    one.waiting = min(int((z + LIMIT) / STEP), LEVELS - 1)
