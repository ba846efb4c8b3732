"""The integrator's law, written again for the verifier."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ops.prove import hedging
from ops.prove.dozing import FREEZE, Sleep, heat_left
from ops.prove.drifting import WINDOW, Watch
from ops.prove.hedging import Numbers
from ops.prove.law import Law, RefusedError, Row, Rows, Sink, Written
from ops.prove.overrides import EVERYBODY, Overrides, choice, numbers
from ops.prove.vetoing import Denied, Policies, Verdict, digest

FRAMES = "cog.global.frame"
DRIFTS = "cog.fusion.drift.events"
ROLLBACKS = "cog.fusion.rollback.events"
SLOTS = 16  # domains of a tenant at most
NEAR = 1e-9  # weights that differ by less are equal as far as the verifier can tell
SENIOR = {"state": 0, "agent": 1, "action": 2}  # who wins a tie; the others follow by name

POLICY = "policy"
LEARNT = ("learned_temperature", "prior")  # nothing starts anew by what was learned

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
    "veto_retry_ms": float,
    "drift": choice("off", "on"),
    "drift_entropy": float,
    "drift_regret": float,
    "drift_cooldown_s": float,
    "auto_rollback": choice("off", "on"),
    "learned_temperature": float,
    "prior": float,
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
    watch: Watch = field(default_factory=Watch)
    denied: Denied = field(default_factory=Denied)

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


def learn(
    tenant: Tenant, fresh: Mapping[str, Domain], settings: Mapping[str, Any]
) -> tuple[Numbers, float]:
    """Let domains enter and play one round; returns the learner's new weights, and the regret."""
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
    return weights, mixed - best


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


def _chosen(setting: str) -> bool:
    """Whether somebody chose it: what was learned is no baseline."""
    return setting.partition("@")[0] not in LEARNT


def _order(name: str) -> tuple[int, bytes]:
    return SENIOR.get(name, len(SENIOR)), name.encode()


def elect(weights: Numbers, leader: str, margin: float, near: float, *, dwelt: bool) -> list[str]:
    """Who may lead now, the likeliest first: more than one where less than `near` decides."""
    top = max(weights.values())
    first = sorted((name for name, w in weights.items() if w >= top - near), key=_order)
    first.sort(key=lambda name: -weights[name])
    if leader not in weights:
        return first
    ahead = top - weights[leader] - margin
    if not dwelt or ahead <= -near:
        return [leader]
    return first if ahead > near else [leader, *first]


@dataclass
class Fusion(Law):
    """Folds predictor_updates; see check.Law."""

    processor = "integrator"
    topic = "cog.predictor.updates"
    source = "predictor_update"
    sinks = (
        Sink(FRAMES, "global_frame", "frame_id"),
        Sink(DRIFTS, "fusion_drift_event", "frame_id"),
        Sink(ROLLBACKS, "fusion_rollback_event", "frame_id"),
    )
    state = "integrator_state"
    tolerance: ClassVar[Mapping[str, float]] = {"": 1e-6}

    tenants: dict[str, Tenant] = field(default_factory=dict)
    settings: Overrides = field(default_factory=lambda: Overrides(KINDS, ("prior",)))
    policies: Policies = field(default_factory=Policies)

    def epoch(self, settings: Mapping[str, str]) -> None:
        """See law.Law."""
        self.settings.epoch(settings)

    def control(self, tenant: str, setting: str, value: str, version: int = 0) -> None:
        """See law.Law."""
        if setting == POLICY:
            self.policies.change(tenant, value)
            self.settings.move(tenant, version)
        else:
            self.settings.change(tenant, setting, value, version)
        if tenant != EVERYBODY:
            watch = self.tenants.setdefault(tenant, Tenant()).watch
            if setting.partition("@")[0] not in LEARNT:
                watch.start_anew()
            if watch.frames == 0:
                watch.baseline = dict(self.settings.own.get(tenant, {}))

    def sleep(self, tenant: str, sleep: Sleep) -> None:
        """See law.Law."""
        if self.settings.let_sleep(tenant, sleep):
            self.tenants.setdefault(tenant, Tenant()).watch.start_anew()

    def fold(self, record: Row, place: str, log_ms: int, written: Written) -> Rows:
        """See law.Law."""
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
        state = self.settings.state(record["tenant"])
        if state == FREEZE:
            return {}
        fresh = tenant.fresh(name, ts, stale_us)
        weights, regret = learn(tenant, fresh, settings)
        priors = {one: self.settings.of(record["tenant"], one)["prior"] for one in weights}
        weights = hedging.leaning(weights, priors)
        heat = settings["temperature"] * settings["learned_temperature"] * heat_left(state)
        weights = hedging.tempered(weights, heat)
        top = max(weights.values())
        first = min((n for n, w in weights.items() if w == top), key=_order)
        weights = hedging.capped(weights, settings["entropy_cap"], first)
        for each, known in fresh.items():
            known.published = weights[each]
        said = written.get(FRAMES, ())
        claimed = next(((row["leader"], row.get("veto", "none")) for row in said), ("", ""))
        told = self._lead(record["tenant"], weights, ts, settings, claimed)
        frame = self._frame(record, place, tenant, weights) | {
            "veto": told.veto, "rationale": told.rationale,
        }  # fmt: skip
        events = self._watch(frame, regret, tenant, settings, written)
        return {FRAMES: [frame], **events}

    def _lead(
        self, name: str, weights: Numbers, ts: int, settings: Mapping[str, Any],
        claimed: tuple[str, str],
    ) -> Verdict:  # fmt: skip
        """Settle who leads; `claimed`: who does and what was said, by the log."""
        tenant = self.tenants[name]
        dwelt = ts - tenant.since >= settings["min_dwell_ms"] * 1000.0
        own, *_ = elect(weights, tenant.leader, settings["margin"], 0.0, dwelt=dwelt)
        may = elect(weights, tenant.leader, settings["margin"], NEAR, dwelt=dwelt)
        each = {
            one: self._asked(name, one, weights, ts, settings["veto_retry_ms"])
            for one in (own, *may)
        }
        agree = (one for one, told in each.items() if (told.leader, told.veto) == claimed)
        chosen = next(agree, own)
        self.near_ties += chosen != own
        told = each[chosen]
        if told.denied:
            tenant.denied = Denied(chosen, ts)
        elif told.veto != "none" and tenant.denied.name == chosen:
            tenant.denied = Denied()
        if told.leader != tenant.leader:
            tenant.leader, tenant.since = told.leader, ts
        return told

    def _asked(
        self, name: str, candidate: str, weights: Numbers, ts: int, retry_ms: float
    ) -> Verdict:
        """What it comes to if this candidate is to lead."""
        tenant = self.tenants[name]
        if candidate == tenant.leader or not self.policies.of(name):
            return Verdict(candidate)
        if candidate == tenant.denied.name and abs(ts - tenant.denied.at) < retry_ms * 1000.0:
            return Verdict(tenant.leader)
        return self.policies.asked(name, candidate, tenant.leader, weights)

    def _frame(
        self, record: dict[str, Any], place: str, tenant: Tenant, weights: Numbers
    ) -> dict[str, Any]:
        hedged = tenant.fusion == "hedge"
        return {
            "frame_id": place,
            "tenant": record["tenant"],
            "ts": record["ts"],
            "domain": record["domain"],
            "leader": tenant.leader,
            "weights": weights,
            "errors": {name: tenant.domains[name].error for name in weights},
            "confidence": weights.get(tenant.leader, 0.0),
            "entropy": hedging.entropy(weights),
            "regret_bound": hedging.regret_bound(tenant.rounds, len(weights))
            if hedged else math.nan,
            "dwell_ms": max(0, record["ts"] - tenant.since) // 1000 if tenant.leader else 0,
            "veto": "none",
            "rationale": "",
            "observation_id": record["observation_id"],
            "config_version": self.settings.seen(record["tenant"]),
            "policy": digest(self.policies.of(record["tenant"])),
        }  # fmt: skip

    def _watch(
        self, frame: Row, regret: float, tenant: Tenant, settings: Mapping[str, Any],
        written: Written,
    ) -> Rows:  # fmt: skip
        """What the frame says about drift, and what is taken back."""
        if settings["drift"] == "off":
            return {}
        name, watch = frame["tenant"], tenant.watch
        own, ties = self.settings.own.setdefault(name, {}), watch.ties
        claimed = next((row["kind"] for row in written.get(DRIFTS, ())), None)
        numbers = {"entropy": frame["entropy"], "regret": regret}
        found = watch.frame(numbers, frame["ts"], settings, own, claimed)
        self.near_ties += watch.ties - ties
        if found is None:
            return {}
        kind, threshold = found
        common = {key: frame[key] for key in ("tenant", "ts", "frame_id")}
        event = common | {
            "observation_id": frame["observation_id"], "kind": kind,
            "value": watch.figures[kind].mean, "threshold": threshold,
            "baseline_entropy": watch.figures["entropy"].usual,
            "baseline_regret": watch.figures["regret"].usual, "window": WINDOW,
            "samples": watch.samples, "leader": frame["leader"], "rolled_back": False,
            "config_version": frame["config_version"],
        }  # fmt: skip
        before, after = watch.roll_back(own) if settings["auto_rollback"] == "on" else ({}, {})
        if not before:
            return {DRIFTS: [event]}
        self.settings.version[name] = self.settings.seen(name) + len(before)
        rollback = common | {"from": before, "to": after,
                             "config_version": frame["config_version"] + len(before)}  # fmt: skip
        return {DRIFTS: [event | {"rolled_back": True}], ROLLBACKS: [rollback]}

    def rows(self) -> dict[bytes, dict[str, Any]]:
        """See law.Law."""
        names = {*self.tenants, *self.settings.version}
        rows = {name.encode(): self._row(name) for name in names}
        if EVERYBODY in names or self.policies.texts:
            digests, texts = self.policies.kept()
            everybody = rows.setdefault(EVERYBODY.encode(), self._row(EVERYBODY))
            everybody |= {"policies": digests, "bundles": texts}
        return rows

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
            "denied": tenant.denied.name,
            "denied_at": tenant.denied.at,
            **self._watched(tenant.watch),
        }

    @staticmethod
    def _watched(watch: Watch) -> Row:
        """The columns about drift; a baseline that is sure to be the settings isn't written."""
        written = watch.frames > 0 and watch.calm < WINDOW
        calmer = {name: one for name, one in watch.baseline.items() if _chosen(name)}
        figures = {
            f"{part}_{name}": getattr(each, part)
            for name, each in watch.figures.items() for part in ("mean", "usual", "spread")
        }  # fmt: skip
        return figures | {
            "frames": watch.frames, "samples": watch.samples, "calm": watch.calm,
            "drift_at": watch.last, "baseline": numbers(calmer) if written else {},
        }  # fmt: skip

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """See law.Law."""
        return row
