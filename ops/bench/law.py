"""The integrator's law with its default settings, in plain Python: what the peers compute.

Fixed share (Herbster and Warmuth 1998) with AdaHedge's learning rate (De Rooij et al. 2014), and
leaders with hysteresis; see agents/integrator/rule.py for this engine's own. Nothing is shared with
it, so that the peers are neither helped nor hindered, and frames can be compared.
"""

from math import exp, inf, log
from typing import Any

ALPHA = 2.0
SHARE = 0.001
MARGIN = 0.05
MIN_DWELL_US = 50_000
STALE_AFTER_US = 10_000_000
ORDER = {"state": 0, "agent": 1, "action": 2}

ERROR, LOSS, WEIGHT, SEEN = range(4)  # a domain's entries in the state

State = dict[str, Any]
Frame = dict[str, Any]


def new_state() -> State:
    """A tenant without records. Plain JSON types, so that every framework can store it."""
    return {"domains": {}, "delta": 0.0, "leader": "", "since": 0}


def fold(state: State, update: dict[str, Any], frame_id: str) -> Frame:
    """Fold one predictor_update into its tenant's state; returns the global_frame."""
    domains: dict[str, list[float]] = state["domains"]
    name: str = update["domain"]
    ts: int = update["ts"]
    domain = domains.get(name)
    entering = domain is None or ts - domain[SEEN] > STALE_AFTER_US
    if domain is None:
        domain = domains[name] = [0.0, 0.0, 0.0, ts]
    domain[ERROR] = update["error_metric"]
    domain[LOSS] = 1.0 - exp(-ALPHA * domain[ERROR])
    domain[SEEN] = max(domain[SEEN], ts)
    fresh = {k: d for k, d in domains.items() if d is domain or ts - d[SEEN] <= STALE_AFTER_US}
    _enter(fresh, domain, entering)
    state["delta"] = (1.0 - SHARE) * state["delta"] + _reweigh(fresh, state["delta"])
    _elect(state, fresh, ts)
    n = len(fresh)
    entropy = -sum(d[WEIGHT] * log(d[WEIGHT]) for d in fresh.values() if d[WEIGHT] > 0.0)
    return {
        "frame_id": frame_id,
        "tenant": update["tenant"],
        "ts": ts,
        "domain": name,
        "leader": state["leader"],
        "weights": {k: d[WEIGHT] for k, d in fresh.items()},
        "errors": {k: d[ERROR] for k, d in fresh.items()},
        "confidence": fresh[state["leader"]][WEIGHT],
        "entropy": entropy / log(n) if n > 1 else 0.0,
        "regret_bound": float("nan"),
        "dwell_ms": max(0, ts - state["since"]) // 1000,
        "veto": "none",
        "rationale": "",
        "observation_id": update["observation_id"],
        "config_version": 0,
    }


def _enter(fresh: dict[str, list[float]], moved: list[float], entering: bool) -> None:
    """Make the fresh weights sum to 1; a domain that appears or returns starts with share/n."""
    n = len(fresh)
    if entering:
        moved[WEIGHT] = 1.0 if n == 1 else SHARE / n
    others = [d for d in fresh.values() if not (entering and d is moved)]
    rest = 1.0 - moved[WEIGHT] if entering else 1.0
    total = sum(d[WEIGHT] for d in others)
    for d in others:
        d[WEIGHT] = d[WEIGHT] / total * rest if total > 0.0 else rest / len(others)


def _reweigh(fresh: dict[str, list[float]], delta: float) -> float:
    """One round: the weights after it, in place; returns its mixability gap."""
    n = len(fresh)
    domains = fresh.values()
    if n == 1:
        for d in domains:
            d[WEIGHT] = 1.0
        return 0.0
    mean = sum(d[WEIGHT] * d[LOSS] for d in domains)
    least = min(d[LOSS] for d in domains)
    eta = log(n) / delta if delta > 0.0 else inf
    for d in domains:
        behind = d[LOSS] - least
        d[WEIGHT] *= exp(-eta * behind) if behind > 0.0 else 1.0
    total = sum(d[WEIGHT] for d in domains)
    for d in domains:
        d[WEIGHT] = (1.0 - SHARE) * d[WEIGHT] / total + SHARE / n
    return max(0.0, mean - (least - log(total) / eta))


def _elect(state: State, fresh: dict[str, list[float]], ts: int) -> None:
    """Change the leader only when a challenger is clearly better and the dwell time is over."""
    best = min(fresh, key=lambda k: (-fresh[k][WEIGHT], ORDER.get(k, 3), k))
    leader = fresh.get(state["leader"])
    if best != state["leader"] and (
        leader is None
        or (fresh[best][WEIGHT] > leader[WEIGHT] + MARGIN and ts - state["since"] >= MIN_DWELL_US)
    ):
        state["leader"], state["since"] = best, ts
