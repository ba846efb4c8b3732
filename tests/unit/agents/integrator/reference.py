"""The law once more, plainly: NumPy and SciPy, dicts by name, one tenant. The kernels' oracle.

Written from the law's text, not from the kernels: log-sum-exp for every mix loss, a root finder for
the entropy cap. It agrees to rounding, not to the bit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

DEFAULTS: dict[str, Any] = {
    "fusion": "fixed_share", "alpha": 2.0, "share": 0.001, "temperature": 1.0, "entropy_cap": 1.0,
    "margin": 0.05, "min_dwell_ms": 50.0, "stale_after_ms": 10_000.0, "forget_after_s": 2_592_000.0,
}  # fmt: skip
SENIOR = {"state": 0, "agent": 1, "action": 2}

Floats = NDArray[np.float64]


def entropy(p: Floats) -> float:
    if len(p) == 1:
        return 0.0
    q = p[p > 0]
    return float(-(q * np.log(q)).sum() / np.log(len(p)))


def limit(scores: Floats) -> Floats:
    """softmax(scores * infinity)."""
    best = scores == scores.max()
    return best / best.sum()


def hedge_weights(excess: Floats, delta: float) -> Floats:
    if delta <= 0.0:
        return limit(-excess)
    return softmax(-np.log(len(excess)) / delta * excess)


def capped(p: Floats, cap: float) -> Floats:
    if entropy(p) <= cap:
        return p
    with np.errstate(divide="ignore"):
        logs = np.log(p / p.max())
    high = 2.0
    while entropy(softmax(high * logs)) > cap:
        high *= 2.0
    power = brentq(lambda x: entropy(softmax(x * logs)) - cap, 1.0, high, xtol=1e-14, rtol=1e-14)
    return softmax(power * logs)


class Tenant:
    def __init__(self, **settings: Any) -> None:
        self.of = DEFAULTS | settings
        self.domains: dict[str, dict[str, float]] = {}  # in slot order
        self.delta, self.rounds, self.regret = 0.0, 0, 0.0
        self.leader, self.since, self.late = "", 0, 0
        self.before: dict[str, float] = {}  # published by the last frame

    def seat(self, name: str, t: int) -> bool:
        forget, stale = self.of["forget_after_s"] * 1e6, self.of["stale_after_ms"] * 1e3
        self.domains = {d: v for d, v in self.domains.items() if t - v["seen"] <= forget}
        self.before = {d: p for d, p in self.before.items() if d in self.domains}
        if name in self.domains:
            return True
        new = {"seen": t, "w": 0.0, "L": 0.0, "loss": 0.0, "error": 0.0}
        if len(self.domains) < 16:
            self.domains[name] = new
            return True
        old = [d for d, v in self.domains.items() if t - v["seen"] > stale]
        if not old:
            return False
        victim = min(old, key=lambda d: self.domains[d]["seen"])
        self.before.pop(victim, None)
        swap = {victim: name}
        self.domains = {swap.get(d, d): new if d == victim else v for d, v in self.domains.items()}
        return True

    def update(self, name: str, error: float, t: int) -> dict[str, Any] | None:
        if not self.seat(name, t):
            return None
        moved = self.domains[name]
        self.late += t < moved["seen"]
        moved |= {
            "seen": max(t, moved["seen"]),
            "error": error,
            "loss": 1 - np.exp(-self.of["alpha"] * error),
        }
        fresh = [
            d for d, v in self.domains.items()
            if d == name or t - v["seen"] <= self.of["stale_after_ms"] * 1e3
        ]  # fmt: skip
        losses = np.array([self.domains[d]["loss"] for d in fresh])
        excess, w = self.learn(fresh, losses)
        low = excess.min()
        for d, x, y in zip(fresh, excess, w, strict=True):
            self.domains[d] |= {"L": x - low, "w": y}
        kept = [self.before.get(d, 0.0) for d in fresh]
        mixed = kept @ losses / sum(kept) if sum(kept) > 0 else losses.mean()
        self.regret += mixed - low
        self.rounds += 1
        with np.errstate(divide="ignore"):
            p = capped(softmax(np.log(w) / self.of["temperature"]), self.of["entropy_cap"])
        self.elect(fresh, p, t)
        self.before = dict(zip(fresh, p, strict=True))
        n, hedged = len(fresh), self.of["fusion"] == "hedge"
        bound = np.sqrt(self.rounds * np.log(n)) + 16 / 3 * np.log(n) + 2 if hedged else np.nan
        return {
            "ts": t,
            "domain": name,
            "leader": self.leader,
            "weights": self.before,
            "errors": {d: self.domains[d]["error"] for d in fresh},
            "confidence": self.before[self.leader],
            "entropy": entropy(p),
            "regret_bound": bound,
            "dwell_ms": max(0, t - self.since) // 1000,
        }

    def learn(self, fresh: list[str], losses: Floats) -> tuple[Floats, Floats]:
        """(cumulative losses, weights) after this round."""
        n, share = len(fresh), self.of["share"]
        was = np.array([d in self.before for d in fresh])
        excess = np.array([self.domains[d]["L"] for d in fresh])
        excess[~was] = excess[was].min() if was.any() else 0.0
        after = excess + losses
        if self.of["fusion"] == "softmax":
            return after, softmax(1 - losses)
        eta = np.log(n) / self.delta if self.delta > 0 else np.inf
        if self.of["fusion"] == "hedge":
            if n > 1 and np.isfinite(eta):
                m = -(logsumexp(-eta * after) - logsumexp(-eta * excess)) / eta
            else:
                m = after.min() - excess.min()
            if n > 1:
                self.delta += max(0.0, hedge_weights(excess, self.delta) @ losses - m)
            return after, hedge_weights(after, self.delta)
        w = np.array([self.domains[d]["w"] for d in fresh])
        if was.any():
            w[was] *= (1 - (~was).sum() * share / n) / w[was].sum()
            w[~was] = share / n
        else:
            w = np.full(n, 1 / n)
        if n == 1:
            self.delta *= 1 - share
            return after, np.ones(1)
        low = losses[w > 0].min()
        if np.isfinite(eta):
            m = low - logsumexp(-eta * (losses - low), b=w) / eta
            new = w * np.exp(-eta * (losses - low))
        else:
            m, new = low, w * (losses == low)
        self.delta = (1 - share) * self.delta + max(0.0, w @ losses - m)
        return after, (1 - share) * new / new.sum() + share / n

    def elect(self, fresh: list[str], p: Floats, t: int) -> None:
        order = {d: (SENIOR.get(d, 3), d.encode()) for d in fresh}
        first = min(fresh, key=lambda d: (-p[fresh.index(d)], order[d]))
        if self.leader in fresh:
            lead = p[fresh.index(first)] - p[fresh.index(self.leader)]
            if lead <= self.of["margin"] or t - self.since < self.of["min_dwell_ms"] * 1e3:
                return
        self.leader, self.since = first, t
