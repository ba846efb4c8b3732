"""Observations and settings to try the predictors with (the contract suite finds them here)."""

from typing import Any

import numpy as np

TS = 1_700_000_000_000_000  # microseconds
DOMAINS = ("state", "agent", "action")


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Five tenants, three domains; some late, some long after; now and then another dimension.

    Every other record is of one domain that keeps its dimension, long enough for a
    calibration record.
    """
    found = []
    clock = TS
    dims = {(t, d): int(rng.integers(1, 20)) for t in range(5) for d in range(3)}
    levels = {key: rng.normal(0, 10.0 ** rng.integers(-3, 6), dim) for key, dim in dims.items()}
    for i in range(n):
        clock += int(rng.integers(0, 2_000_000))
        if rng.random() < 0.01:
            clock += 60_000_000
        key = (int(rng.integers(5)), int(rng.integers(3)))
        if rng.random() < 0.5:
            key = (0, 0)
        elif rng.random() < 0.04 and key != (0, 0):
            levels[key] = rng.normal(size=int(rng.integers(1, 20)))
        levels[key] = levels[key] + rng.normal(size=levels[key].shape[0])
        late = int(rng.integers(1, 30_000_000)) if rng.random() < 0.05 else 0
        found.append(
            {
                "tenant": f"tenant-{key[0]}",
                "domain": DOMAINS[key[1]],
                "ts": clock - late,
                "vector": levels[key].astype("<f4").tobytes(),
                "sequence": i if rng.random() < 0.5 else None,
            }
        )
    return found


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting; short windows more often, so that records are written."""
    return [("calibrate_every", "50")] * 6 + [
        ("predictor", "mahal"),
        ("predictor", "persistence"),
        ("predictor", "heat"),
        ("alpha", "0.5"),
        ("diffusion_time", "1.25"),
        ("graph", "ring"),
        ("heat_method", "lanczos"),
        ("graph", "star"),
        ("forgetting", "0.2"),
        ("forget_after_s", "3600"),
        ("sleep_after_s", "60"),
        ("calibrate", "off"),
        ("next_events", "off"),
        ("calibrate", "on"),
        ("next_events", "on"),
    ]
