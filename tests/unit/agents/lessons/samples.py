"""Frames to try lessons with (the contract suite finds them here)."""

from typing import Any

import numpy as np

DEFAULTS = {"learning": "on"}
START = 1_700_000_000_000_000  # µs


def frame(number: int, tenant: str = "a", **more: Any) -> dict[str, Any]:
    """The frame of this number."""
    return {
        "frame_id": f"0123abcd-0-{number}", "tenant": tenant, "ts": START + number,
        "domain": "state", "leader": "state", "weights": {"state": 0.75, "agent": 0.25},
        "errors": {"state": 0.1, "agent": 0.5}, "confidence": 0.75, "entropy": 0.8,
        "regret_bound": 1.0, "dwell_ms": 5, "veto": "none", "rationale": "", "observation_id": "",
        "config_version": 0,
    } | more  # fmt: skip


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Frames of a few tenants."""
    return [
        frame(k, f"t{int(rng.integers(5))}", errors={"state": float(rng.exponential())})
        for k in range(n)
    ]


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("learning", "on"), ("learning", "off"), ("forget_after_s", "3600")]
