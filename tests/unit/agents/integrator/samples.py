"""Records and settings that the contract suite feeds the integrator with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from agents.engine.processor import Decision, Policy

START = 1_700_000_000_000_000  # µs
TENANTS = ("alpha", "beta", "g-3", "*nobody"[1:])
DOMAINS = ("state", "agent", "action", "zeta", "eta.2")
SECOND = 1_000_000


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Valid predictor updates: event times rise, some come late, some domains fall silent."""
    clock = START
    out: list[dict[str, Any]] = []
    quiet: dict[tuple[str, str], int] = {}
    for k in range(n):
        clock += int(rng.integers(0, SECOND // 2))
        if rng.random() < 0.01:
            clock += 12 * SECOND
        tenant = str(rng.choice(TENANTS))
        domain = str(rng.choice(DOMAINS))
        if rng.random() < 0.02:
            quiet[tenant, domain] = clock + 20 * SECOND
        if quiet.get((tenant, domain), 0) > clock:
            domain = "state"
        late = rng.random() < 0.05
        ts = clock - int(rng.integers(1, 30 * SECOND)) if late else clock
        error = 0.0 if rng.random() < 0.1 else float(np.float32(rng.exponential(0.4)))
        out.append(
            {
                "tenant": tenant,
                "domain": domain,
                "predictor_type": "heat",
                "error_metric": error,
                "prediction_latency_ms": 1.5,
                "model_version": "1.0",
                "vector_dim": 3,
                "confidence": 0.5,
                "observation_id": f"0123abcd-0-{k}" if k % 3 else "",
                "ts": ts,
            }
        )
    return out


@dataclass(frozen=True)
class Whimsical:
    """A pure policy that says all there is to say: by the tenant, the candidate and its weight."""

    remote: bool = False
    fail_open: bool = False
    digest: str = "whimsical"

    def decide(self, tenant: str, leader: str, weights: Mapping[str, float]) -> Decision:
        text = f"{tenant} {leader} {round(weights[leader], 3)}"
        outcome = ("allow", "deny", "override", "error")[crc32(text.encode()) % 4]
        other = sorted([*weights, "nobody"])[crc32(text.encode()) // 4 % (len(weights) + 1)]
        return Decision(outcome, other if outcome == "override" else "", f"{text} — {outcome}" * 9)


def policies() -> list[Policy]:
    """Policies that the contract suite folds under, besides none."""
    return [Whimsical()]


def settings() -> list[tuple[str, str]]:
    """Valid per-tenant settings."""
    return [
        ("fusion", "hedge"),
        ("fusion", "fixed_share"),
        ("fusion", "softmax"),
        ("alpha", "1.25"),
        ("share", "0.01"),
        ("temperature", "0.5"),
        ("entropy_cap", "0.6"),
        ("margin", "0.0"),
        ("min_dwell_ms", "2000"),
        ("stale_after_ms", "1500.5"),
        ("forget_after_s", "45"),
        ("alpha", ""),
        ("veto_retry_ms", "20000"),
        ("drift_entropy", "0.1"),
        ("drift_regret", "0.0"),
        ("drift_cooldown_s", "0"),
        ("auto_rollback", "on"),
        ("drift", "off"),
        ("drift", "on"),
        ("learned_temperature", "0.4"),
        ("prior", "0.5"),
        ("prior@state", "0.25"),
        ("prior@agent", "0.1"),
        ("prior@state", ""),
    ]
