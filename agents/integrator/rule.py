"""The integrator's law: which domain to believe, learned from losses as they come.

Sources: AdaHedge: S. de Rooij, T. van Erven, P. Grünwald and W. Koolen, "Follow the Leader If You
Can, Hedge If You Must", JMLR 15 (2014). Fixed share: M. Herbster and M. Warmuth, "Tracking the Best
Expert", Machine Learning 32 (1998).

Shapes: every array has one number per fresh domain (n of them, 1 <= n <= 16), in the tenant's slot
order, and sums run in that order. Weights are >= 0 and sum to 1. Losses lie in [0, 1]. Nothing here
has a unit. Functions that end in `_round` change their arrays in place and return the new Δ.
"""

import math

import numpy as np
from numpy.typing import NDArray

from topics.compiled import kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CAP_TOLERANCE = 1e-9  # how far below the entropy cap the bisection may stop
BISECTIONS = 200  # at most: a double has 53 bits and 11 of exponent, and it stops long before
SHARPEST = 1e20  # weights that differ at all are 0 and 1 there: sharper changes nothing
BOUND_LOG = 16.0 / 3.0  # of ln N in AdaHedge's bound (de Rooij et al. 2014, theorem 8)


@kernel
def loss(error: float, alpha: float) -> float:
    """1 - exp(-alpha * error): the loss of a prediction that was wrong by `error` >= 0."""
    return -math.expm1(-alpha * error)


@kernel
def eta(delta: float, n: int) -> float:
    """The learning rate ln N / Δ; infinite while no gap has been met."""
    if delta <= 0.0:
        return math.inf
    return math.log(n) / delta


@kernel
def dot(w: Floats, x: Floats) -> float:
    """Σ w·x in slot order."""
    total = 0.0
    for k in range(w.shape[0]):
        total += w[k] * x[k]
    return total


@kernel
def lowest(x: Floats) -> float:
    """The least of the numbers."""
    low = x[0]
    for k in range(1, x.shape[0]):
        low = min(low, x[k])
    return float(low)


@kernel
def normalise(w: Floats) -> None:
    """w ← w / Σ w."""
    total = 0.0
    for k in range(w.shape[0]):
        total += w[k]
    for k in range(w.shape[0]):
        w[k] /= total


@kernel
def mix_gap(w: Floats, losses: Floats, rate: float) -> float:
    """h - m with h = w·ℓ and m = -ln(w·e^{-ηℓ}) / η; >= 0. An infinite η: m = the least ℓ.

    Losses count from the least one that has weight. ln(1 + Σ w·(e^{-ηx} - 1)) keeps its digits when
    η is small, ln(Σ w·e^{-ηx}) when nearly all weight is on domains that lose much.
    """
    low = math.inf
    for k in range(w.shape[0]):
        if w[k] > 0.0:
            low = min(low, losses[k])
    h = 0.0
    shrunk = 0.0
    for k in range(w.shape[0]):
        if w[k] > 0.0:
            x = losses[k] - low
            h += w[k] * x
            if x > 0.0:
                shrunk += w[k] * math.expm1(-rate * x)
    if h == 0.0 or rate == math.inf:
        return h
    if shrunk > -0.5:
        return max(0.0, h + math.log1p(shrunk) / rate)
    z = 0.0
    for k in range(w.shape[0]):
        if w[k] > 0.0:
            z += w[k] * math.exp(-rate * (losses[k] - low))
    return max(0.0, h + math.log(z) / rate)


@kernel
def hedge(excess: Floats, rate: float, w: Floats) -> None:
    """w ∝ exp(-η·(L - min L)); an infinite η: all weight on the minimisers, equally."""
    low = lowest(excess)
    for k in range(w.shape[0]):
        x = excess[k] - low
        if x == 0.0:
            w[k] = 1.0
        else:
            w[k] = math.exp(-rate * x)
    normalise(w)


@kernel
def hedge_gap(excess: Floats, losses: Floats, w: Floats, rate: float) -> float:
    """The mixability gap of `hedge` weights, with m from the cumulative losses where η is large.

    There m = softmin(L + ℓ) - softmin(L): a weight may be too small for a float and yet decide m
    (its domain lags by less than the others lose now). With η < 1 no such weight counts.
    """
    if rate < 1.0:
        return mix_gap(w, losses, rate)
    before = lowest(excess)
    after = math.inf
    for k in range(w.shape[0]):
        after = min(after, excess[k] + losses[k])
    m = after - before
    if rate < math.inf:
        z0 = 0.0
        z1 = 0.0
        for k in range(w.shape[0]):
            z0 += math.exp(-rate * (excess[k] - before))
            z1 += math.exp(-rate * (excess[k] + losses[k] - after))
        m -= math.log(z1 / z0) / rate
    return max(0.0, dot(w, losses) - m)


@kernel
def hedge_round(excess: Floats, losses: Floats, w: Floats, delta: float) -> float:
    """One round of AdaHedge: the gap by the state's weights, then L += ℓ, then the new weights."""
    n = w.shape[0]
    rate = eta(delta, n)
    hedge(excess, rate, w)
    if n > 1:
        delta += hedge_gap(excess, losses, w, rate)
    for k in range(n):
        excess[k] += losses[k]
    hedge(excess, eta(delta, n), w)
    return delta


@kernel
def share_round(w: Floats, losses: Floats, share: float, delta: float) -> float:
    """One round of fixed share: w ← normalise(w·e^{-ηℓ}), w ← (1 - share)·w + share/N.

    Δ ← (1 - share)·Δ + gap: without that leak η dies in an endless stream.
    """
    n = w.shape[0]
    if n == 1:
        w[0] = 1.0
        return (1.0 - share) * delta
    rate = eta(delta, n)
    gap = mix_gap(w, losses, rate)
    low = math.inf
    for k in range(n):
        if w[k] > 0.0:
            low = min(low, losses[k])
    for k in range(n):
        x = losses[k] - low
        if x != 0.0 and w[k] > 0.0:
            w[k] *= math.exp(-rate * x)
    normalise(w)
    for k in range(n):
        w[k] = (1.0 - share) * w[k] + share / n
    return (1.0 - share) * delta + gap


@kernel
def softmax_round(losses: Floats, w: Floats) -> None:
    """The law without memory: w ∝ exp(c) with c = exp(-α·e) = 1 - ℓ (`temper` gives exp(c/T))."""
    low = lowest(losses)
    for k in range(w.shape[0]):
        w[k] = math.exp(low - losses[k])
    normalise(w)


@kernel
def enter_hedge(excess: Floats, published: Floats) -> None:
    """Domains that weren't in the last round (published < 0) get the least L of those that were."""
    low = math.inf
    for k in range(excess.shape[0]):
        if published[k] >= 0.0:
            low = min(low, excess[k])
    for k in range(excess.shape[0]):
        if published[k] < 0.0:
            excess[k] = 0.0 if low == math.inf else low


@kernel
def enter_share(w: Floats, published: Floats, share: float) -> None:
    """Domains that weren't in the last round (published < 0) get share/N, the others the rest."""
    n = w.shape[0]
    new = 0
    kept = 0.0
    for k in range(n):
        if published[k] < 0.0:
            new += 1
        else:
            kept += w[k]
    for k in range(n):
        if new == n or kept <= 0.0:
            w[k] = 1.0 / n
        elif published[k] < 0.0:
            w[k] = share / n
        else:
            w[k] *= (1.0 - new * share / n) / kept


@kernel
def mixed_loss(published: Floats, losses: Floats) -> float:
    """What following the last frame's weights costs now: over the domains that had one.

    The mean of the losses where nothing had been published about any of them.
    """
    n = losses.shape[0]
    total = 0.0
    weight = 0.0
    plain = 0.0
    for k in range(n):
        plain += losses[k]
        if published[k] > 0.0:
            weight += published[k]
            total += published[k] * losses[k]
    return total / weight if weight > 0.0 else plain / n


@kernel
def lean(w: Floats, prior: Floats, out: Floats) -> None:
    """out ∝ w·prior; w itself, to the bit, where every prior is 1."""
    plain = True
    for k in range(w.shape[0]):
        out[k] = w[k] * prior[k]
        plain = plain and prior[k] == 1.0
    if not plain:
        normalise(out)


@kernel
def temper(w: Floats, temperature: float, out: Floats) -> None:
    """out ∝ w^(1/T)."""
    top = 0.0
    for k in range(w.shape[0]):
        top = max(top, w[k])
    for k in range(w.shape[0]):
        if temperature == 1.0:
            out[k] = w[k]
        elif w[k] > 0.0:
            out[k] = math.exp(math.log(w[k] / top) / temperature)
        else:
            out[k] = 0.0
    if temperature != 1.0:
        normalise(out)


@kernel
def entropy(p: Floats) -> float:
    """H(p) / ln N in [0, 1]; 0 with one domain."""
    n = p.shape[0]
    if n == 1:
        return 0.0
    h = 0.0
    for k in range(n):
        if p[k] > 0.0:
            h -= p[k] * math.log(p[k])
    return min(1.0, max(0.0, h / math.log(n)))


@kernel
def sharpen(logs: Floats, power: float, p: Floats) -> float:
    """p ∝ exp(power·logs), the largest of `logs` being 0; returns its entropy."""
    for k in range(p.shape[0]):
        if logs[k] == 0.0:
            p[k] = 1.0
        else:
            p[k] = math.exp(power * logs[k])
    normalise(p)
    return entropy(p)


@kernel
def tilt(logs: Floats, first: int, part: float, p: Floats) -> float:
    """Those that tie for the top share 1 - part, `first` gets part more; returns the entropy."""
    ties = 0
    for k in range(p.shape[0]):
        ties += logs[k] == 0.0
    for k in range(p.shape[0]):
        p[k] = (1.0 - part) / ties if logs[k] == 0.0 else 0.0
    p[first] += part
    return entropy(p)


@kernel
def cap_entropy(p: Floats, cap: float, first: int, logs: Floats) -> float:
    """Bring H(p)/ln N down to `cap` if it is above; returns it. `logs` is room for n numbers.

    p ← softmax(ln p / T') with T' < 1 found by bisection: cap - 1e-9 <= H/ln N <= cap. Domains that
    tie exactly for the top stay tied at any T': where that alone breaks the cap, `first` (the one
    that would lead) gets as much more as it takes.
    """
    h = entropy(p)
    if h <= cap:
        return h
    top = 0.0
    for k in range(p.shape[0]):
        top = max(top, p[k])
    for k in range(p.shape[0]):
        logs[k] = math.log(p[k] / top) if p[k] > 0.0 else -math.inf
    low, high = 1.0, 2.0
    while high < SHARPEST and sharpen(logs, high, p) > cap:
        low, high = high, 2.0 * high
    tied = sharpen(logs, high, p) > cap
    if tied:
        low, high = 0.0, 1.0
    h = 0.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        h = tilt(logs, first, middle, p) if tied else sharpen(logs, middle, p)
        if h > cap:
            low = middle
        else:
            high = middle
            if cap - h <= CAP_TOLERANCE:
                return h
    return tilt(logs, first, high, p) if tied else sharpen(logs, high, p)


@kernel
def top(p: Floats, rank: Ints) -> int:
    """The domain with the most weight; of equals the one that comes first in the order of ties."""
    best = 0
    for k in range(1, p.shape[0]):
        if p[k] > p[best] or (p[k] == p[best] and rank[k] < rank[best]):
            best = k
    return best


@kernel
def elect(p: Floats, rank: Ints, leader: int, margin: float, dwelt: bool) -> int:
    """Who leads now. `leader` led so far (-1: none, or stale), `dwelt`: long enough to change."""
    challenger = top(p, rank)
    if leader < 0:
        return challenger
    if dwelt and p[challenger] - p[leader] > margin:
        return challenger
    return leader


@kernel
def regret_bound(rounds: int, n: int) -> float:
    """√(T ln N) + (16/3) ln N + 2, which AdaHedge's regret never exceeds (2014, theorem 8)."""
    return math.sqrt(rounds * math.log(n)) + BOUND_LOG * math.log(n) + 2.0
