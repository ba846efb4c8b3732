"""The loop over a batch of frames: whose they are, what they feed, and what boundaries hold."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import NameArrays
from agents.engine.processor import OWN_REASONS
from agents.engine.records import put_bytes
from agents.kit.batches import Sink, Source, copy_span
from agents.kit.columns import slots
from agents.kit.depth import frozen
from agents.kit.packing import Bytes, Marks, mark, name_of, put_name
from agents.segmentation import detect as d
from agents.segmentation import settings
from agents.segmentation.detect import EVIDENCE, LEADER_CHANGE, MOST, Found, step
from agents.segmentation.rule import Bank, Floats, Ints, Work
from agents.segmentation.state import S
from topics.columns import Cols
from topics.compiled import entry, kernel

F, B = slots("global_frame"), slots("segment_boundary")
WORDS = np.frombuffer("".join(EVIDENCE).encode(), np.uint8)
ENDS = np.cumsum([len(word) for word in EVIDENCE])
STARTS = np.concatenate((np.zeros(1, np.int64), ENDS[:-1]))
COLON = ord(":")
TOO_MANY = OWN_REASONS  # the first of REASONS
CONFIDENCE_MOST = 1e6  # beyond, its sum would lose the others
WORD_MAX = max(len(word) for word in EVIDENCE)


class Arrays(NamedTuple):
    """What kernels take of the state; whatever grows makes others."""

    tenants: NDArray[np.void]  # state.TENANTS
    bank: Bank
    series_of: Ints  # code -> row of the bank, -1: none
    marks: Marks
    names: NameArrays
    table: Floats  # TenantSettings.table


class Whose(NamedTuple):
    """Whose the frames of a batch are."""

    tenants: Ints  # rows
    series: Ints  # codes
    leaders: Ints  # codes; -1: nobody


@entry
def look_up(c: Cols, slot: int, i: int, keys: Bytes, name: Bytes) -> float:
    """The number that a map of record i has under a name; NaN without one.

    The map's own names lie in `keys`.
    """
    for child in range(c.at[slot, i], c.at[slot, i] + c.cnt[slot, i]):
        if c.klen[child] == name.shape[0]:
            same = True
            for j in range(name.shape[0]):
                same &= keys[c.kpos[child] + j] == name[j]
            if same:
                return float(c.vf[child])
    return math.nan


@kernel
def put_id(s: Source, i: int, a: Arrays, at: int, size: int, word: int, sink: Sink, o: int,
           text: int) -> int:  # fmt: skip
    """Write "<frame_id>:<domain>:<evidence>" of record i, its name at a.names.pool[at:][:size]."""
    out, begin = sink.scratch, text
    text = put_bytes(out, text, s.buf, s.cols.pos[F.frame_id, i], s.cols.len[F.frame_id, i])
    out[text] = COLON
    text = put_bytes(out, text + 1, a.names.pool, at, size)
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
    """Write boundary k of record i into row o; its domain is a.names.pool[at:][:size]."""
    text = put_id(s, i, a, at, size, found.ints[k, d.EVIDENCE_OF], sink, o, text)
    c = sink.cols
    copy_span(s.cols, F.tenant, i, c, B.tenant, o)
    copy_span(s.cols, F.frame_id, i, c, B.frame_id, o)
    c.pos[B.domain, o], c.len[B.domain, o] = at, size
    put_name(a.names, found.ints[k, d.LEADER], c.pos[B.leader], c.len[B.leader], o)
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
    tenant = a.tenants[r]
    tenant["leader"], tenant["measured"] = leader, 0
    tenant["start"], tenant["start_ts"] = tenant["seen"], ts
    tenant["error_sum"] = tenant["confidence_sum"] = tenant["peak"] = 0.0


@kernel
def led(a: Arrays, r: int, leader: int, s: Source, i: int, found: Found) -> int:
    """Take frame i into the tenant's time under its leader; 1: found[0] is its boundary."""
    c, tenant = s.cols, a.tenants[r]
    ts, confidence = c.i[F.ts, i], modest(c.f[F.confidence, i])
    values, old, boundary = a.table[tenant["settings"]], tenant["leader"], 0
    if tenant["seen"] == 0:
        begin(a, r, leader, ts)
    elif old != leader:
        reported = values[settings.LEADER] != 0.0 and old >= 0
        near = abs(ts - tenant["start_ts"]) < values[settings.MIN_GAP] * 1000.0
        if reported and tenant["boundaries"] > 0 and near:
            leader = old  # the segment goes on; who leads then is seen when the gap is over
        else:
            if reported and tenant["seen"] >= values[settings.WARMUP]:
                weight = look_up(c, F.weights, i, s.buf, name_of(a.names, old))
                frames = tenant["seen"] - tenant["start"]
                found.ints[0, d.EVIDENCE_OF] = LEADER_CHANGE
                found.ints[0, d.TS] = ts
                found.ints[0, d.DETECTED_TS] = ts
                found.floats[0, d.SCORE] = confidence - (weight if math.isfinite(weight) else 0.0)
                found.ints[0, d.START_TS] = tenant["start_ts"]
                found.ints[0, d.FRAMES] = frames
                found.ints[0, d.LEADER] = old
                found.floats[0, d.MEAN_ERROR] = tenant["error_sum"] / max(1, tenant["measured"])
                found.floats[0, d.MEAN_CONFIDENCE] = tenant["confidence_sum"] / frames
                found.floats[0, d.PEAK_ERROR] = tenant["peak"]
                tenant["boundaries"] += 1
                boundary = 1
            begin(a, r, leader, ts)
    error = look_up(c, F.errors, i, s.buf, name_of(a.names, leader))
    if math.isfinite(error):
        tenant["measured"] += 1
        tenant["error_sum"] += error
        tenant["peak"] = max(tenant["peak"], error)
    tenant["confidence_sum"] += confidence
    tenant["seen"] += 1
    tenant["touched"] = max(tenant["touched"], s.log_ms[i])
    return boundary


@kernel
def own_error(a: Arrays, s: Source, i: int, key: int) -> float:
    """Frame i's error of the domain that moved, of the series `key`; NaN without one."""
    domain = name_of(a.names, key)[s.cols.len[F.tenant, i] + 1 :]
    return look_up(s.cols, F.errors, i, s.buf, domain)


@entry
def newcomers(a: Arrays, s: Source, whose: Whose, lo: int, hi: int, out: Ints) -> int:
    """The frames whose series are to be made, each once; returns how many `out` has.

    Frames of more domains than a tenant may have are refused.
    """
    count = 0
    for i in range(lo, hi):
        key = whose.series[i]
        if s.status[i] != 0 or a.series_of[key] != -1:
            continue
        if not math.isfinite(own_error(a, s, i, key)):
            continue
        tenant = a.tenants[whose.tenants[i]]
        if tenant["domains"] >= a.table[tenant["settings"], settings.DOMAINS_MAX]:
            s.status[i] = TOO_MANY
            continue
        tenant["domains"] += 1
        a.series_of[key] = -2
        out[count] = i
        count += 1
    for i in out[:count]:
        a.tenants[whose.tenants[i]]["domains"] -= 1
        a.series_of[whose.series[i]] = -1
    return count


@kernel
def pass_by(a: Arrays, t: int, r: int, key: int, log_ms: int) -> None:
    """A frame of a tenant that is frozen: it is alive, and so is the series r of the domain."""
    a.tenants[t]["touched"] = max(a.tenants[t]["touched"], log_ms)
    if r >= 0:
        a.bank.ints[r, S.touched] = max(a.bank.ints[r, S.touched], log_ms)
        mark(a.marks, key)


@entry
def fold(
    a: Arrays, s: Source, whose: Whose, sink: Sink, w: Work, found: Found, lo: int, hi: int, o: int,
    text: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Fold frames lo..hi-1; o and text say how much of rows and scratch is in use.

    Returns the next frame, for which there is no space (hi: all are done), and both as they are.
    """
    c, b, names = s.cols, a.bank, a.names
    for i in range(lo, hi):
        if s.status[i] != 0:
            continue
        t, key, name = whose.tenants[i], whose.series[i], c.len[F.tenant, i] + 1
        at, size = names.at[key] + name, names.size[key] - name
        error, r = own_error(a, s, i, key), a.series_of[key]
        old = a.tenants[t]["leader"]
        ids = c.len[F.frame_id, i] + WORD_MAX + 2
        need = MOST * (ids + size) + ids + name_of(names, old).shape[0]
        full = o + MOST + 1 > min(sink.cause.shape[0], sink.cols.i.shape[1])
        if full or text + need > sink.scratch.shape[0]:
            return i, o, text
        mark(a.marks, a.tenants[t]["code"])
        if frozen(a.table[a.tenants[t]["settings"]]):
            pass_by(a, t, r, key, s.log_ms[i])
            continue
        if led(a, t, whose.leaders[i], s, i, found) != 0:
            text = put(s, i, a, names.at[old], names.size[old], found, 0, sink, o, text)
            o += 1
        if not math.isfinite(error):
            continue
        b.ints[r, S.touched] = max(b.ints[r, S.touched], s.log_ms[i])
        mark(a.marks, key)
        n = step(
            b, r, error, c.i[F.ts, i], modest(c.f[F.confidence, i]), whose.leaders[i],
            a.table[b.ints[r, S.settings]], w, found,
        )  # fmt: skip
        for k in range(n):
            text = put(s, i, a, at, size, found, k, sink, o, text)
            o += 1
    return hi, o, text
