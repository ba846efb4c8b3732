"""The law of the predictors: what one observation makes of one (tenant, domain).

State: the last vector x, and mean, m2 and weight W of all vectors so far, forgetting (Welford 1962;
with weights West 1979). For an observation x' and forgetting f, in this order:

1. ŷ from the state as it was: `heat` exp(-t·L)·x, `persistence` x, `mahal` mean.
2. W ← (1-f)·W + 1; for every component δ = x'-mean, mean ← mean + δ/W,
   m2 ← (1-f)·m2 + δ²·(1-1/W). So observation k of n counts (1-f)^(n-k), and var = m2/W.
3. e = mean_i (x'_i - ŷ_i)² / (var_i + ε), at most ERROR_MAX: var knows x' itself, so that one jump
   in a constant series is a large error, not an unbounded one.
4. From here on e is as the wire has it (float32). The raw confidence is exp(-α·e), at least
   CONFIDENCE_MIN; what is published is the calibrated one: see calibration.py. x ← x'.
5. The next event, with `next_events` on: ŷ as in step 1, from the state as it now is and the
   settings in force, as float32; with the confidence published in step 4.

A first observation, or one of another dimension, has no prediction: W ← 1, mean ← x', m2 ← 0,
e = NEUTRAL_ERROR, what a prediction no better than the mean has on average.
"""

import math

import numpy as np
from numpy.typing import NDArray

from agents.predictors.compiled import entry

Floats = NDArray[np.float64]

HEAT, PERSISTENCE, MAHAL = range(3)

EPSILON = 1e-12  # added to each variance
NEUTRAL_ERROR = 1.0
ERROR_MAX = 3e38  # the wire's float32 holds it
CONFIDENCE_MIN = 2.0**-126  # the smallest normal float32


@entry
def begin(seen: Floats, mean: Floats, m2: Floats, n: int) -> float:
    """The moments of a single observation. Returns its weight, 1."""
    for i in range(n):
        mean[i] = seen[i]
        m2[i] = 0.0
    return 1.0


@entry
def remember(
    seen: Floats, mean: Floats, m2: Floats, weight: float, n: int, forgetting: float
) -> float:
    """Step 2: takes an observation into the moments. Returns the new weight."""
    keep = 1.0 - forgetting
    weight = keep * weight + 1.0
    for i in range(n):
        delta = seen[i] - mean[i]
        mean[i] += delta / weight
        m2[i] = keep * m2[i] + delta * delta * (1.0 - 1.0 / weight)
    return weight


@entry
def error_of(seen: Floats, predicted: Floats, m2: Floats, weight: float, n: int) -> float:
    """Step 3: mean squared error in units of each component's variance; 0 <= e <= ERROR_MAX."""
    total = 0.0
    for i in range(n):
        miss = seen[i] - predicted[i]
        total += miss * miss / (m2[i] / weight + EPSILON)
    return min(total / n, ERROR_MAX)


@entry
def confidence_of(error: float, alpha: float) -> float:
    """Step 4: in (0, 1], and still in it as a float32."""
    return max(math.exp(-alpha * error), CONFIDENCE_MIN)


@entry
def narrow(value: float) -> float:
    """A value as the wire's float32 holds it."""
    return float(np.float32(value))
