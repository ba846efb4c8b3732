"""Calibration: how often a confidence comes true, and the temperature that makes it say so.

Temperature scaling (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks",
ICML 2017), for each (tenant, domain) on its own. The truth of a confidence is a later fact of the
same input: did the next error of this (tenant, domain) stay at or under the running median of its
errors? In this law e is the error as the wire has it (float32), α, `calibrate` and
`calibrate_every` are the settings in force, and state begins as: median 0 (none), temperature T 1,
waiting 0 (nobody), samples 0, all counts 0. It begins anew where the state of rule.py does: with a
first observation or another dimension. Those have no prediction, hence no sample.

The raw confidence's logit is z = -αe - ln(1 - exp(-αe)), clipped to [-6, 6] (confidences from .0025
to .9975: one surprise must not outweigh a thousand samples; e = 0 gives 6). Its level is
l = min(floor((z + 6) / .375), 31), one of 32; level l stands for the logit z_l = .375·(l + .5) - 6.

With `calibrate` on, for an observation that was predicted, in this order:

1. If waiting > 0: a sample. y = 1 if e <= median, else 0. Its number is `samples` as it was; even
   numbers are to learn from, odd ones are held out: counts[4·(waiting-1) + 2·(number mod 2) + y]
   grows by 1, and samples by 1. Then, if samples mod `calibrate_every` = 0, a refit (below). Then,
   if samples >= 8192 and samples mod 4096 = 0, every count is halved, rounded down: what is older
   than 8,192 samples fades.
2. The median: if 0, it becomes e; else with n the observations since the state began, this one
   included, and s = max(.05, 1/n), e > median: median·(1 + s), e < median: median / (1 + s) (a
   quantile by stochastic approximation, Robbins and Monro 1951, in the logarithm). Then it is
   clipped to [1e-3, 1e6]: an error of a thousandth of the variance is right however good the rest.
3. waiting = l + 1.

A first observation, or `calibrate` off, sets waiting to 0; off, nothing else here changes.
Published is the confidence exp(-αe) (at least 2^-126) where T = 1 or `calibrate` is off, else
1 / (1 + exp(-z/T)); T is the one after this observation's refit.

A refit: fitted = 1/β with β in [.2, 10] that minimises
Σ_l n1·ln(1 + exp(-β·z_l)) + n0·ln(1 + exp(β·z_l)) over the counts to learn from (n0: y = 0, n1:
y = 1); it is convex in β. Then on the held-out counts, with p_l = 1 / (1 + exp(-z_l/T)): pre has
T = 1, post T = fitted. NLL and Brier are means over samples; a level falls into bin
min(floor(10·p_l), 9), and ECE = Σ_bins |Σ p - Σ y| / samples (Naeini, Cooper and Hauskrecht 2015).
The fitted T is kept if ECE_post <= .7·ECE_pre and NLL_post <= NLL_pre. If it isn't, the last good T
stays, unless on these counts its own NLL or ECE is above that of T = 1: then T = 1.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.predictors.compiled import entry

LEVELS = 32
LIMIT = 6.0  # |logit|
WIDTH = 2.0 * LIMIT / LEVELS
COUNTS = 4 * LEVELS
BINS = 10
T_MIN, T_MAX = 0.1, 5.0
KEEP = 0.7  # of ECE_pre
FADE = 4096  # samples
STEP = 0.05  # of the median's logarithm
MEDIAN_MIN, MEDIAN_MAX = 1e-3, 1e6

# Columns of Fits.figures; then Fits.bins' rows: before and after.
(TEMPERATURE, PREVIOUS, FITTED, ECE_PRE, ECE_POST, BRIER_PRE, BRIER_POST, NLL_PRE, NLL_POST) = (
    range(9)
)
FIGURES = 9
COUNT, CONFIDENCE, ACCURACY = range(3)

_TOLERANCE = 1e-12  # of β, relative
_ROUNDS = 200

Counts = NDArray[np.uint16]  # [COUNTS]: 4·level + 2·held-out + came true
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Fits(NamedTuple):
    """The refits of a batch: used[0] of them, of the batch's rows record[k]."""

    used: Ints
    record: Ints
    samples: Ints
    kept: Ints
    figures: Floats  # [FIGURES, room]
    bins: Floats  # [2, 3, BINS, room]: before and after; count, mean confidence, share that's true
    work: Floats  # [3, 3, BINS]: bins before, after, and of the temperature in force


def fits(room: int) -> Fits:
    """Room for so many refits."""
    record, samples, kept = (np.zeros(room, np.int64) for _ in range(3))
    figures, bins = np.zeros((FIGURES, room)), np.zeros((2, 3, BINS, room))
    work = np.zeros((3, 3, BINS))
    return Fits(np.zeros(1, np.int64), record, samples, kept, figures, bins, work)


def grown(full: Fits) -> Fits:
    """The same refits, with room for as many again."""
    used = int(full.used[0])
    more = fits(2 * full.record.shape[0])
    for new, old in zip(more[1:-1], full[1:-1], strict=True):
        new[..., :used] = old[..., :used]
    more.used[0] = used
    return more


@entry
def logit_of(error: float, alpha: float) -> float:
    """The logit of exp(-alpha·error), within ±LIMIT."""
    x = alpha * error
    if x <= 0.0:
        return LIMIT
    return min(max(-x - math.log(-math.expm1(-x)), -LIMIT), LIMIT)


@entry
def level_of(logit: float) -> int:
    """The level of a logit within ±LIMIT."""
    return min(int((logit + LIMIT) / WIDTH), LEVELS - 1)


@entry
def scaled(logit: float, temperature: float) -> float:
    """The confidence of a logit under a temperature."""
    return 1.0 / (1.0 + math.exp(-logit / temperature))


@entry
def median_after(median: float, error: float, n: int) -> float:
    """Step 2: the running median with one more error, the n-th observation's."""
    step = 1.0 + max(STEP, 1.0 / n)
    if median == 0.0:
        median = error
    elif error > median:
        median *= step
    elif error < median:
        median /= step
    return min(max(median, MEDIAN_MIN), MEDIAN_MAX)


@entry
def _middle(level: int) -> float:
    """The logit that a level stands for."""
    return (level + 0.5) * WIDTH - LIMIT


@entry
def _slope(counts: Counts, beta: float) -> tuple[float, float]:
    """First and second derivative by β of the NLL of the counts to learn from."""
    first, second = 0.0, 0.0
    for level in range(LEVELS):
        wrong, right = float(counts[4 * level]), float(counts[4 * level + 1])
        if wrong + right > 0.0:
            z = _middle(level)
            p = 1.0 / (1.0 + math.exp(-beta * z))
            first += z * ((wrong + right) * p - right)
            second += z * z * (wrong + right) * p * (1.0 - p)
    return first, second


@entry
def fit(counts: Counts) -> float:
    """The temperature that makes the counts to learn from most likely, T_MIN..T_MAX.

    Newton's method on β = 1/T, in which the NLL is convex; bisection where a step leaves the
    bracket.
    """
    low, high = 1.0 / T_MAX, 1.0 / T_MIN
    if _slope(counts, low)[0] >= 0.0:
        return T_MAX
    if _slope(counts, high)[0] <= 0.0:
        return T_MIN
    beta = 1.0
    for _ in range(_ROUNDS):
        first, second = _slope(counts, beta)
        if first > 0.0:
            high = beta
        else:
            low = beta
        after = beta - first / second if second > 0.0 else low
        if not low < after < high:
            after = 0.5 * (low + high)
        if abs(after - beta) <= _TOLERANCE * beta:
            break
        beta = after
    return 1.0 / beta


@entry
def measure(counts: Counts, temperature: float, bins: Floats) -> tuple[float, float, float]:
    """(ECE, Brier, NLL) of the held-out counts; bins [3, BINS]: see Fits.bins. NaN without any."""
    for b in range(BINS):
        bins[COUNT, b] = bins[CONFIDENCE, b] = bins[ACCURACY, b] = 0.0
    brier, nll, total = 0.0, 0.0, 0.0
    for level in range(LEVELS):
        wrong, right = float(counts[4 * level + 2]), float(counts[4 * level + 3])
        if wrong + right > 0.0:
            x = _middle(level) / temperature
            p = 1.0 / (1.0 + math.exp(-x))
            nll += right * math.log1p(math.exp(-x)) + wrong * math.log1p(math.exp(x))
            brier += right * (1.0 - p) ** 2 + wrong * p * p
            total += wrong + right
            b = min(int(10.0 * p), BINS - 1)
            bins[COUNT, b] += wrong + right
            bins[CONFIDENCE, b] += (wrong + right) * p
            bins[ACCURACY, b] += right
    ece = 0.0
    for b in range(BINS):
        ece += abs(bins[CONFIDENCE, b] - bins[ACCURACY, b])
        if bins[COUNT, b] > 0.0:
            bins[CONFIDENCE, b] /= bins[COUNT, b]
            bins[ACCURACY, b] /= bins[COUNT, b]
    return ece / total, brier / total, nll / total


@entry
def refit(counts: Counts, temperature: float, record: int, samples: int, out: Fits) -> float:
    """A refit, noted in `out`, which has room for it. Returns the temperature from here on."""
    k = out.used[0]
    out.used[0] = k + 1
    fitted = fit(counts)
    before, after, held = out.work[0], out.work[1], out.work[2]
    ece, brier, nll = measure(counts, 1.0, before)
    ece_post, brier_post, nll_post = measure(counts, fitted, after)
    kept = ece_post <= KEEP * ece and nll_post <= nll
    now = fitted if kept else temperature
    if not kept and now != 1.0:
        ece_now, _, nll_now = measure(counts, now, held)
        if ece_now > ece or nll_now > nll:
            now = 1.0
    figures, bins = out.figures, out.bins
    figures[TEMPERATURE, k], figures[PREVIOUS, k], figures[FITTED, k] = now, temperature, fitted
    figures[ECE_PRE, k], figures[ECE_POST, k] = ece, ece_post
    figures[BRIER_PRE, k], figures[BRIER_POST, k] = brier, brier_post
    figures[NLL_PRE, k], figures[NLL_POST, k] = nll, nll_post
    for row in range(3):
        for b in range(BINS):
            bins[0, row, b, k] = before[row, b]
            bins[1, row, b, k] = after[row, b]
    out.record[k], out.samples[k], out.kept[k] = record, samples, int(kept)
    return now


@entry
def learn(
    counts: Counts, level: int, right: bool, number: int, every: int, temperature: float,
    record: int, out: Fits,
) -> float:  # fmt: skip
    """Step 1: sample `number` (from 0 on), of a level, came true or not.

    A refit is noted in `out`, which has room for it. Returns the temperature from here on.
    """
    counts[4 * level + 2 * (number & 1) + int(right)] += 1
    samples = number + 1
    if samples % every == 0:
        temperature = refit(counts, temperature, record, samples, out)
    if samples >= 2 * FADE and samples % FADE == 0:
        for j in range(COUNTS):
            counts[j] = counts[j] >> 1
    return temperature
