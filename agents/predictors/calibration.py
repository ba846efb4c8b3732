"""Calibration: how often a confidence comes true, and the slope and bias that make it say so.

Platt scaling (Platt 1999), learned online for each (tenant, domain) on its own by one recursive
Newton step a sample, the online Newton step of Hazan, Agarwal and Kale (2007) with forgetting; how
well such calibration tracks what changes: Gupta and Ramdas, "Online Platt Scaling with
Calibeating", ICML 2023. The truth of a confidence is a later fact of the same input: did the next
error of this (tenant, domain) stay at or under the running median of its errors? In this law e is
the error as the wire has it (float32), α, `calibrate` and `calibrate_every` are the settings in
force, and state begins as: median 0 (none), its run 0, slope a = 1, bias b = 0, information
[[P, 0], [0, P]] with P = 5/4 (five samples at p = ½), waiting no, samples 0, a window of nothing.
It begins anew where the state of rule.py does: with a first observation or another dimension. Those
have no prediction, hence no sample.

The raw confidence's logit is z = -αe - ln(1 - exp(-αe)), clipped to [-6, 6] (confidences from .0025
to .9975: one surprise must not outweigh a thousand samples; e = 0 gives 6).

With `calibrate` on, for an observation that was predicted, in this order:

1. If waiting: a sample, of the logit z that waits. y = 1 if e <= median, else 0. With
   p = 1 / (1 + exp(-(az + b))), the confidence that was published, and u = (z/3, 1), so that both
   numbers are as large:
   - the window takes it in (below);
   - the information becomes KEEP times itself, plus (1 - KEEP) times what it began as, plus
     p(1-p)·uuᵀ;
   - (3a, b) moves by information⁻¹·u·(y - p). If that leaves a outside of [0, 5], a stays at that
     end, and b moves to the best there is with it: by (y - p - I₀₁·Δ) / I₁₁, where Δ is what 3a
     then moves by. Then b is clipped to [-6, 6].
   - samples grows by 1; if the window holds `calibrate_every` of them or more, a record tells of
     it, and it is empty again.
2. The median: if 0, it becomes e; else with n the observations since the state began, this one
   included: its run grows by one on the same side (e above it, or below), or begins with 1 on the
   other, up to 16 (e = median: nothing of this happens); and it goes up or down by the factor
   1 + min(max(.003, 1/n)·2^max(0, |run|-4), 1). Then it is clipped to [1e-3, 1e6]: an error of a
   thousandth is right however good the rest. (With one larger step for all, a median beside errors
   that are nearly equal is above and below them in turn, and so would truths be.)
3. z waits.

A first observation, or `calibrate` off: nothing waits; off, nothing else here changes. Published is
the confidence exp(-αe) (at least 2^-126) before the first sample or where `calibrate` is off, else
1 / (1 + exp(-(az + b))), with the a and b after this observation's sample.

The window: of all samples since the last record, before (p of a = 1, b = 0) and after (p as
published), for each bin min(floor(10p), 9): how many, their p summed in units of 2^-14, each
rounded down, and how many came true; and the sums of (p - y)² and of -ln(y ? p : 1 - p). In a
record Brier and NLL are means over the samples, and ECE = Σ_bins |Σ p - Σ y| / samples (Naeini,
Cooper and Hauskrecht 2015).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.predictors.rule import longer
from topics.compiled import entry, kernel

LIMIT = 6.0  # |logit|
SPREAD = 3.0  # of logits
SLOPE_MAX, BIAS_MAX = 5.0, 6.0
KEEP = 0.995  # of what is known, a sample
PRIOR = 5.0 * 0.25
STEP, STEP_MAX = 0.003, 1.0  # of the median, relative
MEDIAN_RUN, MEDIAN_RUN_MAX = 4, 16
MEDIAN_MIN, MEDIAN_MAX = 1e-3, 1e6
BINS = 10
UNIT = 2.0**14  # of confidences, in a window

# Rows of Reports.figures, as a record calls them; then rows of Reports.bins and Window.bins.
FIGURES = (
    "slope", "bias", "ece_pre", "ece_post", "brier_pre", "brier_post", "nll_pre", "nll_post",
)  # fmt: skip
SLOPE, BIAS, ECE_PRE, ECE_POST, BRIER_PRE, BRIER_POST, NLL_PRE, NLL_POST = range(len(FIGURES))
COUNT, CONFIDENCE, ACCURACY = range(3)
WINDOW_BINS, WINDOW_SUMS = 2 * 3 * BINS, 4

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Window(NamedTuple):
    """The samples since the last record."""

    bins: NDArray[np.int32]  # [WINDOW_BINS]: before, after; count, confidences, came true; bins
    sums: Floats  # [WINDOW_SUMS]: Brier before, after; NLL before, after


class Reports(NamedTuple):
    """The calibration records of a batch: used[0] of them, of the batch's rows record[k]."""

    used: Ints
    record: Ints
    samples: Ints
    figures: Floats  # [figures, room]
    bins: Floats  # [2, 3, BINS, room]: before and after; count, mean confidence, share that's true


def reports(room: int) -> Reports:
    """Room for so many records."""
    record, samples = (np.zeros(room, np.int64) for _ in range(2))
    figures, bins = np.zeros((len(FIGURES), room)), np.zeros((2, 3, BINS, room))
    return Reports(np.zeros(1, np.int64), record, samples, figures, bins)


def grown(full: Reports) -> Reports:
    """The same records, with room for as many again."""
    used = int(full.used[0])
    more = reports(2 * full.record.shape[0])
    for new, old in zip(more[1:], full[1:], strict=True):
        new[..., :used] = old[..., :used]
    more.used[0] = used
    return more


@kernel
def logit_of(error: float, alpha: float) -> float:
    """The logit of exp(-alpha·error), within ±LIMIT."""
    x = alpha * error
    if x <= 0.0:
        return LIMIT
    return min(max(-x - math.log(-math.expm1(-x)), -LIMIT), LIMIT)


@kernel
def sure(logit: float) -> float:
    """The confidence of a logit."""
    return 1.0 / (1.0 + math.exp(-logit))


@kernel
def median_after(median: float, run: int, error: float, n: int) -> tuple[float, int]:
    """Step 2: the running median and its run with one more error, the n-th observation's."""
    if median == 0.0:
        median = error
    elif error != median:
        run = longer(run, error > median, MEDIAN_RUN_MAX)
        step = max(STEP, 1.0 / n)
        if abs(run) > MEDIAN_RUN:
            step *= 2.0 ** (abs(run) - MEDIAN_RUN)
        step = 1.0 + min(step, STEP_MAX)
        median = median * step if run > 0 else median / step
    return min(max(median, MEDIAN_MIN), MEDIAN_MAX), run


@entry
def unlearn(now: Floats) -> None:
    """What is learned of no sample."""
    now[0], now[1] = 1.0, 0.0
    now[2], now[3], now[4] = PRIOR, 0.0, PRIOR


@kernel
def learn(now: Floats, z: float, right: bool) -> None:
    """A sample's Newton step; `now` is slope, bias, and the information's 00, 01, 11."""
    p = sure(now[0] * z + now[1])
    u, weight, miss = z / SPREAD, p * (1.0 - p), (1.0 if right else 0.0) - p
    aa = KEEP * now[2] + (1.0 - KEEP) * PRIOR + weight * u * u
    ab = KEEP * now[3] + weight * u
    bb = KEEP * now[4] + (1.0 - KEEP) * PRIOR + weight
    whole = aa * bb - ab * ab
    was = SPREAD * now[0]
    slope = was + miss * (bb * u - ab) / whole
    bias = now[1] + miss * (aa - ab * u) / whole
    kept = min(max(slope, 0.0), SPREAD * SLOPE_MAX)
    if kept != slope:
        bias = now[1] + (miss - ab * (kept - was)) / bb
    now[0], now[1] = kept / SPREAD, min(max(bias, -BIAS_MAX), BIAS_MAX)
    now[2], now[3], now[4] = aa, ab, bb


@kernel
def _put(window: Window, when: int, logit: float, right: bool) -> None:
    p = sure(logit)
    at = 3 * BINS * when + min(int(BINS * p), BINS - 1)
    window.bins[at] += 1
    window.bins[at + BINS] += int(UNIT * p)
    window.bins[at + 2 * BINS] += int(right)
    miss = (1.0 if right else 0.0) - p
    window.sums[when] += miss * miss
    window.sums[2 + when] += math.log1p(math.exp(-logit if right else logit))


@kernel
def count(window: Window, z: float, slope: float, bias: float, right: bool) -> int:
    """The window takes in a sample. Returns how many it holds."""
    _put(window, 0, z, right)
    _put(window, 1, slope * z + bias, right)
    held = 0
    for b in range(BINS):
        held += window.bins[b]
    return held


@entry
def clear(window: Window) -> None:
    """The window of nothing."""
    for j in range(WINDOW_BINS):
        window.bins[j] = 0
    for j in range(WINDOW_SUMS):
        window.sums[j] = 0.0


@entry
def tell(
    window: Window, slope: float, bias: float, samples: int, record: int, out: Reports
) -> None:
    """Note the window, which isn't empty, in `out`, which has room for it."""
    k = out.used[0]
    out.used[0] = k + 1
    out.record[k], out.samples[k] = record, samples
    out.figures[SLOPE, k], out.figures[BIAS, k] = slope, bias
    for when in range(2):
        total, gap, at = 0.0, 0.0, 3 * BINS * when
        for b in range(BINS):
            held, said = float(window.bins[at + b]), window.bins[at + BINS + b] / UNIT
            true, some = float(window.bins[at + 2 * BINS + b]), max(held, 1.0)
            total += held
            gap += abs(said - true)
            out.bins[when, COUNT, b, k] = held
            out.bins[when, CONFIDENCE, b, k] = said / some
            out.bins[when, ACCURACY, b, k] = true / some
        out.figures[ECE_PRE + when, k] = gap / total
        out.figures[BRIER_PRE + when, k] = window.sums[when] / total
        out.figures[NLL_PRE + when, k] = window.sums[2 + when] / total
