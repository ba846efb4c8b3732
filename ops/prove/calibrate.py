"""Calibration of confidences (laws.md section 1), written again for the verifier.

Temperature scaling (Guo, Pleiss, Sun, Weinberger, ICML 2017) fitted by SciPy's bounded minimisation
of the likelihood itself, so that the workers' fit has an oracle.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]
Row = dict[str, Any]

LEVELS = 32
LIMIT = 6.0  # of a logit's size
WIDTH = 2.0 * LIMIT / LEVELS
LOGITS = -LIMIT + (np.arange(LEVELS) + 0.5) * WIDTH  # what each level stands for
FADE = 4096  # samples
KEEP = 0.7  # of the calibration error before
NEAR = 1e-9  # figures nearer to each other than this are a tie
FIT = 1e-5  # how far two fits of a temperature may lie apart, relative


def logit(error: float, alpha: float) -> float:
    """That of exp(-alpha·error), clipped."""
    x = alpha * error
    if x <= 0.0:
        return LIMIT
    return min(max(-x - math.log(-math.expm1(-x)), -LIMIT), LIMIT)


def likeliest(counts: NDArray[np.int64]) -> float:
    """The temperature, .1 to 5, that makes counts [LEVELS, 2] (didn't, did come true) likeliest."""

    def cost(beta: float) -> float:
        z = beta * LOGITS
        wrong, right = np.logaddexp(0.0, z), np.logaddexp(0.0, -z)
        return float((counts[:, 0] * wrong + counts[:, 1] * right).sum())

    found = minimize_scalar(cost, bounds=(0.2, 10.0), method="bounded", options={"xatol": 1e-12})
    ends = {beta: cost(beta) for beta in (0.2, 10.0)}
    best = min(ends, key=lambda beta: ends[beta])
    return 1.0 / (best if ends[best] <= found.fun else float(found.x))


@dataclass
class Figures:
    """How well confidences under one temperature came true."""

    ece: float
    brier: float
    nll: float
    count: list[int]
    confidence: list[float]
    accuracy: list[float]


def figures(counts: NDArray[np.int64], temperature: float) -> Figures:
    """Of counts [LEVELS, 2]; bins are tenths of confidence."""
    p = 1.0 / (1.0 + np.exp(-LOGITS / temperature))
    wrong, right = counts[:, 0].astype(float), counts[:, 1].astype(float)
    n = wrong + right
    total = float(n.sum())
    bins = np.minimum((10.0 * p).astype(int), 9)
    size, said, came = (np.bincount(bins, each, 10) for each in (n, n * p, right))
    least = np.maximum(size, 1.0)
    return Figures(
        float(np.abs(said - came).sum()) / total,
        float((right * (1.0 - p) ** 2 + wrong * p**2).sum()) / total,
        float(-(right * np.log(p) + wrong * np.log1p(-p)).sum()) / total,
        size.astype(int).tolist(), (said / least).tolist(), (came / least).tolist(),
    )  # fmt: skip


@dataclass
class Calibration:
    """State of one domain of one tenant."""

    median: float = 0.0
    temperature: float = 1.0
    waiting: int = 0  # the level of a confidence whose truth isn't known yet, and 1
    samples: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((LEVELS, 2, 2), np.int64))
    ties: int = 0

    def take(
        self, error: float, n: int, settings: Mapping[str, Any], written: Mapping[str, Any] | None
    ) -> Row | None:
        """One more error, of the n-th observation; the refit that it completed, if it did."""
        refit = None
        if self.waiting:
            came_true = int(error <= self.median)
            self.counts[self.waiting - 1, self.samples % 2, came_true] += 1
            self.samples += 1
            if self.samples % int(settings["calibrate_every"]) == 0:
                refit = self._refit(written)
            if self.samples >= 2 * FADE and self.samples % FADE == 0:
                self.counts //= 2
        self._move_median(error, n)
        level = min(int((logit(error, settings["alpha"]) + LIMIT) / WIDTH), LEVELS - 1)
        self.waiting = level + 1
        return refit

    def confidence(self, error: float, alpha: float, *, on: bool) -> float:
        """What is published for an error."""
        if not on or self.temperature == 1.0:
            return math.exp(-alpha * error)
        return 1.0 / (1.0 + math.exp(-logit(error, alpha) / self.temperature))

    def _move_median(self, error: float, n: int) -> None:
        step = 1.0 + max(0.05, 1.0 / n)
        if self.median == 0.0:
            self.median = error
        elif error > self.median:
            self.median *= step
        elif error < self.median:
            self.median /= step
        self.median = min(max(self.median, 1e-3), 1e6)

    def _refit(self, written: Mapping[str, Any] | None) -> Row:
        """Fit anew; goes on with the number of the log where it agrees with this fit."""
        fitted = likeliest(self.counts[:, 0])
        claimed = float(written["fitted"]) if written else fitted
        if abs(claimed - fitted) <= FIT * fitted:
            fitted = claimed
        held = self.counts[:, 1]
        before, after = figures(held, 1.0), figures(held, fitted)
        kept = self._decide(
            [after.ece - KEEP * before.ece, after.nll - before.nll],
            bool(written["kept"]) if written else None,
        )
        previous, now = self.temperature, fitted if kept else self.temperature
        if not kept and now != 1.0:
            old = figures(held, now)
            claims = float(written["temperature"]) != 1.0 if written else None
            good = self._decide([old.ece - before.ece, old.nll - before.nll], claims)
            now = now if good else 1.0
        self.temperature = now
        both = (("pre", before), ("post", after))
        bins = (("", before), ("_post", after))
        return {
            "temperature": now, "previous": previous, "fitted": fitted, "kept": kept,
            "samples": self.samples,
            **{f"{name}_{when}": getattr(f, name)
               for when, f in both for name in ("ece", "brier", "nll")},
            **{f"bin_{name}{when}": getattr(f, name)
               for when, f in bins for name in ("count", "confidence", "accuracy")},
        }  # fmt: skip

    def _decide(self, above: list[float], claimed: bool | None) -> bool:
        """Whether no figure is above 0; as the log has it where one is as good as 0."""
        own = max(above) <= 0.0
        if claimed is not None and claimed != own and abs(max(above)) <= NEAR:
            self.ties += 1
            return claimed
        return own
