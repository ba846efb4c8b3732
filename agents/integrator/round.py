"""One round of one tenant: its domains that take part, what they learn, who would lead.

The round itself (`play`) and the contest for the lead are apart: a policy may be asked between.

A record gives its domain a new loss and time. Fresh is that domain, and every other whose time is
at most `stale_after` before the record's. Only fresh domains learn, weigh and lead. A domain that
wasn't in the last round enters neither favoured nor ruined. All time is the record's event time, so
a record that comes late speaks of its own moment: it moves no clock back, and a dwell is never
negative. A domain silent for `forget_after` of event time leaves.

Of a tenant that is frozen only the last error of each domain and its time are kept (`take`): no
round is played, and nobody learns.

When `fusion` changes, the learner starts anew at the tenant's next record: weights, cumulative
losses, Δ, regret and rounds of one law mean nothing to another. Losses, leader and dwell stay.
"""

from typing import NamedTuple

from agents.integrator import rule
from agents.integrator import settings as s
from agents.integrator.state import ROOM, SLOTS, Arrays, rank, widen
from agents.kit.depth import TEMPERATURE, depth
from agents.kit.packing import Floats, Ints
from topics.compiled import kernel


class Round(NamedTuple):
    """The fresh domains of a round, in slot order: room for SLOTS numbers each."""

    cell: Ints
    rank: Ints
    loss: Floats
    weight: Floats
    excess: Floats
    published: Floats  # of the last round; -1: wasn't in it
    prior: Floats
    p: Floats  # to be published
    spare: Floats


@kernel
def drop_silent(a: Arrays, r: int, domain: int, t: int, forget: float) -> int:
    """Drop the domains silent for longer than `forget` µs; returns the cell of `domain`, or -1."""
    tenant = a.tenants[r]
    first = tenant["at"]
    kept = 0
    found = -1
    for k in range(first, first + tenant["n"]):
        if t - a.cells[k]["seen"] <= forget:
            a.cells[first + kept] = a.cells[k]
            if a.cells[k]["domain"] == domain:
                found = first + kept
            kept += 1
    tenant["n"] = kept
    rank(a, r)
    return found


@kernel
def find(a: Arrays, r: int, domain: int, t: int, stale: float, forget: float) -> int:
    """The cell of a domain: its own, a new one, or that of the stalest stale domain; -1: none."""
    found = -1
    victim = -1
    silent = False
    for k in range(a.tenants[r]["at"], a.tenants[r]["at"] + a.tenants[r]["n"]):
        age = t - a.cells[k]["seen"]
        silent |= age > forget
        if a.cells[k]["domain"] == domain:
            found = k
        if age > stale and (victim < 0 or a.cells[k]["seen"] < a.cells[victim]["seen"]):
            victim = k
    if silent:
        found = drop_silent(a, r, domain, t, forget)
    if found >= 0:
        return found
    tenant = a.tenants[r]
    n = tenant["n"]
    if n == SLOTS:
        found = victim
    else:
        if n == tenant["size"]:
            widen(a, r, max(ROOM, 2 * n))
        found = tenant["at"] + n
        tenant["n"] = n + 1
    if found >= 0:
        cell = a.cells[found]
        cell["domain"] = domain
        cell["seen"] = t
        cell["weight"] = 0.0
        cell["excess"] = 0.0
        cell["published"] = -1.0
        cell["prior"] = 1.0
        rank(a, r)
    return found


@kernel
def gather(a: Arrays, r: int, moved: int, t: int, stale: float, w: Round) -> int:
    """Lay the fresh domains out in `w`; the others leave. Returns how many are fresh."""
    tenant = a.tenants[r]
    n = 0
    for k in range(tenant["at"], tenant["at"] + tenant["n"]):
        cell = a.cells[k]
        if k == moved or t - cell["seen"] <= stale:
            w.cell[n] = k
            w.rank[n] = cell["rank"]
            w.loss[n] = cell["loss"]
            w.weight[n] = cell["weight"]
            w.excess[n] = cell["excess"]
            w.published[n] = cell["published"]
            w.prior[n] = cell["prior"]
            n += 1
        elif cell["published"] >= 0.0:
            cell["weight"] = 0.0
            cell["excess"] = 0.0
            cell["published"] = -1.0
    return n


@kernel
def learn(a: Arrays, r: int, n: int, values: Floats, w: Round) -> float:
    """Let domains enter, and play the round by the tenant's law; returns the round's regret."""
    tenant = a.tenants[r]
    fusion = int(values[s.FUSION])
    if tenant["fusion"] != fusion:
        tenant["fusion"] = fusion
        tenant["delta"] = 0.0
        tenant["regret"] = 0.0
        tenant["rounds"] = 0
        w.published[:n] = -1.0
    losses, weight, excess, published = w.loss[:n], w.weight[:n], w.excess[:n], w.published[:n]
    rule.enter_hedge(excess, published)
    mixed = rule.mixed_loss(published, losses)
    if fusion == s.HEDGE:
        tenant["delta"] = rule.hedge_round(excess, losses, weight, tenant["delta"])
    else:
        for k in range(n):
            excess[k] += losses[k]
        if fusion == s.SOFTMAX:
            rule.softmax_round(losses, weight)
        else:
            rule.enter_share(weight, published, values[s.SHARE])
            tenant["delta"] = rule.share_round(weight, losses, values[s.SHARE], tenant["delta"])
    best = rule.lowest(excess)
    for k in range(n):
        excess[k] -= best
    tenant["regret"] += mixed - best
    tenant["rounds"] += 1
    return mixed - best


@kernel
def contest(a: Arrays, r: int, n: int, t: int, values: Floats, w: Round) -> tuple[int, int]:
    """The places in the round of who leads and of who should; -1: the leader isn't fresh, or none.

    The lead is to change when the two differ.
    """
    tenant = a.tenants[r]
    leader = -1
    for k in range(n):
        if a.cells[w.cell[k]]["domain"] == tenant["leader"]:
            leader = k
    dwelt = t - tenant["leader_since"] >= values[s.DWELL] * 1000.0
    return leader, rule.elect(w.p[:n], w.rank[:n], leader, values[s.MARGIN], dwelt)


@kernel
def crown(a: Arrays, r: int, domain: int, t: int) -> None:
    """Make a domain the leader from event time t on."""
    tenant = a.tenants[r]
    tenant["leader"] = domain
    tenant["leader_since"] = t
    a.changes[0] += 1


@kernel
def take(a: Arrays, r: int, k: int, t: int, error: float, values: Floats) -> None:
    """A record of a tenant's cell k: its last error, and when it was."""
    tenant, cell = a.tenants[r], a.cells[k]
    if t < cell["seen"]:
        tenant["late"] += 1
    else:
        cell["seen"] = t
    cell["error"] = error
    cell["loss"] = rule.loss(error, values[s.ALPHA])


@kernel
def play(a: Arrays, r: int, k: int, t: int, error: float, w: Round) -> tuple[int, float, float]:
    """One round of a tenant whose cell k moved: (fresh domains, H/ln N, the round's regret)."""
    values = a.settings[a.tenants[r]["settings"]]
    take(a, r, k, t, error, values)
    n = gather(a, r, k, t, values[s.STALE] * 1000.0, w)
    regret = learn(a, r, n, values, w)
    p = w.p[:n]
    rule.lean(w.weight[:n], w.prior[:n], w.spare[:n])
    heat = values[s.TEMPERATURE] * values[s.LEARNED] * TEMPERATURE[depth(values)]
    rule.temper(w.spare[:n], heat, p)
    h = rule.cap_entropy(p, values[s.CAP], rule.top(p, w.rank[:n]), w.spare[:n])
    for j in range(n):
        fresh = a.cells[w.cell[j]]
        fresh["weight"] = w.weight[j]
        fresh["excess"] = w.excess[j]
        fresh["published"] = w.p[j]
    return n, h, regret
