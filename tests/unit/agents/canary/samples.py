"""Commands and settings to try canary with (the contract suite finds them here)."""

from typing import Any

import numpy as np

START: dict[str, Any] = {
    "name": "integrator.alpha", "type": "start", "id": "one", "domain": "", "value": "4",
    "tenants": ["a", "b"], "control": ["c", "d", "e"], "for_s": 3600, "actor": "test",
    "ts": 1_700_000_000_000_000,
}  # fmt: skip
OTHERS = ("stop", "promote", "start", "pause")
TRIED = (
    ("integrator.alpha", "1.5"), ("predictors.alpha", "3"), ("segmentation.cpd", "bocpd"),
    ("integrator.margin", "0.1"), ("integrator.margin", "-1"), ("chef.alpha", "1"), ("t0", ""),
)  # fmt: skip


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Commands for a few settings, of which some are refused."""
    found = []
    for _ in range(n):
        name, value = TRIED[int(rng.integers(len(TRIED)))]
        type_ = "start" if rng.random() < 0.5 else OTHERS[int(rng.integers(len(OTHERS)))]
        found.append(START | {
            "name": name, "type": type_, "value": value,
            "id": f"c{int(rng.integers(3))}",
            "domain": "state" if rng.random() < 0.1 else "",
            "for_s": int(rng.integers(59, 100)),
        })  # fmt: skip
    return found


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("forget_after_s", "3600"), ("cognition", "off"), ("cognition", "on")]
