"""The loop over a batch: each record a round, each round a frame.

The loop stops where an array is full (FULL), at a record whose round is played and whose
leader the policy must be asked about (ASK: `finish` goes on with it), and behind one that showed a
drift (DRIFTED).
"""

import math
from typing import NamedTuple

from agents.engine.derived_ids import ID_BYTES_MAX, put_derived_id
from agents.engine.processor import OWN_REASONS, RATIONALE_BYTES_MAX
from agents.integrator import drift, rule
from agents.integrator.round import Round, contest, crown, find, play, take
from agents.integrator.settings import DRIFT, FORGET, HEDGE, RETRY, STALE
from agents.integrator.state import SLOTS, Arrays, has_room
from agents.kit.batches import Sink, Source, copy_span
from agents.kit.columns import slots
from agents.kit.depth import frozen
from agents.kit.packing import Bytes, Floats, Ints, mark, put_name
from topics.columns import Cols
from topics.compiled import entry, kernel

REASONS = {
    "error_not_finite": "error_metric: NaN or infinite",
    "error_negative": "error_metric: below 0",
    "too_many_domains": f"the tenant has {SLOTS} domains, as many as it can have at once: further "
    "ones are refused until one of these is forgotten (forget_after_s)",
}
NOT_FINITE, NEGATIVE, TOO_MANY = range(OWN_REASONS, OWN_REASONS + len(REASONS))

UPDATE, FRAME = slots("predictor_update"), slots("global_frame")
FULL, ASK, DRIFTED = range(3)  # why the loop stopped
VETO_NONE = 0  # index of the frame's enum


class Halt(NamedTuple):
    """A round that was played, at whose record the loop stopped."""

    tenant: int  # its row
    fresh: int  # domains in the round
    leader: int  # place in the round of who leads; -1: not fresh, or none
    chosen: int  # … of who should
    entropy: float
    regret: float
    kind: int  # of drift


NOWHERE = Halt(-1, 0, -1, -1, 0.0, 0.0, drift.NONE)


class Used(NamedTuple):
    """How much of rows, children and scratch is in use."""

    rows: int
    children: int
    text: int


@entry
def inspect(s: Source, lo: int, hi: int) -> None:
    """Refuse those of records lo..hi-1 that can't be folded, whatever the state is."""
    for i in range(lo, hi):
        error = s.cols.f[UPDATE.error_metric, i]
        if s.status[i] == 0 and not math.isfinite(error):
            s.status[i] = NOT_FINITE
        elif s.status[i] == 0 and error < 0.0:
            s.status[i] = NEGATIVE


@kernel
def is_full(a: Arrays, sink: Sink, used: Used) -> bool:
    """Whether one more record might not fit."""
    out = sink.cols
    rows = used.rows >= sink.cause.shape[0] or used.rows >= out.i.shape[1]
    spare = sink.scratch.shape[0] - used.text < ID_BYTES_MAX + RATIONALE_BYTES_MAX
    return bool(not has_room(a) or rows or used.children + 2 * SLOTS > out.vf.shape[0] or spare)


@kernel
def put_leader(a: Arrays, r: int, leader: int, t: int, w: Round, out: Cols, o: int) -> None:
    """Write who leads into row o; `leader` is its place in the round, -1 if it has none."""
    tenant = a.tenants[r]
    since = tenant["leader_since"] if tenant["leader"] >= 0 else t
    put_name(a.names, tenant["leader"], out.pos[FRAME.leader], out.len[FRAME.leader], o)
    out.i[FRAME.dwell_ms, o] = max(0, t - since) // 1000
    out.f[FRAME.confidence, o] = w.p[leader] if leader >= 0 else 0.0


@kernel
def put_weights(a: Arrays, n: int, w: Round, out: Cols, o: int, child: int) -> int:
    """Write the weights and errors of the n fresh domains into row o; returns the next child."""
    out.at[FRAME.weights, o], out.cnt[FRAME.weights, o] = child, n
    out.at[FRAME.errors, o], out.cnt[FRAME.errors, o] = child + n, n
    for j in range(child, child + n):
        cell = a.cells[w.cell[j - child]]
        put_name(a.names, cell["domain"], out.kpos, out.klen, j)
        put_name(a.names, cell["domain"], out.kpos, out.klen, j + n)
        out.vf[j], out.vf[j + n] = w.p[j - child], cell["error"]
    return child + 2 * n


@kernel
def put_frame(
    a: Arrays, s: Source, sink: Sink, prefix: Bytes, w: Round, i: int, halt: Halt, used: Used
) -> Used:
    """Write the frame of record i, all but its rationale (and its veto, if a remote policy spoke).

    There must be room for it. Returns what is in use then.
    """
    out, o, text, tenant = sink.cols, used.rows, used.text, a.tenants[halt.tenant]
    t = s.cols.i[UPDATE.ts, i]
    out.i[FRAME.ts, o] = t
    put_leader(a, halt.tenant, halt.leader, t, w, out, o)
    out.f[FRAME.entropy, o] = halt.entropy
    out.i[FRAME.veto, o], tenant["said"] = tenant["said"], VETO_NONE
    out.pos[FRAME.rationale, o] = out.len[FRAME.rationale, o] = 0
    out.i[FRAME.config_version, o] = max(tenant["config_version"], a.tenants[0]["config_version"])
    hedged, n = tenant["fusion"] == HEDGE, halt.fresh
    out.f[FRAME.regret_bound, o] = rule.regret_bound(tenant["rounds"], n) if hedged else math.nan
    child = put_weights(a, n, w, out, o, used.children)
    copy_span(s.cols, UPDATE.tenant, i, out, FRAME.tenant, o)
    copy_span(s.cols, UPDATE.domain, i, out, FRAME.domain, o)
    copy_span(s.cols, UPDATE.observation_id, i, out, FRAME.observation_id, o)
    end = put_derived_id(sink.scratch, text, prefix, s.offsets[i])
    out.pos[FRAME.frame_id, o], out.len[FRAME.frame_id, o] = text, end - text
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


@entry
def finish(
    a: Arrays, s: Source, sink: Sink, prefix: Bytes, w: Round, i: int, halt: Halt, used: Used
) -> tuple[Used, int]:
    """The frame of record i, whose round was played: (what is in use then, the kind of drift).

    `halt.leader` says who leads now.
    """
    used = put_frame(a, s, sink, prefix, w, i, halt, used)
    values = a.settings[a.tenants[halt.tenant]["settings"]]
    if values[DRIFT] == 0.0:
        return used, drift.NONE
    t = s.cols.i[UPDATE.ts, i]
    return used, drift.watch(a, halt.tenant, t, halt.entropy, halt.regret, values)


@entry
def fold(
    a: Arrays, s: Source, tenants: Ints, domains: Ints, priors: Floats, sink: Sink, prefix: Bytes,
    w: Round, lo: int, hi: int, used: Used, asks: bool, remote: bool,
    own: Bytes,
) -> tuple[int, Used, int, Halt]:  # fmt: skip
    """Fold records lo..hi-1, of these tenants (rows) and domains (codes), and their priors (none:
    all are 1); `asks`: by a policy.

    `own`, unless it is empty: which rows have one of their own, which isn't `remote`.

    Returns the next record (ASK: the one to `finish`), what is in use then, why it stopped, where.
    """
    for i in range(lo, hi):
        if s.status[i] != 0:
            continue
        if is_full(a, sink, used):
            return i, used, FULL, NOWHERE
        r, t = tenants[i], s.cols.i[UPDATE.ts, i]
        tenant = a.tenants[r]
        values = a.settings[tenant["settings"]]
        k = find(a, r, domains[i], t, values[STALE] * 1000.0, values[FORGET] * 1e6)
        if k < 0:
            s.status[i] = TOO_MANY
            continue
        if priors.shape[0] > 0:
            a.cells[k]["prior"] = priors[i]
        if frozen(values):
            take(a, r, k, t, s.cols.f[UPDATE.error_metric, i], values)
            tenant["touched"] = max(tenant["touched"], s.log_ms[i])
            mark(a.marks, tenant["code"])
            continue
        n, h, regret = play(a, r, k, t, s.cols.f[UPDATE.error_metric, i], w)
        tenant["touched"] = max(tenant["touched"], s.log_ms[i])
        mark(a.marks, tenant["code"])
        leader, chosen = contest(a, r, n, t, values, w)
        if chosen != leader:
            candidate = a.cells[w.cell[chosen]]["domain"]
            mine = own.shape[0] > 0 and own[r] != 0
            if not (asks or mine):
                crown(a, r, candidate, t)
                leader = chosen
            elif to_ask(a, r, candidate, t, remote and not mine):
                return i, used, ASK, Halt(r, n, leader, chosen, h, regret, drift.NONE)
        halt = Halt(r, n, leader, chosen, h, regret, drift.NONE)
        used, kind = finish(a, s, sink, prefix, w, i, halt, used)
        if kind != drift.NONE:
            return i + 1, used, DRIFTED, Halt(r, n, leader, chosen, h, regret, kind)
    return hi, used, FULL, NOWHERE
