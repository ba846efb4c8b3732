"""Records and settings that the contract suite feeds segmentation with."""

from typing import Any

import numpy as np

START = 1_700_000_000_000_000  # µs
TENANTS = ("alpha", "beta", "g-3")
DOMAINS = ("state", "agent", "zeta.2")
SECOND = 1_000_000


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Valid frames: levels and leaders that change, some late, some without an error."""
    clock = START
    level = {(t, d): float(rng.exponential(0.5)) for t in TENANTS for d in DOMAINS}
    leader = {t: str(rng.choice(DOMAINS)) for t in TENANTS}
    out: list[dict[str, Any]] = []
    for k in range(n):
        clock += int(rng.integers(0, SECOND // 2))
        tenant, domain = str(rng.choice(TENANTS)), str(rng.choice(DOMAINS))
        if rng.random() < 0.05:
            level[tenant, domain] = float(rng.exponential(3.0))
        if rng.random() < 0.05:
            leader[tenant] = "" if rng.random() < 0.1 else str(rng.choice(DOMAINS))
        errors = {d: level[tenant, d] for d in DOMAINS}
        errors[domain] += abs(float(rng.normal(0.0, 0.05)))
        if rng.random() < 0.5:
            errors[domain] = float(np.float32(errors[domain]))
        if rng.random() < 0.03:
            errors[domain] = float(rng.choice([1e300, 0.0]))
        if rng.random() < 0.03:
            del errors[domain]
        late = rng.random() < 0.05
        out.append(
            {
                "frame_id": f"0123abcd-0-{k}",
                "tenant": tenant,
                "ts": clock - int(rng.integers(1, 30 * SECOND)) if late else clock,
                "domain": domain,
                "leader": leader[tenant],
                "weights": dict.fromkeys(errors, 1.0 / 3.0),
                "errors": errors,
                "confidence": float(rng.random()),
                "entropy": 0.5,
                "regret_bound": 1.0,
                "dwell_ms": 0,
                "veto": "none",
                "rationale": "",
                "observation_id": "",
                "config_version": 0,
                "policy": "",
            }
        )
    return out


def settings() -> list[tuple[str, str]]:
    """Valid per-tenant settings."""
    return [
        ("cpd", "off"),
        ("cpd", "glr"),
        ("cpd", "bocpd"),
        ("threshold", "on"),
        ("hmm", "on"),
        ("gradient", "0.5"),
        ("leader", "off"),
        ("min_gap_ms", "500"),
        ("max_dwell_ms", "5000"),
        ("warmup", "7"),
        ("glr_bar", "0.5"),
        ("cpd", ""),
    ]
