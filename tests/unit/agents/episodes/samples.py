"""Segments to try episodes with (the contract suite finds them here)."""

from typing import Any

import numpy as np

DEFAULTS = {"episodes": "on"}
START = 1_700_000_000_000_000  # µs
EVIDENCE = ("leader_change", "max_dwell", "cpd", "hmm", "threshold")


def segment(number: int, tenant: str = "a", **more: Any) -> dict[str, Any]:
    """The segment of this number."""
    frame = f"0123abcd-0-{number}"
    return {
        "segment_id": f"{frame}:state:cpd", "tenant": tenant, "domain": "state",
        "boundary_ts": START + number, "detected_ts": START + number + 5, "dwell_ms": 12_300,
        "evidence": "cpd", "score": 3.5, "frame_id": frame, "start_ts": START, "frames": 40,
        "leader": "agent", "mean_error": 0.25, "mean_confidence": 0.75, "peak_error": 1.5,
    } | more  # fmt: skip


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Segments of a few tenants."""
    return [
        segment(
            k, f"t{int(rng.integers(5))}", peak_error=float(rng.exponential()),
            evidence=EVIDENCE[int(rng.integers(len(EVIDENCE)))],
        )
        for k in range(n)
    ]  # fmt: skip


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("episodes", "on"), ("episodes", "off"), ("forget_after_s", "3600")]
