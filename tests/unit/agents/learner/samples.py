"""Rewards and lessons to try the learner with (the contract suite finds them here)."""

from typing import Any

import numpy as np

START = 1_700_000_000_000_000  # µs
PLACE = "0123abcd-0-"
NOTHING: dict[str, Any] = {
    "r_task": 0.0, "r_user": 0.0, "r_latency": 0.0, "r_safety": 0.0, "r_cost": 0.0, "total": None,
    "components": {}, "source": "", "waited": False,
}  # fmt: skip
TENANTS = ("a", "b")


def reward(number: int, tenant: str = "a", **more: Any) -> dict[str, Any]:
    """A reward for the frame of this number."""
    return NOTHING | {"frame_id": f"{PLACE}{number}", "tenant": tenant, "ts": START} | more


def lesson(number: int, errors: dict[str, float], tenant: str = "a", **more: Any) -> dict[str, Any]:
    """What the frame of this number has to teach."""
    return {
        "frame_id": f"{PLACE}{number}", "tenant": tenant, "leader": "", "errors": errors,
        "ended": False, "ts": START + number * 1000,
    } | more  # fmt: skip


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Rewards whose frames never come: so many that those which wait are sent on."""
    return [
        reward(
            int(rng.integers(100)), TENANTS[int(rng.integers(len(TENANTS)))],
            r_task=float(rng.normal()), r_user=float(rng.uniform(-1, 1)),
            total=float(rng.normal()) if rng.random() < 0.2 else None,
            components={"style": 0.5} if rng.random() < 0.2 else {},
            source="teach" if rng.random() < 0.3 else "", ts=START - k,
        )
        for k in range(n)
    ]  # fmt: skip


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [
        ("loss_alpha", "1"), ("window_s", "0.5"), ("wait_s", "5"), ("every_s", "0"),
        ("tau_min", "0.2"), ("anneal", "linear"), ("anneal_rate", "0.5"),
        ("forget_after_s", "3600"),
    ]  # fmt: skip
