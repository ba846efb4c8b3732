"""How well a memory answers a question.

    score = sim * i^alpha * 2^(-dt / tau) * product of f_j^w_j

sim = max(0, q·v) of unit vectors, i the importance in (0, 1], dt the age, tau its half-life, f_j
further features in [0, 1] with weights w_j >= 0 whose sum is at most 1. So each factor is in [0, 1]
and the score, too. At alpha = 1 and without features it is similarity, weighted by importance and
forgetting (Ebbinghaus 1885; as in Park et al. 2023, with a product instead of a sum).

All of it is float64, and a row's similarity doesn't depend on which rows stand beside it: equal
memories have equal scores, and ids break the tie.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]

HALF_LIVES_MAX = 1000.0  # after which a memory counts as forgotten: 2^-1000 is near the least float
MICROS = 1e6  # microseconds of a second


def unit(vector: Numbers) -> Floats:
    """A vector (d,) of length 1; one without any direction stays zero. ValueError unless finite.

    It is divided by its largest component first, so that the squares of 1e300 are no infinity.
    """
    given = np.asarray(vector, np.float64)
    most = float(np.max(np.abs(given))) if given.size else 0.0
    if not math.isfinite(most):
        raise ValueError("has a number that isn't finite")
    if most == 0.0:
        return np.zeros_like(given)
    scaled = given / most
    return np.asarray(scaled / math.sqrt(float(scaled @ scaled)), np.float64)


def similarity(rows: Numbers, query: Floats) -> Floats:
    """max(0, q·v) of unit rows (n, d) and a unit query (d,), at most 1; row by row."""
    products = (np.asarray(rows, np.float64) * query).sum(axis=1)
    return np.asarray(np.clip(products, 0.0, 1.0), np.float64)


def decay(age_s: Numbers, half_life_s: float) -> Floats:
    """2^(-age / half-life): 1 at no age (or a time to come), 0.5 after one half-life.

    A half-life of infinity: nothing is forgotten.
    """
    past = np.maximum(np.asarray(age_s, np.float64), 0.0)
    if math.isinf(half_life_s):
        return np.ones_like(past)
    lives = past / half_life_s
    return np.where(lives > HALF_LIVES_MAX, 0.0, np.exp2(-np.minimum(lives, HALF_LIVES_MAX)))


def features(values: Numbers, weights: Numbers) -> Floats:
    """The product of f_j^w_j, for values (n, m) in [0, 1] and weights (m,).

    ValueError: weights below 0, or above 1 in all.
    """
    power = np.asarray(weights, np.float64)
    if np.any(power < 0.0) or float(power.sum()) > 1.0:
        raise ValueError("the weights of features are at least 0 and at most 1 in all")
    inside = np.clip(np.asarray(values, np.float64), 0.0, 1.0)
    return np.asarray((inside**power).prod(axis=1), np.float64)


def score(
    sim: Numbers, importance: Numbers, age_s: Numbers, alpha: float, half_life_s: float,
    more: Numbers | float = 1.0,
) -> Floats:  # fmt: skip
    """The score of each of n memories; `more`: what `features` gave, if there are any."""
    known = np.clip(np.asarray(sim, np.float64), 0.0, 1.0)
    weight = np.asarray(importance, np.float64) ** alpha * decay(age_s, half_life_s)
    return np.asarray(known * weight * more, np.float64)
