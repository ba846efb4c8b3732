"""The integrator's law (laws.md section 2), written again for the verifier."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ops.prove import hedging
from ops.prove.check import Law, RefusedError
from ops.prove.hedging import Numbers
from ops.prove.overrides import EVERYBODY, Overrides, choice

SLOTS = 16  # domains of a tenant at most
NEAR = 1e-9  # weights that differ by less are equal as far as the verifier can tell
SENIOR = {"state": 0, "agent": 1, "action": 2}  # who wins a tie; the others follow by name

FUSIONS = ("hedge", "fixed_share", "softmax")
KINDS: dict[str, Callable[[str], Any]] = {
    "fusion": choice(*FUSIONS),
    "alpha": float,
    "share": float,
    "temperature": float,
    "entropy_cap": float,
    "margin": float,
    "min_dwell_ms": float,
    "stale_after_ms": float,
    "forget_after_s": float,
}


@dataclass
class Domain:
    """What is known of one domain; `published` is None if it took no part in the last round."""

    seen: int  # event time, microseconds
    error: float = 0.0
    loss: float = 0.0
    weight: float = 0.0
    excess: float = 0.0  # cumulative loss, less that of the best fresh domain
    published: float | None = None


@dataclass
class Tenant:
    """State of one tenant; `domains` in the order in which they came."""

    domains: dict[str, Domain] = field(default_factory=dict)
    fusion: str = ""
    delta: float = 0.0
    regret: float = 0.0
    rounds: int = 0
    leader: str = ""
    since: int = 0
    late: int = 0

    def place(self, name: str, ts: int, stale_us: float, forget_us: float) -> Domain:
        """The domain's own place, a new one, or that of the stalest stale domain.

        Domains that were silent for too long leave first.
        """
        for silent in [n for n, d in self.domains.items() if ts - d.seen > forget_us]:
            del self.domains[silent]
        if name in self.domains:
            return self.domains[name]
        if len(self.domains) == SLOTS:
            stale = [n for n, d in self.domains.items() if ts - d.seen > stale_us]
            if not stale:
                raise RefusedError("too_many_domains")
            del self.domains[min(stale, key=lambda n: self.domains[n].seen)]
        self.domains[name] = Domain(ts)
        return self.domains[name]

    def fresh(self, moved: str, ts: int, stale_us: float) -> dict[str, Domain]:
        """The domains of this round; the stale ones leave."""
        fresh = {}
        for name, domain in self.domains.items():
            if name == moved or ts - domain.seen <= stale_us:
                fresh[name] = domain
            else:
                domain.published, domain.weight, domain.excess = None, 0.0, 0.0
        return fresh


def learn(tenant: Tenant, fresh: Mapping[str, Domain], settings: Mapping[str, Any]) -> Numbers:
    """Let domains enter, play one round, note the regret; returns the learner's new weights."""
    if tenant.fusion != settings["fusion"]:
        tenant.fusion = settings["fusion"]
        tenant.delta, tenant.regret, tenant.rounds = 0.0, 0.0, 0
        for domain in fresh.values():
            domain.published = None
    published = {n: d.published for n, d in fresh.items() if d.published is not None}
    losses = {name: domain.loss for name, domain in fresh.items()}
    entry = min((fresh[name].excess for name in published), default=0.0)
    excess = {name: d.excess if name in published else entry for name, d in fresh.items()}
    mixed = _mixed(published, losses)
    if tenant.fusion == "hedge":
        excess, weights, tenant.delta = hedging.hedge_round(excess, losses, tenant.delta)
    else:
        excess = {name: excess[name] + losses[name] for name in losses}
        if tenant.fusion == "softmax":
            weights = hedging.softmax(losses)
        else:
            entered = _enter({n: d.weight for n, d in fresh.items()}, published, settings["share"])
            weights, tenant.delta = hedging.share_round(
                entered, losses, settings["share"], tenant.delta
            )
    best = min(excess.values())
    for name, domain in fresh.items():
        domain.excess, domain.weight = excess[name] - best, weights[name]
    tenant.regret += mixed - best
    tenant.rounds += 1
    return weights


def _mixed(published: Mapping[str, float | None], losses: Numbers) -> float:
    """What following the last frame costs now; the mean loss where it said nothing."""
    said = {name: w for name, w in published.items() if w}
    if not said:
        return math.fsum(losses.values()) / len(losses)
    return math.fsum(w * losses[name] for name, w in said.items()) / math.fsum(said.values())


def _enter(weights: Numbers, known: Mapping[str, object], share: float) -> Numbers:
    """Who wasn't in the last round gets share/N; the others share the rest as they did."""
    count = len(weights)
    kept = math.fsum(weight for name, weight in weights.items() if name in known)
    new = sum(name not in known for name in weights)
    if new == count or kept <= 0.0:
        return dict.fromkeys(weights, 1.0 / count)
    rest = (1.0 - new * share / count) / kept
    return {name: w * rest if name in known else share / count for name, w in weights.items()}


def _order(name: str) -> tuple[int, bytes]:
    return SENIOR.get(name, len(SENIOR)), name.encode()


def elect(weights: Numbers, leader: str, margin: float, *, dwelt: bool) -> set[str]:
    """Who may lead now: one domain, or more where rounding alone decides."""
    top = max(weights.values())
    first = {name for name, weight in weights.items() if weight >= top - NEAR}
    if leader not in weights:
        return first
    ahead = top - weights[leader] - margin
    if not dwelt or ahead <= -NEAR:
        return {leader}
    return first if ahead > NEAR else first | {leader}


@dataclass
class Fusion(Law):
    """Folds predictor_updates; see check.Law."""

    source = "predictor_update"
    sink = "global_frame"
    cause = "frame_id"
    state = "integrator_state"
    tolerance: ClassVar[Mapping[str, float]] = {"": 1e-6}

    tenants: dict[str, Tenant] = field(default_factory=dict)
    settings: Overrides = field(default_factory=lambda: Overrides(KINDS))

    def epoch(self, settings: Mapping[str, str]) -> None:
        """See check.Law."""
        self.settings.epoch(settings)

    def control(self, tenant: str, setting: str, value: str) -> None:
        """See check.Law."""
        self.settings.change(tenant, setting, value)

    def fold(
        self, record: dict[str, Any], place: str, log_ms: int, written: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """See check.Law."""
        error, ts, name = record["error_metric"], record["ts"], record["domain"]
        if not math.isfinite(error) or error < 0.0:
            raise RefusedError("error")
        settings = self.settings.of(record["tenant"])
        stale_us = settings["stale_after_ms"] * 1000.0
        tenant = self.tenants.get(record["tenant"]) or Tenant()
        domain = tenant.place(name, ts, stale_us, settings["forget_after_s"] * 1e6)
        self.tenants[record["tenant"]] = tenant
        tenant.late += ts < domain.seen
        domain.seen = max(domain.seen, ts)
        domain.error = error
        domain.loss = -math.expm1(-settings["alpha"] * error)
        fresh = tenant.fresh(name, ts, stale_us)
        weights = hedging.tempered(learn(tenant, fresh, settings), settings["temperature"])
        top = max(weights.values())
        first = min((n for n, w in weights.items() if w == top), key=_order)
        weights = hedging.capped(weights, settings["entropy_cap"], first)
        for each, known in fresh.items():
            known.published = weights[each]
        self._lead(tenant, weights, ts, settings, written)
        return self._frame(record, place, tenant, weights)

    @staticmethod
    def _lead(
        tenant: Tenant, weights: Numbers, ts: int, settings: Mapping[str, Any],
        written: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        dwelt = ts - tenant.since >= settings["min_dwell_ms"] * 1000.0
        may = elect(weights, tenant.leader, settings["margin"], dwelt=dwelt)
        claimed = written["leader"] if written else ""
        chosen = claimed if claimed in may else min(may, key=lambda n: (-weights[n], _order(n)))
        if chosen != tenant.leader or tenant.leader not in weights:
            tenant.leader, tenant.since = chosen, ts

    def _frame(
        self, record: dict[str, Any], place: str, tenant: Tenant, weights: Numbers
    ) -> dict[str, Any]:
        hedged = tenant.fusion == "hedge"
        versions = self.settings.version
        return {
            "frame_id": place,
            "tenant": record["tenant"],
            "ts": record["ts"],
            "domain": record["domain"],
            "leader": tenant.leader,
            "weights": weights,
            "errors": {name: tenant.domains[name].error for name in weights},
            "confidence": weights[tenant.leader],
            "entropy": hedging.entropy(weights),
            "regret_bound": hedging.regret_bound(tenant.rounds, len(weights))
            if hedged else math.nan,
            "dwell_ms": max(0, record["ts"] - tenant.since) // 1000,
            "veto": "none",
            "rationale": "",
            "observation_id": record["observation_id"],
            "config_version": versions.get(record["tenant"], 0) + versions.get(EVERYBODY, 0),
        }  # fmt: skip

    def rows(self) -> dict[bytes, dict[str, Any]]:
        """See check.Law."""
        names = {*self.tenants, *self.settings.version}
        return {name.encode(): self._row(name) for name in names}

    def _row(self, name: str) -> dict[str, Any]:
        tenant = self.tenants.get(name, Tenant())
        domains = tenant.domains.values()
        return {
            "domains": list(tenant.domains),
            "seen": [domain.seen for domain in domains],
            "error": [domain.error for domain in domains],
            "loss": [domain.loss for domain in domains],
            "weight": [domain.weight for domain in domains],
            "excess": [domain.excess for domain in domains],
            "published": [-1.0 if d.published is None else d.published for d in domains],
            "fusion": FUSIONS.index(tenant.fusion) if tenant.fusion else -1,
            "leader": tenant.leader,
            "leader_since": tenant.since,
            "delta": tenant.delta,
            "regret": tenant.regret,
            "rounds": tenant.rounds,
            "late": tenant.late,
            "config_version": self.settings.version.get(name, 0),
            "settings": self.settings.numbers(name),
        }

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """See check.Law."""
        return row
