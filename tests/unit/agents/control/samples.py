"""Changes of settings to try control with (the contract suite finds them here)."""

from typing import Any

import numpy as np

START = 1_700_000_000_000_000  # µs
CHANGES = (
    ("integrator", "fusion", "hedge"),
    ("", "fusion", ""),
    ("integrator", "alpha", "1.5"),
    ("predictors", "alpha", "3"),
    ("segmentation", "threshold@state", "on"),
    ("replay", "forget_after_s", "3600"),
    ("", "alpha", "1.5"),  # two have it
    ("", "fusion", "magic"),
    ("", "colour", "red"),
    ("chef", "fusion", "hedge"),
)


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Changes for a few tenants, some of which can't be made."""
    found = []
    for k in range(n):
        processor, setting, value = CHANGES[int(rng.integers(len(CHANGES)))]
        found.append({
            "tenant": f"t{int(rng.integers(4))}", "setting": setting, "value": value,
            "author": "test", "ts": START + k, "processor": processor,
            "expected_version": 0 if rng.random() < 0.1 else None,
        })  # fmt: skip
    return found


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("forget_after_s", "3600"), ("forget_after_s", "86400")]
