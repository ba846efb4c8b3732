"""The loop over a batch of frames: whose they are, what they feed, and what boundaries hold."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.segmentation import detect as d
from agents.segmentation import settings
from agents.segmentation.detect import EVIDENCE, LEADER_CHANGE, MOST, Found, step
from agents.segmentation.rule import Ints, S, Work
from agents.segmentation.state import SEPARATOR, Arrays, T, touch
from topics.columns import Cols, Layout
from topics.compiled import entry, kernel

Bytes = NDArray[np.uint8]

DONE, NEED_TENANT, NEED_SERIES, NEED_ROOM = range(4)  # what `fold` stopped for

WORDS = np.frombuffer("".join(EVIDENCE).encode(), np.uint8)
ENDS = np.cumsum([len(word) for word in EVIDENCE])
STARTS = np.concatenate((np.zeros(1, np.int64), ENDS[:-1]))
COLON = ord(":")
CONFIDENCE_MOST = 1e6  # beyond, its sum would lose the others
WORD_MAX = max(len(word) for word in EVIDENCE)


class Into(NamedTuple):
    """Where the fields lie that are read (of_…, of the frame) and written."""

    of_frame_id: int
    of_tenant: int
    of_ts: int
    of_domain: int
    of_leader: int
    of_weights: int
    of_errors: int
    of_confidence: int
    segment_id: int
    tenant: int
    domain: int
    boundary_ts: int
    detected_ts: int
    dwell_ms: int
    evidence: int
    score: int
    frame_id: int
    start_ts: int
    frames: int
    leader: int
    mean_error: int
    mean_confidence: int
    peak_error: int


class Source(NamedTuple):
    """A batch, with the codes of its names."""

    buf: Bytes
    cols: Cols
    tenants: Ints
    series: Ints
    leaders: Ints
    log_ms: Ints
    status: Bytes


class Sink(NamedTuple):
    """What boundaries are written into."""

    cols: Cols
    cause: Ints
    scratch: Bytes


def into(frame: Layout, boundary: Layout) -> Into:
    """The slots of both layouts."""
    found = {}
    for name in Into._fields:
        found[name] = (
            frame.slots[name.removeprefix("of_")]
            if name.startswith("of_")
            else boundary.slots[name]
        )
    return Into(**found)


@kernel
def inside(buf: Bytes, pos: int, size: int) -> bool:
    """Whether a span lies in the buffer."""
    return bool(pos >= 0 and size >= 0 and pos + size <= buf.shape[0])


@kernel
def copy(source: Bytes, pos: int, size: int, out: Bytes, at: int) -> int:
    """Copy a span to out[at:]; returns its end."""
    for j in range(size):
        out[at + j] = source[pos + j]
    return at + size


@entry
def join(
    buf: Bytes, c: Cols, status: Bytes, f: Into, lo: int, hi: int, keys: Bytes, pos: Ints,
    size: Ints,
) -> bool:  # fmt: skip
    """Write the keys "tenant 0x1f domain" of the records with status 0; False: a span is bad."""
    used = 0
    for i in range(lo, hi):
        if status[i] != 0:
            continue
        tp, tn = c.pos[f.of_tenant, i], c.len[f.of_tenant, i]
        dp, dn = c.pos[f.of_domain, i], c.len[f.of_domain, i]
        if not (inside(buf, tp, tn) and inside(buf, dp, dn)):
            return False
        if not inside(buf, c.pos[f.of_leader, i], c.len[f.of_leader, i]):
            return False
        if not inside(buf, c.pos[f.of_frame_id, i], c.len[f.of_frame_id, i]):
            return False
        pos[i] = used
        used = copy(buf, tp, tn, keys, used)
        keys[used] = SEPARATOR
        used = copy(buf, dp, dn, keys, used + 1)
        size[i] = used - pos[i]
    return True


@entry
def look_up(c: Cols, slot: int, i: int, keys: Bytes, buf: Bytes, pos: int, size: int) -> float:
    """The number that a map of record i has under a name buf[pos:][:size]; NaN without one.

    The map's own names lie in `keys`.
    """
    first = c.at[slot, i]
    if first < 0 or first + c.cnt[slot, i] > c.vf.shape[0]:
        return math.nan
    for child in range(first, first + c.cnt[slot, i]):
        at = c.kpos[child]
        if c.klen[child] == size and inside(keys, at, size):
            same = True
            for j in range(size):
                same &= keys[at + j] == buf[pos + j]
            if same:
                return float(c.vf[child])
    return math.nan


@kernel
def put_id(s: Source, f: Into, i: int, a: Arrays, at: int, size: int, word: int, sink: Sink,
           o: int, text: int) -> int:  # fmt: skip
    """Write "<frame_id>:<domain>:<evidence>" of record i, the domain a.pool[at:][:size]."""
    begin = text
    text = copy(s.buf, s.cols.pos[f.of_frame_id, i], s.cols.len[f.of_frame_id, i],
                sink.scratch, text)  # fmt: skip
    sink.scratch[text] = COLON
    text = copy(a.pool, at, size, sink.scratch, text + 1)
    sink.scratch[text] = COLON
    text = copy(WORDS, STARTS[word], ENDS[word] - STARTS[word], sink.scratch, text + 1)
    sink.cols.pos[f.segment_id, o] = begin
    sink.cols.len[f.segment_id, o] = text - begin
    return text


@entry
def put(
    s: Source, f: Into, i: int, a: Arrays, at: int, size: int, found: Found, k: int,
    sink: Sink, o: int, text: int,
) -> int:  # fmt: skip
    """Write boundary k of record i, of the domain a.pool[at:][:size], into row o."""
    text = put_id(s, f, i, a, at, size, found.ints[k, d.EVIDENCE_OF], sink, o, text)
    c = sink.cols
    c.pos[f.tenant, o] = s.cols.pos[f.of_tenant, i]
    c.len[f.tenant, o] = s.cols.len[f.of_tenant, i]
    c.pos[f.frame_id, o] = s.cols.pos[f.of_frame_id, i]
    c.len[f.frame_id, o] = s.cols.len[f.of_frame_id, i]
    c.pos[f.domain, o] = at
    c.len[f.domain, o] = size
    leader = found.ints[k, d.LEADER]
    c.pos[f.leader, o] = a.at[leader] if leader >= 0 else 0
    c.len[f.leader, o] = a.size[leader] if leader >= 0 else 0
    c.i[f.boundary_ts, o] = found.ints[k, d.TS]
    c.i[f.detected_ts, o] = found.ints[k, d.DETECTED_TS]
    c.i[f.start_ts, o] = found.ints[k, d.START_TS]
    c.i[f.dwell_ms, o] = max(0, found.ints[k, d.TS] - found.ints[k, d.START_TS]) // 1000
    c.i[f.evidence, o] = found.ints[k, d.EVIDENCE_OF]
    c.i[f.frames, o] = found.ints[k, d.FRAMES]
    c.f[f.score, o] = found.floats[k, d.SCORE]
    c.f[f.mean_error, o] = found.floats[k, d.MEAN_ERROR]
    c.f[f.mean_confidence, o] = found.floats[k, d.MEAN_CONFIDENCE]
    c.f[f.peak_error, o] = found.floats[k, d.PEAK_ERROR]
    sink.cause[o] = i
    return text


@kernel
def modest(confidence: float) -> float:
    """A confidence that can be summed: 0 for what is none."""
    return confidence if abs(confidence) <= CONFIDENCE_MOST else 0.0


@kernel
def begin(a: Arrays, r: int, leader: int, ts: int) -> None:
    """Let a tenant's time under a leader begin at the next frame."""
    a.ints[r, T.leader] = leader
    a.ints[r, T.start] = a.ints[r, T.seen]
    a.ints[r, T.start_ts] = ts
    a.ints[r, T.measured] = 0
    a.floats[r, T.error_sum] = 0.0
    a.floats[r, T.confidence_sum] = 0.0
    a.floats[r, T.peak] = 0.0


@kernel
def led(a: Arrays, r: int, s: Source, f: Into, i: int, found: Found) -> int:
    """Take frame i into the tenant's time under its leader; 1: found[0] is its boundary."""
    c = s.cols
    leader, ts = s.leaders[i], c.i[f.of_ts, i]
    confidence = modest(c.f[f.of_confidence, i])
    values = a.table[a.ints[r, T.settings]]
    old = a.ints[r, T.leader]
    boundary = 0
    if old < 0:
        begin(a, r, leader, ts)
    elif old != leader:
        reported = values[settings.LEADER] != 0.0 and a.size[old] > 0
        near = abs(ts - a.ints[r, T.start_ts]) < values[settings.MIN_GAP] * 1000.0
        if reported and a.ints[r, T.boundaries] > 0 and near:
            leader = old  # the segment goes on; who leads then is seen when the gap is over
        else:
            if reported and a.ints[r, T.seen] >= values[settings.WARMUP]:
                weight = look_up(c, f.of_weights, i, s.buf, a.pool, a.at[old], a.size[old])
                found.ints[0, d.EVIDENCE_OF] = LEADER_CHANGE
                found.ints[0, d.TS] = ts
                found.ints[0, d.DETECTED_TS] = ts
                found.floats[0, d.SCORE] = confidence - (weight if math.isfinite(weight) else 0.0)
                found.ints[0, d.START_TS] = a.ints[r, T.start_ts]
                found.ints[0, d.FRAMES] = a.ints[r, T.seen] - a.ints[r, T.start]
                found.ints[0, d.LEADER] = old
                measured, frames = a.ints[r, T.measured], found.ints[0, d.FRAMES]
                found.floats[0, d.MEAN_ERROR] = a.floats[r, T.error_sum] / max(1, measured)
                found.floats[0, d.MEAN_CONFIDENCE] = a.floats[r, T.confidence_sum] / frames
                found.floats[0, d.PEAK_ERROR] = a.floats[r, T.peak]
                a.ints[r, T.boundaries] += 1
                boundary = 1
            begin(a, r, leader, ts)
    error = look_up(c, f.of_errors, i, s.buf, a.pool, a.at[leader], a.size[leader])
    if math.isfinite(error):
        a.ints[r, T.measured] += 1
        a.floats[r, T.error_sum] += error
        a.floats[r, T.peak] = max(a.floats[r, T.peak], error)
    a.floats[r, T.confidence_sum] += confidence
    a.ints[r, T.seen] += 1
    a.ints[r, T.touched] = max(a.ints[r, T.touched], s.log_ms[i])
    return boundary


@entry
def fold(
    a: Arrays, s: Source, sink: Sink, f: Into, w: Work, found: Found, lo: int, hi: int,
    o: int, text: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Fold frames lo..hi-1; o and text say how much of rows and scratch is in use.

    Returns the next frame, both as they are then, and what that frame needs first (DONE: nothing).
    """
    c, b = s.cols, a.bank
    for i in range(lo, hi):
        if s.status[i] != 0:
            continue
        key = s.series[i]
        t = a.tenant_of[s.tenants[i]]
        if t < 0:
            return i, o, text, NEED_TENANT
        name = a.size[s.tenants[i]] + 1
        at, size = a.at[key] + name, a.size[key] - name
        error = look_up(c, f.of_errors, i, s.buf, a.pool, at, size)
        r = a.series_of[key]
        if math.isfinite(error) and r < 0:
            return i, o, text, NEED_SERIES
        old = a.ints[t, T.leader]
        ids = c.len[f.of_frame_id, i] + WORD_MAX + 2
        room = MOST * (ids + size) + ids + (a.size[old] if old >= 0 else 0)
        full = o + MOST + 1 > min(sink.cause.shape[0], sink.cols.i.shape[1])
        if full or text + room > sink.scratch.shape[0]:
            return i, o, text, NEED_ROOM
        touch(a, s.tenants[i])
        if led(a, t, s, f, i, found) != 0:
            text = put(s, f, i, a, a.at[old], a.size[old], found, 0, sink, o, text)
            o += 1
        if not math.isfinite(error):
            continue
        b.ints[r, S.touched] = max(b.ints[r, S.touched], s.log_ms[i])
        touch(a, key)
        n = step(
            b, r, error, c.i[f.of_ts, i], modest(c.f[f.of_confidence, i]), s.leaders[i],
            a.table[b.ints[r, S.settings]], w, found,
        )  # fmt: skip
        for k in range(n):
            text = put(s, f, i, a, at, size, found, k, sink, o, text)
            o += 1
    return hi, o, text, DONE
