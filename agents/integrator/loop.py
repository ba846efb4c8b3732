"""The loop over a batch: each record a round, each round a frame.

The loop stops where an array is full (FULL), at a record whose round is played and whose
leader the policy must be asked about (ASK: `finish` goes on with it), and behind one that showed a
drift (DRIFTED).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.derived_ids import ID_BYTES_MAX, put_derived_id
from agents.engine.processor import OWN_REASONS, RATIONALE_BYTES_MAX
from agents.integrator import drift, rule
from agents.integrator.round import Round, contest, crown, find, play
from agents.integrator.settings import DRIFT, FORGET, HEDGE, RETRY, STALE
from agents.integrator.state import SLOTS, Arrays, has_room
from agents.kit.packing import mark
from agents.kit.setting import EVERYONE
from topics.columns import Cols, Layout
from topics.compiled import entry, kernel
from topics.layout import by_field
from topics.write_kernels import inside

REASONS = {
    "error_not_finite": "error_metric: NaN or infinite",
    "error_negative": "error_metric: below 0",
    "name": "tenant or domain: no name for one",
    "too_many_domains": f"the tenant has {SLOTS} domains, as many as it can have at once: further "
    "ones are refused until one of these is forgotten (forget_after_s)",
}
NOT_FINITE, NEGATIVE, NAME, TOO_MANY = range(OWN_REASONS, OWN_REASONS + len(REASONS))

ALL = ord(EVERYONE)  # the name of the tenant that has no records
FULL, ASK, DRIFTED = range(3)  # why the loop stopped
VETO_NONE = 0  # index of the frame's enum

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Into(NamedTuple):
    """Where the fields lie that are read (update_…) and written, in the arrays of their kinds."""

    update_tenant: int
    update_domain: int
    update_observation_id: int
    update_error: int
    update_ts: int
    frame_id: int
    tenant: int
    domain: int
    leader: int
    rationale: int
    observation_id: int
    weights: int
    errors: int
    confidence: int
    entropy: int
    regret_bound: int
    ts: int
    dwell_ms: int
    veto: int
    config_version: int


class Source(NamedTuple):
    """A batch, with the rows of its tenants and the codes of its domains."""

    buf: NDArray[np.uint8]
    cols: Cols
    tenants: Ints
    domains: Ints
    offsets: Ints
    log_ms: Ints
    status: NDArray[np.uint8]


class Sink(NamedTuple):
    """What frames are written into."""

    cols: Cols
    cause: Ints
    scratch: NDArray[np.uint8]
    prefix: NDArray[np.uint8]


class Halt(NamedTuple):
    """Where the loop stopped: one number in each."""

    tenant: Ints  # its row
    fresh: Ints  # domains in the round
    leader: Ints  # place in the round of who leads; -1: not fresh, or none
    chosen: Ints  # … of who should
    kind: Ints  # of drift
    entropy: Floats
    regret: Floats


class Used(NamedTuple):
    """How much of rows, children and scratch is in use."""

    rows: int
    children: int
    text: int


@entry
def inspect(source: Source, f: Into, lo: int, hi: int) -> None:
    """Refuse those of records lo..hi-1 that can't be folded, whatever the state is."""
    for i in range(lo, hi):
        if source.status[i] != 0:
            continue
        error, c, size = source.cols.f[f.update_error, i], source.cols, source.buf.shape[0]
        p, n = c.pos[f.update_tenant, i], c.len[f.update_tenant, i]
        if not math.isfinite(error):
            source.status[i] = NOT_FINITE
        elif error < 0.0:
            source.status[i] = NEGATIVE
        elif (
            not inside(p, n, size)
            or not inside(c.pos[f.update_domain, i], c.len[f.update_domain, i], size)
            or (n == 1 and source.buf[p] == ALL)
        ):
            source.status[i] = NAME


@kernel
def is_full(a: Arrays, sink: Sink, used: Used) -> bool:
    """Whether one more record might not fit."""
    out = sink.cols
    rows = used.rows >= sink.cause.shape[0] or used.rows >= out.i.shape[1]
    spare = sink.scratch.shape[0] - used.text < ID_BYTES_MAX + RATIONALE_BYTES_MAX
    return bool(not has_room(a) or rows or used.children + 2 * SLOTS > out.vf.shape[0] or spare)


@kernel
def put_name(a: Arrays, code: int, pos: Ints, size: Ints, at: int) -> None:
    """Make span `at` of two arrays the bytes of a name."""
    pos[at] = a.at[code]
    size[at] = a.size[code]


@kernel
def put_leader(
    a: Arrays, r: int, leader: int, t: int, w: Round, f: Into, out: Cols, o: int
) -> None:
    """Write who leads into row o; `leader` is its place in the round, -1 if it has none."""
    tenant = a.tenants[r]
    out.f[f.confidence, o] = w.p[leader] if leader >= 0 else 0.0
    if tenant["leader"] >= 0:
        put_name(a, tenant["leader"], out.pos[f.leader], out.len[f.leader], o)
        out.i[f.dwell_ms, o] = max(0, t - tenant["leader_since"]) // 1000
    else:
        out.pos[f.leader, o] = 0
        out.len[f.leader, o] = 0
        out.i[f.dwell_ms, o] = 0


@kernel
def put_weights(a: Arrays, n: int, w: Round, f: Into, out: Cols, o: int, child: int) -> int:
    """Write the weights and errors of the n fresh domains into row o; returns the next child."""
    out.at[f.weights, o] = child
    out.cnt[f.weights, o] = n
    out.at[f.errors, o] = child + n
    out.cnt[f.errors, o] = n
    for j in range(n):
        cell = a.cells[w.cell[j]]
        put_name(a, cell["domain"], out.kpos, out.klen, child + j)
        put_name(a, cell["domain"], out.kpos, out.klen, child + n + j)
        out.vf[child + j] = w.p[j]
        out.vf[child + n + j] = cell["error"]
    return child + 2 * n


@kernel
def copy_span(source: Cols, s: int, i: int, out: Cols, d: int, o: int) -> None:
    """A span of record i becomes one of row o."""
    out.pos[d, o] = source.pos[s, i]
    out.len[d, o] = source.len[s, i]


@kernel
def put_frame(
    a: Arrays, source: Source, sink: Sink, f: Into, w: Round, i: int,
    r: int, n: int, leader: int, h: float, used: Used,
) -> Used:  # fmt: skip
    """Write the frame of record i, all but its rationale (and its veto, if a remote policy spoke).

    There must be room for it. Returns what is in use then.
    """
    out, o, text, tenant = sink.cols, used.rows, used.text, a.tenants[r]
    t = source.cols.i[f.update_ts, i]
    out.i[f.ts, o] = t
    put_leader(a, r, leader, t, w, f, out, o)
    out.f[f.entropy, o] = h
    out.i[f.veto, o] = tenant["said"]
    tenant["said"] = VETO_NONE
    out.pos[f.rationale, o] = 0
    out.len[f.rationale, o] = 0
    out.i[f.config_version, o] = tenant["config_version"] + a.tenants[0]["config_version"]
    hedged = tenant["fusion"] == HEDGE
    out.f[f.regret_bound, o] = rule.regret_bound(tenant["rounds"], n) if hedged else math.nan
    child = put_weights(a, n, w, f, out, o, used.children)
    copy_span(source.cols, f.update_tenant, i, out, f.tenant, o)
    copy_span(source.cols, f.update_domain, i, out, f.domain, o)
    copy_span(source.cols, f.update_observation_id, i, out, f.observation_id, o)
    end = put_derived_id(sink.scratch, text, sink.prefix, source.offsets[i])
    out.pos[f.frame_id, o] = text
    out.len[f.frame_id, o] = end - text
    sink.cause[o] = i
    return Used(o + 1, child, end)


@kernel
def to_ask(a: Arrays, r: int, candidate: int, t: int, remote: bool) -> bool:
    """Whether the policy is asked about a candidate now.

    Not while a remote one owes the tenant an answer, nor within veto_retry_ms of event time (before
    or after) of having denied that same candidate.
    """
    tenant = a.tenants[r]
    if remote and tenant["question"] >= 0:
        return False
    retry = a.settings[tenant["settings"], RETRY] * 1000.0
    return bool(candidate != tenant["denied"] or abs(t - tenant["denied_at"]) >= retry)


@kernel
def pause(halt: Halt, r: int, n: int, leader: int, chosen: int, h: float, regret: float) -> None:
    """Note where a record's fold stopped."""
    halt.tenant[0] = r
    halt.fresh[0] = n
    halt.leader[0] = leader
    halt.chosen[0] = chosen
    halt.entropy[0] = h
    halt.regret[0] = regret


@entry
def finish(
    a: Arrays, source: Source, sink: Sink, f: Into, w: Round, halt: Halt, i: int, used: Used
) -> tuple[Used, int]:
    """The frame of record i, at which the loop stopped to ask; why it stops again (FULL: no drift).

    `halt.leader` says who leads now.
    """
    r, n = halt.tenant[0], halt.fresh[0]
    h, t = halt.entropy[0], source.cols.i[f.update_ts, i]
    used = put_frame(a, source, sink, f, w, i, r, n, halt.leader[0], h, used)
    values = a.settings[a.tenants[r]["settings"]]
    halt.kind[0] = drift.NONE
    if values[DRIFT] != 0.0:
        halt.kind[0] = drift.watch(a, r, t, h, halt.regret[0], values)
    return used, DRIFTED if halt.kind[0] != drift.NONE else FULL


@entry
def fold(
    a: Arrays, source: Source, sink: Sink, f: Into, w: Round, halt: Halt, lo: int, hi: int,
    used: Used, asks: bool, remote: bool,
) -> tuple[int, Used, int]:  # fmt: skip
    """Fold records lo..hi-1; `asks`: there is a policy.

    Returns the next record (ASK: the one to `finish`), what is in use then, and why it stopped.
    """
    for i in range(lo, hi):
        if source.status[i] != 0:
            continue
        if is_full(a, sink, used):
            return i, used, FULL
        r = source.tenants[i]
        tenant = a.tenants[r]
        values = a.settings[tenant["settings"]]
        t = source.cols.i[f.update_ts, i]
        k = find(a, r, source.domains[i], t, values[STALE] * 1000.0, values[FORGET] * 1e6)
        if k < 0:
            source.status[i] = TOO_MANY
            continue
        n, h, regret = play(a, r, k, t, source.cols.f[f.update_error, i], w)
        tenant["touched"] = max(tenant["touched"], source.log_ms[i])
        mark(a.marks, tenant["code"])
        leader, chosen = contest(a, r, n, t, values, w)
        if chosen != leader:
            candidate = a.cells[w.cell[chosen]]["domain"]
            if not asks:
                crown(a, r, candidate, t)
                leader = chosen
            elif to_ask(a, r, candidate, t, remote):
                pause(halt, r, n, leader, chosen, h, regret)
                return i, used, ASK
        used = put_frame(a, source, sink, f, w, i, r, n, leader, h, used)
        if values[DRIFT] != 0.0:
            kind = drift.watch(a, r, t, h, regret, values)
            if kind != drift.NONE:
                halt.tenant[0] = r
                halt.kind[0] = kind
                return i + 1, used, DRIFTED
    return hi, used, FULL


def into(update: Layout, frame: Layout) -> Into:
    """The slots of both layouts."""
    read = {"tenant", "domain", "observation_id", "ts"}
    names = {f"update_{name}": update.slots[name] for name in read}
    names["update_error"] = update.slots["error_metric"]
    return by_field(Into, frame.slots | names)
