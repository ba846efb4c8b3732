"""Requests and settings to try sleep with (the contract suite finds them here)."""

from typing import Any

import numpy as np

BLANK: dict[str, Any] = {
    "request_id": "one", "target": "light", "kind": "operator", "ttl_seconds": None,
    "wake_on_traffic": False, "version": 0, "trace_id": None, "actor": "test",
    "ts": 1_700_000_000_000_000,
}  # fmt: skip
TARGETS = ("active", "light", "deep", "freeze")
KINDS = ("operator", "operator", "circuit", "policy")
TTLS = (None, None, 1, 60, 3600)


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Requests for a few tenants, of which some are refused."""
    found = []
    for k in range(n):
        target = TARGETS[int(rng.integers(len(TARGETS)))]
        asleep = target != "active"
        found.append(BLANK | {
            "request_id": f"r{k}",
            "tenant": f"t{int(rng.integers(7))}",
            "target": target,
            "kind": KINDS[int(rng.integers(len(KINDS)))] if asleep or k % 2 else "traffic",
            "ttl_seconds": TTLS[int(rng.integers(len(TTLS)))] if asleep else None,
            "wake_on_traffic": asleep and bool(rng.random() < 0.3),
            "version": int(rng.integers(3)),
        })  # fmt: skip
    return found


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [
        ("forget_after_s", "3600"), ("forget_after_s", "86400"),
        ("cognition", "off"), ("cognition", "on"),
    ]  # fmt: skip
