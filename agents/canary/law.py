"""Is the canary group worse off than before, next to the control group? Asked after each block.

A block is a second of the log's time. In each, D is the canary group's mean less the control
group's, of a metric that is better the less it is; each tenant counts from its own mean before the
start, so that tenants may differ. What moves both groups alike drops out of D. The question is
whether D's mean after the setting was put on is another than before: two samples, of which the
second grows, with an unknown common mean and variance.

For these two nuisances with their right Haar prior, and a difference that is N(0, σ²/φ) where there
is one, the Bayes factor is a test martingale under every null of the normal model: it may be looked
at whenever one likes, and exceeds 1/α ever with a probability of at most α (Ville). It is that of
Lindon, Ham, Tingley and Bojinov, "Anytime-valid linear models and regression adjusted causal
inference in randomized experiments" (2022), for one coefficient:

    E = √(φ/(φ+n)) · ((1 + t²/ν) / (1 + φ/(φ+n) · t²/ν))^((ν+1)/2)

with n = n₀n₁/(n₀+n₁), ν = n₀+n₁−2 and Student's t. Seconds that follow each other aren't quite
independent: n and ν are taken smaller by (1−ρ)/(1+ρ), for ρ the correlation of neighbours, where
that is positive. What befalls single tenants may last for longer: of the difference's variance by
time and that by tenants (how far apart those of a group have moved since before; of the control
group alone where that is twice as large, for a setting acts on one more than on another), the
greater one counts, and the fewer degrees of freedom. Both only take evidence away. Counts that are
rare aren't normal: their variance is taken for that of so many events more (`EVENTS`). All these
are approximations; tests simulate them.
"""

import math
from dataclasses import astuple, dataclass
from typing import Self

METRICS = ("error", "regret", "leader_changes", "boundaries")  # the less of each the better
COUNTED = ("leader_changes", "boundaries")  # of these events are few
ALPHA = 0.05  # chance that a setting that changes nothing is ever called worse, or better
PHI = 0.1  # what harms does so by a few standard deviations of a block
EVENTS = 8.0
RHO_MAX = 0.95
LEAST = 5  # blocks before anything is said: the mean of fewer isn't nearly normal

WORSE, BETTER = "worse", "better"


@dataclass(slots=True)
class Sums:
    """What is kept of a series of D."""

    n: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    lagged: float = 0.0  # sum of the products of neighbours
    first: float = 0.0
    last: float = 0.0

    def add(self, d: float) -> None:
        """Take the next one, which is finite."""
        if self.n:
            self.lagged += d * self.last
        else:
            self.first = d
        self.n, self.total, self.squares = self.n + 1, self.total + d, self.squares + d * d
        self.last = d

    @property
    def mean(self) -> float:
        """Their mean; 0 of none."""
        return self.total / self.n if self.n else 0.0

    @property
    def spread(self) -> float:
        """Sum of the squared distances from the mean."""
        return max(0.0, self.squares - self.n * self.mean**2)

    @property
    def neighbours(self) -> float:
        """Sum of the products of neighbours' distances from the mean."""
        m = self.mean
        return self.lagged - m * (2 * self.total - self.first - self.last) + (self.n - 1) * m * m

    @property
    def numbers(self) -> list[float]:
        """As a row keeps them."""
        return list(astuple(self))

    @classmethod
    def of(cls, numbers: list[float]) -> Self:
        """From a row."""
        return cls(*numbers)


@dataclass(frozen=True, slots=True)
class Apart:
    """How far tenants of a group have moved apart: the variance that D's mean has by that."""

    variance: float = 0.0
    freedom: int = 0  # 0: there are too few tenants to tell


def evidence(before: Sums, after: Sums, quantum: float = 0.0, apart: Apart = Apart()) -> float:
    """The logarithm of E: how much more likely a difference is than none; 0 where nothing says so.

    `quantum`: of a counted metric, by how much one event moves D; 0 of others.
    """
    if before.n < 2 or after.n < 1:
        return 0.0
    spread = before.spread + after.spread + EVENTS * quantum**2
    if spread <= 0.0:
        return 0.0  # nothing has ever moved: there is no measure of what would be much
    keep = _independent(before, after, spread)
    n = keep * before.n * after.n / (before.n + after.n)
    freedom = max(1.0, keep * (before.n + after.n) - 2)
    variance = spread / (before.n + after.n - 2) / n
    if apart.freedom:
        freedom = min(freedom, apart.freedom)
        n *= variance / max(variance, apart.variance)
        variance = max(variance, apart.variance)
    t2 = (after.mean - before.mean) ** 2 / variance
    shrunk = PHI / (PHI + n)
    ratio = math.log1p(t2 / freedom) - math.log1p(shrunk * t2 / freedom)
    return 0.5 * math.log(shrunk) + 0.5 * (freedom + 1) * ratio


def _independent(before: Sums, after: Sums, spread: float) -> float:
    """Which part of the blocks counts, for neighbours are alike."""
    rho = (before.neighbours + after.neighbours) / spread
    rho = min(RHO_MAX, max(0.0, rho))
    return (1 - rho) / (1 + rho)


def bar(alpha: float = ALPHA) -> float:
    """The logarithm of E from which on it is said; each metric has an equal share of alpha."""
    return math.log(len(METRICS) / alpha)


def p_value(most: float) -> float:
    """The always valid p-value of all metrics, of the greatest log E that one had so far."""
    return min(1.0, len(METRICS) * math.exp(-max(0.0, most)))


def verdict(found: float, before: Sums, after: Sums, alpha: float = ALPHA) -> str:
    """WORSE, BETTER, or nothing yet, of the evidence that was found."""
    if after.n < LEAST or found < bar(alpha):
        return ""
    return WORSE if after.mean > before.mean else BETTER
