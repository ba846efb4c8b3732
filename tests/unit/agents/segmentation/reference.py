"""Oracles written from the papers' formulas, in plain Python and SciPy, point by point."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


def run_lengths(x: Floats, hazard: float, kappa: float, alpha: float, beta: float) -> Floats:
    """P(run length | x) after the last point: Adams and MacKay (2007), algorithm 1.

    Each run length's points are kept and its posterior formed anew from all of them (Murphy 2007,
    equations 85 to 89, with prior mean 0), so nothing is updated recursively but the probabilities.
    """
    mass = np.array([1.0])
    for t, point in enumerate(x):
        density = np.empty(t + 1)
        for r in range(t + 1):
            own = x[t - r : t]
            mean = float(own.mean()) if r else 0.0
            k, a = kappa + r, alpha + r / 2
            b = beta + ((own - mean) ** 2).sum() / 2 + kappa * r * mean**2 / (2 * k)
            spread = math.sqrt(b * (k + 1) / (a * k))
            density[r] = stats.t.pdf(point, 2 * a, r * mean / k, spread)
        joint = mass * density
        mass = np.append((joint / hazard).sum(), joint * (1 - 1 / hazard))
        mass /= mass.sum()
    return np.asarray(mass)


def forward(likelihoods: Floats, stay: float, start: float) -> Floats:
    """P(state 1 | points so far) of two sticky states: Rabiner (1989), (20), from P = `start` on.

    `likelihoods`: (n, 2), of each point under each state. Scaled at each step (his section V.A).
    """
    move = np.array([[stay, 1 - stay], [1 - stay, stay]])
    alpha, found = np.array([1 - start, start]), []
    for likelihood in likelihoods:
        alpha = (alpha @ move) * likelihood
        alpha /= alpha.sum()
        found.append(alpha[1])
    return np.array(found)
