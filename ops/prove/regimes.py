"""The other laws that find changes: hidden Markov model, run lengths.

Rabiner, "A Tutorial on Hidden Markov Models" (1989), Page, "Continuous Inspection Schemes" (1954),
for the place of a change of state; Adams and MacKay, "Bayesian Online
Changepoint Detection" (2007). Written again for the verifier; see changes.py for the points.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ops.prove.changes import NEAR, Change, Points

Floats = NDArray[np.float64]

RING = 104  # points that a change may lie back, at most
STABLE_FIRST = 15  # points before the filter, which the stable state learns from
RATE = 0.003
MOST_WIDE = 1000.0  # times the stable state's variance, where the volatile one is off
RUNS = 200  # run lengths that are told apart
RUNS_FIRST = 10  # points before the first run length
SIDE = 5
KAPPA, ALPHA, BETA = 1.0, 3.0, 1.0
SURE = 0.9
FAR = 1e15  # units: points further off count as this


@dataclass
class Hmm:
    """Two states, each with a level and a variance, and the probability of the volatile one."""

    p: float = 0.0
    level: float = 0.0
    variance: float = 0.0
    high: float = 0.0
    wide: float = 0.0
    on: bool = False
    since: int = -1  # the point from which on the other state has gained
    gained: float = 0.0  # by so much, in logarithms
    ties: int = 0

    def step(
        self, points: Points, stay: float, up: float, down: float, declared: int | None
    ) -> Change | None:
        """After a point: the change of state declared there. `declared`: where, by the log."""
        count, x = len(points.values), points.values[-1]
        if count <= STABLE_FIRST:
            return None
        if self.since < 0:
            self._begin(points)
        elif (now := points.astray(self.level, math.sqrt(self.variance))) is not None:
            self._settle(now[0], now[1] * now[1])
        spread = points.scales()[1]
        self.variance = max(self.variance, 1e-12 * spread * spread)
        if not self.variance > 0.0:
            return None
        ratio = self._filter(x, stay)
        self._learn(x)
        if self.gained <= 0.0:
            self.gained, self.since = 0.0, count - 1
        self.gained += -ratio if self.on else ratio
        if not self._crossed(down if self.on else up, declared):
            return None
        point = max(self.since, count - RING + 1)
        sure = 1.0 - self.p if self.on else self.p
        self.on, self.gained = not self.on, 0.0
        return Change(point, sure)

    def rest(self) -> None:
        """Forget the filter: it is off, and begins anew when it is on again."""
        self.since = -1

    def _begin(self, points: Points) -> None:
        """The stable state learns from the points before the filter's first."""
        before = points.tamed(points.values[-STABLE_FIRST - 1 : -1])
        self._settle(float(np.mean(before)), float(np.var(before)))

    def _settle(self, level: float, variance: float) -> None:
        """The stable state is so, and on; the volatile one begins there."""
        self.level, self.variance = level, variance
        self.high, self.wide = level, 9.0 * variance
        self.p, self.gained, self.on = 0.0, 0.0, False

    def _crossed(self, limit: float, declared: int | None) -> bool:
        crossed = self.p < limit if self.on else self.p > limit
        if abs(self.p - limit) <= NEAR and crossed != (declared is not None):
            self.ties += 1
            return not crossed
        return crossed

    def _filter(self, x: float, stay: float) -> float:
        """The forward step; the point's log-likelihood ratio, at most 4 either way."""
        wide = max(self.wide, 4.0 * self.variance)
        low, high = x - self.level, x - self.high  # as products, large ones become infinite
        ratio = 0.5 * (
            low * low / self.variance - high * high / wide - math.log(wide / self.variance)
        )
        prior = self.p * stay + (1.0 - self.p) * (1.0 - stay)
        ratio = max(-4.0, min(4.0, ratio))
        odds = prior / (1.0 - prior) * math.exp(ratio)
        self.p = odds / (1.0 + odds)
        return ratio

    def _learn(self, x: float) -> None:
        """Running means, each state's in proportion to its probability."""
        calm, wild = RATE * (1.0 - self.p), 2.0 * RATE * self.p
        distance = float(np.clip(x - self.level, *reach(3.0, self.variance)))
        self.level += calm * distance
        self.variance += calm * (distance * distance - self.variance)
        distance = float(np.clip(x - self.high, *reach(5.0, self.wide)))
        self.high += wild * distance
        wide = self.wide + wild * (distance * distance - self.wide)
        self.wide = max(wide, 4.0 * self.variance)
        if not self.on:
            self.wide = min(self.wide, MOST_WIDE * self.variance)
            most = reach(math.sqrt(MOST_WIDE), self.variance)
            self.high = self.level + float(np.clip(self.high - self.level, *most))


def reach(deviations: float, variance: float) -> tuple[float, float]:
    """So many standard deviations, either way."""
    return -deviations * math.sqrt(variance), deviations * math.sqrt(variance)


@dataclass
class Bocpd:
    """Probabilities of the run lengths 0, 1, …, and each one's posterior mean and sum of squares.

    Points count from `mean` in units of `scale`. No probabilities: it hasn't begun.
    """

    mean: float = 0.0
    scale: float = 0.0
    start: int = 0  # the first point after the last change
    p: Floats = field(default_factory=lambda: np.zeros(0))
    means: Floats = field(default_factory=lambda: np.zeros(0))
    betas: Floats = field(default_factory=lambda: np.zeros(0))
    ties: int = 0

    def stop(self) -> None:
        """Forget the run lengths: another law has been chosen."""
        self.p = self.means = self.betas = np.zeros(0)

    def step(self, points: Points, hazard: float, declared: int | None) -> Change | None:
        """After a point: the change declared there. `declared`: where, by the log."""
        count = len(points.values)
        known = 1
        if not len(self.p):
            if count < RUNS_FIRST or not self._begin(points):
                return None
            known = RUNS_FIRST
        elif (now := points.astray(self.mean, self.scale)) is not None:
            known = min(count - self.start, RING)
            self.mean, self.scale = now
            self._clear(count - known)
        for value in points.values[-known:]:
            x = (value - self.mean) / max(self.scale, 1e-300)
            self._grow(min(FAR, max(-FAR, x)), 1.0 / hazard)
        recent = self.p[SIDE : max(SIDE, min(len(self.p), count - self.start - SIDE + 1, RING))]
        mass = float(np.cumsum(recent)[-1]) if len(recent) else 0.0
        sure = mass > SURE
        if len(recent) and abs(mass - SURE) <= NEAR and sure != (declared is not None):
            self.ties += 1
            sure = not sure
        if not sure:
            return None
        likely = SIDE + int(np.argmax(recent))
        other = -1 if declared is None else count - declared - SIDE
        if 0 <= other < len(recent) and 0.0 <= self.p[likely] - recent[other] <= NEAR:
            self.ties += other + SIDE != likely
            likely = other + SIDE
        self.start = count - likely
        return Change(self.start, mass)

    def _begin(self, points: Points) -> bool:
        """What the series is measured by; False: it never moved."""
        scale = points.scales()[0]
        if not scale > 0.0:
            return False
        self.mean, self.scale = float(np.mean(points.tamed(points.values[-RUNS_FIRST:]))), scale
        self._clear(len(points.values) - RUNS_FIRST)
        return True

    def _clear(self, first: int) -> None:
        """The first run length begins at a point."""
        self.start = first
        self.p, self.means, self.betas = np.ones(1), np.zeros(1), np.full(1, BETA)

    def _grow(self, x: float, hazard: float) -> None:
        """One more point: each run goes on or ends; the predictive density is Student's t."""
        n = np.arange(len(self.p))
        kappa, alpha = KAPPA + n, ALPHA + 0.5 * n
        dof = 2.0 * alpha
        square = dof * self.betas * (kappa + 1.0) / (alpha * kappa)
        density = (
            gammaln(0.5 * (dof + 1.0)) - gammaln(0.5 * dof) - 0.5 * np.log(np.pi * square)
            - 0.5 * (dof + 1.0) * np.log1p((x - self.means) ** 2 / square)
        )  # fmt: skip
        mass = self.p * np.exp(density - density.max())
        grown = np.concatenate(([mass.sum() * hazard], mass * (1.0 - hazard)))
        self.p = grown / mass.sum()
        self.betas = np.append(
            BETA, self.betas + 0.5 * kappa * (x - self.means) ** 2 / (kappa + 1.0)
        )
        self.means = np.append(0.0, self.means + (x - self.means) / (kappa + 1.0))
        if len(self.p) > RUNS:
            self.p[RUNS - 1] += self.p[RUNS]
            self.p, self.means, self.betas = self.p[:RUNS], self.means[:RUNS], self.betas[:RUNS]
