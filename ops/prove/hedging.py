"""The fusion law's arithmetic, written again for the verifier: maps of numbers.

AdaHedge: de Rooij, van Erven, Grünwald, Koolen, JMLR 2014. Fixed share: Herbster, Warmuth 1998.
Nothing here is in a hurry: the formulae stand as they are in the text, in exact order.
"""

import math

Numbers = dict[str, float]  # by domain


def normalised(weights: Numbers) -> Numbers:
    """Weights that sum to 1."""
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def rate(delta: float, count: int) -> float:
    """η = ln N / Δ, infinite at Δ = 0."""
    return math.inf if delta <= 0.0 else math.log(count) / delta


def hedge_weights(cumulative: Numbers, eta: float) -> Numbers:
    """w ∝ exp(-η(L - min L)); at η = ∞ equal weights on the minimisers."""
    low = min(cumulative.values())
    if eta == math.inf:
        return normalised({name: float(x == low) for name, x in cumulative.items()})
    return normalised({name: math.exp(-eta * (x - low)) for name, x in cumulative.items()})


def mix_loss(weights: Numbers, losses: Numbers, eta: float) -> float:
    """m = -ln(w·e^{-ηℓ}) / η; at η = ∞ the least loss that has weight."""
    low = min(losses[name] for name, w in weights.items() if w > 0.0)
    if eta == math.inf:
        return low
    terms = [w * math.expm1(-eta * (losses[name] - low)) for name, w in weights.items() if w > 0.0]
    return low - math.log1p(math.fsum(terms)) / eta


def hedge_round(
    cumulative: Numbers, losses: Numbers, delta: float
) -> tuple[Numbers, Numbers, float]:
    """One round of AdaHedge: (new cumulative losses, new weights, new Δ)."""
    count = len(losses)
    after = {name: cumulative[name] + losses[name] for name in losses}
    if count > 1:
        eta = rate(delta, count)
        weights = hedge_weights(cumulative, eta)
        h = math.fsum(weights[name] * losses[name] for name in losses)
        delta += max(0.0, h - (_softmin(after, eta) - _softmin(cumulative, eta)))
    return after, hedge_weights(after, rate(delta, count)), delta


def _softmin(cumulative: Numbers, eta: float) -> float:
    """-ln(mean e^{-ηL}) / η up to a constant that cancels: the mix loss of a whole past."""
    low = min(cumulative.values())
    if eta == math.inf:
        return low
    return low - math.log(math.fsum(math.exp(-eta * (x - low)) for x in cumulative.values())) / eta


def share_round(
    weights: Numbers, losses: Numbers, share: float, delta: float
) -> tuple[Numbers, float]:
    """One round of fixed share with a leaking Δ: (new weights, new Δ)."""
    count = len(losses)
    if count == 1:
        return dict.fromkeys(weights, 1.0), (1.0 - share) * delta
    eta = rate(delta, count)
    h = math.fsum(weights[name] * losses[name] for name in losses)
    gap = max(0.0, h - mix_loss(weights, losses, eta))
    low = min(losses[name] for name, w in weights.items() if w > 0.0)
    shrunk = {
        name: w * (1.0 if losses[name] == low else math.exp(-eta * (losses[name] - low)))
        if w > 0.0 else 0.0
        for name, w in weights.items()
    }  # fmt: skip
    mixed = {name: (1.0 - share) * w + share / count for name, w in normalised(shrunk).items()}
    return mixed, (1.0 - share) * delta + gap


def softmax(losses: Numbers) -> Numbers:
    """The seed law: w ∝ exp(c), c = 1 - ℓ."""
    return normalised({name: math.exp(-loss) for name, loss in losses.items()})


def leaning(weights: Numbers, priors: Numbers) -> Numbers:
    """w ∝ w·prior; the same where every prior is 1."""
    if all(prior == 1.0 for prior in priors.values()):
        return dict(weights)
    return normalised({name: w * priors[name] for name, w in weights.items()})


def tempered(weights: Numbers, temperature: float) -> Numbers:
    """w ∝ w^(1/T)."""
    if temperature == 1.0:
        return dict(weights)
    top = max(weights.values())
    raised = {
        name: math.exp(math.log(w / top) / temperature) if w > 0.0 else 0.0
        for name, w in weights.items()
    }
    return normalised(raised)


def entropy(weights: Numbers) -> float:
    """H(w) / ln N; 0 with one domain."""
    if len(weights) == 1:
        return 0.0
    h = -math.fsum(w * math.log(w) for w in weights.values() if w > 0.0)
    return min(1.0, max(0.0, h / math.log(len(weights))))


def capped(weights: Numbers, cap: float, first: str) -> Numbers:
    """softmax(ln w / T') with the T' < 1 that brings the entropy down to `cap`.

    Domains that tie for the top stay tied at any T'; where that alone is above the cap, `first`
    gets as much more of their weight as it takes.
    """
    if cap >= 1.0 or entropy(weights) <= cap:
        return weights
    top = max(weights.values())
    tied = {name: float(w == top) for name, w in weights.items()}
    if entropy(normalised(tied)) > cap:
        even = normalised(tied)
        low, high = 0.0, 1.0
        for _ in range(200):
            middle = 0.5 * (low + high)
            low, high = (
                (middle, high) if entropy(_tilted(even, first, middle)) > cap else (low, middle)
            )
        return _tilted(even, first, high)
    low, high = 1.0, 2.0
    while entropy(tempered(weights, 1.0 / high)) > cap:
        low, high = high, 2.0 * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (
            (middle, high) if entropy(tempered(weights, 1.0 / middle)) > cap else (low, middle)
        )
    return tempered(weights, 1.0 / high)


def _tilted(even: Numbers, first: str, part: float) -> Numbers:
    return {name: (1.0 - part) * w + part * (name == first) for name, w in even.items()}


def regret_bound(rounds: int, count: int) -> float:
    """√(T ln N) + (16/3) ln N + 2."""
    return math.sqrt(rounds * math.log(count)) + 16.0 / 3.0 * math.log(count) + 2.0
