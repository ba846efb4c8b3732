"""The law of the predictors: what one observation makes of one (tenant, domain).

State: the last vector x, and for each component a level m, a step d, a ratio r and two runs, j and
k, which count signed; s = r·d is how far observations lie from their level. All three are running
medians, moved by a factor at a time (quantiles by stochastic approximation, Robbins and Monro
1951), so that one observation moves them by a bounded factor, whatever it is; a long run on one
side moves them ever faster. For observation number n, x', and forgetting f, in this order, with
slow = max(f, 1/n) and quick = max(3f, 1/n):

1. ŷ from the state as it was: `heat` exp(-t·L)·x, `persistence` x, `mahal` m.
2. For every component:
   - The step, the median of |x'-x| where it isn't 0 (a pause says nothing of how far the next move
     goes). If 0, d becomes |x'-x| / √min(n-1, 100), as a variance has it of one move among so many.
     Else j grows by one on the same side (above d, or not), or begins with 1 on the other, up to
     15; and d goes up or down by the factor min(1 + quick·2^max(0, |j|-7), 8). Steps tell a series
     that became quieter from a random walk that is near its level.
   - From here on only where d > 0. Far is x' if |x'-m| > 3·CONSISTENT·r·d. If far, k grows as j
     does (x' above m, or not), up to 48, and is at least 24 where x' came by more than 6 times what
     d was, or where |j| > 7: the level may have moved. Else k is 0.
   - The ratio, with |k| <= 32 (a level that follows teaches nothing about distances): up by the
     factor 1 + slow where |x'-m| > r·d, else down by it, then clipped to [1/2, 2^24]: from
     neighbours that alternate about the level, to all that a float32 can resolve.
   - The level: m moves towards x' by slow·4^max(0, |k|-32)·r·d, at most to x'.
3. e = mean_i miss²/(scale² + miss²/100) with miss = x'_i - ŷ_i and scale = CONSISTENT·r·d, which is
   the standard deviation of normal observations; 0 where miss is 0. So one jump in a constant
   series is a large error, not an unbounded one. `heat` mixes the components to 1e-10 of the
   largest: its scale is at least RESOLUTION of that, so that rounding is no miss.
4. From here on e is as the wire has it (float32). The raw confidence is exp(-α·e), at least
   CONFIDENCE_MIN; what is published is the calibrated one: see calibration.py. x ← x'.
5. The next event, with `next_events` on: ŷ as in step 1, from the state as it now is and the
   settings in force, as float32; with the confidence published in step 4.

A first observation, or one of another dimension, has no prediction: m ← x', d ← 0, r ← √½ (what
white noise has), j, k ← 0; e = NEUTRAL_ERROR, what a prediction no better than the level has on
average.

The numbers are measured: `soma bench scales` shows the law beside the variance that it replaced.
"""

import math

import numpy as np
from numpy.typing import NDArray

from topics.compiled import entry, kernel

Floats = NDArray[np.float64]
Runs = NDArray[np.int8]  # [2n]: j and k of each component

HEAT, PERSISTENCE, MAHAL = range(3)

CONSISTENT = 1.4826  # standard deviations of a normal distribution in its median deviation
NEUTRAL_ERROR = 1.0
ERROR_MAX = 100.0  # as if an observation weighed a hundredth in its own scale
RESOLUTION = 1e-9  # of the largest component
CONFIDENCE_MIN = 2.0**-126  # the smallest normal float32

QUICK = 3.0  # steps are learned so much quicker than the rest
STEP_RUN, STEP_RUN_MAX, STEP_FACTOR = 7, 15, 8.0
FAR, JUMP = 3.0, 6.0
JUMP_RUN, LEVEL_RUN, LEVEL_RUN_MAX = 24, 32, 48
LEVEL_FACTOR = 4.0
RATIO_FIRST = math.sqrt(0.5)
RATIO_MIN, RATIO_MAX = 0.5, 2.0**24


@entry
def begin(
    seen: Floats, level: Floats, step: Floats, ratio: Floats, runs: Runs, n: int
) -> None:  # fmt: skip
    """The state after a single observation."""
    for i in range(n):
        level[i] = seen[i]
        step[i] = 0.0
        ratio[i] = RATIO_FIRST
        runs[2 * i] = runs[2 * i + 1] = 0


@kernel
def longer(run: int, up: bool, most: int) -> int:
    """A signed run after one more on a side: at most so long."""
    above, below = min(run + 1, most), max(run - 1, -most)
    above, below = (above if run > 0 else 1), (below if run < 0 else -1)
    return above if up else below


@kernel
def _step_after(step: float, run: int, quick: float) -> float:
    """The step after a move; `run` knows it already."""
    gain = quick
    if abs(run) > STEP_RUN:
        gain *= 2.0 ** (abs(run) - STEP_RUN)
    factor = min(1.0 + gain, STEP_FACTOR)
    up, down = step * factor, step / factor
    return up if run > 0 else down


@kernel
def _ratio_after(ratio: float, up: bool, slow: float) -> float:
    above, below = ratio * (1.0 + slow), ratio / (1.0 + slow)
    return min(max(above if up else below, RATIO_MIN), RATIO_MAX)


@kernel
def follow(
    seen: Floats, last: Floats, level: Floats, step: Floats, ratio: Floats, runs: Runs, n: int,
    count: int, forgetting: float, part: float,
) -> None:  # fmt: skip
    """Step 2: takes observation number `count` into level, step and ratio of each component, by
    `part` of what they are learned by.
    """
    slow, quick = part * max(forgetting, 1.0 / count), part * max(QUICK * forgetting, 1.0 / count)
    for i in range(n):
        moved, before, run = abs(seen[i] - last[i]), step[i], int(runs[2 * i])
        after = before
        if moved > 0.0:
            if before == 0.0:
                after = moved / math.sqrt(min(count - 1.0, ERROR_MAX))
            else:
                run = longer(run, moved > before, STEP_RUN_MAX)
                after = _step_after(before, run, quick)
                runs[2 * i] = run
            step[i] = after
        if after == 0.0:
            continue
        off, far = seen[i] - level[i], ratio[i]
        away, shift, gain = abs(off), 0, slow
        if away > FAR * CONSISTENT * far * after:
            shift = longer(int(runs[2 * i + 1]), off > 0.0, LEVEL_RUN_MAX)
            if (moved > JUMP * before or abs(run) > STEP_RUN) and abs(shift) < JUMP_RUN:
                shift = JUMP_RUN if shift > 0 else -JUMP_RUN
        runs[2 * i + 1] = shift
        if abs(shift) > LEVEL_RUN:
            gain *= LEVEL_FACTOR ** (abs(shift) - LEVEL_RUN)
        else:
            far = _ratio_after(far, away > far * after, slow)
            ratio[i] = far
        reach = gain * far * after
        towards = level[i] + (reach if off > 0.0 else -reach)
        level[i] = towards if reach < away else seen[i]


@kernel
def resolution_of(last: Floats, n: int) -> float:
    """The least scale of a prediction by heat."""
    largest = 0.0
    for i in range(n):
        largest = max(largest, abs(last[i]))
    return RESOLUTION * largest


@kernel
def error_of(
    seen: Floats, predicted: Floats, step: Floats, ratio: Floats, n: int, least: float
) -> float:
    """Step 3: mean squared error in units of each component's scale; 0 <= e <= ERROR_MAX."""
    total = 0.0
    for i in range(n):
        miss = seen[i] - predicted[i]
        if miss != 0.0:
            scale = max(CONSISTENT * ratio[i] * step[i], least)
            square = miss * miss
            total += square / (scale * scale + square / ERROR_MAX)
    return min(total / n, ERROR_MAX)


@kernel
def confidence_of(error: float, alpha: float) -> float:
    """Step 4: in (0, 1], and still in it as a float32."""
    return max(math.exp(-alpha * error), CONFIDENCE_MIN)


@kernel
def narrow(value: float) -> float:
    """A value as the wire's float32 holds it."""
    return float(np.float32(value))
