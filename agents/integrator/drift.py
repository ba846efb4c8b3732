"""Drift: a tenant's fusion says less, or costs more, than it used to. Watched frame by frame.

Two numbers of each frame are watched, x: the entropy of its weights (H/ln N, as published), and the
regret of its round: the loss of following the weights of the frame before, less the growth of the
least cumulative loss among the fresh domains (what `rule.mixed_loss` and `round.learn` give). Of
each there are three figures per tenant, all 0 at first; `samples` and `frames` count up to 100
(WINDOW) and 1,000 (USUAL), and `calm` counts frames. With `drift` off none of them moves. A frame:

1. frames += 1 and samples += 1, each up to its limit.
2. mean += (x - mean) · max(1/samples, 2/(WINDOW + 1)): the mean over the window. It is the plain
   mean at first, then the exponential one whose weights are as old on average as those of the last
   100 frames: two numbers of state instead of a hundred.
3. level = max(the setting drift_entropy or drift_regret, usual + max(margin, 6 · spread)), with a
   margin of 0.1 for entropy and 0.05 for regret. The tenant drifts in this frame if samples >= 20
   and frames >= 100, and a mean is above its level: of kind entropy if its mean is, else regret.
4. Not drifting: usual += (x - usual) · s, then, if samples >= 20, spread += (|mean - usual| -
   spread) · s, with s = max(1/frames, 2/(USUAL + 1)): the baseline. calm = max(calm, 0) + 1, up to
   100; on reaching 100 the tenant's own settings become its baseline's.
   Drifting: the baseline is frozen, settings and all. calm = min(calm, 0) - 1; on reaching -1,000
   the tenant is what it is: usual = mean, calm = 0, its settings become the baseline's, and that
   frame makes no event.
5. A drifting frame makes an event if its event time is drift_cooldown_s or more away from that of
   the tenant's last event (on either side: one wrong clock silences nobody).

A tenant whose domains are equal has entropy 1 for ever and never drifts: `usual` is 1 too. `spread`
is for those whose entropy wanders by itself: with the margin alone, steady streams of equal noisy
domains made an event every 1,000 frames; with 6 spreads, simulated with margins of 0.2 and 0.05,
none in 16 kinds of steady streams, 160,000 frames each, while a temperature of 50 was seen after
22-46 frames. The tests repeat ten kinds with the margins here. 0.1 is a tenth of the largest loss:
more than fixed_share pays a round in any of those streams.

A change of the tenant's own settings starts the window anew (samples, means and calm = 0): what is
judged, from the 20th frame on, is what the new settings do. Settings that a tenant had before its
first watched frame are its first baseline.

With auto_rollback the event takes those own settings that shape the fusion (`settings.SHAPING`)
back to the baseline's, if any differ; their text goes into a fusion_rollback_event. Each setting
taken back counts into config_version, and the window starts anew. So there is at most one rollback
in a cooldown, and none from a baseline to itself.
"""

import numpy as np

from agents.integrator.settings import COOLDOWN, DRIFT_ENTROPY, DRIFT_REGRET
from agents.integrator.state import Arrays
from agents.kit.packing import Floats
from topics.compiled import entry, kernel

WINDOW = 100  # frames
USUAL = 1000  # frames that the baseline speaks for
JUDGED = 20  # frames of the window before it is judged
KNOWN = 100  # frames of a tenant before it is judged
SPREADS = 6.0
ENTROPY_MARGIN = 0.1
REGRET_MARGIN = 0.05
NONE, ENTROPY, REGRET = range(3)
KINDS = ("none", "entropy", "regret")


@kernel
def weight(count: int, span: int) -> float:
    """What the newest of `count` numbers weighs in a mean over about `span` of them."""
    return max(1.0 / count, 2.0 / (span + 1.0))


@entry
def level(least: float, usual: float, spread: float, margin: float) -> float:
    """What a mean must exceed to be a drift."""
    return max(least, usual + max(margin, SPREADS * spread))


@kernel
def judge(a: Arrays, r: int, values: Floats) -> int:
    """The kind of drift that the tenant is in, or NONE."""
    tenant = a.tenants[r]
    if tenant["samples"] < JUDGED or tenant["frames"] < KNOWN:
        return NONE
    usual, spread = tenant["usual_entropy"], tenant["spread_entropy"]
    if tenant["mean_entropy"] > level(values[DRIFT_ENTROPY], usual, spread, ENTROPY_MARGIN):
        return ENTROPY
    usual, spread = tenant["usual_regret"], tenant["spread_regret"]
    if tenant["mean_regret"] > level(values[DRIFT_REGRET], usual, spread, REGRET_MARGIN):
        return REGRET
    return NONE


@kernel
def keep_calm(a: Arrays, r: int, entropy: float, regret: float) -> None:
    """A frame without drift: the baseline learns from it."""
    tenant = a.tenants[r]
    step = weight(tenant["frames"], USUAL)
    tenant["usual_entropy"] += (entropy - tenant["usual_entropy"]) * step
    tenant["usual_regret"] += (regret - tenant["usual_regret"]) * step
    if tenant["samples"] >= JUDGED:
        off = abs(tenant["mean_entropy"] - tenant["usual_entropy"])
        tenant["spread_entropy"] += (off - tenant["spread_entropy"]) * step
        off = abs(tenant["mean_regret"] - tenant["usual_regret"])
        tenant["spread_regret"] += (off - tenant["spread_regret"]) * step
    if tenant["calm"] < WINDOW:
        tenant["calm"] = max(tenant["calm"], 0) + 1
        if tenant["calm"] == WINDOW:
            tenant["unsettled"] = 0


@kernel
def accept(a: Arrays, r: int) -> None:
    """Make what the tenant is like now its baseline."""
    tenant = a.tenants[r]
    tenant["usual_entropy"] = tenant["mean_entropy"]
    tenant["usual_regret"] = tenant["mean_regret"]
    tenant["calm"] = 0
    tenant["unsettled"] = 0


@kernel
def watch(a: Arrays, r: int, t: int, entropy: float, regret: float, values: Floats) -> int:
    """Take in a frame at event time t (µs). The kind of drift that makes an event now, or NONE."""
    tenant = a.tenants[r]
    tenant["frames"] = min(tenant["frames"] + 1, USUAL)
    tenant["samples"] = min(tenant["samples"] + 1, WINDOW)
    step = weight(tenant["samples"], WINDOW)
    tenant["mean_entropy"] += (entropy - tenant["mean_entropy"]) * step
    tenant["mean_regret"] += (regret - tenant["mean_regret"]) * step
    kind = judge(a, r, values)
    if kind == NONE:
        keep_calm(a, r, entropy, regret)
        return NONE
    tenant["calm"] = min(tenant["calm"], 0) - 1
    if tenant["calm"] <= -USUAL:
        accept(a, r)
        return NONE
    if abs(t - tenant["drift_at"]) < values[COOLDOWN] * 1e6:
        return NONE
    tenant["drift_at"] = t
    return kind


def start_anew(tenant: np.void) -> None:
    """Begin the window again: the tenant's own settings have changed."""
    for name in ("samples", "calm", "mean_entropy", "mean_regret"):
        tenant[name] = 0
