"""The loop over a batch of frames: whose they are, what they feed, and what boundaries hold."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from agents.engine.processor import OWN_REASONS
from agents.engine.records import put_bytes
from agents.kit.packing import Bytes, Marks, mark
from agents.segmentation import detect as d
from agents.segmentation import settings
from agents.segmentation.detect import EVIDENCE, LEADER_CHANGE, MOST, Found, step
from agents.segmentation.rule import Bank, Floats, Ints, Work
from agents.segmentation.state import S, T
from topics.columns import Cols, Layout
from topics.compiled import entry, kernel
from topics.layout import by_field
from topics.schemas import schemas
from topics.write_kernels import inside

WORDS = np.frombuffer("".join(EVIDENCE).encode(), np.uint8)
ENDS = np.cumsum([len(word) for word in EVIDENCE])
STARTS = np.concatenate((np.zeros(1, np.int64), ENDS[:-1]))
COLON = ord(":")
TOO_MANY = OWN_REASONS  # the first of REASONS
CONFIDENCE_MOST = 1e6  # beyond, its sum would lose the others
WORD_MAX = max(len(word) for word in EVIDENCE)


class Frame(NamedTuple):
    """Where the fields of a frame stand in Cols."""

    frame_id: int
    tenant: int
    ts: int
    domain: int
    leader: int
    weights: int
    errors: int
    confidence: int


class Boundary(NamedTuple):
    """Where the fields of a boundary stand in Cols."""

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


def _slots(schema: str) -> Mapping[str, int]:
    return Layout(schemas().newest(schema)).slots


F, B = by_field(Frame, _slots("global_frame")), by_field(Boundary, _slots("segment_boundary"))


class Arrays(NamedTuple):
    """What kernels take of the state; whatever grows makes others."""

    ints: Ints  # the tenants, as columns of whole numbers
    floats: Floats  # the same memory as floats
    bank: Bank
    series_of: Ints  # code -> row of the bank, -1: none
    marks: Marks
    at: Ints  # Names: where name k begins in the pool
    size: Ints
    pool: Bytes
    table: Floats  # TenantSettings.table


class Source(NamedTuple):
    """A batch, and whose its frames are."""

    buf: Bytes
    cols: Cols
    tenants: Ints  # rows
    series: Ints  # codes
    leaders: Ints  # codes; -1: nobody
    log_ms: Ints
    status: Bytes


class Sink(NamedTuple):
    """What boundaries are written into."""

    cols: Cols
    cause: Ints
    scratch: Bytes


@entry
def whole(buf: Bytes, c: Cols, status: Bytes, lo: int, hi: int) -> bool:
    """Whether all texts of the records with status 0 lie inside the buffer."""
    for i in range(lo, hi):
        if status[i] != 0:
            continue
        for slot in (F.tenant, F.domain, F.leader, F.frame_id):
            if not inside(c.pos[slot, i], c.len[slot, i], buf.shape[0]):
                return False
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
        if c.klen[child] == size and inside(at, size, keys.shape[0]):
            same = True
            for j in range(size):
                same &= keys[at + j] == buf[pos + j]
            if same:
                return float(c.vf[child])
    return math.nan


@kernel
def put_id(s: Source, i: int, a: Arrays, at: int, size: int, word: int, sink: Sink, o: int,
           text: int) -> int:  # fmt: skip
    """Write "<frame_id>:<domain>:<evidence>" of record i, the domain a.pool[at:][:size]."""
    out, begin = sink.scratch, text
    text = put_bytes(out, text, s.buf, s.cols.pos[F.frame_id, i], s.cols.len[F.frame_id, i])
    out[text] = COLON
    text = put_bytes(out, text + 1, a.pool, at, size)
    out[text] = COLON
    text = put_bytes(out, text + 1, WORDS, STARTS[word], ENDS[word] - STARTS[word])
    sink.cols.pos[B.segment_id, o] = begin
    sink.cols.len[B.segment_id, o] = text - begin
    return int(text)


@entry
def put(
    s: Source, i: int, a: Arrays, at: int, size: int, found: Found, k: int, sink: Sink, o: int,
    text: int,
) -> int:  # fmt: skip
    """Write boundary k of record i, of the domain a.pool[at:][:size], into row o."""
    text = put_id(s, i, a, at, size, found.ints[k, d.EVIDENCE_OF], sink, o, text)
    c = sink.cols
    c.pos[B.tenant, o] = s.cols.pos[F.tenant, i]
    c.len[B.tenant, o] = s.cols.len[F.tenant, i]
    c.pos[B.frame_id, o] = s.cols.pos[F.frame_id, i]
    c.len[B.frame_id, o] = s.cols.len[F.frame_id, i]
    c.pos[B.domain, o] = at
    c.len[B.domain, o] = size
    leader = found.ints[k, d.LEADER]
    c.pos[B.leader, o] = a.at[leader] if leader >= 0 else 0
    c.len[B.leader, o] = a.size[leader] if leader >= 0 else 0
    c.i[B.boundary_ts, o] = found.ints[k, d.TS]
    c.i[B.detected_ts, o] = found.ints[k, d.DETECTED_TS]
    c.i[B.start_ts, o] = found.ints[k, d.START_TS]
    c.i[B.dwell_ms, o] = max(0, found.ints[k, d.TS] - found.ints[k, d.START_TS]) // 1000
    c.i[B.evidence, o] = found.ints[k, d.EVIDENCE_OF]
    c.i[B.frames, o] = found.ints[k, d.FRAMES]
    c.f[B.score, o] = found.floats[k, d.SCORE]
    c.f[B.mean_error, o] = found.floats[k, d.MEAN_ERROR]
    c.f[B.mean_confidence, o] = found.floats[k, d.MEAN_CONFIDENCE]
    c.f[B.peak_error, o] = found.floats[k, d.PEAK_ERROR]
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
def led(a: Arrays, r: int, s: Source, i: int, found: Found) -> int:
    """Take frame i into the tenant's time under its leader; 1: found[0] is its boundary."""
    c = s.cols
    leader, ts = s.leaders[i], c.i[F.ts, i]
    confidence = modest(c.f[F.confidence, i])
    values = a.table[a.ints[r, T.settings]]
    old = a.ints[r, T.leader]
    boundary = 0
    if a.ints[r, T.seen] == 0:
        begin(a, r, leader, ts)
    elif old != leader:
        reported = values[settings.LEADER] != 0.0 and old >= 0
        near = abs(ts - a.ints[r, T.start_ts]) < values[settings.MIN_GAP] * 1000.0
        if reported and a.ints[r, T.boundaries] > 0 and near:
            leader = old  # the segment goes on; who leads then is seen when the gap is over
        else:
            if reported and a.ints[r, T.seen] >= values[settings.WARMUP]:
                weight = look_up(c, F.weights, i, s.buf, a.pool, a.at[old], a.size[old])
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
    at, size = (a.at[leader], a.size[leader]) if leader >= 0 else (0, 0)
    error = look_up(c, F.errors, i, s.buf, a.pool, at, size)
    if math.isfinite(error):
        a.ints[r, T.measured] += 1
        a.floats[r, T.error_sum] += error
        a.floats[r, T.peak] = max(a.floats[r, T.peak], error)
    a.floats[r, T.confidence_sum] += confidence
    a.ints[r, T.seen] += 1
    a.ints[r, T.touched] = max(a.ints[r, T.touched], s.log_ms[i])
    return boundary


@kernel
def own_error(a: Arrays, s: Source, i: int) -> float:
    """Frame i's error of the domain that moved; NaN without one."""
    key, name = s.series[i], s.cols.len[F.tenant, i] + 1
    return look_up(s.cols, F.errors, i, s.buf, a.pool, a.at[key] + name, a.size[key] - name)


@entry
def newcomers(a: Arrays, s: Source, lo: int, hi: int, out: Ints) -> int:
    """The frames whose series are to be made, each once; returns how many `out` has.

    Frames of more domains than a tenant may have are refused.
    """
    count = 0
    for i in range(lo, hi):
        if s.status[i] != 0 or a.series_of[s.series[i]] != -1:
            continue
        if not math.isfinite(own_error(a, s, i)):
            continue
        t = s.tenants[i]
        if a.ints[t, T.domains] >= a.table[a.ints[t, T.settings], settings.DOMAINS_MAX]:
            s.status[i] = TOO_MANY
            continue
        a.ints[t, T.domains] += 1
        a.series_of[s.series[i]] = -2
        out[count] = i
        count += 1
    for n in range(count):
        a.ints[s.tenants[out[n]], T.domains] -= 1
        a.series_of[s.series[out[n]]] = -1
    return count


@entry
def fold(
    a: Arrays, s: Source, sink: Sink, w: Work, found: Found, lo: int, hi: int,
    o: int, text: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Fold frames lo..hi-1; o and text say how much of rows and scratch is in use.

    Returns the next frame, for which there is no space (hi: all are done), and both as they are.
    """
    c, b = s.cols, a.bank
    for i in range(lo, hi):
        if s.status[i] != 0:
            continue
        t, key, name = s.tenants[i], s.series[i], c.len[F.tenant, i] + 1
        at, size = a.at[key] + name, a.size[key] - name
        error, r = own_error(a, s, i), a.series_of[key]
        old = a.ints[t, T.leader]
        ids = c.len[F.frame_id, i] + WORD_MAX + 2
        need = MOST * (ids + size) + ids + (a.size[old] if old >= 0 else 0)
        full = o + MOST + 1 > min(sink.cause.shape[0], sink.cols.i.shape[1])
        if full or text + need > sink.scratch.shape[0]:
            return i, o, text
        mark(a.marks, a.ints[t, T.code])
        if led(a, t, s, i, found) != 0:
            text = put(s, i, a, a.at[old], a.size[old], found, 0, sink, o, text)
            o += 1
        if not math.isfinite(error):
            continue
        b.ints[r, S.touched] = max(b.ints[r, S.touched], s.log_ms[i])
        mark(a.marks, key)
        n = step(
            b, r, error, c.i[F.ts, i], modest(c.f[F.confidence, i]), s.leaders[i],
            a.table[b.ints[r, S.settings]], w, found,
        )  # fmt: skip
        for k in range(n):
            text = put(s, i, a, at, size, found, k, sink, o, text)
            o += 1
    return hi, o, text
