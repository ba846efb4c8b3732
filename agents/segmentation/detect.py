"""One point of a series: every law that is on takes it, and segments are closed.

A series has one segment at a time, whatever closes it. A law's change closes it at the first point
after the change, which may lie in the past; what the closed segment held up to there is its
summary, and the points since belong to the next. A boundary is left out when it lies within 5
points of the one before (two laws saw the same change) or nearer than `min_gap_ms` to it.
"""

import math
from typing import NamedTuple

import numpy as np

from agents.segmentation import settings
from agents.segmentation.bocpd import bocpd
from agents.segmentation.glr import SIDE, glr
from agents.segmentation.hmm import hmm, rest
from agents.segmentation.points import push
from agents.segmentation.rule import LIMIT, RING, Bank, Floats, Ints, Work
from agents.segmentation.state import S
from topics.compiled import entry, kernel

LEADER_CHANGE, MAX_DWELL, CPD, HMM, THRESHOLD = range(5)
EVIDENCE = ("leader_change", "max_dwell", "cpd", "hmm", "threshold")
MOST = 4  # boundaries of one point: one for each evidence but the leader's

# Columns of Found.
EVIDENCE_OF, POINT, TS, DETECTED_TS, START_TS, FRAMES, LEADER = range(7)
SCORE, MEAN_ERROR, MEAN_CONFIDENCE, PEAK_ERROR = range(4)


class Found(NamedTuple):
    """Boundaries of one point, a row each: where, and what the segment that ends there held."""

    ints: Ints  # evidence; first point of the next segment, its event time; when it was shown;
    # the closed segment's event time, frames and leader at its last frame (code, -1: nobody)
    floats: Floats  # score; mean error, mean confidence, greatest error


def found() -> Found:
    """Where the boundaries of one point are put."""
    return Found(np.zeros((MOST, 7), np.int64), np.zeros((MOST, 4)))


@kernel
def usable(v: float) -> bool:
    """Whether a value is one: neither NaN nor infinite."""
    return math.isfinite(v)


@kernel
def summarise(b: Bank, r: int, point: int, out: Found, k: int) -> None:
    """What the open segment held before a point that is in the ring, into row k."""
    error, confidence = b.floats[r, S.error_sum], b.floats[r, S.confidence_sum]
    peak = b.floats[r, S.peak]
    for p in range(max(b.ints[r, S.start], b.ints[r, S.seen] - RING), point):
        error += b.value[r, p % RING]
        confidence += b.confidence[r, p % RING]
        peak = max(peak, b.value[r, p % RING])
    frames = point - b.ints[r, S.start]
    out.ints[k, START_TS] = b.ints[r, S.start_ts]
    out.ints[k, FRAMES] = frames
    out.ints[k, LEADER] = b.leader[r, (point - 1) % RING]
    out.floats[k, MEAN_ERROR] = error / frames
    out.floats[k, MEAN_CONFIDENCE] = confidence / frames
    out.floats[k, PEAK_ERROR] = peak


@entry
def close(
    b: Bank, r: int, point: int, evidence: int, score: float, gap: float, out: Found, k: int
) -> int:
    """End the open segment before a point, if that may be; returns k + 1 if so, else k."""
    ts = b.ts[r, point % RING]
    after = SIDE if evidence in (CPD, HMM) and b.ints[r, S.boundaries] > 0 else 1
    if point < b.ints[r, S.start] + after:
        return k
    if b.ints[r, S.boundaries] > 0 and abs(ts - b.ints[r, S.start_ts]) < gap:
        return k
    summarise(b, r, point, out, k)
    out.ints[k, EVIDENCE_OF] = evidence
    out.ints[k, POINT] = point
    out.ints[k, TS] = ts
    out.ints[k, DETECTED_TS] = b.ts[r, (b.ints[r, S.seen] - 1) % RING]
    out.floats[k, SCORE] = score
    b.ints[r, S.boundaries] += 1
    b.ints[r, S.start] = point
    b.ints[r, S.start_ts] = ts
    b.floats[r, S.error_sum] = 0.0
    b.floats[r, S.confidence_sum] = 0.0
    b.floats[r, S.peak] = -math.inf
    return k + 1


@kernel
def step(
    b: Bank, r: int, v: float, ts: int, confidence: float, leader: int, values: Floats, w: Work,
    out: Found,
) -> int:  # fmt: skip
    """Take a point into a series; returns how many boundaries it gave, in `out` (MOST rows).

    `values` are the series' settings. A value that isn't `usable` must not come here.
    """
    push(b, r, min(LIMIT, max(-LIMIT, v)), ts, confidence, leader)
    last = b.ints[r, S.seen] - 1
    if last < values[settings.WARMUP]:
        return 0
    gap = values[settings.MIN_GAP] * 1000.0
    k = 0
    if values[settings.CPD] == settings.GLR:
        point, score = glr(
            b, r, w, values[settings.BAR], values[settings.FLOOR], values[settings.HABITUATION],
            values[settings.HALF_LIFE], values[settings.PERSISTENCE],
        )  # fmt: skip
        if point >= 0:
            k = close(b, r, point, CPD, score, gap, out, k)
    else:
        b.ints[r, S.g_since] = -1
    if values[settings.CPD] == settings.BOCPD and b.ints[r, S.size] > 0:
        point, score = bocpd(b, r, w, values[settings.HAZARD])
        if point >= 0:
            k = close(b, r, point, CPD, score, gap, out, k)
    if values[settings.HMM] != 0.0:
        point, score = hmm(
            b, r, w, values[settings.STAY], values[settings.UP], values[settings.DOWN]
        )  # fmt: skip
        if point >= 0:
            k = close(b, r, point, HMM, score, gap, out, k)
    else:
        rest(b, r)
    if values[settings.THRESHOLD] != 0.0 and last > 0:
        moved = abs(b.value[r, last % RING] - b.value[r, (last - 1) % RING])
        if moved >= values[settings.GRADIENT]:
            k = close(b, r, last, THRESHOLD, moved, gap, out, k)
    limit = values[settings.MAX_DWELL] * 1000.0
    if limit > 0.0 and ts - b.ints[r, S.start_ts] >= limit:
        k = close(b, r, last, MAX_DWELL, (ts - b.ints[r, S.start_ts]) / 1000.0, gap, out, k)
    return k
