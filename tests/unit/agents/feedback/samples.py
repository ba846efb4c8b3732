"""Feedback to try the processor with (the contract suite finds it here)."""

from typing import Any

import numpy as np

START = 1_700_000_000_000_000  # µs


def feedback(rating: float, tenant: str = "a", **more: Any) -> dict[str, Any]:
    """What a user thinks of a frame."""
    return {
        "frame_id": "0123abcd-0-7", "tenant": tenant, "rating": rating, "comment": "",
        "actor": "eva", "ts": START,
    } | more  # fmt: skip


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Ratings by a few tenants."""
    return [
        feedback(float(rng.integers(1, 6)), f"t{int(rng.integers(5))}", comment="so" * (k % 3))
        for k in range(n)
    ]


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("forget_after_s", "3600"), ("forget_after_s", "86400")]
