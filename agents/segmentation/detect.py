"""One point of a series: every law that is on takes it, and segments are closed.

A series has one segment at a time, whatever closes it. A law's change closes it at the first point
after the change, which may lie in the past; what the closed segment held up to there is its
summary, and the points since belong to the next. A boundary is left out when it lies within 5
points of the one before (two laws saw the same change) or nearer than `min_gap_ms` to it.
"""

import math

import numpy as np

from agents.segmentation import settings
from agents.segmentation.glr import SIDE, glr
from agents.segmentation.rule import (
    LIMIT,
    RING,
    Bank,
    Floats,
    Structs,
    Work,
    kernel,
    push,
)

LEADER_CHANGE, MAX_DWELL, CPD, HMM, THRESHOLD = range(5)
EVIDENCE = ("leader_change", "max_dwell", "cpd", "hmm", "threshold")
MOST = 4  # boundaries of one point: one for each evidence but the leader's

BOUNDARY = np.dtype(
    [
        ("evidence", "i8"),
        ("point", "i8"),  # the first of the next segment
        ("ts", "i8"),  # its event time, µs
        ("detected_ts", "i8"),
        ("score", "f8"),
        # What the segment that ends there held.
        ("start_ts", "i8"),
        ("frames", "i8"),
        ("leader", "i8"),  # who led at its last frame: code, -1: nobody
        ("mean_error", "f8"),
        ("mean_confidence", "f8"),
        ("peak_error", "f8"),
    ]
)


@kernel
def usable(v: float) -> bool:
    """Whether a value is one: neither NaN nor infinite."""
    return math.isfinite(v)


@kernel
def summarise(b: Bank, r: int, point: int, out: Structs, k: int) -> None:
    """What the open segment held before a point that is in the ring, into row k."""
    s = b.series[r]
    error, confidence, peak = s["error_sum"], s["confidence_sum"], s["peak"]
    for p in range(max(s["start"], s["seen"] - RING), point):
        error += b.value[r, p % RING]
        confidence += b.confidence[r, p % RING]
        peak = max(peak, b.value[r, p % RING])
    frames = point - s["start"]
    out[k]["start_ts"] = s["start_ts"]
    out[k]["frames"] = frames
    out[k]["leader"] = b.leader[r, (point - 1) % RING]
    out[k]["mean_error"] = error / frames
    out[k]["mean_confidence"] = confidence / frames
    out[k]["peak_error"] = peak


@kernel
def close(
    b: Bank, r: int, point: int, evidence: int, score: float, gap: float, out: Structs, k: int
) -> int:
    """End the open segment before a point, if that may be; returns k + 1 if so, else k."""
    s = b.series[r]
    ts = b.ts[r, point % RING]
    after = SIDE if evidence in (CPD, HMM) and s["boundaries"] > 0 else 1
    if point < s["start"] + after:
        return k
    if s["boundaries"] > 0 and abs(ts - s["start_ts"]) < gap:
        return k
    summarise(b, r, point, out, k)
    out[k]["evidence"] = evidence
    out[k]["point"] = point
    out[k]["ts"] = ts
    out[k]["detected_ts"] = b.ts[r, (s["seen"] - 1) % RING]
    out[k]["score"] = score
    s["boundaries"] += 1
    s["start"] = point
    s["start_ts"] = ts
    s["error_sum"] = 0.0
    s["confidence_sum"] = 0.0
    s["peak"] = -math.inf
    return k + 1


@kernel
def step(
    b: Bank, r: int, v: float, ts: int, confidence: float, leader: int, values: Floats, w: Work,
    out: Structs,
) -> int:  # fmt: skip
    """Take a point into a series; returns how many boundaries it gave, in `out` (MOST rows).

    `values` are the series' settings. A value that isn't `usable` must not come here.
    """
    push(b, r, min(LIMIT, max(-LIMIT, v)), ts, confidence, leader)
    s = b.series[r]
    last = s["seen"] - 1
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
    if values[settings.THRESHOLD] != 0.0 and last > 0:
        moved = abs(b.value[r, last % RING] - b.value[r, (last - 1) % RING])
        if moved >= values[settings.GRADIENT]:
            k = close(b, r, last, THRESHOLD, moved, gap, out, k)
    limit = values[settings.MAX_DWELL] * 1000.0
    if limit > 0.0 and ts - s["start_ts"] >= limit:
        k = close(b, r, last, MAX_DWELL, (ts - s["start_ts"]) / 1000.0, gap, out, k)
    return k
