"""Orders to try prune with (the contract suite finds them here)."""

from typing import Any

import numpy as np

START = 1_700_000_000_000_000  # µs


def order(order_id: str = "o1", tenant: str = "a", **more: Any) -> dict[str, Any]:
    """An order to prune."""
    return {
        "order_id": order_id, "tenant": tenant, "namespace": "", "ids": [], "lowest": 0,
        "dry_run": False, "confirm": False, "actor": "test", "ts": START,
    } | more  # fmt: skip


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Orders of a few tenants."""
    return [
        order(
            f"o{k}", f"t{int(rng.integers(5))}", ids=["x"] * int(rng.integers(3)),
            lowest=int(rng.integers(4)), confirm=bool(rng.random() < 0.5),
        )
        for k in range(n)
    ]  # fmt: skip


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("forget_after_s", "3600"), ("forget_after_s", "86400")]
