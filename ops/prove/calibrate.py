"""Calibration of confidences, written again for the verifier.

An online Newton step a sample on the logistic loss of slope and bias (Platt 1999; Hazan, Agarwal
and Kale 2007), with matrices of NumPy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Row = dict[str, Any]

LIMIT = 6.0  # of a logit's size
SCALE = np.array([3.0, 1.0])  # slope and bias in units in which they are as large
START = np.array([1.0, 0.0])
PRIOR = 1.25 * np.eye(2)  # five samples at a half
KEEP = 0.995  # of the information, a sample
HIGHEST, WIDEST = 5.0, 6.0  # slope, bias
BINS = 10
PARTS = 16384  # of a confidence, in sums


def logit(error: float, alpha: float) -> float:
    """That of exp(-alpha·error), clipped."""
    x = alpha * error
    if x <= 0.0:
        return LIMIT
    return min(max(-x - math.log(-math.expm1(-x)), -LIMIT), LIMIT)


def probability(z: float) -> float:
    """The logistic function."""
    return 1.0 / (1.0 + math.exp(-z))


@dataclass
class Told:
    """Confidences and whether they came true: what a record says of them."""

    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, BINS), np.int64))
    brier: float = 0.0
    nll: float = 0.0

    def take(self, z: float, truth: float) -> None:
        """One more, by its logit."""
        p = probability(z)
        self.bins[:, min(int(10.0 * p), 9)] += (1, int(p * PARTS), int(truth))
        self.brier += (p - truth) ** 2
        self.nll += math.log1p(math.exp(-z if truth else z))

    def figures(self, when: str) -> Row:
        """ECE, Brier score and likelihood, and the bins; `when` ends the names of the figures."""
        count, said, came = self.bins[0], self.bins[1] / PARTS, self.bins[2]
        n, least = float(count.sum()), np.maximum(count, 1)
        after = "" if when == "pre" else f"_{when}"
        return {
            f"ece_{when}": float(np.abs(said - came).sum()) / n,
            f"brier_{when}": self.brier / n,
            f"nll_{when}": self.nll / n,
            f"bin_count{after}": count.tolist(),
            f"bin_confidence{after}": (said / least).tolist(),
            f"bin_accuracy{after}": (came / least).tolist(),
        }


def newton(weights: Floats, information: Floats, z: float, truth: float) -> tuple[Floats, Floats]:
    """(slope, bias) and their information after a sample: the one step, within the bounds."""
    u = np.array([z, 1.0]) / SCALE
    p = probability(float(weights @ (z, 1.0)))
    information = KEEP * information + (1.0 - KEEP) * PRIOR + p * (1.0 - p) * np.outer(u, u)
    before = weights * SCALE
    after = before + np.linalg.solve(information, (truth - p) * u)
    slope = min(max(after[0], 0.0), HIGHEST * SCALE[0])
    if slope != after[0]:  # the best that the bound leaves
        moved = slope - before[0]
        after = np.array(
            [slope, before[1] + (truth - p - information[0, 1] * moved) / information[1, 1]]
        )
    after[1] = min(max(after[1], -WIDEST), WIDEST)
    return after / SCALE, information


@dataclass
class Calibration:
    """State of one domain of one tenant."""

    median: float = 0.0
    run: int = 0  # errors in a row above the median; below: negative
    weights: Floats = field(default_factory=START.copy)
    information: Floats = field(default_factory=PRIOR.copy)
    waiting: float | None = None  # the logit of a confidence whose truth isn't known yet
    samples: int = 0
    told: tuple[Told, Told] = field(default_factory=lambda: (Told(), Told()))

    def take(self, error: float, n: int, settings: Mapping[str, Any]) -> Row | None:
        """One more error, of the n-th observation; the record that it completed, if it did."""
        record = None
        if self.waiting is not None:
            record = self._sample(self.waiting, float(error <= self.median), settings)
        self._move_median(error, n)
        self.waiting = logit(error, settings["alpha"])
        return record

    def confidence(self, error: float, alpha: float, *, on: bool) -> float:
        """What is published for an error."""
        if not on or self.samples == 0:
            return math.exp(-alpha * error)
        return probability(float(self.weights @ (logit(error, alpha), 1.0)))

    def _sample(self, z: float, truth: float, settings: Mapping[str, Any]) -> Row | None:
        before, after = self.told
        before.take(z, truth)
        after.take(float(self.weights @ (z, 1.0)), truth)
        self.weights, self.information = newton(self.weights, self.information, z, truth)
        self.samples += 1
        if before.bins[0].sum() < settings["calibrate_every"]:
            return None
        self.told = (Told(), Told())
        learned = {"slope": float(self.weights[0]), "bias": float(self.weights[1])}
        return (
            learned | {"samples": self.samples} | before.figures("pre") | after.figures("post")
        )  # fmt: skip

    def _move_median(self, error: float, n: int) -> None:
        if self.median == 0.0:
            self.median = error
        elif error != self.median:
            side = 1 if error > self.median else -1
            self.run = max(-16, min(16, self.run + side)) if self.run * side > 0 else side
            step = 1.0 + min(max(0.003, 1.0 / n) * 2.0 ** max(0, abs(self.run) - 4), 1.0)
            self.median = self.median * step if side > 0 else self.median / step
        self.median = min(max(self.median, 1e-3), 1e6)

    def row(self) -> Row:
        """The fields of the state row."""
        (aa, ab), (_, bb) = self.information.tolist()
        some = self.told[0].bins.any()
        bins = [number for told in self.told for number in told.bins.reshape(-1).tolist()]
        sums = [told.brier for told in self.told] + [told.nll for told in self.told]
        return {
            "median": self.median, "median_run": self.run, "slope": float(self.weights[0]),
            "bias": float(self.weights[1]), "info_slope": aa, "info_both": ab, "info_bias": bb,
            "logit": self.waiting, "samples": self.samples, "bins": bins if some else [],
            "sums": sums if some else [],
        }  # fmt: skip
